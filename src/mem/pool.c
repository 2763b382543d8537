/* pool: slabs of up to 64 objects, a bit for each that is free.
 *
 *      a P's cache                     slab: 4 to 128 KiB of the recycler, at a multiple of its size
 *      current  -------------------->  [free 0110..  | arrived 0001.. ][obj][obj][obj][obj] ...
 *      partial  -> slab <-> slab         the owner's   any other P's
 *      empty    -> slab <-> slab
 *      arrivals -> slab -> slab          pushed by whoever set the first bit of its arrived
 *
 * L1  A slab belongs to the cache that made it, for good. It is current, or in partial (some free,
 *     some in use), or in empty (all free), or in no list: all in use as far as the owner knows.
 * L2  An object is in use or has one of its bits set: free, arrived, or waiting (in a quarantine). A put
 *     that finds any of them set is a second put, and asserts.
 * L3  The owner takes bits from arrived only of slabs that it finds in arrivals. Whoever pushes one there
 *     touches it for the last time with the push, and until then its own bit is not in free: so no slab goes
 *     back to the recycler under somebody's hands.
 *
 * Order  (a) A put by another P releases the object with its bit, the owner acquires all bits at once.
 *        (b) A push to arrivals releases arrivals_next, the owner's exchange acquires it. The owner reads
 *        it and then releases the cleared arrived, which the next one to set a first bit acquires before
 *        it writes arrivals_next anew.
 *        free, which is the owner's, is read by others only to find second puts: relaxed.
 *
 * The way from an object to its slab is its address, but only after the page map of the recycler has
 * said that the slab is memory that is lent, of the size of this pool's slabs: a foreign pointer asserts, it
 * is not followed.
 *
 * Rejected  A chain through the free objects: whoever writes to a free one would write to the chain, and
 *           a second put makes a ring of it. Magazines of objects that go from P to P: an object would be
 *           free in one P, its slab be in use for ever. */
#include "mem/pool.h"

#include <assert.h>
#include <pthread.h>
#include <string.h>

#include "mem/poison.h"
#include "mem/recycler_front.h"

enum {
    SLOTS_MAX = 64,
    SLOTS_WANTED = 32, /* else a larger slab, if there is one */
    SLAB_MIN = 4 << 10,
    SLAB_MAX = RECYCLER_CACHED_MAX,
#ifdef MEM_HAS_ASAN
    RED_ZONE = POOL_ALIGN,
#else
    RED_ZONE = 0,
#endif
};

struct pool_slab {
    struct pool *pool;
    struct pool_cache *owner;
    uint64_t free; /* written by the owner */
    struct list node;
    int64_t since_ns;              /* all free since */
    _Alignas(64) uint64_t arrived; /* any thread, as all below */
    uint64_t waiting, sampled;
    struct pool_slab *arrivals_next;
    void *samples[SLOTS_MAX]; /* of the object's holder, where sampled says so */
    _Alignas(64) char objects[];
};
static_assert(sizeof(struct pool_slab) % POOL_ALIGN == 0, "objects are aligned");
static_assert((SLAB_MAX - sizeof(struct pool_slab)) / (POOL_OBJECT_MAX + 2 * POOL_ALIGN) > 1,
              "a slab has several objects");

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct list pools = {&pools, &pools}; /* under lock */

static uint64_t all_of(const struct pool *pool) {
    return ~0ULL >> (SLOTS_MAX - pool->slots);
}

static void *object_at(struct pool_slab *slab, unsigned slot) {
    return slab->objects + (size_t)slot * slab->pool->stride;
}

static void add(uint64_t *counter, uint64_t change) {
    __atomic_store_n(counter, *counter + change, __ATOMIC_RELAXED);
}

static void set_free(struct pool_slab *slab, uint64_t free) {
    __atomic_store_n(&slab->free, free, __ATOMIC_RELAXED);
}

/* ---- Slabs ---- */

static struct pool_slab *slab_new(struct pool_cache *cache) {
    struct pool *pool = cache->pool;
    struct pool_slab *slab = recycler_lend(cache->recycler, pool->slab_size);
    if (!slab)
        return NULL;
    *slab = (struct pool_slab){.pool = pool, .owner = cache, .free = all_of(pool)};
    slab->since_ns = *cache->recycler->clock_ns;
    size_t bytes = pool->slab_size - sizeof *slab;
    if (MEM_HARDENED)
        memset(slab->objects, MEM_FILL, bytes);
    mem_poison(slab->objects, bytes);
    recycler_count_front(cache->recycler, pool->slab_size);
    add(&cache->slabs, 1);
    return slab;
}

/* All of it is free; it is in no list. */
static void slab_give(struct pool_cache *cache, struct pool_slab *slab) {
    uint32_t size = cache->pool->slab_size;
    slab->pool = NULL; /* whoever gets this memory next may leave it as it is */
    recycler_count_front(cache->recycler, -(int64_t)size);
    add(&cache->slabs, (uint64_t)-1);
    recycler_give_idle(cache->recycler, slab, size, slab->since_ns);
}

/* Objects of a slab of ours are free again. */
static void freed(struct pool_cache *cache, struct pool_slab *slab, uint64_t bits) {
    uint64_t before = slab->free;
    bool is_listed = before != 0 && slab != cache->current; /* L1 */
    set_free(slab, before | bits);
    if (slab->free == all_of(cache->pool)) {
        slab->since_ns = *cache->recycler->clock_ns;
        if (is_listed)
            list_remove(&slab->node);
        if (slab != cache->current)
            list_push_front(&cache->empty, &slab->node);
        recycler_count_front(cache->recycler, cache->pool->slab_size);
        recycler_wake(cache->recycler);
    } else if (!is_listed && slab != cache->current) {
        list_push_front(&cache->partial, &slab->node);
    }
}

static void take_arrivals(struct pool_cache *cache) {
    if (!__atomic_load_n(&cache->arrivals, __ATOMIC_RELAXED))
        return;
    struct pool_slab *slab =
        __atomic_exchange_n(&cache->arrivals, NULL, __ATOMIC_ACQUIRE); /* (b) */
    while (slab) {
        struct pool_slab *next = slab->arrivals_next;
        freed(cache, slab, __atomic_exchange_n(&slab->arrived, 0, __ATOMIC_ACQ_REL)); /* (a), (b) */
        slab = next;
    }
}

static struct pool_slab *first_of(struct list *slabs) {
    struct list *node = list_pop_front(slabs);
    return node ? container_of(node, struct pool_slab, node) : NULL;
}

/* A slab with a free object becomes current. */
static NOINLINE struct pool_slab *change_slab(struct pool_cache *cache) {
    take_arrivals(cache);
    if (cache->current && cache->current->free)
        return cache->current;
    struct pool_slab *slab = first_of(&cache->partial);
    if (!slab)
        slab = first_of(&cache->empty);
    if (!slab)
        slab = slab_new(cache);
    if (slab)
        cache->current = slab;
    return slab;
}

/* ---- Objects ---- */

static void check_fill(const struct pool *pool, void *object) {
    if (!MEM_HARDENED)
        return;
    const unsigned char *bytes = object;
    mem_unpoison(object, pool->object_size);
    ASSERT(bytes[0] == MEM_FILL); /* else it was written to after it was put */
    ASSERT(memcmp(bytes, bytes + 1, pool->object_size - 1) == 0);
}

void *pool_get(struct pool_cache *cache) {
    struct pool_slab *slab = cache->current;
    if (__builtin_expect(!slab || slab->free == 0, 0)) {
        slab = change_slab(cache);
        if (!slab)
            return NULL;
    }
    const struct pool *pool = cache->pool;
    if (slab->free == all_of(pool))
        recycler_count_front(cache->recycler, -(int64_t)pool->slab_size);
    unsigned slot = (unsigned)__builtin_ctzll(slab->free);
    set_free(slab, slab->free & (slab->free - 1));
    add(&cache->gets, 1);
    void *object = object_at(slab, slot);
    check_fill(pool, object);
    mem_unpoison(object, pool->object_size);
    if (mem_count_down(&cache->countdown, pool->object_size)) {
        slab->samples[slot] = mem_sample(&cache->countdown, pool->object_size);
        if (slab->samples[slot])
            __atomic_fetch_or(&slab->sampled, 1ULL << slot,
                              __ATOMIC_RELAXED); /* before it is passed on */
    }
    return object;
}

/* The door: what is put is an object of this pool, and in use. */
static struct pool_slab *slab_of(const struct pool *pool, void *object, unsigned *slot) {
    struct pool_slab *slab = recycler_lent_at(object, pool->slab_size);
    ASSERT(slab->pool == pool); /* else it is not from here, and below */
    size_t offset = (size_t)((char *)object - (char *)slab);
    ASSERT(offset >= sizeof *slab);
    offset -= sizeof *slab;
    *slot = (uint32_t)offset / pool->stride;
    ASSERT((uint32_t)offset % pool->stride == 0);
    ASSERT(*slot < pool->slots);
    uint64_t not_in_use = __atomic_load_n(&slab->free, __ATOMIC_RELAXED) |
                          __atomic_load_n(&slab->arrived, __ATOMIC_RELAXED) |
                          __atomic_load_n(&slab->waiting, __ATOMIC_RELAXED);
    ASSERT(!(not_in_use >> *slot & 1)); /* else it is put a second time: L2 */
    return slab;
}

/* By another P than the owner's. */
static void send_home(struct pool_slab *slab, uint64_t bit) {
    struct pool_cache *owner = slab->owner;
    uint64_t before = __atomic_fetch_or(&slab->arrived, bit, __ATOMIC_ACQ_REL); /* (a), (b) */
    ASSERT(!(before & bit));                                                    /* two Ps at once */
    if (before)
        return; /* whoever sent the first one home says so */
    struct pool_slab *head = __atomic_load_n(&owner->arrivals, __ATOMIC_RELAXED);
    do
        slab->arrivals_next = head;
    while (!__atomic_compare_exchange_n(&owner->arrivals, &head, slab, true,
                                        __ATOMIC_RELEASE, /* (b) */
                                        __ATOMIC_RELAXED));
}

static void put(struct pool_cache *cache, struct pool_slab *slab, unsigned slot) {
    if (slab->owner == cache)
        freed(cache, slab, 1ULL << slot);
    else
        send_home(slab, 1ULL << slot);
}

static void end_wait(struct pool_cache *cache, void *object) {
    struct pool_slab *slab = recycler_lent_at(object, cache->pool->slab_size);
    unsigned slot = (unsigned)((size_t)((char *)object - slab->objects) / cache->pool->stride);
    check_fill(cache->pool, object);
    mem_poison(object, cache->pool->object_size);
    __atomic_fetch_and(&slab->waiting, ~(1ULL << slot), __ATOMIC_RELAXED);
    put(cache, slab, slot);
}

static void wait_in_quarantine(struct pool_cache *cache, void *object) {
    void **place = &cache->waiting[cache->waiting_at];
    cache->waiting_at = (cache->waiting_at + 1) % POOL_QUARANTINE;
    if (*place)
        end_wait(cache, *place);
    *place = object;
}

static void empty_quarantine(struct pool_cache *cache) {
    for (unsigned i = 0; i < POOL_QUARANTINE; i++) {
        if (cache->waiting[i])
            end_wait(cache, cache->waiting[i]);
        cache->waiting[i] = NULL;
    }
}

void pool_put(struct pool_cache *cache, void *object) {
    unsigned slot;
    struct pool_slab *slab = slab_of(cache->pool, object, &slot);
    uint64_t bit = 1ULL << slot;
    if (__builtin_expect(__atomic_load_n(&slab->sampled, __ATOMIC_RELAXED) & bit, 0)) {
        __atomic_fetch_and(&slab->sampled, ~bit, __ATOMIC_RELAXED);
        mem_sampler_get()->gone(slab->samples[slot]);
    }
    add(&cache->puts, 1);
    if (MEM_HARDENED) {
        memset(object, MEM_FILL, cache->pool->object_size);
        mem_poison(object, cache->pool->object_size);
        __atomic_fetch_or(&slab->waiting, bit, __ATOMIC_RELAXED);
        wait_in_quarantine(cache, object);
    } else {
        put(cache, slab, slot);
    }
}

/* ---- Caches ---- */

static void give_idle(struct recycler_front *front, int64_t before_ns) {
    struct pool_cache *cache = container_of(front, struct pool_cache, front);
    if (MEM_HARDENED)
        empty_quarantine(cache);
    take_arrivals(cache);
    while (!list_is_empty(&cache->empty)) {
        struct pool_slab *slab = container_of(cache->empty.prev, struct pool_slab, node);
        if (slab->since_ns > before_ns)
            break; /* those before it are younger */
        list_remove(&slab->node);
        slab_give(cache, slab);
    }
    struct pool_slab *current = cache->current;
    if (current && current->free == all_of(cache->pool) && current->since_ns <= before_ns) {
        cache->current = NULL;
        slab_give(cache, current);
    }
}

static void pool_open_locked(struct pool *pool) {
    if (pool->stride)
        return;
    ASSERT(pool->object_size - 1 < POOL_OBJECT_MAX);
    pool->stride = (pool->object_size + RED_ZONE + POOL_ALIGN - 1) / POOL_ALIGN * POOL_ALIGN;
    pool->slab_size = SLAB_MIN;
    do {
        pool->slots = (uint32_t)((pool->slab_size - sizeof(struct pool_slab)) / pool->stride);
    } while (pool->slots < SLOTS_WANTED && pool->slab_size < SLAB_MAX && (pool->slab_size *= 2));
    if (pool->slots > SLOTS_MAX)
        pool->slots = SLOTS_MAX;
    list_init(&pool->caches);
    list_push_back(&pools, &pool->node);
}

void pool_cache_init(struct pool_cache *cache, struct pool *pool, struct recycler_cache *recycler) {
    *cache = (struct pool_cache){.pool = pool, .recycler = recycler, .front.give_idle = give_idle};
    list_init(&cache->partial);
    list_init(&cache->empty);
    recycler_add_front(recycler, &cache->front);
    pthread_mutex_lock(&lock);
    pool_open_locked(pool);
    list_push_back(&pool->caches, &cache->node);
    pthread_mutex_unlock(&lock);
}

void pool_cache_fini(struct pool_cache *cache) {
    give_idle(&cache->front, INT64_MAX);
    ASSERT(cache->slabs == 0); /* else an object is in use still */
    recycler_remove_front(&cache->front);
    pthread_mutex_lock(&lock);
    list_remove(&cache->node);
    cache->pool->ended_in_use += (int64_t)(cache->gets - cache->puts);
    pthread_mutex_unlock(&lock);
}

bool pool_stats(unsigned index, struct pool_stats *out) {
    bool found = false;
    pthread_mutex_lock(&lock);
    for (struct list *node = pools.next; node != &pools && !found; node = node->next) {
        if (index-- > 0)
            continue;
        found = true;
        struct pool *pool = container_of(node, struct pool, node);
        int64_t in_use = pool->ended_in_use;
        uint64_t slabs = 0;
        for (struct list *at = pool->caches.next; at != &pool->caches; at = at->next) {
            struct pool_cache *cache = container_of(at, struct pool_cache, node);
            in_use += (int64_t)(__atomic_load_n(&cache->gets, __ATOMIC_RELAXED) -
                                __atomic_load_n(&cache->puts, __ATOMIC_RELAXED));
            slabs += __atomic_load_n(&cache->slabs, __ATOMIC_RELAXED);
        }
        *out =
            (struct pool_stats){.name = pool->name,
                                .object_size = pool->object_size,
                                .in_use = in_use > 0 ? (uint64_t)in_use : 0, /* not one moment's */
                                .heap_alloc = slabs * pool->slab_size};
    }
    pthread_mutex_unlock(&lock);
    return found;
}
