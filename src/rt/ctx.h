/* ctx: the machine's half of a coroutine: a suspended context is one stack pointer.
 *
 * rt_ctx_switch saves the callee-saved registers on the current stack, stores the stack pointer to
 * *save_sp and continues the context load_sp. It returns when somebody switches back, possibly on
 * another thread. g.c tells AddressSanitizer and ThreadSanitizer about it.
 *
 *    suspended at sp:   x86-64   r15 r14 r13 r12 rbx rbp return      (7 words, low to high)
 *                       aarch64  x29 x30 x19 .. x28 d8 .. d15        (20 words)
 *
 * Unwinding  Every instruction of these routines has CFI: a profiler's signal, a crash or gdb at any
 *            of them sees the whole chain. It ends at rt_ctx_entry, whose return address is undefined.
 *            x86-64 shadow stacks and aarch64 GCS would refuse the switch; an executable gets them
 *            only when all of its objects are marked for them, and these are not. */
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
/* Calls fn(arg) below the suspended context load_sp, which stays as it is, then returns. Meanwhile
 * *save_sp is the caller's context, for those who look; nobody may switch to it. Backtraces go from fn
 * to the caller: a profile of foreign code, which runs on the thread's stack, shows who called it. */
void rt_ctx_call(void **save_sp, void *load_sp, void (*fn)(void *), void *arg);
void rt_ctx_entry(void);

/* A new context starts behind the nop of rt_ctx_entry. */
#if defined(__x86_64__)
enum { RT_CTX_WORDS = 7, RT_CTX_ENTRY_SKIP = 1 };
#elif defined(__aarch64__)
enum { RT_CTX_WORDS = 20, RT_CTX_ENTRY_SKIP = 4 };
#else
#error "no context switch for this architecture"
#endif

/* A context that calls fn(arg) on the stack that ends at top (16 byte aligned) when first switched
 * to. fn must not return. */
static inline void *rt_ctx_init(void *top, void (*fn)(void *), void *arg) {
    uintptr_t *sp = top;
    uintptr_t entry = (uintptr_t)rt_ctx_entry + RT_CTX_ENTRY_SKIP;
#if defined(__x86_64__)
    /* At rt_ctx_entry, before its call, the stack is aligned to 16. */
    *--sp = 0;
    *--sp = 0;
    sp -= RT_CTX_WORDS;
    sp[0] = sp[1] = sp[2] = sp[5] = 0;
    sp[3] = (uintptr_t)arg; /* r12 */
    sp[4] = (uintptr_t)fn;  /* rbx */
    sp[6] = entry;
#else
    sp -= RT_CTX_WORDS;
    for (int i = 0; i < RT_CTX_WORDS; i++)
        sp[i] = 0;
    sp[1] = entry;          /* x30 */
    sp[2] = (uintptr_t)fn;  /* x19 */
    sp[3] = (uintptr_t)arg; /* x20 */
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
