/* pool: objects of one type that are used again: a free list per P, memory from the recycler.
 *
 * Ownership  pool_get hands out an owned object with any contents; pool_put takes it back.
 * Threads    A cache belongs to one thread at a time (a P's: the M that holds the P). An object may be put
 *            by the owner of another cache of the same pool; it goes home to the cache it is from.
 * Idle       Objects lie in slabs. A slab of which nothing is in use goes back to the recycler when it was
 *            so for a minute, and at a trim: recycler_age and recycler_trim of the cache below see to it.
 *            The next object is taken from a slab in use, so that others become free.
 * Misuse     A put of what is not of this pool, or not in use, asserts in every build. Under ASan and with
 *            -Dhardened=true an object that was put is filled, waits until POOL_QUARANTINE others were
 *            put, and a write to it meanwhile asserts (ASan: is reported at once, reads too). */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/check.h"
#include "base/list.h"
#include "mem/recycler.h"
#include "mem/sampling.h"

enum {
    POOL_OBJECT_MAX = 16 << 10, /* larger: recycler_get */
    POOL_ALIGN = 16,
    POOL_QUARANTINE = 64,
};

/* Static, one for each type: struct pool sessions = {.name = "session", .object_size = sizeof(...)}. */
struct pool {
    const char *name; /* for people */
    uint32_t object_size;

    /* Set by the first cache; pool.c's. */
    uint32_t stride, slab_size, slots;
    struct list caches, node; /* under pool.c's lock; node: of all pools */
    int64_t ended_in_use;     /* objects got from caches that are no more, less those put there */
};

struct pool_cache {
    struct pool_slab *current; /* the next object is from it; NULL: there is no slab */
    struct mem_countdown countdown;
    uint64_t gets, puts; /* read by any thread, as slabs */
    struct pool *pool;
    struct recycler_cache *recycler;
    struct list partial, empty; /* slabs of this cache: with free objects; with nothing else */
    uint64_t slabs;
    struct recycler_front front;
    struct list node; /* of the pool's */
    uint32_t waiting_at;
    void *waiting[POOL_QUARANTINE];          /* a ring; hardened builds */
    _Alignas(64) struct pool_slab *arrivals; /* any thread: put elsewhere */
};

/* Borrows both for as long as the cache lives. recycler is of the same owner. */
void pool_cache_init(struct pool_cache *cache, struct pool *pool BORROWED_BY(cache),
                     struct recycler_cache *recycler BORROWED_BY(cache));
/* All objects of it were put before, by whomever. */
void pool_cache_fini(struct pool_cache *cache);

/* NULL when memory is short. */
MUST_CHECK void *pool_get(struct pool_cache *cache);
/* cache: the caller's, of any P. */
void pool_put(struct pool_cache *cache, void *object);

struct pool_stats {
    const char *name;
    uint32_t object_size;
    uint64_t in_use;     /* objects */
    uint64_t heap_alloc; /* bytes of slabs */
};
/* Of the index-th pool that had a cache; false: there are no more. Any thread. */
bool pool_stats(unsigned index, struct pool_stats *out);
