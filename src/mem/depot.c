/* depot: what the caches of the recycler share: shelves of free pieces, those without memory, a
 * quarantine. R1 to R4 are in recycler.c.
 *
 * Lock     One, not held over a system call. Ps come here once per batch of pieces, and for large ones,
 *          whose page faults cost a thousand times as much.
 * Near     Large pieces are on the shelf of the class that their size is in. A get looks there first, then
 *          in the classes next to it, up to half and twice the size; further away a piece would lose or
 *          need more than what is worth keeping of it. On a shelf it takes the nearest of the few used
 *          last. */
#include <pthread.h>
#include <stdatomic.h>

#include "mem/recycler_front.h"
#include "mem/recycler_internal.h"

enum {
    QUARANTINE_BYTES = 16 << 20,
    NEAR_CLASSES = 4, /* a doubling */
    NEAR_PIECES = 8,  /* looked at on a shelf */
};

static struct {
    pthread_mutex_t lock;
    bool is_ready;
    struct recycler_shelf shelves[PIECE_CLASSES];
    struct list cold_chunks[PIECE_CLASSES];
    struct list quarantine; /* given first first */
    uint64_t quarantine_bytes;
    uint64_t free_count; /* on shelves and in quarantine */
    struct list caches;
    int64_t lent_bytes, lent_room; /* of caches that are no more */
    struct recycler_stats stats;   /* but for what caches count */
} depot = {.lock = PTHREAD_MUTEX_INITIALIZER};

void depot_lock(void) {
    pthread_mutex_lock(&depot.lock);
    if (depot.is_ready)
        return;
    for (uint32_t i = 0; i < PIECE_CLASSES; i++) {
        shelf_init(&depot.shelves[i]);
        list_init(&depot.cold_chunks[i]);
    }
    list_init(&depot.quarantine);
    list_init(&depot.caches);
    depot.is_ready = true;
}

void depot_unlock(void) {
    pthread_mutex_unlock(&depot.lock);
}

void depot_add_cache_locked(struct recycler_cache *cache) {
    list_push_back(&depot.caches, &cache->node);
}

void depot_remove_cache_locked(struct recycler_cache *cache) {
    list_remove(&cache->node);
    depot.lent_bytes += cache->lent_bytes;
    depot.lent_room += cache->lent_room;
}

/* ---- Shelves ---- */

void shelf_take_idle(struct recycler_shelf *shelf, int64_t before_ns, struct recycler_shelf *old) {
    while (shelf->count > 0 && old->count < RECYCLER_STEP &&
           piece_of(shelf->pieces.prev)->since_ns <= before_ns) /* R2 */
        shelf_push(old, shelf_take(shelf, shelf->pieces.prev));
}

void depot_push_locked(struct piece *piece) {
    shelf_push(&depot.shelves[piece->chunk->size_class], piece);
    depot.free_count++;
}

void depot_push_idle_locked(struct piece *piece) {
    struct recycler_shelf *shelf = &depot.shelves[piece->chunk->size_class];
    list_push_back(&shelf->pieces, &piece->node); /* R2 */
    shelf->count++;
    depot.free_count++;
}

struct piece *depot_pop_locked(uint32_t size_class) {
    struct piece *piece = shelf_pop(&depot.shelves[size_class]);
    if (piece)
        depot.free_count--;
    return piece;
}

static size_t distance(const struct piece *piece, size_t size) {
    size_t has = piece->chunk->piece_size;
    return has > size ? has - size : size - has;
}

static struct piece *pop_nearest(struct recycler_shelf *shelf, size_t size) {
    struct list *best = shelf->pieces.next, *node = best;
    if (shelf->count == 0)
        return NULL;
    for (uint32_t i = 0; i < NEAR_PIECES && node != &shelf->pieces; i++, node = node->next)
        if (distance(piece_of(node), size) < distance(piece_of(best), size))
            best = node;
    depot.free_count--;
    return shelf_take(shelf, best);
}

struct piece *depot_pop_near_locked(size_t size) {
    uint32_t size_class = size_class_of(size);
    struct piece *piece = pop_nearest(&depot.shelves[size_class], size);
    for (uint32_t step = 1; !piece && step <= NEAR_CLASSES; step++) {
        if (size_class + step < PIECE_CLASSES)
            piece = pop_nearest(&depot.shelves[size_class + step], size);
        if (!piece && size_class - step >= RECYCLER_CACHED_CLASSES)
            piece = pop_nearest(&depot.shelves[size_class - step], size);
    }
    return piece;
}

void depot_count_fit_locked(int64_t bytes) {
    depot.stats.heap_sys += (uint64_t)bytes;
    depot.stats.grows += bytes > 0;
    depot.stats.shrinks += bytes < 0;
}

/* ---- Quarantine ---- */

static struct piece *leave_quarantine_locked(struct list *node) {
    struct piece *piece = piece_of(node);
    list_remove(node);
    depot.quarantine_bytes -= piece->chunk->piece_size;
    depot.free_count--;
    return piece;
}

void depot_quarantine_locked(struct piece *piece) {
    list_push_back(&depot.quarantine, &piece->node);
    depot.quarantine_bytes += piece->chunk->piece_size;
    depot.free_count++;
    while (depot.quarantine_bytes > QUARANTINE_BYTES)
        depot_push_locked(leave_quarantine_locked(depot.quarantine.next));
}

/* ---- Cold pieces ---- */

struct piece *depot_take_cold_locked(uint32_t size_class) {
    struct list *chunks = &depot.cold_chunks[size_class];
    if (list_is_empty(chunks))
        return NULL;
    struct chunk *chunk = container_of(chunks->next, struct chunk, node);
    struct piece *piece = piece_of(list_pop_front(&chunk->cold));
    if (--chunk->cold_count == 0)
        list_remove(&chunk->node); /* R4 */
    depot.stats.heap_released -= chunk->piece_size;
    depot.stats.makes++;
    return piece;
}

struct piece *depot_add_chunk_locked(struct chunk *chunk) {
    depot.stats.heap_sys += chunk_bytes(chunk);
    depot.stats.heap_released += chunk_bytes(chunk);
    list_push_front(&depot.cold_chunks[chunk->size_class], &chunk->node);
    return depot_take_cold_locked(chunk->size_class);
}

/* True when the chunk is nobody's any more and the caller's to free. */
static bool add_cold_locked(struct piece *piece) {
    struct chunk *chunk = piece->chunk;
    piece->state = PIECE_COLD;
    list_push_front(&chunk->cold, &piece->node);
    depot.stats.heap_released += chunk->piece_size;
    depot.stats.frees++;
    if (chunk->cold_count++ == 0)
        list_push_front(&depot.cold_chunks[chunk->size_class], &chunk->node);
    if (chunk->cold_count < chunk->count)
        return false;
    list_remove(&chunk->node);
    depot.stats.heap_sys -= chunk_bytes(chunk);
    depot.stats.heap_released -= chunk_bytes(chunk);
    return true;
}

/* ---- Age ---- */

uint64_t depot_take_idle_locked(int64_t before_ns, struct recycler_shelf *old) {
    uint32_t before = old->count;
    for (uint32_t i = 0; i < PIECE_CLASSES; i++)
        shelf_take_idle(&depot.shelves[i], before_ns, old);
    depot.free_count -= old->count - before;
    while (!list_is_empty(&depot.quarantine) && old->count < RECYCLER_STEP &&
           piece_of(depot.quarantine.next)->since_ns <= before_ns)
        shelf_push(old, leave_quarantine_locked(depot.quarantine.next));
    return depot.free_count;
}

void depot_release(struct recycler_shelf *old) {
    for (struct list *node = old->pieces.next; node != &old->pieces; node = node->next)
        piece_release(piece_of(node));
    struct chunk *dead[RECYCLER_STEP];
    uint32_t dead_count = 0;
    depot_lock();
    for (struct piece *piece; (piece = shelf_pop(old)) != NULL;)
        if (add_cold_locked(piece))
            dead[dead_count++] = piece->chunk;
    depot_unlock();
    for (uint32_t i = 0; i < dead_count; i++)
        chunk_free(dead[i]);
}

static uint64_t at_least_0(int64_t sum) {
    return sum < 0 ? 0 : (uint64_t)sum;
}

/* ---- What fronts share ---- */

static _Atomic int64_t shared_front_bytes; /* relaxed: a sum, nothing is ordered by it */

void recycler_count_shared_front(int64_t bytes) {
    atomic_fetch_add_explicit(&shared_front_bytes, bytes, memory_order_relaxed);
}

uint64_t depot_shared_front_bytes(void) {
    return at_least_0(atomic_load_explicit(&shared_front_bytes, memory_order_relaxed));
}

/* ---- Looks ---- */

void recycler_stats(struct recycler_stats *out) {
    depot_lock();
    int64_t bytes = depot.lent_bytes, room = depot.lent_room;
    for (struct list *node = depot.caches.next; node != &depot.caches; node = node->next) {
        struct recycler_cache *cache = container_of(node, struct recycler_cache, node);
        int64_t front = (int64_t)__atomic_load_n(&cache->front_bytes, __ATOMIC_RELAXED);
        bytes += __atomic_load_n(&cache->lent_bytes, __ATOMIC_RELAXED) - front;
        room += __atomic_load_n(&cache->lent_room, __ATOMIC_RELAXED) - front;
    }
    *out = depot.stats;
    depot_unlock();
    int64_t front = (int64_t)depot_shared_front_bytes();
    bytes -= front;
    room -= front;
    /* Not one moment's: what goes from cache to cache meanwhile may be counted twice or not at all. */
    out->bytes = at_least_0(bytes);
    out->heap_alloc = at_least_0(room);
    if (out->heap_alloc > out->heap_sys)
        out->heap_alloc = out->heap_sys;
    out->heap_idle = out->heap_sys - out->heap_alloc;
}
