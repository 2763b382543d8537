/* breaker: credits that move between Ps only when one of them has none left.
 *
 *      free ◄── a batch ──► share of P 0 ──► 1 ──► somebody's who was let in
 *        ▲                    │    ▲
 *        │                    half of it, to a P that found nothing in `free`
 *        │                    ▼    │
 *        └── a batch ──► share of P 1
 *
 * B1  free + the shares + what was let in == the limit, but for credits between two of these places,
 *     which the P that moves them is about to use or to put down.
 * B2  Only its own P adds to a share; any P may subtract from it.
 *
 * A request takes one credit and gives it back: two locked instructions on a line that is nobody
 * else's. They cannot be plain ones: another P may be taking from the share at that moment, which is what
 * makes the limit exact however the credits are spread.
 *
 * Order     Relaxed all over. A credit is a number and guards no other memory, and each change is one
 *           atomic step on one word, so none is lost or had twice.
 * Refusals  A P that refuses has found every place empty, one after the other. A credit that moved behind its
 *           back may have been missed; nobody can tell that from one given back a moment later.
 * Rejected  One counter for all: two changes of a line that every P wants, per request. A fixed part of the limit
 *           for each P: a limit of 1 on 8 Ps would let 0 or 8 in. Plain counters per P that are added up: the
 *           sum is of no one moment, so two Ps may both see the last place free. */
#include "proxy/breaker.h"

static _Atomic uint32_t *share_at(const struct breaker *breaker, unsigned index) {
    return (_Atomic uint32_t *)((uintptr_t)breaker->first + (size_t)index * breaker->stride);
}

void breaker_init(struct breaker *breaker, uint32_t limit, _Atomic uint32_t *first, size_t stride,
                  unsigned count) {
    breaker->first = first;
    breaker->stride = (uint32_t)stride;
    breaker->count = count;
    atomic_store_explicit(&breaker->free, limit, memory_order_relaxed);
    for (unsigned i = 0; i < count; i++)
        atomic_store_explicit(share_at(breaker, i), 0, memory_order_relaxed);
}

/* Up to `most`, and not more than the larger half of what is there. How many it got. */
static uint32_t take_some(_Atomic uint32_t *from, uint32_t most) {
    uint32_t there = atomic_load_explicit(from, memory_order_relaxed);
    uint32_t got;
    do {
        if (there == 0)
            return 0;
        got = there - there / 2 < most ? there - there / 2 : most;
    } while (!atomic_compare_exchange_weak_explicit(from, &there, there - got, memory_order_relaxed,
                                                    memory_order_relaxed));
    return got;
}

bool breaker_take_elsewhere(struct breaker *breaker, _Atomic uint32_t *share) {
    uint32_t got = take_some(&breaker->free, BREAKER_BATCH);
    for (unsigned i = 0; got == 0 && i < breaker->count; i++)
        got = take_some(share_at(breaker, i), BREAKER_BATCH);
    if (got == 0)
        return false;
    if (got > 1) /* one is let in */
        atomic_fetch_add_explicit(share, got - 1, memory_order_relaxed);
    return true;
}

void breaker_return_batch(struct breaker *breaker, _Atomic uint32_t *share) {
    uint32_t got = take_some(share, BREAKER_BATCH);
    atomic_fetch_add_explicit(&breaker->free, got, memory_order_relaxed);
}
