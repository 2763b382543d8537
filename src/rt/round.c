/* round: what a P does when it has run what was ready, before it polls.
 *
 *     poll ──► coroutines run ──► round works ──► poll or sleep
 *                   │ register ──────▲
 *                   └── RT_ROUND_NS ─┘
 *
 * A P without any pays a look at round_pending per switch, which is in a cache line it uses anyway. Those that are
 * due are taken out as a whole first, so one that registers again is for the next time, and a run ends.
 *
 * Late   A coroutine that runs for long, or the 64 switches until a busy P polls, would let works wait. So each
 *        switch looks at the clock while something is registered (RT_ROUND_NS), and so does who leaves for foreign
 *        code: after that the P is another M's, which runs them first thing, but until it is taken nobody does.
 *
 * Threads  The P's M. */
#include "base/ticks.h"
#include "rt/g_switch.h"
#include "rt/rt_internal.h"

void rt_at_round_end(struct rt_round_work *work) {
    struct p *p = p_self();
    ASSERT(p);
    if (list_is_linked(&work->node))
        return;
    if (!p->round_pending) {
        p->round_pending = true;
        p->round_since = ticks_now();
    }
    list_push_back(&p->round_works, &work->node);
}

void rt_not_at_round_end(struct rt_round_work *work) {
    if (list_is_linked(&work->node))
        list_remove(&work->node);
}

void round_run(struct p *p, bool sleeps) {
    struct list due, *node;
    list_init(&due);
    list_insert_before(&p->round_works, &due);
    list_remove(&p->round_works);
    p->round_pending = false;
    while ((node = list_pop_front(&due))) {
        struct rt_round_work *work = container_of(node, struct rt_round_work, node);
        work->fn(work, sleeps);
    }
}

static bool is_old(const struct p *p) {
    return ticks_ns_between(p->round_since, ticks_now()) > RT_ROUND_NS;
}

void round_run_old(struct p *p) {
    if (is_old(p))
        round_run(p, false);
}

static void run_on_g0(void *p) {
    round_run(p, false);
}

void round_before_call(struct m *m, struct g *g) {
    if (!is_old(m->p))
        return;
    m->current = NULL;
    g_call_on_g0(m, g, run_on_g0, m->p);
    m->current = g;
}
