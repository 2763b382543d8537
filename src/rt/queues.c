/* queues: what is ready on a P, in which order, and the global queue.
 *
 *             pinned: runnext    pinned list x 3 priorities      plain data of the P
 *          stealable: runnext|1  ring x 3 priorities (runq.c)    thieves take from the head
 *                     global queue x 3 priorities                under rt_sched.lock
 *
 * Runnext  What a coroutine of normal priority wakes runs next; whatever was there goes to the end of its
 *          queue. Bit 0 says that thieves may take it (by compare-and-swap to 0). A value without it is
 *          the P's alone and stored plainly, so nothing pinned pays for thieves. A pair that wake each
 *          other through it lets the queue in every RUNNEXT_MAX times (Go relies on preemption for that).
 * Order    High, runnext, normal, low; within one priority pinned and ring by turns. Q1 and Q2 bound what
 *          that would starve. As long as a P has only normal ones (`mixed` is false) this costs a branch.
 *   Q1     since_normal counts the coroutines taken since the last normal one: the RT_NORMAL_TURNth is
 *          normal if one is ready.
 *   Q2     since_low likewise. Low is due one turn earlier than it must be, and exactly then if normal is
 *          due in that turn, so the two never fall on the same turn.
 * Announce What goes into a ring is announced (idle_new_work) at once when a coroutine made it ready. When
 *          a scheduler callback or a yield did, this P is about to take from the ring itself: the scheduler
 *          announces what is left after it has taken one. One event thus wakes nobody else.
 * In hand  While ring_spill, take_global or a thief carries coroutines from one queue to another, nobody
 *          sees them. ring_spill announces when it is through; take_global fills the ring before it
 *          lowers global_count, so a P that sees the count low sees the ring; a thief spins (idle.c).
 *
 * Threads  The P's M. queue_push_global, queue_depth: any thread. */
#include "rt/queues.h"

static bool is_normal(const struct g *g) {
    return __builtin_expect(g->priority == RT_NORMAL, 1);
}

/* ---- The global queue ---- */

static void global_append_locked(enum rt_priority priority, struct g *head, struct g *tail,
                                 uint32_t count) {
    struct g_queue *queue = &rt_sched.global[priority];
    g_queue_append(queue, head, tail);
    queue->count += count;
    atomic_fetch_add(&rt_sched.global_count, count);
}

void queue_push_global(struct g *g) {
    pthread_mutex_lock(&rt_sched.lock);
    global_append_locked(g->priority, g, g, 1);
    pthread_mutex_unlock(&rt_sched.lock);
    idle_new_work();
}

/* The ring is full: g and the older half of it go to the global queue. */
static void ring_spill(struct p *p, struct g *g) {
    struct runq *ring = &p->rings[g->priority];
    struct g_queue spilled = {0};
    uint32_t count = 0;
    for (struct g *old; count < RUNQ_SLOTS / 2 && (old = runq_take(ring)); count++)
        g_queue_append(&spilled, old, old);
    g_queue_append(&spilled, g, g);
    pthread_mutex_lock(&rt_sched.lock);
    global_append_locked(g->priority, spilled.head, spilled.tail, count + 1);
    pthread_mutex_unlock(&rt_sched.lock);
    idle_new_work();
}

void queue_set_mixed(struct p *p) {
    if (p->mixed)
        return;
    p->mixed = true;
    p->since_normal = p->since_low = 0;
}

static struct g *global_take_locked(struct p *p, enum rt_priority priority, uint32_t max,
                                    struct g *first) {
    struct g_queue *queue = &rt_sched.global[priority];
    uint32_t share = queue->count / rt_sched.p_count + 1;
    uint32_t want = share < max ? share : max, taken = 0;
    while (taken < want && queue->head) {
        struct g *g = queue->head;
        struct g *next = g->next;
        if (!first)
            first = g;
        else if (!runq_push(&p->rings[priority], g))
            break;
        else if (priority != RT_NORMAL)
            queue_set_mixed(p);
        queue->head = next;
        taken++;
    }
    if (!queue->head)
        queue->tail = NULL;
    queue->count -= taken;
    atomic_fetch_sub(&rt_sched.global_count, taken);
    return first;
}

struct g *queue_take_global(struct p *p, uint32_t max) {
    if (atomic_load_explicit(&rt_sched.global_count, memory_order_relaxed) == 0)
        return NULL;
    pthread_mutex_lock(&rt_sched.lock);
    struct g *g = global_take_locked(p, RT_HIGH, max, NULL);
    g = global_take_locked(p, RT_NORMAL, max, g);
    g = global_take_locked(p, RT_LOW, max, g);
    pthread_mutex_unlock(&rt_sched.lock);
    return g;
}

/* ---- Pushing ---- */

void queue_push_other(struct p *p, struct g *g) {
    if (!is_normal(g))
        queue_set_mixed(p);
    if (g->pinned) {
        queue_push_pinned(p, g);
        return;
    }
    if (!runq_push(&p->rings[g->priority], g))
        ring_spill(p, g);
    p->unannounced = true;
}

void queue_announce(struct p *p) {
    if (!p->unannounced)
        return;
    p->unannounced = false;
    for (unsigned priority = 0; priority < RT_PRIORITIES; priority++) {
        if (!runq_is_empty(&p->rings[priority])) {
            idle_new_work();
            return;
        }
    }
}

static struct g *runnext_g(uintptr_t next) {
    return (struct g *)(next & ~RUNNEXT_SHARED);   // NOLINT(performance-no-int-to-ptr)
}

void queue_push_next(struct p *p, struct g *g) {
    if (!is_normal(g)) {
        queue_push(p, g);
        queue_announce(p);
        return;
    }
    uintptr_t old = atomic_load_explicit(&p->runnext, memory_order_relaxed);
    if (g->pinned && !(old & RUNNEXT_SHARED)) {
        atomic_store_explicit(&p->runnext, (uintptr_t)g, memory_order_relaxed);
        if (old)
            queue_push(p, runnext_g(old));
        return;
    }
    /* Releases g to a thief. seq_cst: it is work that idle_new_work announces. */
    old = atomic_exchange(&p->runnext, (uintptr_t)g | (g->pinned ? 0 : RUNNEXT_SHARED));
    if (old)
        queue_push(p, runnext_g(old));
    p->unannounced = false;
    idle_new_work();
}

/* ---- Taking ---- */

static struct g *take_queued(struct p *p, enum rt_priority priority) {
    bool ring_first = p->tick & 1;
    struct g *g = ring_first ? runq_take(&p->rings[priority]) : queue_take_pinned(p, priority);
    if (!g)
        g = ring_first ? queue_take_pinned(p, priority) : runq_take(&p->rings[priority]);
    return g;
}

static struct g *take_runnext(struct p *p) {
    uintptr_t next = atomic_load_explicit(&p->runnext, memory_order_relaxed);
    if (!(next & RUNNEXT_SHARED)) {
        atomic_store_explicit(&p->runnext, 0, memory_order_relaxed);
        return runnext_g(next);
    }
    return atomic_compare_exchange_strong_explicit(&p->runnext, &next, 0, memory_order_acquire,
                                                   memory_order_relaxed)
               ? runnext_g(next)
               : NULL; /* stolen */
}

static struct g *take_normal(struct p *p) {
    bool next = atomic_load_explicit(&p->runnext, memory_order_relaxed) != 0;
    if (next && p->runnext_streak < RUNNEXT_MAX) {
        struct g *g = take_runnext(p);
        if (g) {
            p->runnext_streak++;
            return g;
        }
    }
    p->runnext_streak = 0;
    struct g *g = take_queued(p, RT_NORMAL);
    return g || !next ? g : take_runnext(p);
}

static bool class_is_empty(struct p *p, enum rt_priority priority) {
    return !p->pinned[priority].head && runq_is_empty(&p->rings[priority]);
}

static struct g *take_mixed(struct p *p) {
    struct g *g;
    p->since_normal++;
    p->since_low++;
    bool normal_due = p->since_normal >= RT_NORMAL_TURN;
    if (p->since_low >= RT_LOW_TURN - (normal_due ? 0 : 1)) { /* Q2 */
        p->since_low = 0;
        if ((g = take_queued(p, RT_LOW)))
            return g;
    }
    if (!normal_due && (g = take_queued(p, RT_HIGH)))
        return g;
    p->since_normal = 0;
    if ((g = take_normal(p))) {
        p->mixed = !class_is_empty(p, RT_HIGH) || !class_is_empty(p, RT_LOW);
        return g;
    }
    if ((g = take_queued(p, RT_HIGH)))
        return g;
    p->since_low = 0;
    g = take_queued(p, RT_LOW);
    p->mixed = g != NULL;
    return g;
}

struct g *queue_take_other(struct p *p) {
    return p->mixed ? take_mixed(p) : take_normal(p);
}

/* ---- Looks from outside ---- */

uint64_t queue_depth(struct p *p) {
    uint64_t depth = atomic_load_explicit(&p->pinned_count, memory_order_relaxed);
    depth += atomic_load_explicit(&p->runnext, memory_order_relaxed) != 0;
    for (unsigned priority = 0; priority < RT_PRIORITIES; priority++)
        depth += runq_depth(&p->rings[priority]);
    return depth;
}
