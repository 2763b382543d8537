/* go_plugin: one plugin of one library: an HTTP filter, a network filter, or the library's cluster specifier.
 * Configurations of it come and go; what is known of its code, its counters and whether it blocks, stays.
 *
 * Ownership  For the life of the process.
 * Threads    go_plugin_get, _first, _calls: any. The rest: coroutines on a P. */
#pragma once
#include "ext/go/go_library.h"
#include "ext/go/go_stats.h"
#include "proxy/doing.h"

enum {
    GO_PLUGIN_WARY_S = 10,
    /* A call that blocks counts as many as so many that do not: what blocks in one of six calls is
     * known for it after a few. A thread that is not let run looks the same, but not that often. */
    GO_PLUGIN_BLOCK_SCORE = 8,
    GO_PLUGIN_BLOCKS_FROM = 2 * GO_PLUGIN_BLOCK_SCORE,
    GO_PLUGIN_SCORE_MAX = 8 * GO_PLUGIN_BLOCK_SCORE,
};
static const uint64_t go_plugin_blocks_ns = 10 * NS_PER_MS;

struct go_plugin {
    struct go_plugin *next; /* of its library */
    struct go_library *library;
    enum go_plugin_kind kind;
    struct span name; /* interned */
    /* Library and plugin; and the filter, except of an HTTP filter, which its chain names. */
    struct doing_labels labels;
    struct go_plugin_stats stats;
    /* In a host process that serves: where its requests that are not finalized are counted (host_serve.h). */
    _Atomic(_Atomic int64_t *) unfinalized_far;
    _Atomic int64_t unfinalized_shown; /* of an isolated library: go_stats_refresh */
    /* Until then its streams have seats apart: a call of it blocked in the last GO_PLUGIN_WARY_S. */
    _Atomic int64_t wary_until_ns;
    /* Up with each call that takes go_plugin_blocks_ns, down with others. From GO_PLUGIN_BLOCKS_FROM on its calls have
     * threads of their own from the start, so that no P waits for them. Who counts at the same time as another may be
     * overlooked. */
    _Atomic int32_t block_score;
};

/* name is interned; a cluster specifier's is for people. NULL when memory is short. */
MUST_CHECK struct go_plugin *go_plugin_get(struct go_library *library, enum go_plugin_kind kind,
                                           struct span name);
struct go_plugin *go_plugin_first(const struct go_library *library);
/* Those that are going on. */
struct seat_counts go_plugin_calls(const struct go_plugin *plugin);

static inline bool go_plugin_is_wary(const struct go_plugin *plugin) {
    int64_t until_ns = atomic_load_explicit(&plugin->wary_until_ns, memory_order_relaxed);
    return until_ns != 0 && rt_now_ns() < until_ns;
}

static inline bool go_plugin_blocks(const struct go_plugin *plugin) {
    return atomic_load_explicit(&plugin->block_score, memory_order_relaxed) >=
           GO_PLUGIN_BLOCKS_FROM;
}

/* A call of it took so long; the coroutine that made it is on its P again. From blocks_ns on it counts as one that
 * blocks. */
void go_plugin_called(struct go_plugin *plugin, unsigned shard, uint64_t took_ns,
                      uint64_t blocks_ns);

/* ---- where its calls are made ---- */

/* The place of a stream, or of one call, among a library's seats (go_seats.h). */
struct go_sitting {
    struct go_plugin *plugin;
    struct seat_set *seats;
    struct seat *seat; /* NULL before the first call */
    unsigned shard;    /* of its P */
};

/* Holds its seat, or takes one: 0, -ETIMEDOUT or -ECANCELED. Parks; with a patience of 0 it does not. */
static inline int go_sitting_hold(struct go_sitting *sitting, int64_t patience_ns) {
    return sitting->seat ? seat_lock(sitting->seat, patience_ns)
                         : seat_take(sitting->seats, go_plugin_is_wary(sitting->plugin),
                                     patience_ns, &sitting->seat);
}
/* The same for who could not have one at once, counted. Parks. */
MUST_CHECK int go_sitting_wait(struct go_sitting *sitting, int64_t patience_ns);
/* Calls fn in the seat, which is held, as foreign_call does, or on a thread of its own if the plugin blocks; then gives
 * the seat up. Parks. */
void go_sitting_call(const struct go_sitting *sitting, rt_fn fn, void *arg);

/* Calls fn as foreign_call does, in a seat that the call has for itself (go_seats.h): for what belongs to no
 * worker of the SDK's. 0; -ETIMEDOUT: there was none in patience_ns; -ECANCELED. After an error it was not
 * called. Parks. */
MUST_CHECK int go_plugin_call(struct go_plugin *plugin, unsigned shard, int64_t patience_ns,
                              rt_fn fn, void *arg);
/* However long that takes, and whoever cancels: that is kept for afterwards. */
void go_plugin_call_surely(struct go_plugin *plugin, unsigned shard, rt_fn fn, void *arg);
