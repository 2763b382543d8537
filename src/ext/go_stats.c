/* go_stats: see the header. */
#include "ext/go_stats.h"

#include <pthread.h>

struct go_stats go_stats;

static struct statistic *get(enum stat_kind kind, const char *name) {
    return stats_get(kind, span_of(name), span_of(name), NULL, 0);
}

static void init_once(void) {
    go_stats.unfinalized = get(STAT_GAUGE, "golang.unfinalized_requests");
    go_stats.seats_busy = get(STAT_GAUGE, "golang.seats_busy");
    go_stats.seat_waits = get(STAT_COUNTER, "golang.seat_waits");
    go_stats.refused_edits = get(STAT_COUNTER, "golang.refused_edits");
    go_stats.stale_calls = get(STAT_COUNTER, "golang.stale_calls");
    go_stats.stale_handles = get(STAT_COUNTER, "golang.stale_handles");
}

void go_stats_init(void) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, init_once);
}
