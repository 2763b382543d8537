/* connection_limit: how many connections may be open at once, over all Ps: of a listener, or of the
 * process.
 *
 * The line is shared, but only touched when a connection opens and when it ends, and only where there is
 * a limit.
 *
 * Threads  Any. */
#pragma once
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct connection_limit {
    _Alignas(64) _Atomic uint64_t open;
    _Atomic uint64_t max; /* may change while it is used */
};

/* Owned, for the life of the process. NULL when memory is short. */
struct connection_limit *connection_limit_new(uint64_t max);

static inline uint64_t connection_limit_max(const struct connection_limit *limit) {
    return atomic_load_explicit(&limit->max, memory_order_relaxed);
}
/* Who is there stays. */
static inline void connection_limit_set_max(struct connection_limit *limit, uint64_t max) {
    atomic_store_explicit(&limit->max, max, memory_order_relaxed);
}

/* Never more than max at once, also for a moment: the check and the count are one step. False: it is
 * full. Relaxed: nothing is published by it. */
static inline bool connection_limit_take(struct connection_limit *limit) {
    uint64_t open = atomic_load_explicit(&limit->open, memory_order_relaxed);
    while (open < connection_limit_max(limit))
        if (atomic_compare_exchange_weak_explicit(&limit->open, &open, open + 1,
                                                  memory_order_relaxed, memory_order_relaxed))
            return true;
    return false;
}
/* For those that count, but are not held to it. */
static inline void connection_limit_count(struct connection_limit *limit) {
    atomic_fetch_add_explicit(&limit->open, 1, memory_order_relaxed);
}
static inline void connection_limit_give(struct connection_limit *limit) {
    atomic_fetch_sub_explicit(&limit->open, 1, memory_order_relaxed);
}
static inline uint64_t connection_limit_open(const struct connection_limit *limit) {
    return atomic_load_explicit(&limit->open, memory_order_relaxed);
}
