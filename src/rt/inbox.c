/* inbox: messages to a P from any thread.
 *
 *     any thread: push, CAS on head          the P's M: take all (exchange), reverse, run
 *
 *     head -> newest -> ... -> oldest
 *
 * Order  A push releases, the take acquires, so fn sees what its poster wrote. Reversing the taken
 *        list gives the order of the pushes.
 * Wake   Only the push that finds the inbox empty looks whether the P sleeps; the others rely on it.
 *        Push (seq_cst) then load of sleeping (seq_cst) against store of sleeping then load of head
 *        on the P's side: at least one of the two sees the other (see idle.c). One eventfd write
 *        per batch, none while the P is awake.
 * Reuse  A node is not touched after its fn was called: fn may free or post it again. */
#include "rt/rt_internal.h"

void inbox_post(struct p *p, struct rt_post *post) {
    struct rt_post *head = atomic_load_explicit(&p->inbox, memory_order_relaxed);
    do {
        post->next = head;
    } while (!atomic_compare_exchange_weak_explicit(&p->inbox, &head, post, memory_order_seq_cst,
                                                    memory_order_relaxed));
    if (!head)
        idle_wake(&p->idle);
}

bool inbox_drain(struct p *p) {
    struct rt_post *newest = atomic_exchange_explicit(&p->inbox, NULL, memory_order_acquire);
    struct rt_post *oldest = NULL;
    while (newest) {
        struct rt_post *next = newest->next;
        newest->next = oldest;
        oldest = newest;
        newest = next;
    }
    bool any = oldest != NULL;
    while (oldest) {
        struct rt_post *post = oldest;
        oldest = post->next;
        post->fn(post);
    }
    return any;
}

void rt_post(unsigned p_index, struct rt_post *post) {
    ASSERT(p_index < rt_sched.p_count);
    inbox_post(rt_sched.ps[p_index], post);
}
