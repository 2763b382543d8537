/* heap_profile: who holds the memory of this process, and who makes garbage: a sample of all allocations,
 * counted by the stack and the labels that they were made with.
 *
 * What is seen    The malloc family of the whole process (malloc.c), libraries included, and what
 *                 mem/block.h and mem/recycler.h hand out, which is not from malloc.
 * Sampling        As in Go: a byte in `rate` on average, exponentially distributed, is sampled, and with
 *                 it the object that it lies in. An object of size s is seen with probability
 *                 p = 1 - exp(-s / rate), and then counts for 1 / p objects; so each sum is unbiased,
 *                 whatever the sizes, and also when the rate changes while objects live. What mem hands
 *                 out goes round quickly, and is sampled at a quarter of that, unless rate is 1.
 * Contract        Time goes in cycles; one closes every HEAP_CYCLE_NS, or by heap_profile_close_cycle.
 *                 A reader is told how things stood when the last one closed, whole: what was allocated
 *                 and freed after it is not in it. So two readings between which no cycle closed are equal,
 *                 and the difference of two is what the cycles between them did. What was allocated
 *                 before a call of heap_profile_close_cycle is in each reading after that call.
 *                 (Go's frees lag behind its allocations by a sweep; so its profile needs three counters
 *                 to give the same. Ours do not lag; a snapshot per cycle is enough.)
 *
 * Threads  Any, foreign ones included. Nothing here parks; reading and closing hold a mutex and take time
 *          in proportion to the number of sites: not on a P, use blocking_call.
 * Builds   With a sanitizer its malloc stays, and only blocks and the recycler's memory are seen. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/check.h"
#include "base/clock.h"

struct labels; /* rt/labels.h */

enum {
    HEAP_PROFILE_RATE = 512 << 10, /* bytes; Go's MemProfileRate */
    HEAP_STACK_MAX = 64,           /* frames; the outermost are left out */
};
#define HEAP_CYCLE_NS (5 * NS_PER_S)

/* Before the first thread and coroutine. rate 0: nothing is sampled until heap_profile_set_rate. 0, or
 * -errno, and nothing will ever be sampled. */
MUST_CHECK int heap_profile_init(uint64_t rate);

/* Bytes per sample on average; 1: every allocation of a byte
 * or more; 0: none. Takes effect on each thread at its next
 * sample or within HEAP_CYCLE_NS. What has been sampled stays and is told right. */
void heap_profile_set_rate(uint64_t rate);
uint64_t heap_profile_rate(void);

/* Scaled: estimates of all objects, not only of those that were sampled. */
struct heap_count {
    int64_t objects, bytes;
};

/* All is borrowed for the call that passes it. */
struct heap_site {
    const uintptr_t *pcs; /* return addresses, innermost first, from the caller of malloc on */
    unsigned depth;
    const struct labels *labels; /* NULL: none */
    struct heap_count live;      /* allocated and not freed */
    struct heap_count allocated; /* since the process started, freed or not */
    struct heap_count cycle;     /* of these, in the last closed cycle */
};
typedef void (*heap_site_fn)(void *arg, const struct heap_site *site);

struct heap_reading {
    uint64_t rate;
    uint64_t cycle;                    /* number of the last closed cycle; 0: none yet */
    int64_t cycle_began_ns, closed_ns; /* wall clock */
    uint64_t samples;                  /* since the process started */
    uint64_t lost; /* of these, dropped because memory for the profile was short */
};

enum { HEAP_ANY_AGE = 0 };
/* Tells fn of each site that has something to tell. With a min_age_ns, live is only what has lived that
 * long when asked, and is as of now. Fills reading. 0, or -ENOTSUP when nothing can be sampled
 * (heap_profile_init said so). fn is called with a lock held: it must not come back here. */
MUST_CHECK int heap_profile_read(int64_t min_age_ns, heap_site_fn fn, void *arg,
                                 struct heap_reading *reading);
/* How things stood when a certain cycle closed, by its number: of the last one and of the one before it.
 * What a function called by heap_profile_on_cycle sees of a rise is the difference of these two. -ESTALE:
 * of another cycle. */
MUST_CHECK int heap_profile_read_cycle(uint64_t cycle, heap_site_fn fn, void *arg,
                                       struct heap_reading *reading);

/* Closes the current cycle now. A sum over all sites of it, for who looks for spikes: */
struct heap_totals {
    uint64_t cycle;
    struct heap_count live, allocated_in_cycle;
};
struct heap_totals heap_profile_close_cycle(void);
/* Is called after each cycle that closes, on a thread without a P, with its totals; one fn, or NULL. One
 * call at a time, in the order of the cycles, with no lock held, so that it may read and take its time:
 * no other cycle closes before it returns, and heap_profile_close_cycle returns after it. */
typedef void (*heap_cycle_fn)(void *arg, const struct heap_totals *totals);
void heap_profile_on_cycle(heap_cycle_fn fn, void *arg);
