/* breaker: credits that change Ps only by being used.
 *
 *      free ──────────┐                ┌──► share of P 0
 *      share of P 0 ──┼──► let in ─────┼──► share of P 1     whoever gives it back: to the share of its P,
 *      share of P 1 ──┘                └──► free             and to `free` when that is full
 *
 * B1  free + the shares + what was let in == the limit, at every moment: a credit goes from one of these
 *     places to another in one step, and is never between two of them.
 * B2  Only its own P adds to a share; any P may take from it.
 *
 * A P therefore soon has as many credits as it lets in at a time, and a request takes one and gives it back:
 * two locked instructions on a line that is nobody else's. They cannot be plain ones: another P may be taking
 * from the share at that moment, which is what makes the limit exact however the credits are spread.
 *
 * Order     Relaxed all over. A credit is a number and guards no other memory, and each change is one
 *           atomic step on one word, so none is lost or had twice.
 * Refusals  A P that refuses has found every place empty, one after the other. If nothing was given back
 *           meanwhile, all was let in at the end of that. A credit given back behind its back may have been
 *           missed; nobody can tell that from one given back a moment later.
 * Rejected  One counter for all: two changes of a line that every P wants, per request. A fixed part of the limit
 *           for each P: a limit of 1 on 8 Ps would let 0 or 8 in. Plain counters per P that are added up: the
 *           sum is of no one moment, so two Ps may both see the last place free. Several credits at a time from
 *           one place to another: what a thread has in its hands while it does not run is refused to others,
 *           by which requests were turned away below the limit. */
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

bool breaker_take_elsewhere(struct breaker *breaker) {
    bool got = breaker_take_from(&breaker->free);
    for (unsigned i = 0; !got && i < breaker->count; i++)
        got = breaker_take_from(share_at(breaker, i));
    return got;
}
