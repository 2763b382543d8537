/* recycle: a P's clock and timer for its memory (mem/block.h, mem/recycler.h), which knows no P.
 *
 * The timer is armed from the first free block of the P on, and as long as anything is free there or
 * in what all Ps share. Once all of it is back with the OS nothing ticks. */
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
    arm(p, block_cache_age(&p->blocks, p_now_ns(p)));
}

static void has_idle(struct recycler_cache *cache) {
    struct p *p = container_of(cache, struct p, blocks.recycler);
    arm(p, p->now_ns + RECYCLER_AGE_NS);
}

void recycle_init(struct p *p) {
    block_cache_init(&p->blocks);
    recycler_drive(&p->blocks.recycler, &p->now_ns, has_idle);
}

void recycle_fini(struct p *p) {
    block_cache_fini(&p->blocks);
}
