/* recycler: shelves of free pieces by size class, in each cache and in what all caches share.
 *
 *             get, give              batches               idle for a minute
 *   caller <------------> cache <--------------> depot -----------------------> cold
 *             no lock      |  ^       lock         ^                            (no memory; the
 *    (blocks and pools     |  |                    +-- larger than a cache       mapping goes when
 *     have a free list     |  +-- one cold or new     takes: straight, and       all of it is cold)
 *     before the cache)    |      piece               made to fit
 *                          +-- idle for a minute --> cold
 *
 * The depot and the cold pieces are in depot.c; what a piece is, and how memory is had, in chunk.c.
 *
 * R1  A piece is lent, on one shelf (of a cache or the depot), in quarantine, cold, or in the hands of
 *     the one call that lends it or makes it cold. Whoever has it by this rule is the only one to
 *     touch it, and what chunk.c knows of it.
 * R2  A shelf's pieces are in the order of their use, so what ages is at the end, and the look for it
 *     stops at the first young one. Where batches mix in the depot some go later than they could; none
 *     goes sooner.
 * R3  A stamp is of the give, and a get or give of other pieces changes none: what traffic does not
 *     reach ages while it goes on. (With one timer that each get and give restarts nothing ever would.)
 * R4  A chunk is in cold_chunks of its class while it has a cold piece and another one that is not.
 *     When all are cold it is unmapped.
 *
 * Threads  A cache: its owner. Counters of it that others read: stored relaxed, by its owner only.
 *          Depot, cold pieces: its lock.
 *
 * Rejected  A stamp per shelf (how low did it get?): knows no piece's age, so one freed just now and one
 *           freed an hour ago look alike. */
#include "mem/poison.h"
#include "mem/recycler_front.h"
#include "mem/recycler_internal.h"

enum {
    CACHE_SHELF_BYTES = 512 << 10,
    CACHE_SHELF_MIN = 4, /* pieces */
    CACHE_SHELF_MAX = 32,
};

static uint32_t cache_shelf_max(uint32_t size_class) {
    uint32_t count = CACHE_SHELF_BYTES / size_class_bytes(size_class);
    return count < CACHE_SHELF_MIN   ? CACHE_SHELF_MIN
           : count > CACHE_SHELF_MAX ? CACHE_SHELF_MAX
                                     : count;
}

void recycler_cache_init(struct recycler_cache *cache) {
    *cache = (struct recycler_cache){.is_ageing = true, .clock_ns = &cache->aged_ns};
    for (uint32_t i = 0; i < RECYCLER_CACHED_CLASSES; i++) {
        shelf_init(&cache->shelves[i]);
        cache->shelves[i].max = cache_shelf_max(i);
    }
    list_init(&cache->fronts);
    depot_lock();
    depot_add_cache_locked(cache);
    depot_unlock();
}

void recycler_cache_fini(struct recycler_cache *cache) {
    ASSERT(list_is_empty(&cache->fronts));
    depot_lock();
    for (uint32_t i = 0; i < RECYCLER_CACHED_CLASSES; i++)
        while (cache->shelves[i].count > 0)
            depot_push_locked(shelf_take(&cache->shelves[i], cache->shelves[i].pieces.prev));
    depot_remove_cache_locked(cache);
    depot_unlock();
}

void recycler_drive(struct recycler_cache *cache, const int64_t *clock_ns,
                    void (*on_idle)(struct recycler_cache *cache)) {
    cache->clock_ns = clock_ns;
    cache->on_idle = on_idle;
    cache->is_ageing = false;
}

void recycler_add_front(struct recycler_cache *cache, struct recycler_front *front) {
    list_push_back(&cache->fronts, &front->node);
}

void recycler_remove_front(struct recycler_front *front) {
    list_remove(&front->node);
}

/* ---- Get ---- */

static void count_lent(struct recycler_cache *cache, int64_t bytes, int64_t room) {
    __atomic_store_n(&cache->lent_bytes, cache->lent_bytes + bytes, __ATOMIC_RELAXED);
    __atomic_store_n(&cache->lent_room, cache->lent_room + room, __ATOMIC_RELAXED);
}

/* A piece from the depot, and half a shelf more for the cache if there is that; else a cold one. */
static struct piece *refill_locked(struct recycler_cache *cache, uint32_t size_class) {
    struct recycler_shelf *shelf = &cache->shelves[size_class];
    struct piece *piece = depot_pop_locked(size_class), *more;
    while (shelf->count < shelf->max / 2 && (more = depot_pop_locked(size_class)) != NULL) {
        list_push_back(&shelf->pieces, &more->node); /* the depot's first was used last */
        shelf->count++;
    }
    return piece ? piece : depot_take_cold_locked(size_class);
}

static struct piece *make(size_t size) {
    struct chunk *chunk = chunk_new(size);
    if (!chunk)
        return NULL;
    depot_lock();
    struct piece *piece = depot_add_chunk_locked(chunk);
    depot_unlock();
    return piece;
}

static NOINLINE struct piece *get_small_slowly(struct recycler_cache *cache, uint32_t size_class) {
    depot_lock();
    struct piece *piece = refill_locked(cache, size_class);
    depot_unlock();
    if (cache->shelves[size_class].count > 0)
        recycler_wake(cache);
    return piece ? piece : make(size_class_bytes(size_class));
}

static NOINLINE struct piece *get_large(size_t size) {
    depot_lock();
    struct piece *piece = depot_pop_near_locked(size);
    depot_unlock();
    if (!piece)
        return make(size);
    piece_check_fill(piece);
    int64_t grown = chunk_fit(piece->chunk, size);
    if (grown == 0 && piece->chunk->piece_size >= size)
        return piece;
    depot_lock();
    depot_count_fit_locked(grown);
    bool fits = piece->chunk->piece_size >= size;
    if (!fits)
        depot_push_locked(piece);
    depot_unlock();
    return fits ? piece : NULL; /* what does not grow for want of memory will not be made either */
}

void *recycler_lend(struct recycler_cache *cache, size_t size) {
    ASSERT(size - 1 < RECYCLER_SIZE_MAX);
    struct piece *piece;
    if (size > RECYCLER_CACHED_MAX) {
        piece = get_large(size);
    } else {
        uint32_t size_class = size_class_of(size);
        piece = shelf_pop(&cache->shelves[size_class]);
        if (!piece)
            piece = get_small_slowly(cache, size_class);
    }
    if (!piece)
        return NULL;
    piece_check_fill(piece);
    ASSERT(piece->state != PIECE_LENT);
    piece->state = PIECE_LENT;
    piece->size = (uint32_t)size;
    piece->note = NULL;
    piece_open(piece, size);
    count_lent(cache, (int64_t)size, piece->chunk->piece_size);
    return piece->ptr;
}

void *recycler_get(struct recycler_cache *cache, size_t size) {
    void *ptr = recycler_lend(cache, size);
    if (mem_count_down(&cache->countdown, size) && ptr)
        recycler_put_note(ptr, mem_sample(&cache->countdown, size));
    return ptr;
}

void *recycler_lent_at(const void *ptr, size_t size) {
    /* Pieces of these sizes lie at multiples of them. */
    const char *start = (const char *)ptr - ((uintptr_t)ptr & (size - 1));
    struct piece *piece = chunk_lent_piece(start);
    ASSERT(piece->size == size);
    return piece->ptr;
}

void recycler_put_note(void *lent, void *note) {
    chunk_lent_piece(lent)->note = note;
}

void *recycler_take_note(void *lent) {
    struct piece *piece = chunk_lent_piece(lent);
    void *note = piece->note;
    piece->note = NULL;
    return note;
}

/* ---- Give ---- */

static struct piece *take_back(struct recycler_cache *cache, const void *ptr, size_t size) {
    struct piece *piece = chunk_lent_piece(ptr);
    ASSERT(piece->size == size);
    piece->state = PIECE_FREE;
    if (__builtin_expect(piece->note != NULL, 0))
        mem_sampler_get()->gone(piece->note);
    count_lent(cache, -(int64_t)size, -(int64_t)piece->chunk->piece_size);
    piece_close(piece);
    return piece;
}

static NOINLINE void spill(struct recycler_shelf *shelf) {
    uint32_t keep = shelf->count / 2;
    depot_lock();
    while (shelf->count > keep)
        depot_push_locked(shelf_take(shelf, shelf->pieces.prev));
    depot_unlock();
}

void recycler_give(struct recycler_cache *cache, void *ptr, size_t size) {
    struct piece *piece = take_back(cache, ptr, size);
    piece->since_ns = *cache->clock_ns;
    if (MEM_HARDENED || size > RECYCLER_CACHED_MAX) {
        depot_lock();
        if (MEM_HARDENED)
            depot_quarantine_locked(piece);
        else
            depot_push_locked(piece);
        depot_unlock();
    } else {
        struct recycler_shelf *shelf = &cache->shelves[piece->chunk->size_class];
        shelf_push(shelf, piece);
        if (shelf->count > shelf->max)
            spill(shelf);
    }
    recycler_wake(cache);
}

void recycler_give_idle(struct recycler_cache *cache, void *ptr, size_t size, int64_t since_ns) {
    struct piece *piece = take_back(cache, ptr, size);
    piece->since_ns = since_ns;
    depot_lock();
    depot_push_idle_locked(piece);
    depot_unlock();
    recycler_wake(cache);
}

/* ---- Age ---- */

/* One step of releasing what is free since before_ns or longer. How much is free afterwards; *more when
 * the step was not enough. */
static uint64_t release(struct recycler_cache *cache, int64_t before_ns, bool *more) {
    struct recycler_shelf old;
    shelf_init(&old);
    struct list *next;
    for (struct list *node = cache->fronts.next; node != &cache->fronts; node = next) {
        next = node->next;
        struct recycler_front *front = container_of(node, struct recycler_front, node);
        front->give_idle(front, before_ns);
    }
    uint64_t left = cache->front_bytes + depot_shared_front_bytes();
    for (uint32_t i = 0; i < RECYCLER_CACHED_CLASSES; i++) {
        shelf_take_idle(&cache->shelves[i], before_ns, &old);
        left += cache->shelves[i].count;
    }
    depot_lock();
    left += depot_take_idle_locked(before_ns, &old);
    depot_unlock();
    *more = old.count == RECYCLER_STEP;
    if (old.count > 0)
        depot_release(&old);
    return left;
}

int64_t recycler_age(struct recycler_cache *cache, int64_t now_ns) {
    cache->aged_ns = now_ns;
    bool more;
    uint64_t left = release(cache, now_ns - RECYCLER_IDLE_NS, &more);
    if (more)
        return now_ns + RECYCLER_AGE_PAUSE_NS;
    if (left > 0)
        return now_ns + RECYCLER_AGE_NS;
    cache->is_ageing = !cache->on_idle;
    return INT64_MAX;
}

bool recycler_trim(struct recycler_cache *own) {
    bool more;
    (void)release(own, INT64_MAX, &more);
    return more;
}
