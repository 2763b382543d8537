/* go_stats: see the header. */
#include "ext/go/go_stats.h"

#include <pthread.h>
#include <stdio.h>

#include "ext/go/go_library.h"
#include "ext/go/go_plugin.h"

struct go_stats go_stats;

static struct statistic *get(enum stat_kind kind, const char *name) {
    return stats_get(kind, span_of(name), span_of(name), NULL, 0);
}

static void init_once(void) {
    go_stats.unfinalized = get(STAT_GAUGE, "golang.unfinalized_requests");
    go_stats.refused_edits = get(STAT_COUNTER, "golang.refused_edits");
    go_stats.stale_calls = get(STAT_COUNTER, "golang.stale_calls");
    go_stats.stale_handles = get(STAT_COUNTER, "golang.stale_handles");
}

void go_stats_init(void) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, init_once);
}

/* Names are as in stats_get_tagged: no colons. They come from a configuration, and a longer one is cut. */
enum { NAME_MAX_BYTES = 512 };

static struct span plain(char *name, int len) {
    size_t size = len < 0 ? 0 : (size_t)len < NAME_MAX_BYTES ? (size_t)len : NAME_MAX_BYTES - 1;
    for (size_t i = 0; i < size; i++)
        if (name[i] == ':')
            name[i] = '_';
    return span_make(name, size);
}

static struct statistic *of_library(enum stat_kind kind, struct span library, const char *what) {
    char name[NAME_MAX_BYTES], metric[64];
    struct stat_tag tag = {SPAN_LIT("library"), library};
    int len =
        snprintf(name, sizeof name, "golang.library.%.*s.%s", (int)library.len, library.ptr, what);
    (void)snprintf(metric, sizeof metric, "golang.library.%s", what);
    return stats_get(kind, plain(name, len), span_of(metric), &tag, 1);
}

void go_library_stats_init(struct go_library_stats *stats, struct span library) {
    *stats = (struct go_library_stats){
        .seats = of_library(STAT_GAUGE, library, "seats"),
        .seats_busy = of_library(STAT_GAUGE, library, "seats_busy"),
        .seats_blocked = of_library(STAT_GAUGE, library, "seats_blocked"),
        .seat_waits = of_library(STAT_COUNTER, library, "seat_waits"),
        .seat_timeouts = of_library(STAT_COUNTER, library, "seat_timeouts"),
        .merges = of_library(STAT_COUNTER, library, "merges"),
        .ends_waiting = of_library(STAT_GAUGE, library, "ends_waiting"),
        .ends_untold = of_library(STAT_COUNTER, library, "ends_untold"),
    };
}

struct plugin_name {
    struct span library, plugin;
};

static struct statistic *of_plugin(enum stat_kind kind, const struct plugin_name *of,
                                   const char *what) {
    char name[NAME_MAX_BYTES], metric[64];
    struct stat_tag tags[2] = {{SPAN_LIT("library"), of->library},
                               {SPAN_LIT("plugin"), of->plugin}};
    int len = snprintf(name, sizeof name, "golang.plugin.%.*s.%.*s.%s", (int)of->library.len,
                       of->library.ptr, (int)of->plugin.len, of->plugin.ptr, what);
    (void)snprintf(metric, sizeof metric, "golang.plugin.%s", what);
    return stats_get(kind, plain(name, len), span_of(metric), tags, 2);
}

static const struct statistic *counter(const struct plugin_name *of, const char *what) {
    return of_plugin(STAT_COUNTER, of, what);
}

void go_plugin_stats_init(struct go_plugin_stats *stats, struct span library, struct span plugin) {
    const struct plugin_name name = {library, plugin}, *of = &name;
    *stats = (struct go_plugin_stats){
        .crossings = counter(of, "crossings")->slot,
        .header_copies = counter(of, "header_copies")->slot,
        .header_bytes_to_go = counter(of, "header_bytes_to_go")->slot,
        .header_bytes_from_go = counter(of, "header_bytes_from_go")->slot,
        .body_bytes_to_go = counter(of, "body_bytes_to_go")->slot,
        .body_bytes_from_go = counter(of, "body_bytes_from_go")->slot,
        .read = {.requests = counter(of, "requests"),
                 .panics = counter(of, "panics"),
                 .local_replies = counter(of, "local_replies"),
                 .unfinalized = of_plugin(STAT_GAUGE, of, "unfinalized_requests"),
                 .call_times = of_plugin(STAT_HISTOGRAM, of, "call_time"),
                 .calls = counter(of, "calls")},
    };
    stats->requests = stats->read.requests->slot;
    stats->panics = stats->read.panics->slot;
    stats->local_replies = stats->read.local_replies->slot;
    stats->unfinalized = stats->read.unfinalized->slot;
    stats->call_time = stats->read.call_times->slot;
}

static void bump(uint64_t *cells, uint32_t slot, uint64_t n) {
    if (n)
        stats_bump(cells, slot, n);
}

void go_plugin_stats_add(const struct go_plugin_stats *stats, unsigned shard,
                         const struct go_counts *counts) {
    uint64_t *cells = stats_cells(shard);
    bump(cells, stats->crossings, counts->crossings);
    bump(cells, stats->header_copies, counts->header_copies);
    bump(cells, stats->header_bytes_to_go, counts->header_bytes_to_go);
    bump(cells, stats->header_bytes_from_go, counts->header_bytes_from_go);
    bump(cells, stats->body_bytes_to_go, counts->body_bytes_to_go);
    bump(cells, stats->body_bytes_from_go, counts->body_bytes_from_go);
    bump(cells, stats->panics, counts->panics);
    bump(cells, stats->local_replies, counts->local_replies);
}

void go_stats_refresh(void) {
    for (const struct go_library *library = go_library_first(); library; library = library->next) {
        const struct seat_set *seats = atomic_load_explicit(&library->seats, memory_order_acquire);
        if (!seats)
            continue; /* no HTTP filter of it was ever configured */
        struct seat_counts counts = seat_set_count(seats);
        stat_set(library->stats.seats, seat_set_size(seats));
        stat_set(library->stats.seats_busy, counts.busy);
        stat_set(library->stats.seats_blocked, counts.blocked);
        for (const struct go_plugin *plugin = go_plugin_first(library); plugin;
             plugin = plugin->next) {
            struct stat_summary summary;
            stat_summary(plugin->stats.read.call_times, &summary);
            stat_set(plugin->stats.read.calls, (int64_t)summary.count);
        }
    }
}
