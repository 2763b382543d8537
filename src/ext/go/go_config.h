/* go_config: configurations of a Go plugin, by the ids that Go gives them. What is configured once is a go_config, or a
 * go_level, in each copy of the library (go_origin.h).
 *
 * Ownership  A filter's and its route levels' configs belong to a snapshot, and every exchange leases
 *            its snapshot and its library, so an id outlives the streams that use it; merged ids belong to the
 *            route level that they were merged with. Go drops an id in the _free functions, or when its library has
 *            drained.
 * Threads    _new and _free on any thread or coroutine; _new blocks (dlopen, user code). _for: the
 *            exchange's coroutine. */
#pragma once
#include "base/stats.h"
#include "ext/go/go_origin.h"
#include "ext/go/go_plugin.h"
#include "ext/remote/remote_exchange.h"
#include "proxy/filter.h"

struct exchange;

/* A filter's factory has this one. */
struct go_filter_config {
    struct go_user user;          /* of struct go_config */
    const struct cfg_golang *cfg; /* of the snapshot */
    struct span plugin_name;      /* interned */
};

struct go_config {
    struct go_edition edition;
    struct go_plugin *plugin;
    struct seat_set *seats;  /* the library's */
    struct span plugin_name; /* interned */
    uint64_t id;
    int64_t seat_wait_ns;
    int64_t phase_timeout_ns; /* 0: none */
    bool lenient;             /* to late calls */
    _Atomic(struct statistic *)
        panic_error;             /* of the HCM that uses it; NULL before the first request */
    struct remote_filter remote; /* of an isolated library */
    /* Guesses for the next data callback, by the latest: see go_side.c. */
    _Atomic bool body_is_slow;        /* it went on elsewhere */
    _Atomic bool body_is_touched[2];  /* it looked at the data, changed or kept it; [direction] */
    _Atomic bool body_is_gathered[2]; /* headers waited for the whole of it; [direction] */
};

/* NULL: built dry. */
static inline struct go_config *go_config_current(const struct go_filter_config *filter) {
    struct go_edition *edition = go_user_current(&filter->user);
    return edition ? container_of(edition, struct go_config, edition) : NULL;
}

/* The same for an exchange, of which a rollout may want the next one. */
static inline struct go_config *go_config_current_for(const struct go_filter_config *filter,
                                                      struct exchange *x) {
    return container_of(go_user_current_for(&filter->user, x), struct go_config, edition);
}

/* Longer than a callback stands still for a reason that passes (a collection of garbage, a lock, a page
 * from disk); short enough that those who wait for one that does not come to an end do not fill the
 * memory. */
static const int64_t GO_SEAT_WAIT_DEFAULT_NS = NS_PER_S;
static inline int64_t go_seat_wait_ns(const struct cfg_go_library *cfg) {
    const struct cfg_duration *wish = &cfg->seat_wait_timeout;
    return wish->set ? wish->ns : GO_SEAT_WAIT_DEFAULT_NS;
}

/* From now on configurations are built without libraries, which are not loaded: the configs are good for nothing but
 * to be freed. For --mode validate, and to find what else is wrong with a configuration that the probe
 * refused. Whoever builds configurations. */
void go_config_set_dry(bool dry);
bool go_config_is_dry(void);

/* One level's entry for the filter's plugin. id 0: the level says nothing about it. */
struct go_route_config;

int go_config_new(const struct cfg_any *typed_config, struct cfg_problems *problems, void **out);
void go_config_free(void *config);
int go_route_config_new(const struct cfg_any *any, void *filter_config,
                        struct cfg_problems *problems, void **out);
void go_route_config_free(void *config);

/* The plugin's Parse. 0 when it refused, with what it logged as an error in said. On a thread stack. */
struct go_config_source {
    struct span name;  /* the plugin's; lives as long as the process */
    struct span bytes; /* a serialised Any */
    bool is_route;
    uint64_t far_id; /* in a host process: the proxy's, or 0 */
};
uint64_t go_config_parse(struct go_library *library, const struct go_config_source *source,
                         char said[GO_LIBRARY_WHY_MAX]);
/* The plugin's Merge: the id of the result. */
uint64_t go_config_merge(const struct go_library *library, struct span name BORROWED_BY(program),
                         uint64_t parent, uint64_t child);

/* The id for this exchange's route: the filter's own, merged with each level's, least specific
 * first. Merging is user code: parks when a combination is new. 0 when memory is short. */
uint64_t go_config_for(const struct go_config *config, const void *const *levels, unsigned count);
