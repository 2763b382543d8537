/* block: 16 KiB of memory with counted leases, the unit that sockets read into and slices lean on.
 *
 * Ownership  block_get returns one owned lease; block_lease adds one; block_put gives one back. The
 *            last one returns the block to the cache it is given.
 * Threads    A block and all its leases belong to one P (everything that serves one connection
 *            does), so the count is a plain integer. A block_cache belongs to one P too.
 * Limits     A cache keeps at most BLOCK_CACHE_MAX free blocks; more go back to malloc.
 *            Blocks in use are counted for /memory.
 * Under ASan a block in the cache is poisoned, so a span kept too long is caught at its first use. */
#pragma once
#include <stddef.h>
#include <stdint.h>

#include "base/check.h"

enum { BLOCK_SIZE = 16384, BLOCK_CACHE_MAX = 1024 };

struct block {
    uint32_t leases;
    struct block *next; /* free list of the cache */
    _Alignas(16) char data[];
};
enum { BLOCK_DATA_SIZE = BLOCK_SIZE - (int)sizeof(struct block) };

struct block_cache {
    struct block *free;
    uint32_t free_count;
    uint64_t in_use; /* blocks handed out and not yet returned */
};

void block_cache_init(struct block_cache *cache);
/* Frees the free blocks; blocks still leased are leaked on purpose and left to LeakSanitizer. */
void block_cache_fini(struct block_cache *cache);

/* NULL when memory is short. */
MUST_CHECK struct block *block_get(struct block_cache *cache);

static inline struct block *block_lease(struct block *block) {
    block->leases++;
    return block;
}

void block_put(struct block_cache *cache, struct block *block);
