/* sampler: which allocations are looked at, and for how many each of them stands.
 *
 * A point falls on each of the bytes that a thread allocates with the same small chance, one in `rate`;
 * an object that a point falls on is sampled. So the distance to the next point is exponentially
 * distributed wherever one starts to measure, and a countdown may be wound up again at any time, as
 * when the rate changes, without any object being favoured for it.
 *
 * Threads  A thread's sampler is its own. sampler_set_rate and sampler_poke: any thread. */
#pragma once
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/check.h"
#include "base/list.h"
#include "mem/sampling.h"

struct sampler {
    _Atomic uint64_t left; /* bytes to the next point. Others make it 0, when they have poked it. */
    _Atomic bool is_poked;
    _Atomic uint64_t rate; /* that it was wound up with; others read it */
    uint64_t random;
    bool is_known; /* in the list of threads */
    bool has_ended;
    bool is_busy;    /* the profiler works for this thread: what it allocates is not sampled */
    bool is_forking; /* it holds all locks of this layer */
    void *heap;      /* malloc.c's; not used any more when has_ended */
    struct list node;
};

/* In the executable, or in what it is linked with: one instruction to reach. */
extern _Thread_local struct sampler sampler_self __attribute__((tls_model("initial-exec")));

/* Counts size bytes down. True: a point may be on them, ask sampler_pick. So it is for any absurd size. */
static inline bool sampler_due(struct sampler *self, size_t size) {
    uint64_t left;
    bool is_less = __builtin_sub_overflow(atomic_load_explicit(&self->left, memory_order_relaxed),
                                          (uint64_t)size, &left);
    atomic_store_explicit(&self->left, left, memory_order_relaxed); /* sampler.c, S2 */
    return __builtin_expect(is_less, 0);
}

/* Of an allocation that is due: for how many objects like it it stands (>= 1) when it is to be sampled,
 * else 0. Winds the countdown up. */
double sampler_pick(size_t size);
/* The same for a countdown that is not the thread's, by its random numbers. But for rate 1, one byte in
 * CACHE_RATE_FACTOR times the rate. */
enum { CACHE_RATE_FACTOR = 4 };
double sampler_pick_for(struct mem_countdown *countdown, size_t size);
/* After an allocation that came to nothing: what it counted down was not allocated. */
void sampler_rewind(void);

/* value rounded to one of its neighbours, so that on average nothing is lost. */
int64_t sampler_round(double value);

void sampler_set_rate(uint64_t rate);
uint64_t sampler_rate(void);
/* Sees to it that threads which have not yet taken over the rate do at their next allocation. True: all
 * have, as far as they allocate. */
bool sampler_poke(void);

/* The calling thread's random numbers are from here on those of seed. For tests. */
void sampler_seed(uint64_t seed);

/* For a fork, see own.h. In between the thread samples nothing. */
void sampler_lock(void);
void sampler_unlock(void); /* by the parent */
/* By the child, whose other threads are gone. */
void sampler_forked(void);
