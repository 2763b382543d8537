/* queues: what is ready on a P, in the order in which it runs, and the global queue.
 *
 * Inline is what a P does that runs pinned coroutines of normal priority only, as proxies do: without
 * calls a switch costs a tenth less. All else is in queues.c.
 *
 * Threads  The P's M, but for queue_push_global and queue_depth: any thread. */
#pragma once
#include "rt/rt_internal.h"

enum { RUNNEXT_MAX = 16 };

void queue_push_other(struct p *p, struct g *g);
void queue_push_next(struct p *p, struct g *g); /* by a coroutine; announces it */
void queue_push_global(struct g *g);
/* Wakes an idle P for what queue_push put into a ring, if something is left in it. */
void queue_announce(struct p *p);
struct g *queue_take_other(struct p *p);
/* Up to max of each priority: one to run, the rest into our rings. */
struct g *queue_take_global(struct p *p, uint32_t max);
void queue_set_mixed(struct p *p);
uint64_t queue_depth(struct p *p); /* ready on p now */

static inline void queue_count_pinned(struct p *p, uint32_t n) {
    uint32_t count = atomic_load_explicit(&p->pinned_count, memory_order_relaxed);
    atomic_store_explicit(&p->pinned_count, count + n, memory_order_relaxed);
}

static inline void queue_push_pinned(struct p *p, struct g *g) {
    g_queue_append(&p->pinned[g->priority], g, g);
    queue_count_pinned(p, 1);
}

static inline struct g *queue_take_pinned(struct p *p, enum rt_priority priority) {
    struct g_queue *queue = &p->pinned[priority];
    struct g *g = queue->head;
    if (g) {
        queue->head = g->next;
        if (!queue->head)
            queue->tail = NULL;
        queue_count_pinned(p, UINT32_MAX);
    }
    return g;
}

/* At the end of its queue. From a coroutine queue_announce belongs behind it. */
static inline void queue_push(struct p *p, struct g *g) {
    if (__builtin_expect(g->pinned && g->priority == RT_NORMAL, 1))
        queue_push_pinned(p, g);
    else
        queue_push_other(p, g);
}

static inline struct g *queue_take(struct p *p) {
    uintptr_t next = atomic_load_explicit(&p->runnext, memory_order_relaxed);
    bool pinned_turn = !(p->tick & 1) || runq_depth(&p->rings[RT_NORMAL]) == 0;
    if (__builtin_expect(p->mixed || (next & RUNNEXT_SHARED) || !pinned_turn, 0))
        return queue_take_other(p);
    if (next && p->runnext_streak < RUNNEXT_MAX) {
        atomic_store_explicit(&p->runnext, 0, memory_order_relaxed);
        p->runnext_streak++;
        return (struct g *)next;   // NOLINT(performance-no-int-to-ptr)
    }
    if (!p->pinned[RT_NORMAL].head)
        return queue_take_other(p);
    p->runnext_streak = 0;
    return queue_take_pinned(p, RT_NORMAL);
}
