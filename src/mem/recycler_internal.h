/* recycler_internal: what recycler.c (caches), depot.c (what they share) and chunk.c (what is had from
 * the OS) know of one another. The picture is in recycler.c; R1 there says who holds a piece. */
#pragma once
#include "mem/recycler.h"

enum { PIECE_CLASSES = 52 }; /* of RECYCLER_SIZE_MAX */

enum piece_state { PIECE_COLD, PIECE_LENT, PIECE_FREE };

struct piece {
    union {
        struct list node; /* not lent */
        void *note;       /* lent */
    };
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
    uint32_t cold_count; /* this and below: depot.c's */
    struct list cold;
    struct list node;
    struct piece pieces[];
};

/* ---- chunk.c. Any thread, without a lock of its caller's; what is changed is the caller's. ---- */

/* The class whose pieces have size bytes or more, and the size of those. */
uint32_t size_class_of(size_t size);
uint32_t size_class_bytes(uint32_t size_class);

/* All pieces of size bytes or more, and cold; NULL when memory is short. */
MUST_CHECK struct chunk *chunk_new(size_t size);
void chunk_free(struct chunk *chunk);
/* Bytes of address space. */
size_t chunk_bytes(const struct chunk *chunk);
/* What is lent at ptr. Asserts that it is: the door for what is given. */
struct piece *chunk_lent_piece(const void *ptr);
/* The caller's large piece becomes one for size bytes, not much larger, and may move. Returns by how many
 * bytes it has grown, below 0: shrunk. A piece that could not be grown is as before and too small. */
int64_t chunk_fit(struct chunk *chunk, size_t size);

/* Takes its memory, but for that of a large one, whose mapping is about to go. */
void piece_release(struct piece *piece);
/* A give: poisons, and in hardened builds fills. A get looks whether the fill is still there. */
void piece_close(struct piece *piece);
void piece_check_fill(struct piece *piece);
void piece_open(struct piece *piece, size_t size);

/* ---- depot.c ---- */

static inline struct piece *piece_of(struct list *node) {
    return container_of(node, struct piece, node);
}

static inline void shelf_init(struct recycler_shelf *shelf) {
    list_init(&shelf->pieces);
    shelf->count = 0;
}
static inline void shelf_push(struct recycler_shelf *shelf, struct piece *piece) {
    list_push_front(&shelf->pieces, &piece->node);
    shelf->count++;
}
static inline struct piece *shelf_take(struct recycler_shelf *shelf, struct list *node) {
    list_remove(node);
    shelf->count--;
    return piece_of(node);
}
static inline struct piece *shelf_pop(struct recycler_shelf *shelf) {
    return shelf->count ? shelf_take(shelf, shelf->pieces.next) : NULL;
}
/* Moves what is free since before_ns or longer to old, which becomes no longer than RECYCLER_STEP. */
void shelf_take_idle(struct recycler_shelf *shelf, int64_t before_ns, struct recycler_shelf *old);

void depot_lock(void);
void depot_unlock(void);
void depot_add_cache_locked(struct recycler_cache *cache);
void depot_remove_cache_locked(struct recycler_cache *cache);

void depot_push_locked(struct piece *piece);
void depot_push_idle_locked(struct piece *piece); /* as the one that was used longest ago */
/* Hardened builds: a piece is not used again until others of many bytes were given after it. */
void depot_quarantine_locked(struct piece *piece);
MUST_CHECK struct piece *depot_pop_locked(uint32_t size_class);
/* The free large piece whose size is nearest: not less than half, not more than twice. */
MUST_CHECK struct piece *depot_pop_near_locked(size_t size);
/* A large one has been fitted, and is by so much larger. */
void depot_count_fit_locked(int64_t bytes);
MUST_CHECK struct piece *depot_take_cold_locked(uint32_t size_class);
/* Transfers a new chunk; one of its pieces for the caller. */
struct piece *depot_add_chunk_locked(struct chunk *chunk);

/* shelf_take_idle of all that is shared. How many pieces are still free afterwards. */
MUST_CHECK uint64_t depot_take_idle_locked(int64_t before_ns, struct recycler_shelf *old);
/* What fronts share. Without the lock. */
uint64_t depot_shared_front_bytes(void);
/* To the OS, all of it. Takes the lock. */
void depot_release(struct recycler_shelf *old);
