/* park: no wake-up is lost, none is doubled, and what the waker wrote comes along.
 *
 * park.c and inbox.c as they are; the scheduler around them is a few lines. Thread 0 is the M of P 0 and
 * runs the one coroutine: when that parks, thread 0 is the loop of the P, which takes in messages and
 * fires the deadline, until the coroutine is in a queue. The other threads wake it: from no P, as
 * foreign code does, or as the M of P 1. */
#include <errno.h>
#include <string.h>

#include "explorer.h"
#include "rt/rt_internal.h"

enum { WAKERS = 2 };

static struct p ps[2];
static struct m ms[MODEL_THREADS_MAX];
static struct g coroutine;
static bool queued;     /* the coroutine is in a run queue */
static bool inbox_rang; /* somebody put something into an inbox that was empty */
static bool may_wait;   /* the end with a parked coroutine is right: nobody owed it a wake-up */
static struct model_cell letters[WAKERS];
static _Atomic uint32_t sent[WAKERS];
static int64_t deadline_ns;
static unsigned wakers;

struct sched rt_sched;
struct log_component log_rt;

/* ---- The runtime around park.c ---- */

struct m *m_self(void) {
    unsigned thread = model_thread();
    return thread < MODEL_THREADS_MAX && ms[thread].p ? &ms[thread] : NULL;
}

struct p *p_self(void) {
    struct m *m = m_self();
    return m ? m->p : NULL;
}

struct g *rt_self(void) {
    struct m *m = m_self();
    return m ? m->current : NULL;
}

_Noreturn void assert_failed(const char *file, int line, const char *condition) {
    model_fail(file, line, condition);
}

static void queue(struct g *g) {
    MODEL_CHECK(g == &coroutine);
    MODEL_CHECK(!queued); /* in one queue, once */
    MODEL_CHECK(!timer_is_armed(&g->deadline));
    model_wake(&queued);
    model_wake(&inbox_rang); /* thread 0 waits for either */
}

void sched_push(struct p *p, struct g *g) {
    MODEL_CHECK(p_self() == p);
    queue(g);
}

void sched_push_next(struct p *p, struct g *g) {
    sched_push(p, g);
}

void sched_push_global(struct g *g) {
    queue(g);
}

void sched_wake(struct p *p) {
    if (p == &ps[0])
        model_wake(&inbox_rang);
}

void stack_put(struct p *p, struct g *g) {
    (void)p;
    (void)g;
}

/* The coroutine has switched to the loop of its M, which comes back when it is to run on. */
void g_switch_out(struct m *m, struct g *g) {
    MODEL_CHECK(m->request == M_PARKED || m->request == M_PARK);
    if (m->request == M_PARK && !park_commit(g))
        return;
    m->current = NULL;
    for (;;) {
        inbox_drain(m->p);
        if (queued)
            break;
        if (timer_is_armed(&g->deadline) && model_choose(2)) {
            wheel_remove(&m->p->wheel, &g->deadline);
            g->deadline.fn(&g->deadline);
            continue;
        }
        model_wait(&inbox_rang);
        inbox_rang = false;
    }
    model_wait(&queued);
    queued = false;
    m->current = g;
}

/* ---- The stories ---- */

static void setup_common(bool pinned) {
    memset(ps, 0, sizeof ps);
    memset(ms, 0, sizeof ms);
    memset(&coroutine, 0, sizeof coroutine);
    memset(letters, 0, sizeof letters);
    for (unsigned i = 0; i < WAKERS; i++)
        atomic_store_explicit(&sent[i], 0, memory_order_relaxed);
    queued = inbox_rang = may_wait = false;
    deadline_ns = RT_FOREVER;
    wakers = WAKERS;
    for (unsigned i = 0; i < 2; i++) {
        ps[i].index = i;
        wheel_init(&ps[i].wheel, 0);
    }
    coroutine.pinned = pinned;
    coroutine.p = pinned ? &ps[0] : NULL;
    list_init(&coroutine.deadline.node);
    coroutine.deadline.fn = park_deadline_fired;
    coroutine.token_post.fn = park_token_arrived;
    coroutine.resume_post.fn = park_resume_arrived;
    atomic_store_explicit(&coroutine.state, G_ACTIVE, memory_order_relaxed);
    ms[0].p = &ps[0];
    ms[0].current = &coroutine;
}

static void setup_pinned(void) {
    setup_common(true);
}

static void setup_stealable(void) {
    setup_common(false);
}

static void setup_from_a_p(void) {
    setup_common(false);
    ms[1].p = &ps[1];
}

static void setup_deadline(void) {
    setup_common(false);
    ms[1].p = &ps[1];
    deadline_ns = 100 * WHEEL_TICK_NS;
}

static void setup_deadline_no_p(void) {
    setup_deadline();
    ms[1].p = NULL;
}

static void setup_pinned_deadline(void) {
    setup_common(true);
    deadline_ns = 100 * WHEEL_TICK_NS;
}

/* Waits for every waker's letter, as all users of park do: on a condition of its own. The loads are
 * relaxed on purpose: only the token brings what was written before it was given. */
static void waits_for_letters(void) {
    for (unsigned i = 0; i < wakers; i++) {
        while (!atomic_load_explicit(&sent[i], memory_order_relaxed)) {
            int err = rt_park("letter", deadline_ns);
            if (err == -ETIMEDOUT)
                deadline_ns = RT_FOREVER; /* once; from then on only a wake-up helps */
            else
                MODEL_CHECK(err == 0);
        }
    }
    may_wait = true;
}

/* Reads the letters without any help of the flags: park and ready alone order it. */
static void waits_for_one_token(void) {
    wakers = 1;
    int err = rt_park("token", RT_FOREVER);
    MODEL_CHECK(err == 0);
    MODEL_CHECK(model_cell_read(&letters[0]) == 7);
    may_wait = true;
}

static void wake_by(unsigned i) {
    model_cell_write(&letters[i], 7);
    atomic_store_explicit(&sent[i], 1, memory_order_relaxed);
    rt_ready(&coroutine);
}

static void first_waker(void) {
    wake_by(0);
}

static void second_waker(void) {
    wake_by(1);
}

/* Two wake-ups in a row, the second perhaps before the first has arrived. */
static void eager_waker(void) {
    wake_by(0);
    wake_by(1);
}

static void nobody_waits(void) {
    MODEL_CHECK(may_wait);
    MODEL_CHECK(!model_is_waiting(0));
    MODEL_CHECK(!queued);
}

int main(void) {
    enum wakers { ONE_TOKEN, ONE_TWICE, TWO };
    static const struct {
        const char *name;
        void (*setup)(void);
        enum wakers wakers;
    } rows[] = {
        {"pinned, a token from a thread brings its data", setup_pinned, ONE_TOKEN},
        {"pinned, two threads wake it", setup_pinned, TWO},
        {"pinned, one thread wakes it twice", setup_pinned, ONE_TWICE},
        {"pinned, with a deadline, woken twice", setup_pinned_deadline, ONE_TWICE},
        {"stealable, a token from a thread brings its data", setup_stealable, ONE_TOKEN},
        {"stealable, two threads wake it", setup_stealable, TWO},
        {"stealable, one thread wakes it twice", setup_stealable, ONE_TWICE},
        {"stealable, a token from another P brings its data", setup_from_a_p, ONE_TOKEN},
        {"stealable, another P and a thread wake it", setup_from_a_p, TWO},
        {"stealable, with a deadline on its first P's wheel", setup_deadline, ONE_TWICE},
        {"stealable, with a deadline, woken from no P", setup_deadline_no_p, ONE_TWICE},
    };
    for (unsigned i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct model_story story = {.name = rows[i].name,
                                    .setup = rows[i].setup,
                                    .thread_count = 3,
                                    .threads = {waits_for_letters, first_waker, second_waker},
                                    .check = nobody_waits,
                                    .preemptions = 3,
                                    .stale_reads = 2};
        if (rows[i].wakers != TWO)
            story.thread_count = 2;
        if (rows[i].wakers == ONE_TOKEN)
            story.threads[0] = waits_for_one_token;
        if (rows[i].wakers == ONE_TWICE)
            story.threads[1] = eager_waker;
        model_explore(&story);
    }
    return 0;
}
