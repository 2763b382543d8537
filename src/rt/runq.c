/* runq: one P's ring of ready coroutines. The owner adds and takes without a lock while idle Ps
 * steal: a lock would be paid on every wake-up, a steal only when somebody is idle. Pinned
 * coroutines never enter it, so whatever is in the ring may run anywhere.
 *
 *    steal / take: CAS head                 push: owner only
 *          |                                     |
 *    ------v-------------------------------------v------
 *     ...  [head] [    ] [    ] [    ] [tail-1] [free] ...   index i lives in slot i % RUNQ_SLOTS
 *
 * I1  Only the owner writes tail and fills slots.
 * I2  head moves only by compare-and-swap, so each coroutine leaves the ring once.
 * I3  tail - head <= RUNQ_SLOTS. Both are uint32_t and wrap; only the difference means anything.
 *
 * Order  (a) push fills the slot, then stores tail (release, in fact seq_cst: see below); a thief
 *            acquires head, then tail.
 *        (b) a winning CAS releases head; the owner acquires head before it reuses a slot.
 *        (c) tail is stored and, by runq_is_empty, loaded with seq_cst: together with the P's
 *            sleeping flag that is the store-buffer pattern which the head comment of idle.c needs.
 *        A thief that loses may have copied a slot in reuse. Slots are relaxed atomics, so that is
 *        no data race, and its copies are dropped unread.
 * Full   The owner moves the older half to the global queue: one lock per RUNQ_SLOTS / 2 pushes.
 * Rejected  One lock per ring: every wake-up would pay for thieves who are mostly absent. Stealing
 *        a single item: a thief that finds one is soon back for the next, so it takes half. */
#include "rt/runq.h"

#include <stddef.h>

static struct g *slot_load(struct runq *q, uint32_t i) {
    return atomic_load_explicit(&q->slots[i % RUNQ_SLOTS], memory_order_relaxed);
}

static void slot_store(struct runq *q, uint32_t i, struct g *g) {
    atomic_store_explicit(&q->slots[i % RUNQ_SLOTS], g, memory_order_relaxed);
}

bool runq_push(struct runq *q, struct g *g) {
    uint32_t head = atomic_load_explicit(&q->head, memory_order_acquire); /* pairs with (b) */
    uint32_t tail = atomic_load_explicit(&q->tail, memory_order_relaxed);
    if (tail - head >= RUNQ_SLOTS)
        return false;
    slot_store(q, tail, g);
    atomic_store_explicit(&q->tail, tail + 1, memory_order_seq_cst); /* (a), (c) */
    return true;
}

struct g *runq_take(struct runq *q) {
    uint32_t tail = atomic_load_explicit(&q->tail, memory_order_relaxed);
    uint32_t head = atomic_load_explicit(&q->head, memory_order_acquire);
    while (tail != head) {
        struct g *g = slot_load(q, head);
        if (atomic_compare_exchange_weak_explicit(&q->head, &head, head + 1, memory_order_acq_rel,
                                                  memory_order_acquire))
            return g;
    }
    return NULL;
}

struct g *runq_steal(struct runq *q, struct runq *victim) {
    uint32_t own_tail = atomic_load_explicit(&q->tail, memory_order_relaxed);
    uint32_t head = atomic_load_explicit(&victim->head, memory_order_acquire);
    for (;;) {
        uint32_t tail = atomic_load_explicit(&victim->tail, memory_order_acquire); /* (a) */
        uint32_t count = tail - head;
        count -= count / 2;
        if (count == 0)
            return NULL;
        if (count > RUNQ_SLOTS / 2) { /* head and tail were read at different times */
            head = atomic_load_explicit(&victim->head, memory_order_acquire);
            continue;
        }
        for (uint32_t i = 0; i < count; i++)
            slot_store(q, own_tail + i, slot_load(victim, head + i));
        if (!atomic_compare_exchange_weak_explicit(&victim->head, &head, head + count,
                                                   memory_order_acq_rel, memory_order_acquire))
            continue;
        struct g *g = slot_load(q, own_tail + count - 1);
        if (count > 1) /* (a) for thieves of ours */
            atomic_store_explicit(&q->tail, own_tail + count - 1, memory_order_seq_cst);
        return g;
    }
}

bool runq_is_empty(struct runq *q) {
    uint32_t head = atomic_load_explicit(&q->head, memory_order_seq_cst);
    return head == atomic_load_explicit(&q->tail, memory_order_seq_cst);
}

uint32_t runq_depth(struct runq *q) {
    uint32_t head = atomic_load_explicit(&q->head, memory_order_relaxed);
    uint32_t depth = atomic_load_explicit(&q->tail, memory_order_relaxed) - head;
    return depth <= RUNQ_SLOTS ? depth : 0; /* the two were read at different times */
}
