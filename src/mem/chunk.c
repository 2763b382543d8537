/* chunk: what the recycler has from the OS, and the way from an address to the piece that is there.
 *
 *    page map      1 MiB of addresses each          chunk (in malloc's memory)
 *    [leaf] ----> [ ][ ][x][ ]... ----------------> {base, piece_size, pieces[]: state, size, stamp}
 *
 *    small: cut from 1 MiB     |16K|16K|16K|16K| ... |16K|        64 pieces of one class
 *    large: a mapping each     |5 083 136 bytes|  gap of addresses to the next MiB
 *
 * Classes    Four per doubling (4, 8, 12, 16, 20, 24, 28, 32, 40, 48, ... KiB), so that less than a
 *            fifth of a small piece above 16 KiB is not asked for; powers of two would waste up to a half.
 *            Large pieces have their own size, in pages; their class says where to look for one.
 * Fit        A large piece that is free is made to fit who gets it: its end is unmapped when it is more
 *            than a sixteenth too large, and mremap lengthens it when it is too small. So pieces of
 *            wrong sizes do not wait beside others of wrong sizes: 20 buffers of 5 to 10 MB that come and
 *            go cost 1.05 bytes per byte, with pieces that keep their size 1.55 (./dev bench
 *            recycler). What is kept of a piece need not be had anew: 10 MB, written to, where there were 5
 *            take half of the time of 10 MB anew (the same bench): mremap moves page tables.
 * Pieces     What is known of a piece is not in the piece: a free one may have no memory, be poisoned,
 *            or be written to by who should have let go of it.
 *
 * Threads  A chunk: whoever its pieces belong to (recycler.c, R1). The page map: written under its lock,
 *          read without: (a) an entry is released when its chunk is complete and acquired by give;
 *          whoever has the pointer it gives got it later than that. An entry is cleared when nothing of
 *          its chunk is lent, and before another mapping can be where it was.
 *
 * LeakSanitizer sees nothing of these mappings, but what lies in them points to memory of malloc: each
 * is registered as a root. Hardened builds wipe what is given, or old pointers in it would hide leaks.
 *
 * Rejected  A header in each piece: costs a page of every page-aligned piece. Huge pages for chunks: a
 *           process with three blocks would hold 2 MiB. Twice the addresses for each large piece, so that
 *           it grows in place: two mappings each, of which the kernel allows 65530. */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "mem/poison.h"
#include "mem/recycler_internal.h"
#ifdef MEM_HAS_ASAN
#include <sanitizer/lsan_interface.h>
#endif

enum {
    PAGE = 4096,
    CHUNK_BITS = 20,
    CHUNK_SIZE = 1 << CHUNK_BITS,
    MAP_LEVEL_BITS = 14, /* two levels and CHUNK_BITS: addresses of 48 bits */
    MAP_LEVEL_SIZE = 1 << MAP_LEVEL_BITS,
    FIT_SLACK = 16, /* a piece may be 1 / so much too large */
};

static struct chunk **page_map[MAP_LEVEL_SIZE];
static pthread_mutex_t page_map_lock = PTHREAD_MUTEX_INITIALIZER;

/* ---- Sizes ---- */

uint32_t size_class_of(size_t size) {
    uint32_t pages = (uint32_t)((size + PAGE - 1) / PAGE);
    if (pages <= 4)
        return pages - 1;
    uint32_t doubling = 31 - (uint32_t)__builtin_clz(pages - 1);
    return 4 * (doubling - 1) + (((pages - 1) >> (doubling - 2)) & 3);
}

uint32_t size_class_bytes(uint32_t size_class) {
    ASSERT(size_class < PIECE_CLASSES);
    if (size_class < 4)
        return (size_class + 1) * PAGE;
    return (5 + size_class % 4) * PAGE << (size_class / 4 - 1);
}

static size_t os_page(void) {
    return (size_t)sysconf(_SC_PAGESIZE); /* may be larger than ours */
}

static size_t round_up(size_t size, size_t unit) {
    return (size + unit - 1) / unit * unit;
}

static bool is_large(const struct chunk *chunk) {
    return chunk->count == 1;
}

size_t chunk_bytes(const struct chunk *chunk) {
    return is_large(chunk) ? chunk->piece_size : CHUNK_SIZE;
}

/* ---- The page map ---- */

static struct chunk **page_map_slot(uintptr_t addr) {
    uintptr_t unit = addr >> CHUNK_BITS;
    if (unit >> (2 * MAP_LEVEL_BITS))
        return NULL;
    struct chunk **leaf = __atomic_load_n(&page_map[unit >> MAP_LEVEL_BITS], __ATOMIC_ACQUIRE);
    return leaf ? &leaf[unit % MAP_LEVEL_SIZE] : NULL;
}

/* Makes the leaf of addr, if there is none. False when memory is short. */
static bool page_map_reach(const void *addr) {
    uintptr_t top = (uintptr_t)addr >> (CHUNK_BITS + MAP_LEVEL_BITS);
    ASSERT(top < MAP_LEVEL_SIZE); /* the kernel gives more than 48 bits only to who asks for it */
    pthread_mutex_lock(&page_map_lock);
    struct chunk **leaf = page_map[top];
    if (!leaf) {
        leaf = calloc(MAP_LEVEL_SIZE, sizeof(struct chunk *));
        __atomic_store_n(&page_map[top], leaf, __ATOMIC_RELEASE);
    }
    pthread_mutex_unlock(&page_map_lock);
    return leaf;
}

static void page_map_set(const void *addr, struct chunk *chunk) {
    __atomic_store_n(page_map_slot((uintptr_t)addr), chunk, __ATOMIC_RELEASE); /* (a) */
}

struct piece *chunk_lent_piece(const void *ptr) {
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

/* ---- Mappings ---- */

/* At a multiple of CHUNK_SIZE; MAP_FAILED when memory is short. */
static char *map_aligned(size_t size) {
    size_t reserve = size + CHUNK_SIZE;
    char *map = mmap(NULL, reserve, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (map == MAP_FAILED)
        return map;
    size_t before = -(uintptr_t)map % CHUNK_SIZE;
    size_t after = reserve - before - size;
    /* Refused when there are too many mappings: address space that nobody uses. */
    if (before)
        (void)munmap(map, before);
    if (after)
        (void)munmap(map + before + size, after);
    return map + before;
}

static void add_root(const struct chunk *chunk) {
#ifdef MEM_HAS_ASAN
    __lsan_register_root_region(chunk->base, chunk_bytes(chunk));
#else
    (void)chunk;
#endif
}

static void remove_root(const struct chunk *chunk) {
#ifdef MEM_HAS_ASAN
    __lsan_unregister_root_region(chunk->base, chunk_bytes(chunk));
    mem_unpoison(chunk->base, chunk_bytes(chunk)); /* others may be there soon */
#else
    (void)chunk;
#endif
}

struct chunk *chunk_new(size_t size) {
    bool large = size > RECYCLER_CACHED_MAX;
    uint32_t size_class = size_class_of(size);
    size_t piece_size = large ? round_up(size, os_page()) : size_class_bytes(size_class);
    uint32_t count = large ? 1 : (uint32_t)(CHUNK_SIZE / piece_size);
    struct chunk *chunk = calloc(1, sizeof *chunk + count * sizeof chunk->pieces[0]);
    if (!chunk)
        return NULL;
    chunk->size_class = size_class;
    chunk->piece_size = (uint32_t)piece_size;
    chunk->count = count;
    chunk->base = map_aligned(chunk_bytes(chunk));
    if (chunk->base == MAP_FAILED)
        goto fail_map;
    if (!page_map_reach(chunk->base))
        goto fail_page_map;
    if (!large)
        (void)madvise(chunk->base, CHUNK_SIZE, MADV_NOHUGEPAGE); /* a wish */
    add_root(chunk);
    mem_poison(chunk->base, chunk_bytes(chunk));
    list_init(&chunk->cold);
    for (uint32_t i = 0; i < count; i++) {
        chunk->pieces[i].chunk = chunk;
        chunk->pieces[i].ptr = chunk->base + (size_t)i * piece_size;
        list_push_back(&chunk->cold, &chunk->pieces[i].node);
    }
    chunk->cold_count = count;
    page_map_set(chunk->base, chunk);
    return chunk;

fail_page_map:
    (void)munmap(chunk->base, chunk_bytes(chunk)); /* was never used */
fail_map:
    free(chunk);
    return NULL;
}

void chunk_free(struct chunk *chunk) {
    remove_root(chunk);
    page_map_set(chunk->base, NULL);
    (void)munmap(chunk->base, chunk_bytes(chunk)); /* see map_aligned */
    free(chunk);
}

/* ---- Fit ---- */

/* To where there is room. The kernel takes what is mapped there away as it moves; when it could not
 * move, nobody knows whether it did, so what may be left there stays: addresses without memory. */
static bool move(struct chunk *chunk, size_t size) {
    char *to = map_aligned(size);
    if (to == MAP_FAILED)
        return false;
    if (!page_map_reach(to)) {
        (void)munmap(to, size); /* was never used */
        return false;
    }
    page_map_set(chunk->base, NULL); /* before another chunk is there */
    if (mremap(chunk->base, chunk->piece_size, size, MREMAP_MAYMOVE | MREMAP_FIXED, to) ==
        MAP_FAILED) {
        page_map_set(chunk->base, chunk);
        return false;
    }
    chunk->base = chunk->pieces[0].ptr = to;
    page_map_set(to, chunk);
    return true;
}

static bool resize(struct chunk *chunk, size_t size) {
    if (size < chunk->piece_size)
        return munmap(chunk->base + size, chunk->piece_size - size) == 0;
    return mremap(chunk->base, chunk->piece_size, size, 0) != MAP_FAILED || move(chunk, size);
}

int64_t chunk_fit(struct chunk *chunk, size_t size) {
    ASSERT(is_large(chunk));
    size_t fitting = round_up(size, os_page()), before = chunk->piece_size;
    if (before >= fitting && before - fitting <= fitting / FIT_SLACK)
        return 0;
    remove_root(chunk);
    if (resize(chunk, fitting)) {
        chunk->piece_size = (uint32_t)fitting;
        chunk->size_class = size_class_of(fitting);
    }
    add_root(chunk);
    return (int64_t)chunk->piece_size - (int64_t)before;
}

/* ---- Pieces ---- */

void piece_release(struct piece *piece) {
    piece_check_fill(piece);
    mem_poison(piece->ptr, piece->chunk->piece_size);
    if (is_large(piece->chunk))
        return;
    /* Whole pages of the OS; a refusal (locked memory) leaves them here. */
    uintptr_t low = round_up((uintptr_t)piece->ptr, os_page());
    uintptr_t high = ((uintptr_t)piece->ptr + piece->chunk->piece_size) & ~(os_page() - 1);
    if (low < high)
        (void)madvise(piece->ptr + (low - (uintptr_t)piece->ptr), high - low, MADV_DONTNEED);
}

void piece_close(struct piece *piece) {
    size_t size = piece->chunk->piece_size;
    if (MEM_HARDENED) {
        mem_unpoison(piece->ptr, size);
        memset(piece->ptr, MEM_FILL, size);
        piece->filled = true;
    }
    mem_poison(piece->ptr, size);
}

void piece_check_fill(struct piece *piece) {
    if (!piece->filled)
        return;
    size_t size = piece->chunk->piece_size;
    mem_unpoison(piece->ptr, size);
    const unsigned char *bytes = (const unsigned char *)piece->ptr;
    ASSERT(bytes[0] == MEM_FILL); /* else it was written to after it was given */
    ASSERT(memcmp(bytes, bytes + 1, size - 1) == 0);
    piece->filled = false;
}

void piece_open(struct piece *piece, size_t size) {
    mem_poison(piece->ptr, piece->chunk->piece_size);
    mem_unpoison(piece->ptr, size);
}
