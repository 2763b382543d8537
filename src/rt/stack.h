/* stack: where coroutines get their memory from, and when it goes back to the kernel.
 *
 * Every coroutine has a struct g and a stack, had and given back as one. A struct g stays one for
 * ever: a late look at one that ended is harmless. But while it is free its memory may be taken, so
 * that it reads as all zero, which is a free struct g too: no field means anything from one life to
 * the next. It is taken a minute after its coroutine ended at the soonest; whoever looked at it while
 * that lived, even with a short lock in it, has long finished.
 *
 * Ownership  stack_get hands out an owned struct g; stack_put takes it back.
 * Threads    Those with a P: the M that holds it, in coroutines or on g0. The others: any.
 * Memory     What a coroutine really touched, and one page at least: 4 KiB and some page table. A
 *            stack that nobody needed for STACK_IDLE_NS loses all of it. Address space is never given
 *            back, so a late look at a stack is harmless too. */
#pragma once
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/check.h"
#include "base/clock.h"
#include "rt/timer.h"

struct g;
struct p;

enum {
    STACK_CACHE_MAX = 128, /* per P: no lock for bursts of this size */
    STACK_TRIM_STEP = 32,  /* stacks per step of a trim: less than 100 us of madvise */
};
#define STACK_IDLE_NS (60 * NS_PER_S)
#define STACK_TRIM_PAUSE_NS (5 * NS_PER_MS) /* between two steps: trims take 1% of a P */

/* The free stacks of one P, the one freed last at the end. All zero is an empty one. */
struct stack_cache {
    struct g *gs[STACK_CACHE_MAX];
    _Atomic uint32_t count; /* any thread, to read */
    struct timer trim;
};

/* stack_size: of each coroutine that does not ask for more; its struct g and guard are part of it. */
void stack_init(size_t stack_size);
/* size 0: the usual one. NULL when memory is short. p NULL: a thread without one. */
struct g *stack_get(struct p *p, size_t size);
void stack_put(struct p *p, struct g *g);
bool stack_is_guard(const struct g *g, uintptr_t addr);
/* All there are and were, but for most of those without memory. fn may meet one that is being born or
 * dies: it reads atomics of it only. */
void stack_each(void (*fn)(struct g *g, void *arg), void *arg);
/* One bounded step: takes the memory of stacks idle at now_ns, and says when to come again: RT_FOREVER
 * when none is left that has any. Each P's timer does this by itself. */
int64_t stack_trim(struct p *p, int64_t now_ns);

struct stack_stats {
    uint64_t stacks;    /* address space is mapped */
    uint64_t free;      /* of these, nobody's */
    uint64_t free_cold; /* of these, without memory */
};
void stack_stats(struct stack_stats *out);

/* stack_big.c: stacks of more than the usual size. As above. */
void stack_big_init(size_t page_size, size_t keep_size);
struct g *stack_big_get(size_t size);
void stack_big_put(struct g *g, int64_t now_ns);
void stack_big_each(void (*fn)(struct g *g, void *arg), void *arg);
int64_t stack_big_trim(int64_t now_ns);
void stack_big_stats(struct stack_stats *add_to);
