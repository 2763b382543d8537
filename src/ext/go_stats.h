/* go_stats: counters of the Go host, process-wide, under "golang.". */
#pragma once
#include "base/stats.h"

extern struct go_stats {
    struct statistic *unfinalized; /* gauge: requests whose memory Go or an exchange still holds */
    struct statistic *seats_busy;  /* gauge: calls into Go going on */
    struct statistic *seat_waits;  /* calls that found their seat busy */
    struct statistic *refused_edits; /* header changes that may not go on the wire */
    struct statistic *stale_calls;   /* calls that came after their request, or out of turn */
    struct statistic *stale_handles; /* what they came with was given back before, or never lent */
} go_stats;

/* Idempotent; before the first request. Any thread. */
void go_stats_init(void);
