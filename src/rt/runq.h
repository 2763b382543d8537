/* runq: one P's ring of coroutines that any P may run.
 *
 * Threads    runq_push and runq_take: the P's M. runq_steal and runq_is_empty: any M.
 * Limits     RUNQ_SLOTS; runq_push says false when full and the caller moves half elsewhere. */
#pragma once
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/check.h"

struct g;
enum { RUNQ_SLOTS = 256 };

struct runq {
    _Alignas(64) _Atomic uint32_t head;
    _Alignas(64) _Atomic uint32_t tail;
    _Atomic(struct g *) slots[RUNQ_SLOTS];
};

MUST_CHECK bool runq_push(struct runq *q, struct g *g);
/* The oldest; NULL when empty. */
struct g *runq_take(struct runq *q);
/* Moves up to half of victim's oldest into q, which is empty, and takes one of them. */
struct g *runq_steal(struct runq *q, struct runq *victim);
/* As of some moment during the call. */
bool runq_is_empty(struct runq *q);
uint32_t runq_depth(struct runq *q); /* any thread; for statistics */
