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
 *            build. ASan builds poison what is free and the rest of a page after what was asked for;
 *            with -Dhardened=true what is given is filled, waits, and is looked at before it is
 *            used again: a write to it meanwhile asserts. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/list.h"

enum {
    RECYCLER_SIZE_MAX = 64 << 20,    /* more is no buffer: use mmap */
    RECYCLER_CACHED_MAX = 128 << 10, /* beyond, page faults cost more than the lock: no cache */
    RECYCLER_CACHED_CLASSES = 16,
    RECYCLER_AGE_STEP = 64, /* pieces that one recycler_age gives back: some 100 us */
};
#define RECYCLER_IDLE_NS (60 * NS_PER_S)
#define RECYCLER_AGE_NS (10 * NS_PER_S)       /* how often to look */
#define RECYCLER_AGE_PAUSE_NS (5 * NS_PER_MS) /* between two steps: 2 % of a P */

struct recycler_shelf {
    struct list pieces; /* used last first */
    uint32_t count;
};

struct recycler_cache {
    uint64_t front_bytes; /* got, but kept free by who stands in front of it: recycler_front */
    const int64_t *clock_ns;
    bool is_ageing; /* on_idle was called, or need not be */
    void (*on_idle)(struct recycler_cache *cache);
    int64_t aged_ns; /* the clock of a cache that was lent none: the last recycler_age */
    int64_t lent_bytes,
        lent_room; /* read by any thread; below 0 when others' memory came home here */
    struct recycler_shelf shelves[RECYCLER_CACHED_CLASSES];
    struct list node; /* of all caches */
};

void recycler_cache_init(struct recycler_cache *cache);
/* What it has free is everybody's from now on. */
void recycler_cache_fini(struct recycler_cache *cache);
/* clock_ns is borrowed as long as the cache lives, read at every give and may be coarse. on_idle is
 * called by the owner's own get or give when there is something to age and it is not yet being done:
 * it sees to it that recycler_age is called RECYCLER_AGE_NS later. It must not get or give. */
void recycler_drive(struct recycler_cache *cache, const int64_t *clock_ns,
                    void (*on_idle)(struct recycler_cache *cache));

/* NULL when memory is short. 0 < size <= RECYCLER_SIZE_MAX. */
MUST_CHECK void *recycler_get(struct recycler_cache *cache, size_t size);
void recycler_give(struct recycler_cache *cache, void *ptr, size_t size);
/* The same for what has been free in front of the cache since a while ago. */
void recycler_give_idle(struct recycler_cache *cache, void *ptr, size_t size, int64_t since_ns);

/* One bounded step: gives back what has been idle for too long at now_ns, in this cache and in what is
 * everybody's. When to come again; INT64_MAX when there is nothing left to age: then on_idle says when
 * there is. */
int64_t recycler_age(struct recycler_cache *cache, int64_t now_ns);

/* A free list in front of the cache (block.c) says how much of what it got is nobody's. */
static inline void recycler_front(struct recycler_cache *cache, int64_t change_bytes) {
    __atomic_store_n(&cache->front_bytes, cache->front_bytes + (uint64_t)change_bytes,
                     __ATOMIC_RELAXED);
}
/* The front has something free. */
static inline void recycler_wake(struct recycler_cache *cache) {
    if (__builtin_expect(!cache->is_ageing, 0)) {
        cache->is_ageing = true;
        cache->on_idle(cache);
    }
}

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
    uint64_t makes, frees; /* times that memory was had from the OS, and went back to it */
};
void recycler_stats(struct recycler_stats *out);
