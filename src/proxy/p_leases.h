/* p_leases: leases of one thing that the exchanges of all Ps have. Each P counts its own: a counter that all of them write
 * would be a line of the cache that travels with each request.
 *
 *     P 0:  lease ─► release ...        retire ──► a message to each P ──► none is left there, and there are no new ones
 *     P 1:  lease ─► release ...                                             └── so it is on all Ps: ended
 *
 * Who leases looks first whether the thing is still handed out, and does not park in between. Who retires has stored before
 * that it is not. So a P that has the message leases no more.
 *
 * Ownership  Part of the thing; its memory is needed until `ended`, where p_leases_fini may be called.
 * Threads    Leases: the P whose they are. p_leases_count, p_leases_retire: any. */
#pragma once
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "rt/rt.h"

struct p_leases;

/* What a P has. */
struct p_lease {
    _Alignas(64) _Atomic uint32_t count; /* the P writes, anybody reads */
    bool retired;                        /* there are no new ones */
    struct rt_post retire;               /* tells the P so, once */
    struct p_leases *of;
};

struct p_leases {
    struct p_lease *at;        /* by P */
    _Atomic unsigned ps_going; /* once it was retired: Ps that are not done with it */
    void (*ended)(struct p_leases *leases);
};

/* Needs no runtime. 0 or -ENOMEM. */
MUST_CHECK int p_leases_init(struct p_leases *leases);
void p_leases_fini(struct p_leases *leases);

static inline void p_leases_lease(struct p_leases *leases, unsigned p_index) {
    _Atomic uint32_t *count = &leases->at[p_index].count;
    atomic_store_explicit(count, atomic_load_explicit(count, memory_order_relaxed) + 1,
                          memory_order_relaxed);
}
void p_leases_p_is_done(struct p_leases *leases); /* private */
static inline void p_leases_release(struct p_leases *leases, unsigned p_index) {
    struct p_lease *at = &leases->at[p_index];
    uint32_t left = atomic_load_explicit(&at->count, memory_order_relaxed) - 1;
    atomic_store_explicit(&at->count, left, memory_order_relaxed);
    if (__builtin_expect(at->retired && left == 0, 0))
        p_leases_p_is_done(leases);
}
/* In all; a moment's. */
uint64_t p_leases_count(const struct p_leases *leases);
/* Once; needs the Ps to run. ended(leases) comes later, on one of them: from the release that was the last, or as a scheduler
 * callback. It must not park. */
void p_leases_retire(struct p_leases *leases, void (*ended)(struct p_leases *leases));
