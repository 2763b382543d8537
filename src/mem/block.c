/* block: a stack of free blocks per P in front of the recycler.
 *
 *     get, put          bundles of BLOCK_BUNDLE           idle for a minute
 *   P <------> free[] <------------------------> bundles -------------------> recycler
 *      no lock    |              lock                                            ^
 *                 +--------------------------------------------------------------+
 *
 * The block given back a moment ago is the one still in the cache, so it is the first to be had. Stamps
 * rise from the bottom of the stack to its top, and what is idle is all that is below the first young
 * one. A stamp is in units of 2^30 ns, which fit the space there is.
 *
 * Blocks that one P gets and another one puts go home by bundles: the half of a full stack that was put
 * first, its pointers written into the first of these blocks. So of a block that comes round only the
 * header goes from core to core, and get asks for it some blocks ahead: where each one's header said which
 * is the next, the misses came one after the other, and through the recycler's shelves there were four.
 *
 * Threads  Only the P's M touches a cache, so there is no lock. in_use and what is free are read by other
 *          threads (statistics); they are stored with relaxed atomics and never with a read-modify-write.
 *          Bundles: their lock; it also hands over what is in their blocks.
 *
 * A free block keeps its header readable (leases == 0 catches a second block_put in release builds
 * too). Hardened builds have no stack: there a free block is the recycler's, header and all. */
#include "mem/block.h"

#include <assert.h>
#include <pthread.h>
#include <string.h>

#include "mem/poison.h"
#include "mem/recycler_front.h"

static_assert(sizeof(struct block) == 16, "data starts on the first 16 byte boundary");
static_assert(sizeof(struct block) + BLOCK_DATA_SIZE == BLOCK_SIZE, "a block is BLOCK_SIZE in all");

enum {
    BLOCK_CLOCK_SHIFT = 30,
    FETCH_AHEAD = 4,
};

/* In the data of its first block. */
struct bundle {
    struct bundle *next;
    uint32_t count;
    struct block *blocks[BLOCK_BUNDLE]; /* the one put first at the beginning */
};
static_assert(sizeof(struct bundle) <= BLOCK_DATA_SIZE, "a block has room for the pointers");

static struct {
    pthread_mutex_t lock;
    struct bundle *first; /* the one put last */
} shared = {.lock = PTHREAD_MUTEX_INITIALIZER};

static int64_t free_since_ns(const struct block *block) {
    return (int64_t)block->since << BLOCK_CLOCK_SHIFT; /* rounded down */
}

static void count_in_use(struct block_cache *cache, int64_t change) {
    __atomic_store_n(&cache->in_use, cache->in_use + (uint64_t)change, __ATOMIC_RELAXED);
}

/* How many of the blocks, the first of them, are free since before_ns or longer. */
static uint32_t count_idle(struct block *const *blocks, uint32_t count, int64_t before_ns) {
    uint32_t idle = 0;
    while (idle < count && free_since_ns(blocks[idle]) <= before_ns - (1 << BLOCK_CLOCK_SHIFT))
        idle++;
    return idle;
}

static void give_to_recycler(struct block_cache *cache, struct block *const *blocks,
                             uint32_t count) {
    for (uint32_t i = 0; i < count; i++)
        recycler_give_idle(&cache->recycler, blocks[i], BLOCK_SIZE, free_since_ns(blocks[i]));
}

/* ---- Bundles ---- */

static void share(struct block *const *blocks, uint32_t count) {
    struct bundle *bundle = (struct bundle *)blocks[0]->data;
    bundle->count = count;
    memcpy(bundle->blocks, blocks, count * sizeof(struct block *));
    recycler_count_shared_front((int64_t)count * BLOCK_SIZE);
    pthread_mutex_lock(&shared.lock);
    bundle->next = shared.first;
    shared.first = bundle;
    pthread_mutex_unlock(&shared.lock);
}

/* The first bundle all of which is free since before_ns or longer; NULL: there is none. */
static struct bundle *take_shared(int64_t before_ns) {
    pthread_mutex_lock(&shared.lock);
    struct bundle **link = &shared.first;
    while (*link && count_idle((*link)->blocks + (*link)->count - 1, 1, before_ns) == 0)
        link = &(*link)->next;
    struct bundle *bundle = *link;
    if (bundle)
        *link = bundle->next;
    pthread_mutex_unlock(&shared.lock);
    if (bundle)
        recycler_count_shared_front(-(int64_t)bundle->count * BLOCK_SIZE);
    return bundle;
}

static void give_idle_bundles(struct block_cache *cache, int64_t before_ns) {
    struct bundle *bundle;
    while ((bundle = take_shared(before_ns)) != NULL) {
        struct bundle copy = *bundle; /* its own block is among them */
        give_to_recycler(cache, copy.blocks, copy.count);
    }
}

/* ---- A P's ---- */

/* The first `count` leave the stack. */
static void drop_bottom(struct block_cache *cache, uint32_t count) {
    cache->free_count -= count;
    memmove(cache->free, cache->free + count, cache->free_count * sizeof(struct block *));
    recycler_count_front(&cache->recycler, -(int64_t)count * BLOCK_SIZE);
}

static NOINLINE void spill(struct block_cache *cache) {
    share(cache->free, BLOCK_BUNDLE);
    drop_bottom(cache, BLOCK_BUNDLE);
}

/* False when nobody has a free one. */
static NOINLINE bool refill(struct block_cache *cache) {
    struct bundle *bundle = take_shared(INT64_MAX);
    if (!bundle)
        return false;
    cache->free_count = bundle->count;
    memcpy(cache->free, bundle->blocks, bundle->count * sizeof(struct block *));
    recycler_count_front(&cache->recycler, (int64_t)cache->free_count * BLOCK_SIZE);
    recycler_wake(&cache->recycler);
    return true;
}

static void give_idle(struct recycler_front *front, int64_t before_ns) {
    struct block_cache *cache = container_of(front, struct block_cache, front);
    uint32_t idle = count_idle(cache->free, cache->free_count, before_ns);
    give_to_recycler(cache, cache->free, idle);
    drop_bottom(cache, idle);
    give_idle_bundles(cache, before_ns);
}

void block_cache_init(struct block_cache *cache) {
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

static NOINLINE struct block *block_get_sampled(struct block_cache *cache, struct block *block) {
    void *sample = mem_sample(&cache->countdown, BLOCK_SIZE);
    if (sample) {
        recycler_put_note(block, sample);
        block->since = 1;
    }
    return block;
}

/* As block_put_slowly, this keeps nothing over a call. */
static inline struct block *start_using(struct block_cache *cache, struct block *block) {
    block->leases = 1;
    block->since = 0;
    block->next = NULL;
    count_in_use(cache, 1);
    if (mem_count_down(&cache->countdown, BLOCK_SIZE))
        return block_get_sampled(cache, block);
    return block;
}

static NOINLINE struct block *get_rarely(struct block_cache *cache) {
    if (refill(cache))
        return block_get(cache);
    struct block *block = recycler_lend(&cache->recycler, BLOCK_SIZE);
    return block ? start_using(cache, block) : NULL;
}

struct block *block_get(struct block_cache *cache) {
    if (cache->free_count == 0)
        return get_rarely(cache);
    struct block *block = cache->free[--cache->free_count];
    recycler_count_front(&cache->recycler, -BLOCK_SIZE);
    /* An exchange takes three: with many in flight each header was a cache miss, 1.8 % of all. */
    if (cache->free_count >= FETCH_AHEAD)
        __builtin_prefetch(cache->free[cache->free_count - FETCH_AHEAD], 1);
    ASSERT(block->leases == 0);
    return start_using(cache, block);
}

static NOINLINE void end_sample(struct block *block) {
    mem_sampler_get()->gone(recycler_take_note(block));
    block->since = 0;
}

/* Then block_put_slowly again: its steady path keeps nothing over a call, and so saves no register. */
static NOINLINE void put_rarely(struct block_cache *cache, struct block *block) {
    if (block->since != 0)
        end_sample(block);
    if (!MEM_HARDENED && cache->free_count == BLOCK_CACHE_MAX)
        spill(cache);
    block_put_slowly(cache, block);
}

void block_put_slowly(struct block_cache *cache, struct block *block) {
    bool is_full = !MEM_HARDENED && cache->free_count == BLOCK_CACHE_MAX;
    if (__builtin_expect(block->since != 0 || is_full, 0)) {
        put_rarely(cache, block);
        return;
    }
    count_in_use(cache, -1);
    if (MEM_HARDENED) {
        recycler_give(&cache->recycler, block, BLOCK_SIZE);
        return;
    }
    block->since = (uint32_t)(*cache->recycler.clock_ns >> BLOCK_CLOCK_SHIFT);
    cache->free[cache->free_count++] = block;
    recycler_count_front(&cache->recycler, BLOCK_SIZE);
    recycler_wake(&cache->recycler);
}
