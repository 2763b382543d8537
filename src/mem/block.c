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
 * too). Hardened builds have no list: there a free block is the recycler's, header and all. */
#include "mem/block.h"

#include <assert.h>

#include "mem/poison.h"
#include "mem/recycler_front.h"

static_assert(sizeof(struct block) == 16, "data starts on the first 16 byte boundary");
static_assert(sizeof(struct block) + BLOCK_DATA_SIZE == BLOCK_SIZE, "a block is BLOCK_SIZE in all");

enum {
    BLOCK_CLOCK_SHIFT = 30,
    BLOCK_LEASES_MAX = 1 << 30, /* beyond, it is no count but the fill of a hardened build */
};

static int64_t free_since_ns(const struct block *block) {
    return (int64_t)block->since << BLOCK_CLOCK_SHIFT; /* rounded down */
}

static void count_in_use(struct block_cache *cache, int64_t change) {
    __atomic_store_n(&cache->in_use, cache->in_use + (uint64_t)change, __ATOMIC_RELAXED);
}

/* Cuts off the end of the list. */
static void give_idle(struct recycler_front *front, int64_t before_ns) {
    struct block_cache *cache = container_of(front, struct block_cache, front);
    struct block **link = &cache->free;
    while (*link && free_since_ns(*link) > before_ns - (1 << BLOCK_CLOCK_SHIFT))
        link = &(*link)->next;
    struct block *idle = *link;
    *link = NULL;
    while (idle) {
        struct block *block = idle;
        idle = block->next;
        cache->free_count--;
        recycler_count_front(&cache->recycler, -BLOCK_SIZE);
        recycler_give_idle(&cache->recycler, block, BLOCK_SIZE, free_since_ns(block));
    }
}

void block_cache_init(struct block_cache *cache) {
    cache->free = NULL;
    cache->free_count = 0;
    cache->in_use = 0;
    cache->countdown = (struct mem_countdown){0};
    cache->front.give_idle = give_idle;
    recycler_cache_init(&cache->recycler);
    recycler_add_front(&cache->recycler, &cache->front);
}

void block_cache_fini(struct block_cache *cache) {
    ASSERT_SLOW(cache->in_use == 0); /* LeakSanitizer sees no leak in the recycler */
    give_idle(&cache->front, INT64_MAX);
    recycler_remove_front(&cache->front);
    recycler_cache_fini(&cache->recycler);
}

struct block *block_get(struct block_cache *cache) {
    struct block *block = cache->free;
    if (block) {
        cache->free = block->next;
        cache->free_count--;
        recycler_count_front(&cache->recycler, -BLOCK_SIZE);
        /* An exchange takes three: with many in flight each header was a cache miss, 1.8 % of all. */
        __builtin_prefetch(cache->free, 1);
        ASSERT(block->leases == 0);
    } else {
        block = recycler_lend(&cache->recycler, BLOCK_SIZE);
        if (!block)
            return NULL;
    }
    block->leases = 1;
    block->since = 0;
    block->next = NULL;
    count_in_use(cache, 1);
    if (mem_count_down(&cache->countdown, BLOCK_SIZE)) {
        void *sample = mem_sample(&cache->countdown, BLOCK_SIZE);
        if (sample) {
            recycler_put_note(block, sample);
            block->since = 1;
        }
    }
    return block;
}

void block_put(struct block_cache *cache, struct block *block) {
    ASSERT(block->leases - 1 < BLOCK_LEASES_MAX);
    if (--block->leases > 0)
        return;
    count_in_use(cache, -1);
    if (__builtin_expect(block->since != 0, 0))
        mem_sampler_get()->gone(recycler_take_note(block));
    if (MEM_HARDENED || cache->free_count >= BLOCK_CACHE_MAX) {
        recycler_give(&cache->recycler, block, BLOCK_SIZE);
        return;
    }
    block->since = (uint32_t)(*cache->recycler.clock_ns >> BLOCK_CLOCK_SHIFT);
    block->next = cache->free;
    cache->free = block;
    cache->free_count++;
    recycler_count_front(&cache->recycler, BLOCK_SIZE);
    recycler_wake(&cache->recycler);
}
