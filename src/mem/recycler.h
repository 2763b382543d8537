/* recycler: memory from 4 KiB to 64 MiB that is used again instead of made anew: get and give.
 *
 * What is given is kept for the next get; what nobody got for RECYCLER_IDLE_NS goes back to the OS,
 * however busy get and give are meanwhile. There is one recycler in a process, as there is one OS to
 * give memory back to; every thread comes to it with a cache of its own.
 *
 * Ownership  recycler_get transfers memory of size bytes, aligned to a page of 4 KiB, with any
 *            contents; recycler_give takes it back, with the size that was asked for, by any cache.
 * Threads    A cache belongs to one thread at a time (a P's: the M that holds the P). Caches share
 *            what they have too much of under a lock, a batch at a time.
 * Time       Comes from the owner of a cache: recycler_drive lends a clock, recycler_age says that
 *            time has passed. Without them nothing ages.
 * Misuse     A give of what is not ours, with another size, or for the second time asserts in every
 *            build. With -Dhardened=true, and under ASan, what is given is filled, waits in a
 *            quarantine, and is looked at before it is used again: a write to it meanwhile asserts.
 *            ASan's builds poison it too, and the rest of a page after what was asked for. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/list.h"
#include "mem/sampling.h"

enum {
    RECYCLER_SIZE_MAX = 64 << 20,    /* more is no buffer: use mmap */
    RECYCLER_CACHED_MAX = 128 << 10, /* beyond, page faults cost more than the lock: no cache */
    RECYCLER_CACHED_CLASSES = 16,
    RECYCLER_STEP = 64, /* pieces that go back to the OS in one call: some 100 us */
};
#define RECYCLER_IDLE_NS (60 * NS_PER_S)
#define RECYCLER_AGE_NS (10 * NS_PER_S)       /* how often to look */
#define RECYCLER_AGE_PAUSE_NS (5 * NS_PER_MS) /* between two steps: 2 % of a P */

struct recycler_shelf {
    struct list pieces; /* used last first */
    uint32_t count;
    uint32_t max; /* of a cache's: more go to what is everybody's */
};

/* A free list before a cache, of blocks or of a pool: recycler_front.h. */
struct recycler_front {
    struct list node; /* of cache->fronts */
    /* Gives, by recycler_give_idle, what has been free since before_ns or longer; INT64_MAX: all. */
    void (*give_idle)(struct recycler_front *front, int64_t before_ns);
};

struct recycler_cache {
    struct mem_countdown countdown;
    uint64_t front_bytes; /* got, but kept free by fronts */
    const int64_t *clock_ns;
    bool is_ageing; /* on_idle was called, or need not be */
    void (*on_idle)(struct recycler_cache *cache);
    int64_t aged_ns; /* the clock of a cache that was lent none: the last recycler_age */
    int64_t lent_bytes,
        lent_room; /* read by any thread; below 0 when others' memory came home here */
    struct recycler_shelf shelves[RECYCLER_CACHED_CLASSES];
    struct list fronts;
    struct list node; /* of all caches */
};

void recycler_cache_init(struct recycler_cache *cache);
/* What it has free is everybody's from now on. The fronts ended before. */
void recycler_cache_fini(struct recycler_cache *cache);
/* clock_ns is borrowed as long as the cache lives, read at every give and may be coarse. on_idle is
 * called by the owner's own get or give when there is something to age and it is not yet being done:
 * it sees to it that recycler_age is called RECYCLER_AGE_NS later. It must not get or give. */
void recycler_drive(struct recycler_cache *cache, const int64_t *clock_ns,
                    void (*on_idle)(struct recycler_cache *cache));

/* NULL when memory is short. 0 < size <= RECYCLER_SIZE_MAX. */
MUST_CHECK void *recycler_get(struct recycler_cache *cache, size_t size);
void recycler_give(struct recycler_cache *cache, void *ptr, size_t size);

/* One bounded step: gives back what has been idle for too long at now_ns, in this cache, in what is
 * before it (blocks, pools) and in what is everybody's. When to come again; INT64_MAX when there is
 * nothing left to age: then on_idle says when there is. */
int64_t recycler_age(struct recycler_cache *cache, int64_t now_ns);
/* For when memory is short: one bounded step of giving back whatever is free in those places, however
 * young. True when there is more: call it again. Each owner trims its own cache; in a runtime
 * rt_trim_memory (rt/rt.h) asks all Ps. */
MUST_CHECK bool recycler_trim(struct recycler_cache *own);

/* Of all caches; any thread. The names are those of Go's runtime.MemStats.
 *
 *     heap_sys = heap_alloc + heap_idle
 *                             heap_idle = kept for the next get + heap_released */
struct recycler_stats {
    uint64_t heap_sys;   /* bytes mapped now */
    uint64_t bytes;      /* asked for by those who hold memory */
    uint64_t heap_alloc; /* the same, rounded up to what they got */
    uint64_t heap_idle;  /* nobody's */
    uint64_t
        heap_released; /* of these, without memory: it is back with the OS, or was not yet used */
    uint64_t makes, frees; /* times that a piece was had from the OS, and went back to it */
    uint64_t grows,
        shrinks; /* times that a large one got more from the OS, or gave some back, to fit a get */
};
void recycler_stats(struct recycler_stats *out);
