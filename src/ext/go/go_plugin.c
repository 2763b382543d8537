/* go_plugin: see the header. The list of a library only grows, at its head. */
#include "ext/go/go_plugin.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include "base/intern.h"
#include "ext/go/go_seats.h"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* of adding */

struct go_plugin *go_plugin_first(const struct go_library *library) {
    return atomic_load_explicit(&library->plugins, memory_order_acquire); /* the store below */
}

static void label(struct go_plugin *plugin) {
    struct doing_labels *labels = &plugin->labels;
    if (plugin->kind == GO_PLUGIN_NETWORK)
        doing_labels_add(labels, "filter", SPAN_LIT("envoy.filters.network.golang"));
    if (plugin->kind == GO_PLUGIN_CLUSTER)
        doing_labels_add(labels, "filter",
                         SPAN_LIT("envoy.router.cluster_specifier_plugin.golang"));
    doing_labels_add(labels, "library", span_of(plugin->library->id));
    if (plugin->kind != GO_PLUGIN_CLUSTER)
        doing_labels_add(labels, "plugin", plugin->name);
}

static struct go_plugin *make_locked(struct go_library *library, enum go_plugin_kind kind,
                                     struct span name) {
    const char *kept = intern(name, SIZE_MAX);
    struct go_plugin *plugin = kept ? calloc(1, sizeof(*plugin)) : NULL;
    if (!plugin)
        return NULL;
    plugin->library = library;
    plugin->kind = kind;
    plugin->name = span_make(kept, name.len);
    label(plugin);
    go_plugin_stats_init(&plugin->stats, kind, span_of(library->id), plugin->name);
    plugin->next = go_plugin_first(library);
    atomic_store_explicit(&library->plugins, plugin, memory_order_release);
    return plugin;
}

struct go_plugin *go_plugin_get(struct go_library *library, enum go_plugin_kind kind,
                                struct span name) {
    pthread_mutex_lock(&lock);
    struct go_plugin *plugin = go_plugin_first(library);
    while (plugin && !(plugin->kind == kind && span_eq(plugin->name, name)))
        plugin = plugin->next;
    if (!plugin)
        plugin = make_locked(library, kind, name);
    pthread_mutex_unlock(&lock);
    return plugin;
}

static enum go_seats_kind seats_of(const struct go_plugin *plugin) {
    return plugin->kind == GO_PLUGIN_HTTP ? GO_SEATS_OF_WORKERS : GO_SEATS_OF_CALLS;
}

struct seat_counts go_plugin_calls(const struct go_plugin *plugin) {
    const struct seat_set *seats = go_seats_of(plugin->library, seats_of(plugin));
    return seats ? seat_set_count(seats, plugin) : (struct seat_counts){0};
}

/* Blocking calls are seldom, and so is a score that is not 0. */
static void keep_score(struct go_plugin *plugin, bool blocked) {
    int32_t score = atomic_load_explicit(&plugin->block_score, memory_order_relaxed);
    if (!blocked && score == 0)
        return;
    score += blocked ? GO_PLUGIN_BLOCK_SCORE : -1;
    score = score < 0 ? 0 : score > GO_PLUGIN_SCORE_MAX ? GO_PLUGIN_SCORE_MAX : score;
    atomic_store_explicit(&plugin->block_score, score, memory_order_relaxed);
}

/* To the nearest: most calls take less than a microsecond, and would all take none. */
void go_plugin_called(struct go_plugin *plugin, unsigned shard, uint64_t took_ns,
                      uint64_t blocks_ns) {
    stats_cell_record_us_on_p(plugin->stats.call_time, shard, (took_ns + 500) / NS_PER_US);
    keep_score(plugin, took_ns >= go_plugin_blocks_ns);
    if (__builtin_expect(took_ns < blocks_ns, 1))
        return;
    atomic_store_explicit(&plugin->wary_until_ns, rt_now_ns() + GO_PLUGIN_WARY_S * NS_PER_S,
                          memory_order_relaxed);
}

/* ---- where its calls are made ---- */

int go_sitting_wait(struct go_sitting *sitting, int64_t patience_ns) {
    const struct go_library_stats *stats = &sitting->plugin->library->stats;
    stat_inc(stats->seat_waits, sitting->shard);
    int err = go_sitting_hold(sitting, patience_ns);
    if (err == -ETIMEDOUT)
        stat_inc(stats->seat_timeouts, sitting->shard);
    return err;
}

void go_sitting_call(const struct go_sitting *sitting, rt_fn fn, void *arg) {
    struct go_plugin *plugin = sitting->plugin;
    uint64_t took_ns = seat_call(sitting->seat, plugin, go_plugin_blocks(plugin), fn, arg);
    go_plugin_called(plugin, sitting->shard, took_ns, seat_blocked_ns);
    seat_unlock(sitting->seats, sitting->seat);
}

/* ---- calls that have a seat for themselves ---- */

int go_plugin_call(struct go_plugin *plugin, unsigned shard, int64_t patience_ns, rt_fn fn,
                   void *arg) {
    struct go_sitting sitting = {
        .plugin = plugin, .seats = go_seats_of(plugin->library, GO_SEATS_OF_CALLS), .shard = shard};
    int err = go_sitting_hold(&sitting, 0);
    if (__builtin_expect(err != 0, 0))
        err = go_sitting_wait(&sitting, patience_ns);
    if (err != 0)
        return err;
    go_sitting_call(&sitting, fn, arg);
    seat_leave(sitting.seats, sitting.seat);
    return 0;
}

void go_plugin_call_surely(struct go_plugin *plugin, unsigned shard, rt_fn fn, void *arg) {
    bool cancelled = false;
    while (go_plugin_call(plugin, shard, RT_FOREVER, fn, arg) != 0) {
        rt_cancel_clear();
        cancelled = true;
    }
    if (cancelled)
        rt_cancel(rt_self());
}
