/* cfg_arena: memory of one loaded configuration, given back in one step.
 *
 * mem/arena belongs to one P and to one exchange; a config is loaded on any thread and outlives
 * both, so it has its own, made of plain malloc chunks.
 *
 * Ownership  What cfg_alloc returns is borrowed until cfg_arena_fini.
 * Threads    None: one loader at a time. Reading afterwards is free for all.
 * Errors     A loader is a deep recursion over tables, where a check after each allocation would
 *            drown the rules. So a failed allocation leaves by longjmp to *on_failure, which the
 *            one entry (config.c) sets; nothing but arenas is held across an allocation.
 *            With on_failure NULL it asserts. */
#pragma once
#include <setjmp.h>

#include "base/check.h"
#include "base/span.h"

struct cfg_chunk;
struct cfg_arena {
    struct cfg_chunk *chunks; /* newest first */
    jmp_buf *on_failure;
    long fail_after; /* for tests: allocations that still succeed; negative: no limit */
};

void cfg_arena_init(struct cfg_arena *arena, jmp_buf *on_failure);
void cfg_arena_fini(struct cfg_arena *arena);

/* Zeroed, aligned to 16 bytes. size 0 gives a valid pointer. */
void *cfg_alloc(struct cfg_arena *arena, size_t size);
/* count * size, checked for overflow. */
void *cfg_alloc_array(struct cfg_arena *arena, size_t count, size_t size);
/* A copy followed by a NUL that is not counted. The absent span stays absent. */
struct span cfg_copy(struct cfg_arena *arena, struct span s);
struct span cfg_printf(struct cfg_arena *arena, const char *format, ...) PRINTF_LIKE(2, 3);
