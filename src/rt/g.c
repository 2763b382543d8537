/* g: birth and death of coroutines, and calls on g0; the switches are in g_switch.h.
 *
 * A G is made with its first frame on its own stack and handed to its P. It ends on g0: nobody can
 * free the stack it stands on.
 *
 * Threads: g_new with the caller's P or none; the rest only on the M that runs the G. */
#include "rt/g_switch.h"
#include "rt/labels.h"
#include "rt/rt_internal.h"

/* Never inlined and not a tail of anything: it is the first C frame of every coroutine. */
static void NOINLINE g_main(void *arg) {
    struct g *g = arg;
    san_arrive_g(g);
    g->fn(g->arg);
    g_exit(g);
}

#ifdef RT_HAS_ASAN
/* Whose describer was freed before its coroutine's end: a signal of the profile's finds that once in days, this
 * each time. */
static void NOINLINE ask_describer(const struct g *g) {
    struct label said[LABELS_DESCRIBED_MAX];
    (void)labels_described(g, said);
}
#endif

void g_exit(struct g *g) {
#ifdef RT_HAS_ASAN
    ask_describer(g);
#endif
    atomic_store_explicit(&g->describer, NULL, memory_order_relaxed);
    if (g->locals_set)
        local_end(g);
    struct m *m = m_self();
    m->request = M_EXIT;
    san_leave(NULL, &m->san);
    rt_ctx_switch(&g->sp, m->g0_sp);
    __builtin_unreachable();
}

#ifdef RT_HAS_ASAN
struct call_on_g0 {
    struct m *m;
    struct g *g;
    rt_fn fn;
    void *arg;
};

/* AddressSanitizer wants to hear of the arrival on either stack. */
static void announced_on_g0(void *arg) {
    struct call_on_g0 *call = arg;
    san_arrive_g0(call->m);
    call->fn(call->arg);
    san_leave(&call->m->san, &call->g->san);
}
#endif

void g_call_on_g0(struct m *m, struct g *g, rt_fn fn, void *arg) {
    san_leave(&g->san, &m->san);
#ifdef RT_HAS_ASAN
    struct call_on_g0 call = {m, g, fn, arg};
    rt_ctx_call(&g->sp, m->g0_sp, announced_on_g0, &call);
#else
    rt_ctx_call(&g->sp, m->g0_sp, fn, arg);
#endif
#ifdef RT_HAS_TSAN
    __tsan_switch_to_fiber(g->san.fiber, 0); /* here: fn's entry and exit are of one fiber */
#endif
    san_arrive_g(g);
}

struct g *g_new(struct p *cache, struct p *home, const struct go_options *options, rt_fn fn,
                void *arg) {
    struct g *g = stack_get(cache, options->stack_size);
    if (!g)
        return NULL;
    g->next = NULL;
    __atomic_store_n(&g->p, home, __ATOMIC_RELEASE); /* after the id is 0: see dump_collect.c */
    g->pinned = home != NULL;
    __atomic_store_n(&g->priority, (uint8_t)options->priority, __ATOMIC_RELAXED);
    g->timed_out = g->zombie = false;
    g->fn = fn;
    g->arg = arg;
    g->deadline_p = NULL;
    timer_init(&g->deadline, park_deadline_fired);
    g->token_post.fn = park_token_arrived;
    g->resume_post.fn = park_resume_arrived;
    atomic_store_explicit(&g->cancelled, 0, memory_order_relaxed);
    atomic_store_explicit(&g->name, options->name, memory_order_relaxed);
    atomic_store_explicit(&g->describer, options->describer, memory_order_relaxed);
    atomic_store_explicit(&g->reason, NULL, memory_order_relaxed);
    atomic_store_explicit(&g->state, G_ACTIVE, memory_order_relaxed);
#ifdef RT_HAS_ASAN
    g->san = (struct ctx_san){.bottom = g->stack, .size = g->stack_size};
#endif
#ifdef RT_HAS_TSAN
    g->san.fiber = __tsan_create_fiber(0);
#endif
    g->deferred = NULL;
    g->scope = NULL;
    g->raise = NULL;
    struct g *starter = rt_self();
    if (starter && starter->locals_set)
        local_inherit(g, starter);
    g->sp = rt_ctx_init(g->stack + g->stack_size, g_main, g);
    return g;
}

void g_free(struct p *p, struct g *g) {
    atomic_store_explicit(&g->id, 0, memory_order_relaxed);
    atomic_store_explicit(&g->state, G_FREE, memory_order_relaxed);
#ifdef RT_HAS_TSAN
    if (g->san.fiber) {
        __tsan_destroy_fiber(g->san.fiber);
        g->san.fiber = NULL;
    }
#endif
    /* A pinned G whose token is still on its way: its post is in our own inbox, and whoever put it
     * there is done with it (see park.c). It is freed when the post arrives. */
    if (g->pinned && atomic_load_explicit(&g->token_posted, memory_order_acquire)) {
        g->zombie = true;
        return;
    }
    stack_put(p, g);
}
