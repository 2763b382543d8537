/* block: 16 KiB of memory with counted leases, the unit that sockets read into and slices lean on.
 *
 * Ownership  block_get returns one owned lease; block_lease adds one; block_put gives one back. The
 *            last one returns the block to the cache it is given.
 * Threads    A block and all its leases belong to one P (everything that serves one connection
 *            does), so the count is a plain integer. A block_cache belongs to one P too.
 * Limits     A cache keeps at most BLOCK_CACHE_MAX free blocks; more go to the recycler, and so does
 *            what nobody needed for a minute: block_cache_age, which does what recycler_age does too.
 *            Its clock and its wake-up are those of cache.recycler (recycler_drive).
 *            Blocks in use are counted for /memory.
 * Under ASan a block in the cache is poisoned, so a span kept too long is caught at its first use. */
#pragma once
#include <stddef.h>
#include <stdint.h>

#include "base/check.h"
#include "mem/recycler.h"

#ifdef SLUICE_HARDENED
enum { BLOCK_CACHE_MAX = 0 }; /* all go through the recycler's quarantine */
#else
enum { BLOCK_CACHE_MAX = 256 }; /* 4 MiB */
#endif
enum { BLOCK_SIZE = 16384 };

struct block {
    uint32_t leases;
    uint32_t since;     /* free since, in block.c's unit */
    struct block *next; /* free list of the cache */
    _Alignas(16) char data[];
};
enum { BLOCK_DATA_SIZE = BLOCK_SIZE - (int)sizeof(struct block) };

struct block_cache {
    struct block *free;
    uint64_t in_use; /* blocks handed out and not yet returned */
    struct recycler_cache recycler;
};

void block_cache_init(struct block_cache *cache);
/* The free blocks are everybody's from now on; all others were put before. */
void block_cache_fini(struct block_cache *cache);
int64_t block_cache_age(struct block_cache *cache, int64_t now_ns);

static inline uint32_t block_cache_free_count(const struct block_cache *cache) {
    return (uint32_t)(cache->recycler.front_bytes / BLOCK_SIZE);
}

/* NULL when memory is short. */
MUST_CHECK struct block *block_get(struct block_cache *cache);

static inline struct block *block_lease(struct block *block) {
    block->leases++;
    return block;
}

void block_put(struct block_cache *cache, struct block *block);
