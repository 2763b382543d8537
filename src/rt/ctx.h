/* ctx: the machine's half of a coroutine: a suspended context is one stack pointer.
 *
 * rt_ctx_switch saves the callee-saved registers on the current stack, stores the stack pointer to
 * *save_sp and continues the context load_sp. It returns when somebody switches back, possibly on
 * another thread. The ctx_* wrappers below tell AddressSanitizer and ThreadSanitizer about it. */
#pragma once
#include <stddef.h>
#include <stdint.h>

#include "mem/poison.h"

#if defined(__SANITIZE_THREAD__)
#define RT_HAS_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define RT_HAS_TSAN 1
#endif
#endif

#ifdef MEM_HAS_ASAN
#define RT_HAS_ASAN 1
#include <sanitizer/common_interface_defs.h>
#endif
#ifdef RT_HAS_TSAN
#include <sanitizer/tsan_interface.h>
#endif

void rt_ctx_switch(void **save_sp, void *load_sp);
void rt_ctx_entry(void);

/* A context that calls fn(arg) on the stack that ends at top (16 byte aligned) when first switched
 * to. fn must not return. */
static inline void *rt_ctx_init(void *top, void (*fn)(void *), void *arg) {
    uintptr_t *sp = top;
#if defined(__x86_64__)
    /* At rt_ctx_entry, before its call, the stack is aligned to 16. */
    *--sp = 0;
    *--sp = 0;
    *--sp = (uintptr_t)rt_ctx_entry;
    *--sp = 0;              /* rbp */
    *--sp = (uintptr_t)fn;  /* rbx */
    *--sp = (uintptr_t)arg; /* r12 */
    *--sp = 0;              /* r13 */
    *--sp = 0;              /* r14 */
    *--sp = 0;              /* r15 */
#elif defined(__aarch64__)
    sp -= 20;
    for (int i = 0; i < 20; i++)
        sp[i] = 0;
    sp[1] = (uintptr_t)rt_ctx_entry; /* x30 */
    sp[2] = (uintptr_t)fn;           /* x19 */
    sp[3] = (uintptr_t)arg;          /* x20 */
#else
#error "no context switch for this architecture"
#endif
    return sp;
}

/* What the sanitizers know of one stack, a coroutine's or a thread's. */
struct ctx_san {
#ifdef RT_HAS_ASAN
    void *fake_stack;
    const void *bottom;
    size_t size;
#endif
#ifdef RT_HAS_TSAN
    void *fiber;
#endif
    char unused;
};
