/* go_stats: see the header. */
#include "ext/go/go_stats.h"

#include <pthread.h>
#include <stdio.h>

#include "ext/go/go_origin.h"
#include "ext/go/go_plugin.h"
#include "ext/go/go_seats.h"
#include "ext/remote/remote_library.h"

struct go_stats go_stats;

static void init_once(void) {
    go_stats.unfinalized = stats_get_plain(STAT_GAUGE, "golang.unfinalized_requests");
    go_stats.refused_edits = stats_get_plain(STAT_COUNTER, "golang.refused_edits");
    go_stats.stale_calls = stats_get_plain(STAT_COUNTER, "golang.stale_calls");
    go_stats.stale_handles = stats_get_plain(STAT_COUNTER, "golang.stale_handles");
}

void go_stats_init(void) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, init_once);
}

_Atomic(void (*)(enum go_count which, uint64_t n)) go_stats_elsewhere;

void go_stats_count(enum go_count which, uint64_t n) {
    const struct statistic *const stats[GO_COUNTED] = {
        [GO_REFUSED_EDITS] = go_stats.refused_edits,
        [GO_STALE_CALLS] = go_stats.stale_calls,
        [GO_STALE_HANDLES] = go_stats.stale_handles,
    };
    void (*elsewhere)(enum go_count which, uint64_t n) =
        atomic_load_explicit(&go_stats_elsewhere, memory_order_acquire); /* remote/host_metric.c */
    if (elsewhere)
        elsewhere(which, n);
    else
        stat_add(stats[which], STATS_SHARD_FOREIGN, (int64_t)n);
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

static struct go_seat_stats of_seats(struct span library, const char *const names[3]) {
    return (struct go_seat_stats){of_library(STAT_GAUGE, library, names[0]),
                                  of_library(STAT_GAUGE, library, names[1]),
                                  of_library(STAT_GAUGE, library, names[2])};
}

const char *const go_seat_stat_names[2][3] = {
    [GO_SEATS_OF_WORKERS] = {"seats", "seats_busy", "seats_blocked"},
    [GO_SEATS_OF_CALLS] = {"call_seats", "call_seats_busy", "call_seats_blocked"},
};

void go_library_stats_init(struct go_library_stats *stats, struct span library) {
    *stats = (struct go_library_stats){
        .seats = of_seats(library, go_seat_stat_names[GO_SEATS_OF_WORKERS]),
        .call_seats = of_seats(library, go_seat_stat_names[GO_SEATS_OF_CALLS]),
        .seat_waits = of_library(STAT_COUNTER, library, "seat_waits"),
        .seat_timeouts = of_library(STAT_COUNTER, library, "seat_timeouts"),
        .merges = of_library(STAT_COUNTER, library, "merges"),
        .ends_waiting = of_library(STAT_GAUGE, library, "ends_waiting"),
        .ends_untold = of_library(STAT_COUNTER, library, "ends_untold"),
    };
}

void go_swap_stats_init(struct go_swap_stats *stats, struct span library) {
    *stats = (struct go_swap_stats){
        .reloads = of_library(STAT_COUNTER, library, "reloads"),
        .failed_reloads = of_library(STAT_COUNTER, library, "failed_reloads"),
        .version = of_library(STAT_GAUGE, library, "version"),
        .kept_copies = of_library(STAT_GAUGE, library, "kept_copies"),
    };
}

void go_swap_stats_set(const struct go_swap_stats *stats, unsigned version, unsigned kept_copies) {
    stat_set(stats->version, version);
    stat_set(stats->kept_copies, kept_copies);
}

/* ---- of plugins ---- */

const char *const go_plugin_kind_names[GO_PLUGIN_KINDS] = {"http", "network", "cluster_specifier"};

static const char *const prefixes[GO_PLUGIN_KINDS] = {"golang.plugin", "golang.network",
                                                      "golang.cluster_specifier"};

static const struct {
    enum stat_kind kind;
    const char *names[GO_PLUGIN_KINDS];
} table[GO_PLUGIN_STATS] = {
    [GO_STAT_REQUESTS] = {STAT_COUNTER, {"requests", "connections", "requests"}},
    [GO_STAT_CALLS] = {STAT_COUNTER, {"calls", "calls", "calls"}},
    [GO_STAT_CALLS_BUSY] = {STAT_GAUGE, {"calls_busy", "calls_busy", "calls_busy"}},
    [GO_STAT_CALLS_BLOCKED] = {STAT_GAUGE, {"calls_blocked", "calls_blocked", "calls_blocked"}},
    [GO_STAT_CROSSINGS] = {STAT_COUNTER, {"crossings", "crossings", "crossings"}},
    [GO_STAT_HEADER_COPIES] = {STAT_COUNTER, {"header_copies", NULL, NULL}},
    [GO_STAT_HEADER_BYTES_TO_GO] = {STAT_COUNTER, {"header_bytes_to_go", NULL, "bytes_to_go"}},
    [GO_STAT_HEADER_BYTES_FROM_GO] = {STAT_COUNTER, {"header_bytes_from_go", NULL, NULL}},
    [GO_STAT_BODY_BYTES_TO_GO] = {STAT_COUNTER, {"body_bytes_to_go", "bytes_to_go", NULL}},
    [GO_STAT_BODY_BYTES_FROM_GO] = {STAT_COUNTER, {"body_bytes_from_go", "bytes_from_go", NULL}},
    [GO_STAT_PANICS] = {STAT_COUNTER, {"panics", NULL, "panics"}},
    [GO_STAT_LOCAL_REPLIES] = {STAT_COUNTER, {"local_replies", NULL, NULL}},
    [GO_STAT_PHASE_TIMEOUTS] = {STAT_COUNTER, {"phase_timeouts", NULL, NULL}},
    [GO_STAT_DEFAULTS] = {STAT_COUNTER, {NULL, NULL, "defaults"}},
    [GO_STAT_UNFINALIZED] = {STAT_GAUGE, {"unfinalized_requests", "unfinalized_connections", NULL}},
};

const char *go_plugin_stat_name(enum go_plugin_kind kind, enum go_plugin_stat stat) {
    return table[stat].names[kind];
}

struct plugin_name {
    enum go_plugin_kind kind;
    struct span library, plugin;
};

static struct statistic *of_plugin(const struct plugin_name *of, enum stat_kind kind,
                                   const char *what) {
    char name[NAME_MAX_BYTES], metric[64];
    bool has_name = of->kind != GO_PLUGIN_CLUSTER; /* a library has one */
    struct stat_tag tags[2] = {{SPAN_LIT("library"), of->library},
                               {SPAN_LIT("plugin"), of->plugin}};
    int len = snprintf(name, sizeof name, "%s.%.*s%s%.*s.%s", prefixes[of->kind],
                       (int)of->library.len, of->library.ptr, has_name ? "." : "",
                       has_name ? (int)of->plugin.len : 0, of->plugin.ptr, what);
    (void)snprintf(metric, sizeof metric, "%s.%s", prefixes[of->kind], what);
    return stats_get(kind, plain(name, len), span_of(metric), tags, has_name ? 2 : 1);
}

void go_plugin_stats_init(struct go_plugin_stats *stats, enum go_plugin_kind kind,
                          struct span library, struct span plugin) {
    const struct plugin_name of = {kind, library, plugin};
    *stats =
        (struct go_plugin_stats){.read_call_time = of_plugin(&of, STAT_HISTOGRAM, "call_time")};
    stats->call_time = stats->read_call_time->slot;
    for (unsigned i = 0; i < GO_PLUGIN_STATS; i++) {
        if (!table[i].names[kind])
            continue;
        stats->read[i] = of_plugin(&of, table[i].kind, table[i].names[kind]);
        stats->slots[i] = stats->read[i]->slot;
    }
}

static void bump(uint64_t *cells, uint32_t slot, uint64_t n) {
    if (n)
        stats_bump(cells, slot, n);
}

/* What a kind has no statistic of it never counts. */
void go_plugin_stats_add(const struct go_plugin_stats *stats, unsigned shard,
                         const struct go_counts *counts) {
    uint64_t *cells = stats_cells(shard);
    const uint32_t *slots = stats->slots;
    bump(cells, slots[GO_STAT_CROSSINGS], counts->crossings);
    bump(cells, slots[GO_STAT_HEADER_COPIES], counts->header_copies);
    bump(cells, slots[GO_STAT_HEADER_BYTES_TO_GO], counts->header_bytes_to_go);
    bump(cells, slots[GO_STAT_HEADER_BYTES_FROM_GO], counts->header_bytes_from_go);
    bump(cells, slots[GO_STAT_BODY_BYTES_TO_GO], counts->body_bytes_to_go);
    bump(cells, slots[GO_STAT_BODY_BYTES_FROM_GO], counts->body_bytes_from_go);
    bump(cells, slots[GO_STAT_PANICS], counts->panics);
    bump(cells, slots[GO_STAT_LOCAL_REPLIES], counts->local_replies);
}

/* ---- what is only looked at when asked for: of all copies of a library together ---- */

static struct seat_counts sum(struct seat_counts a, struct seat_counts b) {
    return (struct seat_counts){.busy = a.busy + b.busy, .blocked = a.blocked + b.blocked};
}

/* The current copy's; what goes on in the others counts, too. */
static void refresh_seats(const struct go_library *current, enum go_seats_kind kind) {
    const struct go_seat_stats *stats =
        kind == GO_SEATS_OF_CALLS ? &current->stats.call_seats : &current->stats.seats;
    const struct seat_set *seats = go_seats_of(current, kind);
    struct seat_counts counts = {0};
    if (!seats)
        return;
    for (const struct go_library *at = go_library_first(); at; at = at->next) {
        const struct seat_set *its = go_seats_of(at, kind);
        if (at->origin == current->origin && its)
            counts = sum(counts, seat_set_count(its, NULL));
    }
    stat_set(stats->all, seat_set_size(seats));
    stat_set(stats->busy, counts.busy);
    stat_set(stats->blocked, counts.blocked);
}

static struct seat_counts calls_of_all(const struct go_plugin *plugin) {
    struct seat_counts counts = {0};
    for (const struct go_library *at = go_library_first(); at; at = at->next) {
        const struct go_plugin *same =
            at->origin == plugin->library->origin ? go_plugin_first(at) : NULL;
        while (same && !(same->kind == plugin->kind && span_eq(same->name, plugin->name)))
            same = same->next;
        if (same)
            counts = sum(counts, go_plugin_calls(same));
    }
    return counts;
}

/* Of an isolated library, of which nobody here counts: the gauges move by as much as it has changed since somebody asked. */
static void refresh_unfinalized(struct go_plugin *plugin) {
    int64_t now = remote_library_unfinalized(plugin->library->remote, plugin->name);
    int64_t more = now - atomic_exchange(&plugin->unfinalized_shown, now);
    stat_add(plugin->stats.read[GO_STAT_UNFINALIZED], STATS_SHARD_FOREIGN, more);
    stat_add(go_stats.unfinalized, STATS_SHARD_FOREIGN, more);
}

static void refresh_plugin(const struct go_plugin *plugin) {
    const struct statistic *const *read = plugin->stats.read;
    struct seat_counts counts = calls_of_all(plugin);
    struct stat_summary summary;
    stat_summary(plugin->stats.read_call_time, &summary);
    stat_set(read[GO_STAT_CALLS], (int64_t)summary.count);
    stat_set(read[GO_STAT_CALLS_BUSY], counts.busy);
    stat_set(read[GO_STAT_CALLS_BLOCKED], counts.blocked);
}

void go_stats_refresh(void) {
    for (const struct go_origin *origin = go_origin_first(); origin; origin = origin->next) {
        struct go_library *library = go_origin_current(origin);
        refresh_seats(library, GO_SEATS_OF_WORKERS);
        refresh_seats(library, GO_SEATS_OF_CALLS);
        for (struct go_plugin *plugin = go_plugin_first(library); plugin; plugin = plugin->next) {
            refresh_plugin(plugin);
            if (library->remote && plugin->kind == GO_PLUGIN_HTTP)
                refresh_unfinalized(plugin);
        }
    }
}
