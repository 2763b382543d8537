/* foreign: code that may block runs on the thread's own stack, and its P can be taken from it.
 *
 * A coroutine leaves {fn, arg} in its M and switches to g0, where foreign_run calls fn: foreign code
 * sees a real thread stack, with its size and its thread-locals, and the coroutine is suspended.
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
 *     passes it on. It is seq_cst because sysmon's sleep depends on it (see sysmon.c). A won CAS on
 *     leaving acquires nothing new: nobody had the P in between.
 *
 * Backtraces  from foreign code go on in the coroutine that made the call (rt_ctx_call_as): its stack
 * stays as it is until fn returns. The frames of g0 in between say nothing that matters.
 *
 * When the CAS is lost, the coroutine is sent on from g0, where nobody runs on its stack: to its P's
 * inbox if pinned, else to the global queue; and the M becomes a spare. */
#include "rt/foreign.h"

#include "rt/rt_internal.h"

void foreign_call(rt_fn fn, void *arg) {
    struct m *m = m_self();
    ASSERT(m && m->p && m->current); /* from a coroutine only, and not nested */
    struct g *g = m->current;
    m->foreign_fn = fn;
    m->foreign_arg = arg;
    m->request = M_FOREIGN;
    g_switch_out(m, g);
}

bool foreign_run(struct m *m, struct g *g) {
    struct p *p = m->p;
    uintptr_t inside = (uintptr_t)m | P_OWNER_FOREIGN;
    counter_add(&p->foreign_calls, 1);
    const char *reason = atomic_load_explicit(&g->reason, memory_order_relaxed);
    atomic_store_explicit(&g->reason, "foreign call", memory_order_relaxed);
    m->p = NULL;
    atomic_store_explicit(&m->in_foreign, true, memory_order_relaxed);
    atomic_store(&p->owner, inside); /* F3 */
    sysmon_foreign_entered();

    rt_ctx_call_as(m->foreign_fn, m->foreign_arg, g->sp);

    atomic_store_explicit(&m->in_foreign, false, memory_order_relaxed);
    atomic_store_explicit(&g->reason, reason, memory_order_relaxed);
    if (atomic_compare_exchange_strong_explicit(&p->owner, &inside, (uintptr_t)m,
                                                memory_order_acq_rel, memory_order_relaxed)) {
        m->p = p;
        p->now_fresh = false;
        return true;
    }
    g_resume(g);
    return false;
}

bool foreign_is_active(void) {
    struct m *m = m_self();
    return m && atomic_load_explicit(&m->in_foreign, memory_order_relaxed);
}
