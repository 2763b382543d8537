#include "proxy/snapshot.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "config/secret_uses.h"
#include "config/tls_config.h"
#include "proxy/route_rollout.h"

static int compare_clusters(const void *a, const void *b) {
    const struct cluster *const *left = a;
    const struct cluster *const *right = b;
    return span_compare((*left)->name, (*right)->name);
}

struct cluster *snapshot_cluster(const struct snapshot *snapshot, struct span name) {
    uint32_t low = 0, high = snapshot->cluster_count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        int order = span_compare(name, snapshot->clusters[middle]->name);
        if (order == 0)
            return snapshot->clusters[middle];
        if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return NULL;
}

/* ---- what goes on ---- */

/* What it lends to the next one: all that says the same, and names no secret that says something else. */
struct lender {
    const struct snapshot *snapshot; /* NULL: there is none */
    struct span *secrets;            /* those that do, by name; owned */
    size_t secret_count;
};

static const struct cfg_static_resources *static_of(const struct config *config) {
    static const struct cfg_static_resources nothing;
    const struct cfg_static_resources *found = config_bootstrap(config)->static_resources;
    return found ? found : &nothing;
}

/* Of `here` those that are not the same in `there`. */
static void add_secrets(struct lender *lender, const struct cfg_static_resources *here,
                        const struct cfg_static_resources *there) {
    for (size_t i = 0; i < here->secrets_count; i++) {
        const struct cfg_secret *secret = &here->secrets[i];
        bool is_there = false;
        for (size_t k = 0; k < there->secrets_count && !is_there; k++)
            is_there = cfg_is_same(&cfg_schema_secret, secret, &there->secrets[k]);
        if (!is_there)
            lender->secrets[lender->secret_count++] = secret->name;
    }
}

/* Without memory nothing is lent. */
static struct lender lender_of(const struct snapshot *previous, const struct config *next) {
    struct lender lender = {0};
    if (!previous)
        return lender;
    const struct cfg_static_resources *old = static_of(previous->config), *new = static_of(next);
    lender.secrets = calloc(old->secrets_count + new->secrets_count + 1, sizeof *lender.secrets);
    if (!lender.secrets)
        return lender;
    lender.snapshot = previous;
    add_secrets(&lender, old, new);
    add_secrets(&lender, new, old);
    return lender;
}

static bool lends(const struct lender *lender, const struct cfg_schema *schema,
                  const struct resource *resource) {
    return lender->snapshot &&
           !(lender->secret_count &&
             cfg_names_secret(schema, resource->message, lender->secrets, lender->secret_count));
}

/* NULL: it is to be built. */
static struct listener_config *lent_listener(const struct lender *lender,
                                             const struct snapshot *next,
                                             const struct resource *resource) {
    const struct snapshot *previous = lender->snapshot;
    if (!lends(lender, &cfg_schema_listener, resource))
        return NULL;
    for (uint32_t i = 0; i < previous->listener_count; i++) {
        struct listener_config *old = previous->listeners[i];
        if (old->edition == resource->edition)
            return listener_config_is_current(old, next) ? old : NULL;
    }
    return NULL;
}

/* Likewise. */
static struct cluster *lent_cluster(const struct lender *lender, const struct resource *resource) {
    const struct snapshot *previous = lender->snapshot;
    if (!lends(lender, &cfg_schema_cluster, resource))
        return NULL;
    const struct resource *before =
        resources_find(previous->resources, RESOURCE_CLUSTER, resource->name);
    return before && before->edition == resource->edition
               ? snapshot_cluster(previous, resource->name)
               : NULL;
}

/* ---- building ---- */

static void build_clusters(struct snapshot *snapshot, const struct lender *lender,
                           struct cfg_problems *problems) {
    const struct resource_list *list = &snapshot->resources->of[RESOURCE_CLUSTER];
    snapshot->clusters = calloc(list->count + 1, sizeof(struct cluster *));
    for (size_t i = 0; snapshot->clusters && i < list->count; i++) {
        const struct resource *resource = &list->items[i];
        struct cluster *lent = lent_cluster(lender, resource);
        struct cluster *cluster =
            lent ? cluster_ref(lent)
                 : cluster_build(resource->config, snapshot->config, resource->message, problems);
        if (cluster)
            snapshot->clusters[snapshot->cluster_count++] = cluster;
    }
    if (snapshot->clusters)
        qsort(snapshot->clusters, snapshot->cluster_count, sizeof snapshot->clusters[0],
              compare_clusters);
}

static void build_listeners(struct snapshot *snapshot, const struct lender *lender,
                            struct cfg_problems *problems) {
    const struct resource_list *list = &snapshot->resources->of[RESOURCE_LISTENER];
    snapshot->listeners = calloc(list->count + 1, sizeof(snapshot->listeners[0]));
    for (size_t i = 0; snapshot->listeners && i < list->count; i++) {
        const struct resource *resource = &list->items[i];
        struct listener_config *lent = lent_listener(lender, snapshot, resource);
        struct listener_config *listener =
            lent ? listener_config_ref(lent) : listener_config_build(snapshot, resource, problems);
        if (listener)
            snapshot->listeners[snapshot->listener_count++] = listener;
    }
}

/* ---- the end ---- */

struct snapshot *snapshot_ref(struct snapshot *snapshot) {
    atomic_fetch_add_explicit(&snapshot->refs, 1, memory_order_relaxed);
    return snapshot;
}

static void free_snapshot(struct snapshot *snapshot) {
    for (uint32_t i = 0; i < snapshot->cluster_count; i++)
        cluster_unref(snapshot->clusters[i]);
    free(snapshot->listeners);
    free(snapshot->clusters);
    resources_unref(snapshot->resources);
    free(snapshot);
}

void snapshot_drop(struct snapshot *snapshot) {
    ASSERT(atomic_load_explicit(&snapshot->refs, memory_order_relaxed) == 1);
    for (uint32_t i = 0; i < snapshot->listener_count; i++)
        listener_config_drop(snapshot->listeners[i]);
    free_snapshot(snapshot);
}

void snapshot_unref(struct snapshot *snapshot) {
    if (!snapshot || atomic_fetch_sub_explicit(&snapshot->refs, 1, memory_order_acq_rel) != 1)
        return;
    for (uint32_t i = 0; i < snapshot->listener_count; i++)
        listener_config_unref(snapshot->listeners[i]);
    free_snapshot(snapshot);
}

static _Atomic uint64_t versions;

uint64_t snapshot_next_version(void) {
    return versions + 1;
}

struct snapshot *snapshot_build(struct resources *resources, const struct snapshot *previous,
                                struct cfg_problems *problems) {
    struct snapshot *snapshot = calloc(1, sizeof *snapshot);
    if (!snapshot)
        return NULL;
    snapshot->refs = 1;
    snapshot->resources = resources_ref(resources);
    snapshot->config = resources->bootstrap;
    snapshot->built_wall_ns = clock_wall_ns();
    snapshot->previous = previous;
    route_rollouts_note(snapshot);
    struct lender lender = lender_of(previous, snapshot->config);
    build_clusters(snapshot, &lender, problems);
    build_listeners(snapshot, &lender, problems);
    free(lender.secrets);
    snapshot->previous = NULL;
    if (!snapshot->clusters || !snapshot->listeners || snapshot->lost)
        problems->lost = true;
    if (cfg_problems_refuse(problems)) {
        snapshot_drop(snapshot);
        return NULL;
    }
    snapshot->hash = resources_hash(resources);
    snapshot->version = ++versions;
    return snapshot;
}
