/* foreign: code that may block runs on the thread's own stack, and its P can be taken from it.
 *
 * The coroutine calls fn below the context that its M keeps on g0 (g_call_on_g0), as Go calls C:
 * foreign code sees a real thread stack, with its size and its thread-locals, and the coroutine is
 * suspended. Nothing is searched or switched on the way: half the cost of a round through the loop.
 *
 * P.owner says who may touch the P:
 *
 *      M1 ----(enter: store)----> M1|FOREIGN ----(leave: CAS)----> M1
 *                                     |
 *                              (sysmon: CAS)----> 0 ---(spare M2 starts: store)----> M2
 *
 * F1  Between entering and a won CAS, M1 touches nothing of the P; m->p is NULL meanwhile, so
 *     rt_ready and rt_post of foreign code go through the inbox like those of any thread.
 * F2  The value names the M, so M1 cannot take for its own a later foreign call of M2 on the same P.
 *     An M is in one foreign call at a time.
 * F3  The store on entry releases what the M did to the P; sysmon's CAS acquires it and m_hand_p
 *     passes it on. A won CAS on leaving acquires nothing new: nobody had the P in between.
 * F4  The store need not be seq_cst although sysmon's sleep depends on it: sysmon pays for both sides
 *     with membarrier(2) (see sysmon.c). So entering has no locked instruction, leaving has one.
 *
 * Backtraces  from foreign code go on in the coroutine that made the call: its stack stays as it is
 * until fn returns. The frames of g0 in between say nothing that matters.
 *
 * When the CAS is lost the coroutine has no P: it touches only its own G and M, and goes to g0, where
 * it is sent on (foreign_retaken): nobody may resume it while somebody stands on its stack. It goes,
 * in this order,
 *   - pinned: to its P's inbox;
 *   - to the P it left, if that is idle: its caches are there;
 *   - to any idle P;
 *   - to the global queue.
 * Go gives the idle P to the M that comes back. Here the idle P has an M already, asleep in the P's
 * poller, so the coroutine goes to the P, and the M becomes a spare.
 *
 * Quick and short calls leave P.owner alone: the M keeps its P, and m->current is NULL, so fn is to the runtime
 * what a scheduler callback is: it may ready and post directly, and an attempt to park asserts. What
 * quick ones publish, site and number of the call, is for sysmon's samples only:
 * F5  quick_calls goes up before quick_site is set (release), quick_site is cleared after fn. So who
 *     sees a site, then a number, and later a site and the same number, saw one call all the time:
 *     that of this number began before the first look at the number was over and had not ended at the
 *     second look at the site.
 *
 * Rejected  Leaving without the CAS (a flag of sysmon, membarrier(2) before each retake): one locked
 *           instruction of a line that is ours anyway is 4 ns, and the proof twice as long. */
#include "rt/foreign.h"

#include "rt/g_switch.h"
#include "rt/poll_ring.h"
#include "rt/rt_internal.h"
#include "rt/sysmon.h"
#include "rt/trace_hooks.h"

const char reason_foreign_call[] = "foreign call";

void foreign_call(rt_fn fn, void *arg) {
    struct m *m = m_self();
    ASSERT(m && m->p && m->current); /* from a coroutine only, and not nested */
    struct g *g = m->current;
    struct p *p = m->p;
    if (p->ring)
        poll_ring_before_call(p);
    if (p->round_pending)
        round_before_call(m, g);
    uintptr_t inside = (uintptr_t)m | P_OWNER_FOREIGN;
    if (trace_is_on())
        trace_foreign_begins(p, m, g);
    counter_add(&p->foreign_calls, 1);
    const char *reason = atomic_load_explicit(&g->reason, memory_order_relaxed);
    atomic_store_explicit(&g->reason, reason_foreign_call, memory_order_relaxed);
    atomic_store_explicit(&g->waits_since_ns, p->now_ns, memory_order_relaxed);
    m->p = NULL;
    atomic_store_explicit(&m->in_foreign, true, memory_order_relaxed);
    atomic_store_explicit(&p->owner, inside, memory_order_release); /* F3, F4 */
    sysmon_foreign_entered(p);

    g_call_on_g0(m, g, fn, arg);

    atomic_store_explicit(&m->in_foreign, false, memory_order_relaxed);
    atomic_store_explicit(&g->reason, reason, memory_order_relaxed);
    if (__builtin_expect(atomic_compare_exchange_strong_explicit(&p->owner, &inside, (uintptr_t)m,
                                                                 memory_order_acq_rel,
                                                                 memory_order_relaxed),
                         1)) {
        m->p = p;
        p->now_fresh = false;
        if (trace_is_on())
            trace_foreign_ends(p, m, g);
        return;
    }
    if (trace_is_on())
        trace_foreign_ends(NULL, m, g);
    m->left = p;
    m->request = M_RETAKEN;
    g_switch_out(m, g);
}

void foreign_retaken(struct m *m, struct g *g) {
    m->current = NULL;
    int idle = g->pinned ? -1 : idle_claim(m->left->index);
    if (idle >= 0)
        inbox_post(rt_sched.ps[idle], &g->resume_post);
    else
        g_resume(g);
}

void foreign_call_quick(const char *site, rt_fn fn, void *arg) {
    struct m *m = m_self();
    ASSERT(m && m->p && m->current); /* from a coroutine only, and not nested */
    struct g *g = m->current;
    struct p *p = m->p;
    if (trace_is_on())
        trace_quick_begins(p, site);
    if (p->ring)
        poll_ring_before_call(p);
    counter_add(&p->quick_calls, 1);
    m->current = NULL;
    atomic_store_explicit(&p->quick_site, site, memory_order_release); /* F5 */
    sysmon_foreign_entered(p);

    g_call_on_g0(m, g, fn, arg);

    atomic_store_explicit(&p->quick_site, NULL, memory_order_release);
    m->current = g;
    p->now_fresh = false;
    if (trace_is_on())
        trace_quick_ends(p);
}

void foreign_call_short(rt_fn fn, void *arg) {
    struct m *m = m_self();
    ASSERT(m && m->p && m->current); /* from a coroutine only, and not nested */
    struct g *g = m->current;
    struct p *p = m->p;
    if (p->ring)
        poll_ring_flush(p);
    if (p->round_pending)
        round_before_call(m, g);
    m->current = NULL;

    g_call_on_g0(m, g, fn, arg);

    m->current = g;
    p->now_fresh = false;
}

bool foreign_is_active(void) {
    struct m *m = m_self();
    return m && atomic_load_explicit(&m->in_foreign, memory_order_relaxed);
}
