/* go_stats: what the Go host counts: for the process, per library, and per plugin of a library.
 *
 *   golang.X                            all libraries together
 *   golang.library.LIBRARY.X            tag library
 *   golang.plugin.LIBRARY.PLUGIN.X      tags library and plugin: of HTTP filters
 *   golang.network.LIBRARY.PLUGIN.X     the same of network filters
 *   golang.cluster_specifier.LIBRARY.X  tag library: it has one
 *
 * docs/go-filters.md and docs/go-network.md say what each means. Seats and calls are not counted as they come
 * and go: go_stats_refresh looks at them when somebody asks. */
#pragma once
#include "base/stats.h"

extern struct go_stats {
    struct statistic *unfinalized; /* gauge: requests whose memory Go or an exchange still holds */
    struct statistic *refused_edits; /* header changes that may not go on the wire */
    struct statistic *stale_calls;   /* calls that came after their request, or out of turn */
    struct statistic *stale_handles; /* what they came with was given back before, or never lent */
} go_stats;

/* Those that any thread counts, by number: a host process that serves has them counted in the proxy. */
enum go_count { GO_REFUSED_EDITS, GO_STALE_CALLS, GO_STALE_HANDLES, GO_COUNTED };
void go_stats_count(enum go_count which, uint64_t n);
/* NULL: here. */
extern _Atomic(void (*)(enum go_count which, uint64_t n)) go_stats_elsewhere;

/* Gauges; set by go_stats_refresh. Their names are go_seat_stat_names of enum go_seats_kind. */
struct go_seat_stats {
    struct statistic *all, *busy, *blocked;
};
extern const char *const go_seat_stat_names[2][3];
struct go_library_stats {
    struct go_seat_stats seats, call_seats; /* of struct go_library */
    struct statistic *seat_waits;    /* calls that found no free seat, or their own blocked */
    struct statistic *seat_timeouts; /* and gave up */
    struct statistic *merges;        /* of configurations, each pair of which is merged once */
    struct statistic *ends_waiting;  /* gauge: streams that Go will hear the end of later */
    struct statistic
        *ends_untold; /* that never got a seat, and did not wait for one to be logged */
};

enum go_plugin_kind { GO_PLUGIN_HTTP, GO_PLUGIN_NETWORK, GO_PLUGIN_CLUSTER, GO_PLUGIN_KINDS };
extern const char *const go_plugin_kind_names[GO_PLUGIN_KINDS];

/* What is counted of a plugin. No kind has all of them. */
enum go_plugin_stat {
    GO_STAT_REQUESTS, /* of which Go has heard; connections of a network filter */
    GO_STAT_CALLS,
    GO_STAT_CALLS_BUSY, /* these two: gauges, set by go_stats_refresh */
    GO_STAT_CALLS_BLOCKED,
    GO_STAT_CROSSINGS, /* calls of Go into this process */
    GO_STAT_HEADER_COPIES,
    GO_STAT_HEADER_BYTES_TO_GO,
    GO_STAT_HEADER_BYTES_FROM_GO,
    GO_STAT_BODY_BYTES_TO_GO,
    GO_STAT_BODY_BYTES_FROM_GO,
    GO_STAT_PANICS,
    GO_STAT_LOCAL_REPLIES,
    GO_STAT_PHASE_TIMEOUTS, /* requests that were cut from the filter */
    GO_STAT_DEFAULTS,
    GO_STAT_UNFINALIZED, /* gauge */
    GO_PLUGIN_STATS
};
/* As it is called within the plugin; NULL: that kind has none. */
const char *go_plugin_stat_name(enum go_plugin_kind kind, enum go_plugin_stat stat);

struct go_plugin_stats {
    uint32_t slots[GO_PLUGIN_STATS]; /* most of them are bumped by each request */
    uint32_t call_time;              /* histogram */
    const struct statistic *read[GO_PLUGIN_STATS], *read_call_time; /* NULL as above */
};

/* What one request adds, counted under its stream's lock and handed in at its end: threads of Go have no
 * shard of their own, and would share a line. */
struct go_counts {
    uint32_t crossings, header_copies, panics, local_replies;
    uint64_t header_bytes_to_go, header_bytes_from_go, body_bytes_to_go, body_bytes_from_go;
};

/* Of golang.library.LIBRARY too: its file was replaced (go_swap.h). */
struct go_swap_stats {
    struct statistic *reloads, *failed_reloads;
    struct statistic *version, *kept_copies; /* gauges */
};
void go_swap_stats_init(struct go_swap_stats *stats, struct span library);
void go_swap_stats_set(const struct go_swap_stats *stats, unsigned version, unsigned kept_copies);

/* Idempotent; before the first request. Any thread. */
void go_stats_init(void);
void go_library_stats_init(struct go_library_stats *stats, struct span library);
void go_plugin_stats_init(struct go_plugin_stats *stats, enum go_plugin_kind kind,
                          struct span library, struct span plugin);

/* shard: of the P. */
void go_plugin_stats_add(const struct go_plugin_stats *stats, unsigned shard,
                         const struct go_counts *counts);

/* Sets what is only looked at when asked for. Any thread. */
void go_stats_refresh(void);
