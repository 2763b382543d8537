/* resources: what a configuration consists of, by type and name, wherever it came from: the bootstrap's
 * static_resources, and what discovery brought. What the proxy runs is built of such a set, whole.
 *
 * Ownership  A set is counted and leases the configs that its messages lie in. Everything in it, names, versions and
 *            origins too, is borrowed of it until the last resources_unref.
 * Threads    Immutable; references from any thread (atomic count).
 * Errors     Short memory is NULL with problems->lost. What is wrong with the set itself, a name that is taken, is
 *            added to the problems, and the set is returned all the same, so that who builds of it can tell everything
 *            that is wrong in one go. A set with problems that refuse (cfg_problems_refuse) is not to be run. */
#pragma once
#include "config/config.h"

enum resource_type {
    RESOURCE_LISTENER, /* struct cfg_listener */
    RESOURCE_CLUSTER,  /* struct cfg_cluster */
    RESOURCE_ROUTES,   /* struct cfg_route_configuration; those that stand in a listener are none */
    RESOURCE_TYPES,
};

struct resource {
    struct span name;      /* of a listener it may be empty: then it is known by its address */
    const void *message;   /* of the type's struct */
    struct config *config; /* in which message lies */
    struct span version;   /* version_info of the update that made it what it is; static: empty */
    struct span origin;    /* who names it: RESOURCE_STATIC, or the path of a file */
    int64_t since_wall_ns; /* when it became what it is now */
    uint64_t edition; /* two with the same one say the same, in whatever sets they are; never 0 */
};
#define RESOURCE_STATIC SPAN_LIT("static")

/* Static ones first; what an update brought stands behind what was there before. */
struct resource_list {
    const struct resource *items;
    size_t count;
    const struct resource *const *by_name; /* the same, sorted */
};
struct resources {
    struct config *bootstrap;
    struct resource_list of[RESOURCE_TYPES];
};

/* The static resources of a bootstrap. Of previous (or NULL) what has other origins is taken over, so that a bootstrap
 * which is loaded anew keeps what discovery brought; and where a static resource is as it was, the time since when, and its
 * edition. */
struct resources *resources_of_bootstrap(struct config *bootstrap, const struct resources *previous,
                                         struct cfg_problems *problems);

/* What one source says of one type; all borrowed for the call. */
struct resource_item {
    struct span name;
    const void *message;
};
struct resource_update {
    enum resource_type type;
    struct span origin; /* not RESOURCE_STATIC */
    struct span version;
    struct config *config; /* in which the messages lie; NULL without items */
    const struct resource_item *items;
    size_t count;
};
/* base, changed by all of the updates. Listeners and clusters are the state of the world: those of the origin that are not
 * named any more are gone. Of routes those that are named are replaced or added, and the others stay (resources_where
 * removes them). An item that says what it said before keeps its version, its time and its edition. */
struct resources *resources_with(const struct resources *base,
                                 const struct resource_update *updates, size_t count,
                                 struct cfg_problems *problems);
/* base with those only of which keep is true. NULL: memory is short. */
struct resources *resources_where(const struct resources *base,
                                  bool (*keep)(enum resource_type type, const struct resource *item,
                                               void *arg),
                                  void *arg);

struct resources *resources_ref(struct resources *resources);
void resources_unref(struct resources *resources); /* NULL is allowed */

/* NULL when there is none. */
const struct resource *resources_find(const struct resources *resources, enum resource_type type,
                                      struct span name);

/* The routes that a connection manager has or names. NULL: it names some that are not there. */
const struct cfg_route_configuration *resources_routes(const struct resources *resources,
                                                       const struct cfg_hcm *hcm);

/* By which equal sets are known, in whatever process: of the texts that the bootstrap, and what discovery brought, were read
 * from, and of what is in force of these. Not of the names and versions of files, nor of what is in files that they name. */
uint64_t resources_hash(const struct resources *resources);

/* The table of a type's messages; "listener", "cluster", "route configuration". */
const struct cfg_schema *resource_schema(enum resource_type type);
const char *resource_type_name(enum resource_type type);
/* Where it stands in its file. */
const struct cfg_mark *resource_mark(enum resource_type type, const void *message);
