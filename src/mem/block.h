/* block: 16 KiB of memory with counted leases, the unit that sockets read into and slices lean on.
 *
 * Ownership  block_get returns one owned lease; block_lease adds one; block_put gives one back. The
 *            last one returns the block to the cache it is given.
 * Threads    A block and all its leases belong to one P (everything that serves one connection
 *            does), so the count is a plain integer. A block_cache belongs to one P too.
 * Limits     A cache keeps at most BLOCK_CACHE_MAX free blocks; of more, BLOCK_BUNDLE at a time are
 *            everybody's. What nobody needed for a minute goes to the recycler. That is recycler_age's
 *            doing, and recycler_trim's: of cache.recycler, whose clock and wake-up the cache uses too
 *            (recycler_drive).
 *            Blocks in use are counted for /memory.
 * Misuse     A second put asserts. Under ASan and with -Dhardened=true a block that was put goes to the
 *            recycler's quarantine, so a span kept too long is caught at its first use, or at the
 *            latest when the block is used again. */
#pragma once
#include <stddef.h>
#include <stdint.h>

#include "base/check.h"
#include "mem/recycler.h"

enum {
    BLOCK_SIZE = 16384,
    BLOCK_CACHE_MAX = 256, /* 4 MiB; 0 under ASan and with -Dhardened=true */
    BLOCK_BUNDLE = BLOCK_CACHE_MAX / 2,
    BLOCK_LEASES_MAX = 1 << 30, /* beyond, it is no count but the fill of a hardened build */
};

struct block {
    uint32_t leases;
    uint32_t
        since; /* free: since when, in block.c's unit; leased: whether there is a sample of it */
    struct block *next; /* of who has it */
    _Alignas(16) char data[];
};
enum { BLOCK_DATA_SIZE = BLOCK_SIZE - (int)sizeof(struct block) };

struct block_cache {
    uint32_t free_count;
    struct mem_countdown countdown;
    uint64_t in_use;                     /* blocks handed out and not yet returned */
    struct block *free[BLOCK_CACHE_MAX]; /* the one put last at the end */
    struct recycler_front front;
    struct recycler_cache recycler;
};

void block_cache_init(struct block_cache *cache);
/* The free blocks are everybody's from now on; all others were put before. */
void block_cache_fini(struct block_cache *cache);

/* NULL when memory is short. */
MUST_CHECK struct block *block_get(struct block_cache *cache);

static inline struct block *block_lease(struct block *block) {
    block->leases++;
    return block;
}

/* Private: the last lease. */
void block_put_slowly(struct block_cache *cache, struct block *block);
static inline void block_put(struct block_cache *cache, struct block *block) {
    ASSERT(block->leases - 1 < BLOCK_LEASES_MAX);
    if (--block->leases == 0)
        block_put_slowly(cache, block);
}

/* Where in its data a block is best written first: blocks are 16 KiB apart, so the starts of them all
 * would fall into the same few sets of the caches, and the requests in flight would push each other out of
 * a cache that is mostly empty. The start of a cache line, another one for each block, and near enough for
 * a small request to stay within the page that the block's header is in. */
static inline uint32_t block_colour(const struct block *block) {
    enum {
        LINE = 64,
        LINES = 32,
        STEP = 5
    }; /* odd, so that all are used; and neighbours are apart */
    uint32_t number = (uint32_t)((uintptr_t)block / BLOCK_SIZE);
    return LINE - (uint32_t)sizeof(struct block) + number * STEP % LINES * LINE;
}
