/* stage: see stage.h. */
#include "stage.h"

#include <string.h>

#include "rt/g_switch.h"
#include "rt/queues.h"

static struct p ps[MODEL_THREADS_MAX];
static struct m ms[MODEL_THREADS_MAX];
static struct g gs[MODEL_THREADS_MAX];
static bool queued[MODEL_THREADS_MAX]; /* the thread's coroutine is in a run queue */
static unsigned queued_by[MODEL_THREADS_MAX];
static bool rung[MODEL_THREADS_MAX];  /* there is something for the thread's loop */
static bool ended[MODEL_THREADS_MAX]; /* stage_end */

struct sched rt_sched;
struct log_component log_rt;

/* ---- What park.c and inbox.c call ---- */

static bool has_p(unsigned thread) {
    return thread < MODEL_THREADS_MAX && ms[thread].p;
}

struct m *m_self(void) {
    return has_p(model_thread()) ? &ms[model_thread()] : NULL;
}

struct p *p_self(void) {
    return has_p(model_thread()) ? ms[model_thread()].p : NULL;
}

struct g *rt_self(void) {
    struct m *m = m_self();
    return m ? m->current : NULL;
}

_Noreturn void assert_failed(const char *file, int line, const char *condition) {
    model_fail(file, line, condition);
}

static void queue(struct g *g) {
    unsigned i = (unsigned)(g - gs);
    MODEL_CHECK(!queued[i]); /* in one queue, once */
    MODEL_CHECK(!timer_is_armed(&g->deadline));
    queued_by[i] = model_thread();
    model_wake(&queued[i]);
    model_wake(&rung[i]);
}

bool stage_take(unsigned thread) {
    bool mine = queued[thread] && queued_by[thread] == model_thread();
    if (mine)
        queued[thread] = false;
    return mine;
}

void queue_push(struct p *p, struct g *g) {
    MODEL_CHECK(p_self() == p);
    queue(g);
}

void queue_push_next(struct p *p, struct g *g) {
    queue_push(p, g);
}

void queue_push_global(struct g *g) {
    queue(g);
}

void idle_wake(struct idle_p *idle) {
    model_wake(&rung[idle->index]);
}

void stack_put(struct p *p, struct g *g) {
    (void)p;
    (void)g;
}

static void fire_deadline(struct p *p, struct g *g) {
    if (!g->pinned) {
        park_advance_deadlines(p, stage_deadline() + WHEEL_TICK_NS);
        deadlines_init(&p->deadlines, 0); /* its clock starts anew, for the next wait */
        return;
    }
    wheel_remove(&p->wheel, &g->deadline);
    g->deadline.fn(&g->deadline);
}

/* The coroutine has switched to the loop of its M, which returns when it is to run on. */
void g_switch_out(struct m *m, struct g *g) {
    unsigned i = (unsigned)(g - gs);
    m->current = NULL;
    bool parked = g->pinned || park_commit(g);
    if (m->request == M_PARK_UNLOCK)
        m->unlock(m->unlock_arg);
    else
        MODEL_CHECK(m->request == M_PARKED || m->request == M_PARK);
    while (parked && !queued[i]) {
        if (inbox_drain(m->p))
            continue;
        bool may_fire = g->pinned ? timer_is_armed(&g->deadline) : m->p->deadlines.any;
        if (may_fire && model_choose(2) == 0)
            model_wait_or_quiet(&rung[i]);
        else if (!may_fire)
            model_wait(&rung[i]);
        if (may_fire && !rung[i])
            fire_deadline(m->p, g);
        rung[i] = false;
    }
    if (parked)
        model_wait(&queued[i]);
    queued[i] = false;
    m->current = g;
}

/* ---- For stories ---- */

void stage_setup(const enum stage_role roles[MODEL_THREADS_MAX]) {
    memset(ps, 0, sizeof ps);
    memset(ms, 0, sizeof ms);
    memset(gs, 0, sizeof gs);
    memset(queued, 0, sizeof queued);
    memset(rung, 0, sizeof rung);
    memset(ended, 0, sizeof ended);
    rt_sched.p_count = MODEL_THREADS_MAX;
    for (unsigned i = 0; i < MODEL_THREADS_MAX; i++) {
        struct g *g = &gs[i];
        ps[i].index = ps[i].idle.index = i;
        rt_sched.ps[i] = &ps[i];
        wheel_init(&ps[i].wheel, 0);
        deadlines_init(&ps[i].deadlines, 0);
        g->pinned = roles[i] == STAGE_PINNED;
        g->p = g->pinned ? &ps[i] : NULL;
        timer_init(&g->deadline, park_deadline_fired);
        g->token_post.fn = park_token_arrived;
        g->resume_post.fn = park_resume_arrived;
        atomic_store_explicit(&g->state, G_ACTIVE, memory_order_relaxed);
        if (roles[i] != STAGE_FOREIGN) {
            ms[i].p = &ps[i];
            ms[i].current = g;
        }
    }
}

struct g *stage_g(unsigned thread) {
    return &gs[thread];
}

struct p *stage_p(unsigned thread) {
    return &ps[thread];
}

int64_t stage_deadline(void) {
    return 100 * WHEEL_TICK_NS;
}

void stage_end(void) {
    ended[model_thread()] = true;
}

void stage_ready(struct g *g) {
    (void)atomic_load_explicit(&g->state, memory_order_relaxed); /* a step: others may go first */
    MODEL_CHECK(!ended[g - gs]);
    rt_ready(g);
}

void stage_check_all_ended(void) {
    for (unsigned i = 0; i < MODEL_THREADS_MAX; i++) {
        MODEL_CHECK(!model_is_waiting(i));
        MODEL_CHECK(!queued[i]);
        MODEL_CHECK(!timer_is_armed(&gs[i].deadline));
    }
}
