/* sched: what a P runs next, and how it goes to sleep.
 *
 * The loop of an M runs on the thread's own stack (g0) and switches to one coroutine at a time.
 * Search order, Go's: every 61st time the global queue; runnext; the P's own queues (pinned and ring
 * by turns); the global queue; the poller without blocking; half of another P's ring; the poller,
 * blocking. Where nothing can be stolen the non-blocking poll is left out: the blocking one returns
 * at once when there is something.
 *
 * A P that never runs dry still polls every POLL_EVERY switches, and a pair of coroutines that wake
 * each other through runnext yields to the queue every RUNNEXT_MAX times (Go relies on preemption
 * for that).
 *
 * No lost wake-up  A P goes to sleep so:          Whoever gives it work:
 *                    1 store sleeping = 1            1 make the work visible (inbox push, ring
 *                    2 look again for work             tail, global count, stopping)
 *                    3 epoll_wait                    2 load sleeping; if 1, CAS to 0 and write to
 *                                                      the eventfd
 *                  All four accesses are seq_cst, so they have one order: either step 2 on the left
 *                  sees the work, or step 2 on the right sees sleeping. A write between 2 and 3 makes
 *                  epoll_wait return, since the eventfd is in the set. Fences would do the same, but
 *                  ThreadSanitizer does not know fences. The CAS lets one of many givers pay for the
 *                  write.
 *
 * Threads  sched_loop and what it calls: the M that holds the P. sched_wake, sched_push_global,
 *          rt_stop: any thread. */
#include "rt/g_switch.h"
#include "rt/rt_internal.h"

#include <errno.h>
#include <unistd.h>

#include "base/clock.h"
#include "rt/sysmon.h"
#include "rt/trace_hooks.h"

enum {
    GLOBAL_EVERY = 61, /* Go's: prime, so that it does not fall in step with anything */
    POLL_EVERY = 64,   /* an epoll_wait without events is about 300 ns: 5 ns per switch */
    RUNNEXT_MAX = 16,
    GLOBAL_BATCH_MAX = RUNQ_SLOTS / 2,
};

struct sched rt_sched = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* ---- Queues ---- */

void sched_wake(struct p *p) {
    uint32_t asleep = 1;
    if (atomic_load(&p->sleeping) && atomic_compare_exchange_strong(&p->sleeping, &asleep, 0)) {
        uint64_t one = 1;
        ssize_t written = write(p->event_fd, &one, sizeof one);
        (void)
            written; /* fails only when the counter is full, and then the event is there already */
    }
}

/* There is something that any P may run. */
static void wake_a_sleeper(struct p *except) {
    for (unsigned i = 0; i < rt_sched.p_count; i++) {
        struct p *p = rt_sched.ps[i];
        if (p != except && atomic_load(&p->sleeping)) {
            sched_wake(p);
            return;
        }
    }
}

static void global_append_locked(struct g *head, struct g *tail, uint32_t count) {
    tail->next = NULL;
    if (rt_sched.global_tail)
        rt_sched.global_tail->next = head;
    else
        rt_sched.global_head = head;
    rt_sched.global_tail = tail;
    atomic_fetch_add(&rt_sched.global_count, count);
}

void sched_push_global(struct g *g) {
    pthread_mutex_lock(&rt_sched.lock);
    global_append_locked(g, g, 1);
    pthread_mutex_unlock(&rt_sched.lock);
    wake_a_sleeper(NULL);
}

/* The ring is full: g and the older half of it go to the global queue. */
static void ring_spill(struct p *p, struct g *g) {
    struct g *head = NULL, *tail = NULL;
    uint32_t count = 0;
    for (struct g *old; count < RUNQ_SLOTS / 2 && (old = runq_take(&p->runq)); count++) {
        if (tail)
            tail->next = old;
        else
            head = old;
        tail = old;
    }
    if (tail)
        tail->next = g;
    else
        head = g;
    pthread_mutex_lock(&rt_sched.lock);
    global_append_locked(head, g, count + 1);
    pthread_mutex_unlock(&rt_sched.lock);
}

static void pinned_count_add(struct p *p, uint32_t n) {
    uint32_t count = atomic_load_explicit(&p->pinned_count, memory_order_relaxed);
    atomic_store_explicit(&p->pinned_count, count + n, memory_order_relaxed);
}

uint64_t sched_depth(struct p *p) {
    return atomic_load_explicit(&p->pinned_count, memory_order_relaxed) + runq_depth(&p->runq);
}

void sched_push(struct p *p, struct g *g) {
    if (g->pinned) {
        g->next = NULL;
        if (p->pinned_tail)
            p->pinned_tail->next = g;
        else
            p->pinned_head = g;
        p->pinned_tail = g;
        pinned_count_add(p, 1);
        return;
    }
    if (!runq_push(&p->runq, g))
        ring_spill(p, g);
    wake_a_sleeper(p);
}

void sched_push_next(struct p *p, struct g *g) {
    struct g *kicked = p->runnext;
    p->runnext = g;
    if (kicked)
        sched_push(p, kicked);
}

static struct g *take_pinned(struct p *p) {
    struct g *g = p->pinned_head;
    if (g) {
        p->pinned_head = g->next;
        if (!p->pinned_head)
            p->pinned_tail = NULL;
        pinned_count_add(p, UINT32_MAX);
    }
    return g;
}

static struct g *take_local(struct p *p) {
    struct g *g = p->runnext;
    if (g && p->runnext_streak < RUNNEXT_MAX) {
        p->runnext = NULL;
        p->runnext_streak++;
        return g;
    }
    p->runnext_streak = 0;
    bool ring_first = p->tick & 1;
    g = ring_first ? runq_take(&p->runq) : take_pinned(p);
    if (!g)
        g = ring_first ? take_pinned(p) : runq_take(&p->runq);
    if (!g) {
        g = p->runnext;
        p->runnext = NULL;
    }
    return g;
}

/* Up to max: one to run, the rest into our ring. */
static struct g *take_global(struct p *p, uint32_t max) {
    if (atomic_load_explicit(&rt_sched.global_count, memory_order_relaxed) == 0)
        return NULL;
    struct g *first = NULL;
    pthread_mutex_lock(&rt_sched.lock);
    uint32_t count = atomic_load_explicit(&rt_sched.global_count, memory_order_relaxed);
    uint32_t share = count / rt_sched.p_count + 1;
    uint32_t want = share < max ? share : max, taken = 0;
    while (taken < want && rt_sched.global_head) {
        struct g *g = rt_sched.global_head;
        struct g *next = g->next;
        if (!first)
            first = g;
        else if (!runq_push(&p->runq, g))
            break;
        rt_sched.global_head = next;
        taken++;
    }
    if (!rt_sched.global_head)
        rt_sched.global_tail = NULL;
    atomic_fetch_sub(&rt_sched.global_count, taken);
    pthread_mutex_unlock(&rt_sched.lock);
    return first;
}

static struct g *steal(struct p *p) {
    unsigned count = rt_sched.p_count;
    unsigned start = p->steal_seed = p->steal_seed * 1664525U + 1013904223U;
    for (unsigned i = 0; i < count; i++) {
        struct p *victim = rt_sched.ps[((start >> 16) + i) % count];
        if (victim == p)
            continue;
        struct g *g = runq_steal(&p->runq, &victim->runq);
        if (g) {
            counter_add(&p->steals, 1);
            if (trace_is_on())
                trace_steals(p, g, victim);
            return g;
        }
    }
    return NULL;
}

static bool others_have_work(struct p *p) {
    if (!atomic_load(&rt_sched.stealing))
        return false;
    for (unsigned i = 0; i < rt_sched.p_count; i++)
        if (rt_sched.ps[i] != p && !runq_is_empty(&rt_sched.ps[i]->runq))
            return true;
    return false;
}

/* ---- Polling and sleeping ---- */

/* Events before deadlines: what has arrived is not timed out. */
static void poll_once(struct p *p, int timeout_ms) {
    counter_add(&p->polls, 1);
    p->now_fresh = false; /* the callbacks of this poll run after its sleep */
    poller_run(p, timeout_ms);
    p->now_fresh = false;
    unsigned fired = wheel_advance(&p->wheel, p_now_ns(p));
    if (fired > 0 && trace_is_on())
        trace_timers(p, fired);
}

static void sleep_until_work(struct p *p) {
    p->now_fresh = false;
    int timeout_ms = wheel_timeout_ms(&p->wheel, p_now_ns(p));
    if (timeout_ms == 0) {
        poll_once(p, 0);
        return;
    }
    atomic_store(&p->sleeping, 1);
    if (atomic_load(&p->inbox) || atomic_load(&rt_sched.global_count) ||
        atomic_load(&rt_sched.stopping) || others_have_work(p))
        timeout_ms = 0;
    if (timeout_ms == 0) {
        atomic_store(&p->sleeping, 0);
        sysmon_p_awoke(p);
    }
    poll_once(p, timeout_ms);
}

/* NULL only when the runtime stops. */
static struct g *find_runnable(struct p *p) {
    for (;;) {
        struct g *g;
        uint32_t tick = ++p->tick;
        if (tick % POLL_EVERY == 0)
            poll_once(p, 0);
        if (!inbox_is_empty(p))
            inbox_drain(p);
        if (atomic_load_explicit(&rt_sched.stopping, memory_order_relaxed))
            return NULL;
        if (tick % GLOBAL_EVERY == 0 && (g = take_global(p, 1)))
            return g;
        if ((g = take_local(p)))
            return g;
        if ((g = take_global(p, GLOBAL_BATCH_MAX)))
            return g;
        if (others_have_work(p)) {
            poll_once(p, 0);
            if ((g = take_local(p)) || (g = steal(p)))
                return g;
        }
        sleep_until_work(p);
    }
}

/* ---- Running ---- */

/* Parked first: whoever gets the lock finds it so. False when a token came before. */
static bool unlock_parked(struct m *m, struct g *g) {
    bool parked = g->pinned || park_commit(g); /* from here on g may run elsewhere */
    m->unlock(m->unlock_arg);
    return parked;
}

/* False when the P is no longer ours. */
static bool run(struct m *m, struct g *g) {
    struct p *p = m->p;
    counter_add(&p->switches, 1);
    p->now_fresh = false;
    m->current = g;
    for (;;) {
        if (trace_is_on())
            trace_run(p, g);
        g_switch_in(m, g);
        if (trace_is_on())
            trace_stopped_running(p, m, g);
        switch (m->request) {
        case M_PARKED:
            m->current = NULL;
            return true;
        case M_PARK:
            if (!park_commit(g))
                continue;
            m->current = NULL;
            return true;
        case M_PARK_UNLOCK:
            m->current = NULL; /* unlock is a callback of ours */
            if (unlock_parked(m, g))
                return true;
            m->current = g;
            continue;
        case M_YIELD:
            m->current = NULL;
            sched_push(p, g);
            return true;
        case M_EXIT:
            m->current = NULL;
            atomic_store_explicit(&p->coroutines,
                                  atomic_load_explicit(&p->coroutines, memory_order_relaxed) - 1,
                                  memory_order_relaxed);
            g_free(p, g);
            return true;
        case M_RETAKEN:
            foreign_retaken(m, g);
            return false;
        case M_BLOCKING:
            m->current = NULL;
            blocking_submit(m->job);
            return true;
        }
    }
}

void sched_loop(struct m *m) {
    struct g *g;
    while ((g = find_runnable(m->p)))
        if (!run(m, g))
            return;
    m->p = NULL;
}
