/* block: a free list per P in front of malloc.
 *
 * The list is last in, first out: the block given back a moment ago is the one still in the cache.
 * Only the P's M touches a cache, so there is no lock. in_use alone is read by other threads
 * (statistics); it is stored with relaxed atomics and never with a read-modify-write.
 *
 * A free block keeps its header readable (leases == 0 catches a second block_put in release builds
 * too); under ASan its data is poisoned until the next block_get. */
#include "mem/block.h"

#include <assert.h>
#include <stdlib.h>

#include "mem/poison.h"

static_assert(sizeof(struct block) == 16, "data starts on the first 16 byte boundary");
static_assert(sizeof(struct block) + BLOCK_DATA_SIZE == BLOCK_SIZE, "a block is BLOCK_SIZE in all");

/* A cache line: neighbours of different Ps must not share one. */
enum { BLOCK_ALIGN = 64 };

static void count_in_use(struct block_cache *cache, int64_t change) {
    __atomic_store_n(&cache->in_use, cache->in_use + (uint64_t)change, __ATOMIC_RELAXED);
}

void block_cache_init(struct block_cache *cache) {
    cache->free = NULL;
    cache->free_count = 0;
    cache->in_use = 0;
}

void block_cache_fini(struct block_cache *cache) {
    while (cache->free) {
        struct block *block = cache->free;
        cache->free = block->next;
        mem_unpoison(block->data, BLOCK_DATA_SIZE);
        free(block);
    }
    cache->free_count = 0;
}

struct block *block_get(struct block_cache *cache) {
    struct block *block = cache->free;
    if (block) {
        cache->free = block->next;
        cache->free_count--;
        /* An exchange takes three: with many in flight each header was a cache miss, 1.8 % of all. */
        __builtin_prefetch(cache->free, 1);
        ASSERT(block->leases == 0);
        mem_unpoison(block->data, BLOCK_DATA_SIZE);
    } else {
        block = aligned_alloc(BLOCK_ALIGN, BLOCK_SIZE);
        if (!block)
            return NULL;
    }
    block->leases = 1;
    block->next = NULL;
    count_in_use(cache, 1);
    return block;
}

void block_put(struct block_cache *cache, struct block *block) {
    ASSERT(block->leases > 0);
    if (--block->leases > 0)
        return;
    count_in_use(cache, -1);
    if (cache->free_count >= BLOCK_CACHE_MAX) {
        free(block);
        return;
    }
    mem_poison(block->data, BLOCK_DATA_SIZE);
    block->next = cache->free;
    cache->free = block;
    cache->free_count++;
}
