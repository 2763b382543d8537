/* breaker: a limit on how many of something there are at a time, on all Ps together, and exact: as long
 * as there are fewer than the limit anywhere, every P gets one more.
 *
 * Each P has a share of what is free, on a cache line of its own, and takes from there and gives back
 * there. Only when its share is empty or full does it touch what belongs to all.
 *
 * Ownership  A part of its owner; so are the shares, one in each P's part of it.
 * Threads    Any P, each with its own share. */
#pragma once
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/check.h"

enum {
    BREAKER_BATCH = 64,      /* so many at a time move between a share and the rest */
    BREAKER_SHARE_MAX = 256, /* a P whose requests swing by less shares no line with others */
};

struct breaker {
    /* Where the first share is, and how many bytes further the next. */
    _Atomic uint32_t *first;
    uint32_t stride, count;
    _Atomic uint32_t free; /* in no share and not taken */
};

void breaker_init(struct breaker *breaker, uint32_t limit,
                  _Atomic uint32_t *first BORROWED_BY(breaker), size_t stride, unsigned count);

/* Private: what is left to them when the share is empty or full. */
MUST_CHECK bool breaker_take_elsewhere(struct breaker *breaker, _Atomic uint32_t *share);
void breaker_return_batch(struct breaker *breaker, _Atomic uint32_t *share);

/* False: there are as many as the limit allows. */
MUST_CHECK static inline bool breaker_take(struct breaker *breaker, _Atomic uint32_t *share) {
    uint32_t there = atomic_load_explicit(share, memory_order_relaxed);
    while (there > 0) {
        if (atomic_compare_exchange_weak_explicit(share, &there, there - 1, memory_order_relaxed,
                                                  memory_order_relaxed))
            return true;
    }
    return breaker_take_elsewhere(breaker, share);
}

static inline void breaker_give(struct breaker *breaker, _Atomic uint32_t *share) {
    if (atomic_fetch_add_explicit(share, 1, memory_order_relaxed) >= BREAKER_SHARE_MAX)
        breaker_return_batch(breaker, share);
}
