/* arena: a bump pointer through blocks.
 *
 *    current -> [block: skipped | used | free] -> [older block, full] -> ...
 *    large   -> [header | one allocation] -> ...      what would waste most of a block
 *    holds, held -> {block} -> {block} -> ...         leases handed to us; nodes live in the arena
 *
 * A block is used from its colour to its end (see block_colour), then what was skipped before that.
 *
 * An allocation is never freed alone. The limit counts the bytes asked for (rounded up to 16), not
 * blocks held: what counts against a peer is what the peer made us store.
 *
 * Under ASan the free part of the current block is poisoned, so running off the end of an
 * allocation is caught when it is the newest one. */
#include "mem/arena.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

struct arena_held {
    struct arena_held *next;
    struct block *block;
};

struct arena_large {
    struct arena_large *next;
    _Alignas(ARENA_ALIGN) char data[];
};

void arena_init(struct arena *arena, struct block_cache *cache, size_t limit_bytes) {
    *arena = (struct arena){.cache = cache, .limit_bytes = limit_bytes};
}

void arena_fini(struct arena *arena) {
    for (uint32_t i = 0; i < arena->hold_count; i++)
        block_put(arena->cache, arena->holds[i]);
    /* These before our own blocks, in which their list lives. */
    for (struct arena_held *held = arena->held; held; held = held->next)
        block_put(arena->cache, held->block);
    while (arena->current) {
        struct block *block = arena->current;
        arena->current = block->next;
        mem_unpoison(block->data, BLOCK_DATA_SIZE);
        block_put(arena->cache, block);
    }
    while (arena->large) {
        struct arena_large *large = arena->large;
        arena->large = large->next;
        free(large);
    }
    if (arena->paid_bytes)
        arena->payer->give(arena->payer, arena->paid_bytes);
    arena_init(arena, arena->cache, arena->limit_bytes);
}

static bool pay(struct arena *arena, size_t size) {
    if (!arena->payer)
        return true;
    if (arena->refused) {
        bool spared = size <= BLOCK_SIZE && !arena->last_block;
        arena->last_block = true;
        return spared;
    }
    arena->refused = !arena->payer->take(arena->payer, size);
    if (!arena->refused)
        arena->paid_bytes += size;
    return !arena->refused;
}

static void *alloc_large(struct arena *arena, size_t size) {
    struct arena_large *large = malloc(sizeof *large + size);
    if (!large)
        return NULL;
    large->next = arena->large;
    arena->large = large;
    return large->data;
}

void *arena_alloc_slowly(struct arena *arena, size_t size) {
    if (size > arena->limit_bytes - arena->total_bytes)
        return NULL;
    size_t rounded = (size + ARENA_ALIGN - 1) & ~(size_t)(ARENA_ALIGN - 1);
    if (rounded == 0)
        rounded = ARENA_ALIGN; /* distinct pointers, and one past the end is still ours */
    if (rounded > arena->limit_bytes - arena->total_bytes)
        return NULL;

    void *ptr;
    if (rounded > ARENA_LARGE_SIZE) {
        ptr = pay(arena, rounded) ? alloc_large(arena, size) : NULL;
        if (!ptr)
            return NULL;
    } else {
        if (rounded > arena->end - arena->used && rounded <= arena->skipped) {
            arena->used = 0;
            arena->end = arena->skipped;
            arena->skipped = 0;
        }
        if (rounded > arena->end - arena->used) {
            bool is_paid = !arena->current || pay(arena, BLOCK_SIZE);
            struct block *block = is_paid ? block_get(arena->cache) : NULL;
            if (!block)
                return NULL;
            mem_poison(block->data, BLOCK_DATA_SIZE);
            block->next = arena->current;
            arena->current = block;
            arena->skipped = arena->used = block_colour(block);
            arena->end = BLOCK_DATA_SIZE;
        }
        ptr = arena->current->data + arena->used;
        arena->used += (uint32_t)rounded;
        mem_unpoison(ptr, size);
    }
    arena->total_bytes += rounded;
    return ptr;
}

void *arena_zalloc(struct arena *arena, size_t size) {
    void *ptr = arena_alloc(arena, size);
    if (ptr)
        memset(ptr, 0, size);
    return ptr;
}

struct span arena_copy(struct arena *arena, struct span s) {
    return arena_concat(arena, &s, 1);
}

struct span arena_concat(struct arena *arena, const struct span *parts, size_t count) {
    size_t len = 0;
    for (size_t i = 0; i < count; i++)
        if (__builtin_add_overflow(len, parts[i].len, &len) || len == SIZE_MAX)
            return span_none();
    char *copy = arena_alloc(arena, len + 1);
    if (!copy)
        return span_none();
    size_t at = 0;
    for (size_t i = 0; i < count; i++) {
        if (parts[i].len)
            memcpy(copy + at, parts[i].ptr, parts[i].len);
        at += parts[i].len;
    }
    copy[len] = '\0';
    return span_make(copy, len);
}

struct span arena_decimal(struct arena *arena, uint64_t value) {
    char *text = arena_alloc(arena, SPAN_U64_DIGITS_MAX + 1);
    if (!text)
        return span_none();
    size_t len = span_put_u64(text, value);
    text[len] = '\0';
    return span_make(text, len);
}

struct span arena_printf(struct arena *arena, const char *format, ...) {
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    int len = vsnprintf(NULL, 0, format, args);
    va_end(args);
    struct span out = span_none();
    if (len >= 0) {
        char *text = arena_alloc(arena, (size_t)len + 1);
        if (text) {
            vsnprintf(text, (size_t)len + 1, format, again);
            out = span_make(text, (size_t)len);
        }
    }
    va_end(again);
    return out;
}

int arena_hold_slowly(struct arena *arena, struct block *block) {
    struct arena_held *held = arena_alloc(arena, sizeof *held);
    if (!held)
        return -ENOMEM;
    held->block = block;
    held->next = arena->held;
    arena->held = held;
    return 0;
}
