/* go_seats: see the header. */
#include "ext/go/go_seats.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

/* Before the runtime runs (a configuration is only looked at) the number of Ps is not settled. */
static unsigned p_count(void) {
    unsigned count = rt_p_count();
    return count ? count : RT_P_MAX;
}

uint32_t go_seats_announced(uint32_t wanted) {
    unsigned least = p_count();
    return wanted == 0 ? least * SEATS_PER_P : wanted < least ? least : wanted;
}

static int settle_locked(struct go_library *library, uint32_t count) {
    struct seat_set *seats = seat_set_new(p_count(), count);
    if (!seats)
        return -ENOMEM;
    library->concurrency = count;
    go_library_stats_init(&library->stats, span_of(library->id));
    /* Pairs with go_stats_refresh: the rest is there with the seats. */
    atomic_store_explicit(&library->seats, seats, memory_order_release);
    return 0;
}

int go_seats_settle(struct go_library *library, uint32_t wanted, char why[GO_LIBRARY_WHY_MAX]) {
    int err = 0;
    unsigned least = p_count();
    uint32_t count = go_seats_announced(wanted);
    why[0] = 0;
    pthread_mutex_lock(&lock);
    if (!atomic_load_explicit(&library->seats, memory_order_relaxed))
        err = settle_locked(library, count);
    if (!err && wanted && count != library->concurrency)
        (void)snprintf(why, GO_LIBRARY_WHY_MAX,
                       "library %s has %u seats since its first configuration; go_seats: %u takes "
                       "effect when the process is started anew",
                       library->id, library->concurrency, wanted);
    else if (!err && wanted && wanted < least)
        (void)snprintf(
            why, GO_LIBRARY_WHY_MAX,
            "library %s has %u seats, one for each processor that calls it; go_seats: %u "
            "would leave some without",
            library->id, count, wanted);
    pthread_mutex_unlock(&lock);
    return err;
}
