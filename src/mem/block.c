/* block: a free list per P in front of the recycler.
 *
 * The list is last in, first out: the block given back a moment ago is the one still in the cache. So
 * stamps fall from its head to its end, and what is idle is all that follows the first idle one: a
 * look per RECYCLER_AGE_NS cuts it off. A stamp is in units of 2^30 ns, which fit the space there is.
 *
 * Only the P's M touches a cache, so there is no lock. in_use and what is free are read by other
 * threads (statistics); they are stored with relaxed atomics and never with a read-modify-write.
 *
 * A free block keeps its header readable (leases == 0 catches a second block_put in release builds
 * too); under ASan its data is poisoned until the next block_get. Its data is wiped there as well: what
 * old pointers in it point to would look reachable to LeakSanitizer. */
#include "mem/block.h"

#include <assert.h>
#include <string.h>

#include "mem/poison.h"

static_assert(sizeof(struct block) == 16, "data starts on the first 16 byte boundary");
static_assert(sizeof(struct block) + BLOCK_DATA_SIZE == BLOCK_SIZE, "a block is BLOCK_SIZE in all");

enum {
    BLOCK_CLOCK_SHIFT = 30,
    BLOCK_LEASES_MAX = 1 << 30, /* beyond, it is no count but the fill of a hardened build */
};
/* Rounded up, and one more for the stamp that was rounded down. */
static const uint32_t idle_units = (RECYCLER_IDLE_NS >> BLOCK_CLOCK_SHIFT) + 2;

static uint32_t units(int64_t now_ns) {
    return (uint32_t)(now_ns >> BLOCK_CLOCK_SHIFT);
}

static void count_in_use(struct block_cache *cache, int64_t change) {
    __atomic_store_n(&cache->in_use, cache->in_use + (uint64_t)change, __ATOMIC_RELAXED);
}

static struct block *pop(struct block_cache *cache) {
    struct block *block = cache->free;
    cache->free = block->next;
    recycler_front(&cache->recycler, -BLOCK_SIZE);
    return block;
}

void block_cache_init(struct block_cache *cache) {
    cache->free = NULL;
    cache->in_use = 0;
    recycler_cache_init(&cache->recycler);
}

void block_cache_fini(struct block_cache *cache) {
    ASSERT_SLOW(cache->in_use ==
                0); /* LeakSanitizer cannot tell: it sees no leak in the recycler */
    while (cache->free)
        recycler_give(&cache->recycler, pop(cache), BLOCK_SIZE);
    recycler_cache_fini(&cache->recycler);
}

int64_t block_cache_age(struct block_cache *cache, int64_t now_ns) {
    struct block **link = &cache->free;
    while (*link && units(now_ns) - (*link)->since < idle_units)
        link = &(*link)->next;
    struct block *idle = *link;
    *link = NULL;
    while (idle) {
        struct block *block = idle;
        idle = block->next;
        recycler_front(&cache->recycler, -BLOCK_SIZE);
        recycler_give_idle(&cache->recycler, block, BLOCK_SIZE, now_ns - RECYCLER_IDLE_NS);
    }
    return recycler_age(&cache->recycler, now_ns);
}

struct block *block_get(struct block_cache *cache) {
    struct block *block = cache->free;
    if (block) {
        pop(cache);
        /* An exchange takes three: with many in flight each header was a cache miss, 1.8 % of all. */
        __builtin_prefetch(cache->free, 1);
        ASSERT(block->leases == 0);
        mem_unpoison(block->data, BLOCK_DATA_SIZE);
    } else {
        block = recycler_get(&cache->recycler, BLOCK_SIZE);
        if (!block)
            return NULL;
    }
    block->leases = 1;
    block->next = NULL;
    count_in_use(cache, 1);
    return block;
}

void block_put(struct block_cache *cache, struct block *block) {
    ASSERT(block->leases - 1 < BLOCK_LEASES_MAX);
    if (--block->leases > 0)
        return;
    count_in_use(cache, -1);
    if (cache->recycler.front_bytes + BLOCK_SIZE > (uint64_t)BLOCK_CACHE_MAX * BLOCK_SIZE) {
        mem_unpoison(block->data, BLOCK_DATA_SIZE);
        recycler_give(&cache->recycler, block, BLOCK_SIZE);
        return;
    }
#ifdef MEM_HAS_ASAN
    mem_unpoison(block->data, BLOCK_DATA_SIZE);
    memset(block->data, 0xdb, BLOCK_DATA_SIZE);
#endif
    mem_poison(block->data, BLOCK_DATA_SIZE);
    block->since = units(*cache->recycler.clock_ns);
    block->next = cache->free;
    cache->free = block;
    recycler_front(&cache->recycler, BLOCK_SIZE);
    recycler_wake(&cache->recycler);
}
