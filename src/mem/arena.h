/* arena: memory of one exchange, given back in one step.
 *
 * Ownership  What arena_alloc returns is borrowed until arena_fini. The arena also holds leases on
 *            blocks that arena_hold hands it (the block a request head was read into).
 * Threads    One P. Foreign code never allocates from an arena.
 * Limits     limit_bytes in all; past it, and when memory is short, allocations return NULL and
 *            the exchange fails alone.
 * Payer      With one, what is taken beyond the first block is asked of it before; it gets all back in
 *            arena_fini. Once it has refused, the exchange is as good as over: a last block is had
 *            without asking, to say so. */
#pragma once
#include <stdbool.h>

#include "base/span.h"
#include "mem/block.h"
#include "mem/poison.h"

struct arena_payer {
    bool (*take)(struct arena_payer *payer, size_t size); /* false: refused */
    void (*give)(struct arena_payer *payer, size_t size);
};

enum { ARENA_HOLDS = 2 }; /* an exchange leases the block of its request and that of its response */

struct arena {
    struct block_cache *cache;
    struct block *current; /* newest block; older ones hang on its chain */
    uint32_t used, end;    /* what is free of it lies between; nothing when there is none */
    uint32_t skipped;      /* bytes at its start that are still to be used */
    uint32_t hold_count;   /* of holds */
    size_t total_bytes, limit_bytes;
    struct block *holds[ARENA_HOLDS];
    struct arena_held *held;   /* leases beyond these */
    struct arena_large *large; /* allocations that do not fit a block */
    struct arena_payer *payer; /* borrowed until arena_fini; NULL: nobody is asked */
    size_t paid_bytes;
    bool refused, last_block; /* by the payer; and the one after that was had */
};

void arena_init(struct arena *arena, struct block_cache *cache, size_t limit_bytes);
void arena_fini(struct arena *arena);

enum {
    ARENA_ALIGN = 16,
    /* Larger ones go to malloc: a block would waste up to this much at its end. */
    ARENA_LARGE_SIZE = BLOCK_DATA_SIZE / 4,
};

/* Private: what arena_alloc leaves to it, which is a new block, malloc, size 0 and refusals. */
MUST_CHECK void *arena_alloc_slowly(struct arena *arena, size_t size);

/* Aligned to 16 bytes, not zeroed. An exchange asks some twenty times, hence inline. */
MUST_CHECK static inline void *arena_alloc(struct arena *arena, size_t size) {
    size_t rounded = (size + ARENA_ALIGN - 1) & ~(size_t)(ARENA_ALIGN - 1);
    /* Of size 0 and of sizes that wrap, rounded - 1 is too large as well. */
    if (rounded - 1 >= ARENA_LARGE_SIZE || rounded > arena->end - arena->used ||
        rounded > arena->limit_bytes - arena->total_bytes)
        return arena_alloc_slowly(arena, size);
    void *ptr = arena->current->data + arena->used;
    arena->used += (uint32_t)rounded;
    arena->total_bytes += rounded;
    mem_unpoison(ptr, size);
    return ptr;
}
MUST_CHECK void *arena_zalloc(struct arena *arena, size_t size);

/* Copy of s, followed by a NUL that is not counted. The absent span when memory is short. */
MUST_CHECK struct span arena_copy(struct arena *arena, struct span s);
MUST_CHECK struct span arena_concat(struct arena *arena, const struct span *parts, size_t count);
/* In decimal: what arena_printf of "%" PRIu64 says, in a tenth of its time. */
MUST_CHECK struct span arena_decimal(struct arena *arena, uint64_t value);
MUST_CHECK struct span arena_printf(struct arena *arena, const char *format, ...) PRINTF_LIKE(2, 3);

/* Private: a lease too many for holds. */
MUST_CHECK int arena_hold_slowly(struct arena *arena, struct block *block);
/* Takes over one lease of block (transferred, on success): released by arena_fini. */
MUST_CHECK static inline int arena_hold(struct arena *arena, struct block *block) {
    if (arena->hold_count == ARENA_HOLDS)
        return arena_hold_slowly(arena, block);
    arena->holds[arena->hold_count++] = block;
    return 0;
}
