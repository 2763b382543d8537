/* go_plugin: see the header. The list of a library only grows, at its head. */
#include "ext/go/go_plugin.h"

#include <pthread.h>
#include <stdlib.h>

#include "base/intern.h"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* of adding */

struct go_plugin *go_plugin_first(const struct go_library *library) {
    return atomic_load_explicit(&library->plugins, memory_order_acquire); /* the store below */
}

static struct go_plugin *make_locked(struct go_library *library, struct span name) {
    const char *kept = intern(name, SIZE_MAX);
    struct go_plugin *plugin = kept ? calloc(1, sizeof(*plugin)) : NULL;
    if (!plugin)
        return NULL;
    struct span id = span_of(library->id);
    plugin->library = library;
    plugin->name = span_make(kept, name.len);
    doing_labels_add(&plugin->labels, "library", id);
    doing_labels_add(&plugin->labels, "plugin", plugin->name);
    go_plugin_stats_init(&plugin->stats, id, plugin->name);
    plugin->next = go_plugin_first(library);
    atomic_store_explicit(&library->plugins, plugin, memory_order_release);
    return plugin;
}

struct go_plugin *go_plugin_get(struct go_library *library, struct span name) {
    pthread_mutex_lock(&lock);
    struct go_plugin *plugin = go_plugin_first(library);
    while (plugin && !span_eq(plugin->name, name))
        plugin = plugin->next;
    if (!plugin)
        plugin = make_locked(library, name);
    pthread_mutex_unlock(&lock);
    return plugin;
}

/* To the nearest: most calls take less than a microsecond, and would all take none. */
void go_plugin_called(struct go_plugin *plugin, unsigned shard, uint64_t took_ns) {
    stats_cell_record_us_on_p(plugin->stats.call_time, shard, (took_ns + 500) / NS_PER_US);
    if (__builtin_expect(took_ns < seat_blocked_ns, 1))
        return;
    atomic_store_explicit(&plugin->wary_until_ns, rt_now_ns() + GO_PLUGIN_WARY_S * NS_PER_S,
                          memory_order_relaxed);
}
