/* recycler: shelves of free pieces by size class, in each cache and in the depot.
 *
 *             get, give              batches               idle for a minute
 *   caller <------------> cache <--------------> depot -----------------------> cold
 *             no lock      |  ^       lock         |                            (no memory; the
 *                          |  |                    +-- larger than a cache       mapping goes when
 *                          |  +-- one cold or new     takes: straight            all of it is cold)
 *                          |      piece
 *                          +-- idle for a minute --> cold
 *
 * Classes    Four per doubling (4, 8, 12, 16, 20, 24, 28, 32, 40, 48, ... KiB), so that less than a
 *            fifth of a piece above 16 KiB is not asked for; powers of two would waste up to a half.
 *            A large get also takes a free piece of up to twice its class before it makes one: of
 *            5 to 10 MB hardly two are of one class, and memory that is there beats memory that fits.
 * Chunks     Small pieces are cut from chunks of 1 MiB, of one class each; a large piece is a chunk.
 *            Chunks start at multiples of 1 MiB, so a page map of two levels leads from an address to
 *            its chunk without a lock, and the division by the size of a piece to the piece.
 * Pieces     What is known of a piece is not in the piece: a free one may have no memory, be poisoned,
 *            or be written to by who should have let go of it.
 *
 * R1  A piece is lent, on one shelf (of a cache or the depot), in quarantine, cold, or in the hands of
 *     the one recycler_age that is making it cold.
 * R2  A shelf's pieces are in the order of their use, so what ages is at the end, and the look for it
 *     stops at the first young one. Where batches mix in the depot some go later than they could; none
 *     goes sooner.
 * R3  A stamp is of the give, and a get or give of other pieces changes none: what traffic does not
 *     reach ages while it goes on. (With one timer that each get and give restarts nothing ever would.)
 * R4  A chunk is in cold_chunks of its class while it has a cold piece and another one that is not.
 *     When all are cold it is unmapped.
 *
 * Threads  A cache: its owner. Counters of it that others read: stored relaxed, by its owner only.
 *          Depot, chunks, cold pieces: depot.lock, not held over a system call. A piece: who holds it
 *          by R1. The page map: written under the lock, read without: (a) an entry is released when
 *          its chunk is complete and acquired by give; whoever has the pointer it gives got it later
 *          than that. An entry is cleared when nothing of its chunk is lent.
 *
 * LeakSanitizer sees nothing of these mappings, but what lies in them points to memory of malloc: each
 * is registered as a root. ASan builds wipe what is given, or old pointers in it would hide leaks.
 *
 * Rejected  A header in each piece: costs a page of every page-aligned piece. Huge pages for chunks: a
 *           process with three blocks would hold 2 MiB. A stamp per shelf (how low did it get?): knows
 *           no piece's age, so one freed just now and one freed an hour ago look alike. */
#include "mem/recycler.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "mem/poison.h"
#ifdef MEM_HAS_ASAN
#include <sanitizer/lsan_interface.h>
#endif

enum {
    PAGE = 4096,
    CLASSES = 52,
    CHUNK_BITS = 20,
    CHUNK_SIZE = 1 << CHUNK_BITS,
    MAP_LEVEL_BITS = 14, /* two levels and CHUNK_BITS: addresses of 48 bits */
    MAP_LEVEL_SIZE = 1 << MAP_LEVEL_BITS,
    CACHE_SHELF_BYTES = 512 << 10,
    CACHE_SHELF_MIN = 4, /* pieces */
    CACHE_SHELF_MAX = 32,
    QUARANTINE_BYTES = 16 << 20,
    FILL = 0xdb,
#ifdef SLUICE_HARDENED
    HARDENED = 1,
#else
    HARDENED = 0,
#endif
};

enum piece_state { PIECE_COLD, PIECE_LENT, PIECE_FREE };

struct piece {
    struct list node;
    struct chunk *chunk;
    char *ptr;
    int64_t since_ns; /* free since */
    uint32_t size;    /* asked for */
    uint8_t state;
    bool filled;
};

struct chunk {
    char *base;
    uint32_t size_class, piece_size, count;
    uint32_t cold_count; /* depot.lock, as all below */
    struct list cold;
    struct list node; /* R4 */
    struct piece pieces[];
};

static struct {
    pthread_mutex_t lock;
    bool is_ready;
    struct recycler_shelf shelves[CLASSES];
    struct list cold_chunks[CLASSES];
    struct list quarantine; /* given first first */
    uint64_t quarantine_bytes;
    uint64_t free_count; /* on shelves and in quarantine */
    struct list caches;
    int64_t lent_bytes, lent_room; /* of caches that are no more */
    uint64_t sys, released, makes, frees;
} depot = {.lock = PTHREAD_MUTEX_INITIALIZER};

static struct chunk **page_map[MAP_LEVEL_SIZE];

/* ---- Size classes ---- */

static uint32_t class_of(size_t size) {
    uint32_t pages = (uint32_t)((size + PAGE - 1) / PAGE);
    if (pages <= 4)
        return pages - 1;
    uint32_t doubling = 31 - (uint32_t)__builtin_clz(pages - 1);
    return 4 * (doubling - 1) + (((pages - 1) >> (doubling - 2)) & 3);
}

static uint32_t class_size(uint32_t size_class) {
    if (size_class < 4)
        return (size_class + 1) * PAGE;
    return (5 + size_class % 4) * PAGE << (size_class / 4 - 1);
}

static uint32_t cache_shelf_max(uint32_t size_class) {
    uint32_t count = CACHE_SHELF_BYTES / class_size(size_class);
    return count < CACHE_SHELF_MIN   ? CACHE_SHELF_MIN
           : count > CACHE_SHELF_MAX ? CACHE_SHELF_MAX
                                     : count;
}

/* ---- Shelves ---- */

static struct piece *piece_of(struct list *node) {
    return container_of(node, struct piece, node);
}

static void shelf_init(struct recycler_shelf *shelf) {
    list_init(&shelf->pieces);
    shelf->count = 0;
}

static void shelf_push(struct recycler_shelf *shelf, struct piece *piece) {
    list_push_front(&shelf->pieces, &piece->node);
    shelf->count++;
}

static struct piece *shelf_take(struct recycler_shelf *shelf, struct list *node) {
    list_remove(node);
    shelf->count--;
    return piece_of(node);
}

static struct piece *shelf_pop(struct recycler_shelf *shelf) {
    return shelf->count ? shelf_take(shelf, shelf->pieces.next) : NULL;
}

static bool is_idle(const struct piece *piece, int64_t now_ns) {
    return now_ns - piece->since_ns >= RECYCLER_IDLE_NS;
}

/* Moves idle pieces to old, which becomes no longer than RECYCLER_AGE_STEP. */
static void shelf_take_idle(struct recycler_shelf *shelf, int64_t now_ns,
                            struct recycler_shelf *old) {
    while (shelf->count > 0 && old->count < RECYCLER_AGE_STEP &&
           is_idle(piece_of(shelf->pieces.prev), now_ns)) /* R2 */
        shelf_push(old, shelf_take(shelf, shelf->pieces.prev));
}

/* ---- The depot ---- */

static void depot_open(void) {
    pthread_mutex_lock(&depot.lock);
    if (depot.is_ready)
        return;
    for (uint32_t i = 0; i < CLASSES; i++) {
        shelf_init(&depot.shelves[i]);
        list_init(&depot.cold_chunks[i]);
    }
    list_init(&depot.quarantine);
    list_init(&depot.caches);
    depot.is_ready = true;
}

static void depot_close(void) {
    pthread_mutex_unlock(&depot.lock);
}

static void depot_push_locked(struct piece *piece) {
    shelf_push(&depot.shelves[piece->chunk->size_class], piece);
    depot.free_count++;
}

static struct piece *depot_pop_locked(uint32_t size_class) {
    struct piece *piece = shelf_pop(&depot.shelves[size_class]);
    if (piece)
        depot.free_count--;
    return piece;
}

static struct piece *leave_quarantine_locked(struct list *node) {
    struct piece *piece = piece_of(node);
    list_remove(node);
    depot.quarantine_bytes -= piece->chunk->piece_size;
    depot.free_count--;
    return piece;
}

static void enter_quarantine_locked(struct piece *piece) {
    list_push_back(&depot.quarantine, &piece->node);
    depot.quarantine_bytes += piece->chunk->piece_size;
    depot.free_count++;
    while (depot.quarantine_bytes > QUARANTINE_BYTES)
        depot_push_locked(leave_quarantine_locked(depot.quarantine.next));
}

/* ---- Chunks ---- */

static struct chunk **page_map_slot(uintptr_t addr) {
    uintptr_t unit = addr >> CHUNK_BITS;
    if (unit >> (2 * MAP_LEVEL_BITS))
        return NULL;
    struct chunk **leaf = __atomic_load_n(&page_map[unit >> MAP_LEVEL_BITS], __ATOMIC_ACQUIRE);
    return leaf ? &leaf[unit % MAP_LEVEL_SIZE] : NULL;
}

/* The piece at ptr, which is lent; the door for what is given. */
static struct piece *piece_at(const void *ptr) {
    struct chunk **slot = page_map_slot((uintptr_t)ptr);
    ASSERT(slot); /* else it is not of the recycler, here and below */
    struct chunk *chunk = __atomic_load_n(slot, __ATOMIC_ACQUIRE); /* (a) */
    ASSERT(chunk);
    uint32_t index = (uint32_t)((uintptr_t)ptr % CHUNK_SIZE) / chunk->piece_size;
    ASSERT(index < chunk->count);
    struct piece *piece = &chunk->pieces[index];
    ASSERT(piece->ptr == ptr);
    ASSERT(piece->state == PIECE_LENT); /* else it is given a second time */
    return piece;
}

static size_t chunk_map_size(const struct chunk *chunk) {
    return chunk->count == 1 ? chunk->piece_size : CHUNK_SIZE;
}

/* At a multiple of CHUNK_SIZE; MAP_FAILED when memory is short. */
static char *map_aligned(size_t size) {
    size_t reserve = size + CHUNK_SIZE;
    char *map = mmap(NULL, reserve, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (map == MAP_FAILED)
        return map;
    size_t before = -(uintptr_t)map % CHUNK_SIZE;
    size_t after = reserve - before - size;
    size_t os_page = (size_t)sysconf(_SC_PAGESIZE);
    /* Refused when there are too many mappings: address space that nobody uses. */
    if (before)
        (void)munmap(map, before);
    size_t end = (size + os_page - 1) / os_page * os_page;
    if (after > end - size)
        (void)munmap(map + before + end, after - (end - size));
    return map + before;
}

/* All pieces cold; NULL when memory is short. */
static struct chunk *chunk_new(uint32_t size_class) {
    uint32_t piece_size = class_size(size_class);
    uint32_t count = piece_size > RECYCLER_CACHED_MAX ? 1 : CHUNK_SIZE / piece_size;
    struct chunk *chunk = calloc(1, sizeof *chunk + count * sizeof chunk->pieces[0]);
    if (!chunk)
        return NULL;
    chunk->size_class = size_class;
    chunk->piece_size = piece_size;
    chunk->count = count;
    chunk->base = map_aligned(chunk_map_size(chunk));
    if (chunk->base == MAP_FAILED) {
        free(chunk);
        return NULL;
    }
    if (count > 1)
        (void)madvise(chunk->base, CHUNK_SIZE, MADV_NOHUGEPAGE);
#ifdef MEM_HAS_ASAN
    mem_poison(chunk->base, chunk_map_size(chunk));
    __lsan_register_root_region(chunk->base, chunk_map_size(chunk));
#endif
    list_init(&chunk->cold);
    for (uint32_t i = 0; i < count; i++) {
        chunk->pieces[i].chunk = chunk;
        chunk->pieces[i].ptr = chunk->base + (size_t)i * piece_size;
        list_push_back(&chunk->cold, &chunk->pieces[i].node);
    }
    chunk->cold_count = count;
    return chunk;
}

static void chunk_free(struct chunk *chunk) {
    size_t size = chunk_map_size(chunk);
#ifdef MEM_HAS_ASAN
    __lsan_unregister_root_region(chunk->base, size);
    mem_unpoison(chunk->base, size);
#endif
    (void)munmap(chunk->base, size); /* see map_aligned */
    free(chunk);
}

/* Makes its leaf of the page map, if there is none. False when memory is short. */
static bool page_map_reach_locked(uintptr_t addr) {
    uintptr_t top = addr >> (CHUNK_BITS + MAP_LEVEL_BITS);
    ASSERT(top < MAP_LEVEL_SIZE); /* the kernel gives more than 48 bits only to who asks for it */
    if (page_map[top])
        return true;
    struct chunk **leaf = calloc(MAP_LEVEL_SIZE, sizeof(struct chunk *));
    __atomic_store_n(&page_map[top], leaf, __ATOMIC_RELEASE);
    return leaf;
}

static bool chunk_publish_locked(struct chunk *chunk) {
    if (!page_map_reach_locked((uintptr_t)chunk->base))
        return false;
    __atomic_store_n(page_map_slot((uintptr_t)chunk->base), chunk, __ATOMIC_RELEASE); /* (a) */
    depot.sys += chunk_map_size(chunk);
    depot.released += chunk_map_size(chunk);
    list_push_front(&depot.cold_chunks[chunk->size_class], &chunk->node);
    return true;
}

static struct piece *take_cold_locked(uint32_t size_class) {
    struct list *chunks = &depot.cold_chunks[size_class];
    if (list_is_empty(chunks))
        return NULL;
    struct chunk *chunk = container_of(chunks->next, struct chunk, node);
    struct piece *piece = piece_of(list_pop_front(&chunk->cold));
    if (--chunk->cold_count == 0)
        list_remove(&chunk->node); /* R4 */
    depot.released -= chunk->piece_size;
    depot.makes++;
    return piece;
}

/* True when the chunk is nobody's any more and the caller's to free. */
static bool add_cold_locked(struct piece *piece) {
    struct chunk *chunk = piece->chunk;
    piece->state = PIECE_COLD;
    list_push_front(&chunk->cold, &piece->node);
    depot.released += chunk->piece_size;
    depot.frees++;
    if (chunk->cold_count++ == 0)
        list_push_front(&depot.cold_chunks[chunk->size_class], &chunk->node);
    if (chunk->cold_count < chunk->count)
        return false;
    list_remove(&chunk->node);
    __atomic_store_n(page_map_slot((uintptr_t)chunk->base), NULL, __ATOMIC_RELAXED);
    depot.sys -= chunk_map_size(chunk);
    depot.released -= chunk_map_size(chunk);
    return true;
}

/* ---- What is free ---- */

static void check_fill(struct piece *piece) {
    if (!piece->filled)
        return;
    mem_unpoison(piece->ptr, piece->chunk->piece_size);
    const unsigned char *bytes = (const unsigned char *)piece->ptr;
    ASSERT(bytes[0] == FILL); /* else it was written to after it was given */
    ASSERT(memcmp(bytes, bytes + 1, piece->chunk->piece_size - 1) == 0);
    piece->filled = false;
}

static void close_piece(struct piece *piece) {
#ifdef MEM_HAS_ASAN
    const bool wipe = true;
#else
    const bool wipe = HARDENED;
#endif
    size_t size = piece->chunk->piece_size;
    mem_unpoison(piece->ptr, size);
    if (wipe) {
        memset(piece->ptr, FILL, size);
        piece->filled = true;
    }
    mem_poison(piece->ptr, size);
}

/* The memory of pieces that are nobody's goes to the OS. Pages, which may be larger than ours, are taken
 * whole; a refusal (locked memory) leaves it here. */
static void release_memory(struct recycler_shelf *old) {
    size_t os_page = (size_t)sysconf(_SC_PAGESIZE);
    for (struct list *node = old->pieces.next; node != &old->pieces; node = node->next) {
        struct piece *piece = piece_of(node);
        check_fill(piece);
        mem_poison(piece->ptr, piece->chunk->piece_size);
        if (piece->chunk->count == 1)
            continue; /* is unmapped */
        uintptr_t low = ((uintptr_t)piece->ptr + os_page - 1) & ~(os_page - 1);
        uintptr_t high = ((uintptr_t)piece->ptr + piece->chunk->piece_size) & ~(os_page - 1);
        if (low < high)
            (void)madvise(piece->ptr + (low - (uintptr_t)piece->ptr), high - low, MADV_DONTNEED);
    }
    struct chunk *dead[RECYCLER_AGE_STEP];
    uint32_t dead_count = 0;
    depot_open();
    for (struct piece *piece; (piece = shelf_pop(old)) != NULL;)
        if (add_cold_locked(piece))
            dead[dead_count++] = piece->chunk;
    depot_close();
    for (uint32_t i = 0; i < dead_count; i++)
        chunk_free(dead[i]);
}

/* ---- Caches ---- */

void recycler_cache_init(struct recycler_cache *cache) {
    *cache = (struct recycler_cache){.is_ageing = true, .clock_ns = &cache->aged_ns};
    for (uint32_t i = 0; i < RECYCLER_CACHED_CLASSES; i++)
        shelf_init(&cache->shelves[i]);
    depot_open();
    list_push_back(&depot.caches, &cache->node);
    depot_close();
}

void recycler_cache_fini(struct recycler_cache *cache) {
    depot_open();
    for (uint32_t i = 0; i < RECYCLER_CACHED_CLASSES; i++)
        while (cache->shelves[i].count > 0)
            depot_push_locked(shelf_take(&cache->shelves[i], cache->shelves[i].pieces.prev));
    list_remove(&cache->node);
    depot.lent_bytes += cache->lent_bytes;
    depot.lent_room += cache->lent_room;
    depot_close();
}

void recycler_drive(struct recycler_cache *cache, const int64_t *clock_ns,
                    void (*on_idle)(struct recycler_cache *cache)) {
    cache->clock_ns = clock_ns;
    cache->on_idle = on_idle;
    cache->is_ageing = false;
}

static void count_lent(struct recycler_cache *cache, int64_t bytes, int64_t room) {
    __atomic_store_n(&cache->lent_bytes, cache->lent_bytes + bytes, __ATOMIC_RELAXED);
    __atomic_store_n(&cache->lent_room, cache->lent_room + room, __ATOMIC_RELAXED);
}

/* A piece from the depot, and half a shelf more for the cache if there is that; else a cold one. */
static struct piece *refill_locked(struct recycler_cache *cache, uint32_t size_class) {
    struct piece *piece = depot_pop_locked(size_class);
    if (size_class < RECYCLER_CACHED_CLASSES) {
        struct recycler_shelf *shelf = &cache->shelves[size_class];
        struct piece *more;
        while (shelf->count < cache_shelf_max(size_class) / 2 &&
               (more = depot_pop_locked(size_class)) != NULL) {
            list_push_back(&shelf->pieces, &more->node); /* the depot's first was used last */
            shelf->count++;
        }
    } else {
        for (uint32_t larger = 1; !piece && larger <= 4 && size_class + larger < CLASSES; larger++)
            piece = depot_pop_locked(size_class + larger);
    }
    return piece ? piece : take_cold_locked(size_class);
}

static NOINLINE struct piece *get_slowly(struct recycler_cache *cache, uint32_t size_class) {
    depot_open();
    struct piece *piece = refill_locked(cache, size_class);
    depot_close();
    if (piece) {
        if (size_class < RECYCLER_CACHED_CLASSES && cache->shelves[size_class].count > 0)
            recycler_wake(cache);
        return piece;
    }
    struct chunk *chunk = chunk_new(size_class);
    if (!chunk)
        return NULL;
    depot_open();
    bool is_known = chunk_publish_locked(chunk);
    if (is_known)
        piece = take_cold_locked(size_class);
    depot_close();
    if (!is_known)
        chunk_free(chunk);
    return piece;
}

void *recycler_get(struct recycler_cache *cache, size_t size) {
    ASSERT(size - 1 < RECYCLER_SIZE_MAX);
    uint32_t size_class = class_of(size);
    struct piece *piece = NULL;
    if (size_class < RECYCLER_CACHED_CLASSES)
        piece = shelf_pop(&cache->shelves[size_class]);
    if (!piece)
        piece = get_slowly(cache, size_class);
    if (!piece)
        return NULL;
    check_fill(piece);
    ASSERT(piece->state != PIECE_LENT);
    piece->state = PIECE_LENT;
    piece->size = (uint32_t)size;
    mem_poison(piece->ptr, piece->chunk->piece_size);
    mem_unpoison(piece->ptr, size);
    count_lent(cache, (int64_t)size, piece->chunk->piece_size);
    return piece->ptr;
}

static struct piece *take_back(struct recycler_cache *cache, const void *ptr, size_t size) {
    struct piece *piece = piece_at(ptr);
    ASSERT(piece->size == size);
    piece->state = PIECE_FREE;
    count_lent(cache, -(int64_t)size, -(int64_t)piece->chunk->piece_size);
    close_piece(piece);
    return piece;
}

static NOINLINE void spill(struct recycler_shelf *shelf) {
    uint32_t keep = shelf->count / 2;
    depot_open();
    while (shelf->count > keep)
        depot_push_locked(shelf_take(shelf, shelf->pieces.prev));
    depot_close();
}

void recycler_give(struct recycler_cache *cache, void *ptr, size_t size) {
    struct piece *piece = take_back(cache, ptr, size);
    piece->since_ns = *cache->clock_ns;
    uint32_t size_class = piece->chunk->size_class;
    if (size_class < RECYCLER_CACHED_CLASSES && !HARDENED) {
        struct recycler_shelf *shelf = &cache->shelves[size_class];
        shelf_push(shelf, piece);
        if (shelf->count > cache_shelf_max(size_class))
            spill(shelf);
    } else {
        depot_open();
        if (HARDENED)
            enter_quarantine_locked(piece);
        else
            depot_push_locked(piece);
        depot_close();
    }
    recycler_wake(cache);
}

void recycler_give_idle(struct recycler_cache *cache, void *ptr, size_t size, int64_t since_ns) {
    struct piece *piece = take_back(cache, ptr, size);
    piece->since_ns = since_ns;
    struct recycler_shelf *shelf = &depot.shelves[piece->chunk->size_class];
    depot_open();
    list_push_back(&shelf->pieces, &piece->node); /* R2 */
    shelf->count++;
    depot.free_count++;
    depot_close();
    recycler_wake(cache);
}

/* ---- Age ---- */

static void depot_take_idle_locked(int64_t now_ns, struct recycler_shelf *old) {
    uint32_t before = old->count;
    for (uint32_t i = 0; i < CLASSES; i++)
        shelf_take_idle(&depot.shelves[i], now_ns, old);
    depot.free_count -= old->count - before;
    while (!list_is_empty(&depot.quarantine) && old->count < RECYCLER_AGE_STEP &&
           is_idle(piece_of(depot.quarantine.next), now_ns))
        shelf_push(old, leave_quarantine_locked(depot.quarantine.next));
}

int64_t recycler_age(struct recycler_cache *cache, int64_t now_ns) {
    struct recycler_shelf old;
    uint64_t free_count = 0;
    shelf_init(&old);
    cache->aged_ns = now_ns;
    for (uint32_t i = 0; i < RECYCLER_CACHED_CLASSES; i++) {
        shelf_take_idle(&cache->shelves[i], now_ns, &old);
        free_count += cache->shelves[i].count;
    }
    depot_open();
    depot_take_idle_locked(now_ns, &old);
    free_count += depot.free_count;
    depot_close();
    bool has_more = old.count == RECYCLER_AGE_STEP;
    if (old.count > 0)
        release_memory(&old);
    if (has_more)
        return now_ns + RECYCLER_AGE_PAUSE_NS;
    if (free_count > 0 || cache->front_bytes > 0)
        return now_ns + RECYCLER_AGE_NS;
    cache->is_ageing = !cache->on_idle;
    return INT64_MAX;
}

/* ---- Looks ---- */

void recycler_stats(struct recycler_stats *out) {
    depot_open();
    int64_t bytes = depot.lent_bytes, room = depot.lent_room;
    for (struct list *node = depot.caches.next; node != &depot.caches; node = node->next) {
        struct recycler_cache *cache = container_of(node, struct recycler_cache, node);
        int64_t front = (int64_t)__atomic_load_n(&cache->front_bytes, __ATOMIC_RELAXED);
        bytes += __atomic_load_n(&cache->lent_bytes, __ATOMIC_RELAXED) - front;
        room += __atomic_load_n(&cache->lent_room, __ATOMIC_RELAXED) - front;
    }
    /* Not one moment's: what goes from cache to cache meanwhile may be counted twice or not at all. */
    if (bytes < 0)
        bytes = 0;
    if (room < 0)
        room = 0;
    if ((uint64_t)room > depot.sys)
        room = (int64_t)depot.sys;
    *out = (struct recycler_stats){
        .heap_sys = depot.sys,
        .bytes = (uint64_t)bytes,
        .heap_alloc = (uint64_t)room,
        .heap_idle = depot.sys - (uint64_t)room,
        .heap_released = depot.released,
        .makes = depot.makes,
        .frees = depot.frees,
    };
    depot_close();
}
