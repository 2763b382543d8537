/* g_switch: between a coroutine and its M's loop on g0.
 *
 * Inline, for the processor's sake: it predicts where a function returns to from the calls before, and
 * those were of another stack. So after a switch every return is mispredicted (6 ns) until the stacks'
 * calls match again, and each frame between a park and its caller costs one on the way back.
 *
 * Each switch tells the sanitizers, which otherwise take a change of stack for corruption (ASan) or
 * for one thread racing with itself (TSan).
 *
 * Threads  The M that runs the G. */
#pragma once
#include "rt/rt_internal.h"

/* Both directions: before the switch say where we go, after it say that we are there. leaving is
 * NULL when the context that leaves ends. */
static inline void san_leave(struct ctx_san *leaving, struct ctx_san *to) {
#ifdef RT_HAS_ASAN
    __sanitizer_start_switch_fiber(leaving ? &leaving->fake_stack : NULL, to->bottom, to->size);
#endif
#ifdef RT_HAS_TSAN
    __tsan_switch_to_fiber(to->fiber, 0);
#endif
    (void)leaving;
    (void)to;
}

/* On a coroutine: the M it finds itself on learns the bounds of its own stack, which we came from. */
static inline void san_arrive_g(struct g *g) {
#ifdef RT_HAS_ASAN
    struct ctx_san *g0 = &m_self()->san;
    __sanitizer_finish_switch_fiber(g->san.fake_stack, &g0->bottom, &g0->size);
#endif
    (void)g;
}

static inline void san_arrive_g0(struct m *m) {
#ifdef RT_HAS_ASAN
    __sanitizer_finish_switch_fiber(m->san.fake_stack, NULL, NULL);
#endif
    (void)m;
}

static inline void g_switch_in(struct m *m, struct g *g) {
#ifdef RT_HAS_TSAN
    m->san.fiber = __tsan_get_current_fiber();
#endif
    san_leave(&m->san, &g->san);
    rt_ctx_switch(&m->g0_sp, g->sp);
    san_arrive_g0(m);
}

static inline void g_switch_out(struct m *m, struct g *g) {
    san_leave(&g->san, &m->san);
    rt_ctx_switch(&g->sp, m->g0_sp);
    san_arrive_g(g); /* this may be another thread now */
}
