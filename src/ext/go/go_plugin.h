/* go_plugin: one plugin of one library. Configurations of it come and go; what is known of its code, its
 * counters and whether it blocks, stays.
 *
 * Ownership  For the life of the process.
 * Threads    go_plugin_get, _first: any. The rest: coroutines on a P. */
#pragma once
#include "ext/go/go_library.h"
#include "ext/go/go_stats.h"
#include "proxy/doing.h"

enum { GO_PLUGIN_WARY_S = 10 };

struct go_plugin {
    struct go_plugin *next; /* of its library */
    struct go_library *library;
    struct span name;           /* interned */
    struct doing_labels labels; /* library and plugin */
    struct go_plugin_stats stats;
    /* Until then its streams have seats apart: a call of it blocked in the last GO_PLUGIN_WARY_S. */
    _Atomic int64_t wary_until_ns;
};

/* name is interned. NULL when memory is short. */
MUST_CHECK struct go_plugin *go_plugin_get(struct go_library *library, struct span name);
struct go_plugin *go_plugin_first(const struct go_library *library);

static inline bool go_plugin_is_wary(const struct go_plugin *plugin) {
    int64_t until_ns = atomic_load_explicit(&plugin->wary_until_ns, memory_order_relaxed);
    return until_ns != 0 && rt_now_ns() < until_ns;
}

/* A call of it took so long; the coroutine that made it is on its P again. */
void go_plugin_called(struct go_plugin *plugin, unsigned shard, uint64_t took_ns);
