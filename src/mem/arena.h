/* arena: memory of one exchange, given back in one step.
 *
 * Ownership  What arena_alloc returns is borrowed until arena_fini. The arena also holds leases on
 *            blocks that arena_hold hands it (the block a request head was read into).
 * Threads    One P. Foreign code never allocates from an arena.
 * Limits     limit_bytes in all; past it, and when memory is short, allocations return NULL and
 *            the exchange fails alone. */
#pragma once
#include "base/span.h"
#include "mem/block.h"

struct arena {
    struct block_cache *cache;
    struct block *current; /* newest block; older ones hang on its chain */
    uint32_t used;         /* bytes used of current */
    size_t total_bytes, limit_bytes;
    struct arena_held *held;
    struct arena_large *large; /* allocations that do not fit a block */
};

void arena_init(struct arena *arena, struct block_cache *cache, size_t limit_bytes);
void arena_fini(struct arena *arena);

/* Aligned to 16 bytes, not zeroed. */
MUST_CHECK void *arena_alloc(struct arena *arena, size_t size);
MUST_CHECK void *arena_zalloc(struct arena *arena, size_t size);

/* Copy of s, followed by a NUL that is not counted. The absent span when memory is short. */
MUST_CHECK struct span arena_copy(struct arena *arena, struct span s);
MUST_CHECK struct span arena_concat(struct arena *arena, const struct span *parts, size_t count);
MUST_CHECK struct span arena_printf(struct arena *arena, const char *format, ...) PRINTF_LIKE(2, 3);

/* Takes over one lease of block (transferred, on success): released by arena_fini. */
MUST_CHECK int arena_hold(struct arena *arena, struct block *block);
