/* cfg_arena: bump allocation out of chunks that are never reused before the end. */
#include "config/cfg_arena.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

enum { CHUNK_BYTES = 32 * 1024, ALIGN_BYTES = 16 };

struct cfg_chunk {
    struct cfg_chunk *next;
    size_t used, size;
    _Alignas(ALIGN_BYTES) char bytes[];
};

void cfg_arena_init(struct cfg_arena *arena, jmp_buf *on_failure) {
    *arena = (struct cfg_arena){.on_failure = on_failure, .fail_after = -1};
}

void cfg_arena_fini(struct cfg_arena *arena) {
    struct cfg_chunk *chunk = arena->chunks;
    while (chunk) {
        struct cfg_chunk *next = chunk->next;
        free(chunk);
        chunk = next;
    }
    arena->chunks = NULL;
}

static _Noreturn void out_of_memory(struct cfg_arena *arena) {
    ASSERT(arena->on_failure);
    longjmp(*arena->on_failure, 1);
}

void *cfg_alloc(struct cfg_arena *arena, size_t size) {
    if (size > SIZE_MAX / 2)
        out_of_memory(arena);
    size = (size + ALIGN_BYTES - 1) / ALIGN_BYTES * ALIGN_BYTES;
    if (arena->fail_after >= 0 && arena->fail_after-- == 0)
        out_of_memory(arena);

    struct cfg_chunk *chunk = arena->chunks;
    if (!chunk || chunk->size - chunk->used < size) {
        /* A large piece gets a chunk of its own, behind the current one, which may have room. */
        bool large = size > CHUNK_BYTES / 4;
        size_t bytes = large ? size : CHUNK_BYTES;
        struct cfg_chunk *fresh = calloc(1, sizeof(*fresh) + bytes);
        if (!fresh)
            out_of_memory(arena);
        fresh->size = bytes;
        if (large && chunk) {
            fresh->next = chunk->next;
            chunk->next = fresh;
        } else {
            fresh->next = chunk;
            arena->chunks = fresh;
        }
        chunk = fresh;
    }
    void *p = chunk->bytes + chunk->used;
    chunk->used += size;
    return p;
}

void *cfg_alloc_array(struct cfg_arena *arena, size_t count, size_t size) {
    size_t bytes;
    if (__builtin_mul_overflow(count, size, &bytes))
        out_of_memory(arena);
    return cfg_alloc(arena, bytes);
}

struct span cfg_copy(struct cfg_arena *arena, struct span s) {
    if (!s.ptr)
        return span_none();
    char *copy = cfg_alloc(arena, s.len + 1);
    if (s.len)
        memcpy(copy, s.ptr, s.len);
    return span_make(copy, s.len);
}

struct span cfg_printf(struct cfg_arena *arena, const char *format, ...) {
    va_list args;
    va_start(args, format);
    int len = vsnprintf(NULL, 0, format, args);
    va_end(args);
    ASSERT(len >= 0);
    char *text = cfg_alloc(arena, (size_t)len + 1);
    va_start(args, format);
    (void)vsnprintf(text, (size_t)len + 1, format, args); /* measured above */
    va_end(args);
    return span_make(text, (size_t)len);
}
