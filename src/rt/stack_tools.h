/* stack_tools: what AddressSanitizer, LeakSanitizer and valgrind are told about coroutine stacks.
 * Nothing in a plain build on its own, but for a few instructions per slab when valgrind's header was
 * there. */
#pragma once
#include <stddef.h>

#include "rt/ctx.h"

#ifdef RT_HAS_ASAN
#include <sanitizer/lsan_interface.h>
#endif
#ifdef RT_HAS_VALGRIND
#include <valgrind/valgrind.h>
#endif

enum {
/* Sanitizers make frames several times larger, and so stacks. */
#if defined(RT_HAS_ASAN) || defined(RT_HAS_TSAN)
    STACK_TOOLS_FACTOR = 4,
#else
    STACK_TOOLS_FACTOR = 1,
#endif
    /* Of a free stack: what a pointer to a coroutine's locals that outlived it points to. Not all of
     * it, since shadow memory is memory. */
    STACK_TOOLS_CLOSED = 16 * 1024,
};

/* A stack was mapped, which is for ever. */
static inline void stack_tools_learn(char *stack, size_t size) {
#ifdef RT_HAS_ASAN
    __lsan_register_root_region(stack, size);
#endif
#ifdef RT_HAS_VALGRIND
    (void)VALGRIND_STACK_REGISTER(stack, stack + size - 1);
#endif
    (void)stack;
    (void)size;
}

static inline size_t stack_tools_closed(size_t size) {
    return size < STACK_TOOLS_CLOSED ? size : STACK_TOOLS_CLOSED;
}

/* Has no coroutine any more; sp is where the last one was left. */
static inline void stack_tools_close(char *stack, size_t size, void *sp) {
    mem_unpoison(sp, (size_t)(stack + size - (char *)sp)); /* frames that never returned */
    mem_poison(stack + size - stack_tools_closed(size), stack_tools_closed(size));
}

static inline void stack_tools_open(char *stack, size_t size) {
    mem_unpoison(stack + size - stack_tools_closed(size), stack_tools_closed(size));
}
