/* native_merge: configurations of the plug-in's, merged along the routes:
 *
 *     filter's config ─┬─ route table ─► merged ─┬─ virtual host ─► merged ─┬─ route ... ─► what the exchange gets
 *
 * A pair (config, place) is merged once: the result is kept with the place, in a list that only grows and is read without
 * a lock. Merging has the place's lock, on a thread's stack where the plug-in may take its time; who asks for the same
 * pair meanwhile waits there. native.PLUGIN.merges counts. What was merged lives as long as the place, and so does
 * what it was made of: all are of one snapshot, which exchanges lease. */
#include <stdlib.h>

#include "ext/native/native_filter.h"

struct native_merge {
    struct native_merge *next;
    void *config, *merged;
};

void native_merges_init(struct native_merges *merges) {
    /* Cannot fail with default attributes on Linux. */
    (void)pthread_mutex_init(&merges->lock, NULL);
    atomic_store_explicit(&merges->first, NULL, memory_order_relaxed); /* nobody else has it yet */
}

void native_merges_fini(struct native_merges *merges, struct native_library *library) {
    /* acquire pairs with merge_once's release */
    struct native_merge *merge = atomic_load_explicit(&merges->first, memory_order_acquire);
    while (merge) {
        struct native_merge *next = merge->next;
        native_give_back(library, library->plugin.free_config, merge->merged);
        free(merge);
        merge = next;
    }
    (void)pthread_mutex_destroy(&merges->lock); /* nobody holds it: the snapshot is gone */
}

static const struct native_merge *find(const struct native_merge *merge, const void *config) {
    while (merge && merge->config != config)
        merge = merge->next;
    return merge;
}

/* NULL: nobody has merged the pair yet. */
void *native_known_merge(struct native_route_config *place, const void *config) {
    /* acquire pairs with merge_locked's release */
    const struct native_merge *known =
        find(atomic_load_explicit(&place->merges.first, memory_order_acquire), config);
    return known ? known->merged : NULL;
}

struct merge_call {
    struct native_route_config *place;
    void *config, *merged; /* merged NULL: memory is short, or it faulted */
    struct native_fault fault;
    bool faulted;
};

static NATIVE_ENTER void enter_merge(void *arg) {
    struct merge_call *call = arg;
    call->merged = call->place->library->plugin.merge_config(call->config, call->place->made);
    NATIVE_ENTERED();
}

/* With the lock, on a thread's stack. */
static void merge_locked(struct merge_call *call) {
    struct native_merges *merges = &call->place->merges;
    struct native_library *library = call->place->library;
    struct native_merge *merge = malloc(sizeof *merge);
    if (!merge)
        return;
    call->faulted = !native_call(&library->text, enter_merge, call, &call->fault);
    if (call->faulted || !call->merged) {
        call->merged = NULL;
        free(merge);
        return;
    }
    /* The list is the lock's to change. */
    *merge = (struct native_merge){atomic_load_explicit(&merges->first, memory_order_relaxed),
                                   call->config, call->merged};
    atomic_store_explicit(&merges->first, merge, memory_order_release); /* for native_merge */
    stat_inc(library->stats.merges, STATS_SHARD_FOREIGN);
}

static void merge_once(void *arg) {
    struct merge_call *call = arg;
    struct native_merges *merges = &call->place->merges;
    pthread_mutex_lock(&merges->lock);
    const struct native_merge *known =
        find(atomic_load_explicit(&merges->first, memory_order_relaxed), call->config);
    if (known)
        call->merged = known->merged;
    else
        merge_locked(call);
    pthread_mutex_unlock(&merges->lock);
}

void *native_merge(struct native_route_config *place, void *config, struct native_fault *fault,
                   bool *faulted) {
    *faulted = false;
    void *known = native_known_merge(place, config);
    if (known)
        return known;
    struct merge_call call = {.place = place, .config = config};
    native_on_thread_stack(merge_once, &call);
    *faulted = call.faulted;
    if (call.faulted)
        *fault = call.fault;
    return call.merged;
}

/* NULL: the exchange was answered with 500, unless it only looks on. */
static void *merged_with(struct sluice_exchange *e, struct native_route_config *place,
                         void *config) {
    struct native_fault fault;
    bool faulted;
    if (e->looks_on) /* there is no time to merge */
        return native_known_merge(place, config);
    void *merged = native_merge(place, config, &fault, &faulted);
    if (faulted)
        native_filter_faulted(e, &fault, "merge_config");
    else if (!merged)
        native_filter_fail(e, 500, SPAN_LIT("native_filter_out_of_memory"));
    return merged;
}

unsigned native_route_levels(struct sluice_exchange *e, const void *levels[FILTER_ROUTE_LEVELS]) {
    bool has_route = e->x->route_chosen || (e->x->state == EXCHANGE_REQUEST && !e->looks_on);
    return has_route ? exchange_route_configs(e->x, e->factory, levels) : 0;
}

void *native_merged_config(struct sluice_exchange *e) {
    const void *levels[FILTER_ROUTE_LEVELS];
    void *config = e->config->made;
    if (!e->config->library->plugin.merge_config)
        return config;
    unsigned count = native_route_levels(e, levels);
    for (unsigned i = 0; i < count && (config || i == 0); i++)
        /* Levels come as const because filters share them; the merges inside are their own business. */
        config = merged_with(e, (struct native_route_config *)(uintptr_t)levels[i], config);
    return config;
}
