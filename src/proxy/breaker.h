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

enum { BREAKER_SHARE_MAX = 256 }; /* a P whose requests swing by less shares no line with others */

struct breaker {
    /* Where the first share is, and how many bytes further the next. */
    _Atomic uint32_t *first;
    uint32_t stride, count;
    _Atomic uint32_t free; /* in no share and not taken */
};

void breaker_init(struct breaker *breaker, uint32_t limit,
                  _Atomic uint32_t *first BORROWED_BY(breaker), size_t stride, unsigned count);

/* Private: what is left when the share is empty. */
MUST_CHECK bool breaker_take_elsewhere(struct breaker *breaker);

/* One of those that are at `place`, if there is any. */
MUST_CHECK static inline bool breaker_take_from(_Atomic uint32_t *place) {
    uint32_t there = atomic_load_explicit(place, memory_order_relaxed);
    while (there > 0) {
        if (atomic_compare_exchange_weak_explicit(place, &there, there - 1, memory_order_relaxed,
                                                  memory_order_relaxed))
            return true;
    }
    return false;
}

/* False: there are as many as the limit allows. */
MUST_CHECK static inline bool breaker_take(struct breaker *breaker, _Atomic uint32_t *share) {
    return breaker_take_from(share) || breaker_take_elsewhere(breaker);
}

static inline void breaker_give(struct breaker *breaker, _Atomic uint32_t *share) {
    bool is_full = atomic_load_explicit(share, memory_order_relaxed) >= BREAKER_SHARE_MAX;
    atomic_fetch_add_explicit(is_full ? &breaker->free : share, 1, memory_order_relaxed);
}
