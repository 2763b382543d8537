/* recycle: a P's clock and timer for its memory (mem/block.h, mem/recycler.h), which knows no P.
 *
 * The timer is armed from the first free block of the P on, and as long as anything is free there or
 * in what all Ps share. Once all of it is back with the OS nothing ticks.
 *
 * A trim is a message to each P, which does a step and posts itself again while there is more, so
 * that coroutines and events have their turn between two steps. Whoever clears trim_asked owns the
 * message: it is cleared before the look, so what was free when somebody asked is seen by that look, or by
 * one after it. Several Ps share what is in the depot between them. */
#include "mem/block.h"
#include "rt/rt_internal.h"

static void fired(struct timer *timer);

static void arm(struct p *p, int64_t deadline_ns) {
    if (deadline_ns == INT64_MAX)
        return;
    p->recycle.fn = fired;
    p->recycle.deadline_ns = deadline_ns;
    wheel_add(&p->wheel, &p->recycle);
}

static void fired(struct timer *timer) {
    struct p *p = container_of(timer, struct p, recycle);
    arm(p, recycler_age(&p->blocks.recycler, p_now_ns(p)));
}

static void has_idle(struct recycler_cache *cache) {
    struct p *p = container_of(cache, struct p, blocks.recycler);
    arm(p, p->now_ns + RECYCLER_AGE_NS);
}

static void ask_trim(struct p *p) {
    if (!atomic_exchange_explicit(&p->trim_asked, true, memory_order_acq_rel))
        inbox_post(p, &p->trim);
}

static void trim(struct rt_post *post) {
    struct p *p = container_of(post, struct p, trim);
    atomic_store_explicit(&p->trim_asked, false, memory_order_release);
    if (recycler_trim(&p->blocks.recycler))
        ask_trim(p);
}

void rt_trim_memory(void) {
    for (unsigned i = 0; i < rt_p_count(); i++)
        ask_trim(rt_sched.ps[i]);
}

void recycle_init(struct p *p) {
    block_cache_init(&p->blocks);
    recycler_drive(&p->blocks.recycler, &p->now_ns, has_idle);
    p->trim.fn = trim;
}

void recycle_fini(struct p *p) {
    block_cache_fini(&p->blocks);
}
