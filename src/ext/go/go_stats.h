/* go_stats: what the Go host counts: for the process, per library, and per plugin of a library.
 *
 *   golang.X                        all libraries together
 *   golang.library.LIBRARY.X        tag library
 *   golang.plugin.LIBRARY.PLUGIN.X  tags library and plugin
 *
 * docs/go-filters.md says what each means. Seats and their calls are not counted as they come and go:
 * go_stats_refresh looks at them when somebody asks. */
#pragma once
#include "base/stats.h"

extern struct go_stats {
    struct statistic *unfinalized; /* gauge: requests whose memory Go or an exchange still holds */
    struct statistic *refused_edits; /* header changes that may not go on the wire */
    struct statistic *stale_calls;   /* calls that came after their request, or out of turn */
    struct statistic *stale_handles; /* what they came with was given back before, or never lent */
} go_stats;

struct go_library_stats {
    struct statistic *seats, *seats_busy, *seats_blocked; /* gauges; set by go_stats_refresh */
    struct statistic *seat_waits;    /* calls that found no free seat, or their own blocked */
    struct statistic *seat_timeouts; /* and gave up */
    struct statistic *merges;        /* of configurations, each pair of which is merged once */
    struct statistic *ends_waiting;  /* gauge: streams that Go will hear the end of later */
    struct statistic
        *ends_untold; /* that never got a seat, and did not wait for one to be logged */
};

/* Slots, since a request bumps most of them. */
struct go_plugin_stats {
    uint32_t requests;  /* of which Go has heard */
    uint32_t crossings; /* calls of Go into this process */
    uint32_t header_copies, header_bytes_to_go, header_bytes_from_go;
    uint32_t body_bytes_to_go, body_bytes_from_go;
    uint32_t panics, local_replies;
    uint32_t unfinalized; /* gauge */
    uint32_t call_time;   /* histogram */
    struct {              /* for who reads them */
        const struct statistic *requests, *panics, *local_replies, *unfinalized, *call_times,
            *calls;
    } read;
};

/* What one request adds, counted under its stream's lock and handed in at its end: threads of Go have no
 * shard of their own, and would share a line. */
struct go_counts {
    uint32_t crossings, header_copies, panics, local_replies;
    uint64_t header_bytes_to_go, header_bytes_from_go, body_bytes_to_go, body_bytes_from_go;
};

/* Idempotent; before the first request. Any thread. */
void go_stats_init(void);
void go_library_stats_init(struct go_library_stats *stats, struct span library);
void go_plugin_stats_init(struct go_plugin_stats *stats, struct span library, struct span plugin);

/* shard: of the P. */
void go_plugin_stats_add(const struct go_plugin_stats *stats, unsigned shard,
                         const struct go_counts *counts);

/* Sets what is only looked at when asked for. Any thread. */
void go_stats_refresh(void);
