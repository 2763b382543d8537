/* sched: what an M does with its P.
 *
 * The loop runs on the thread's own stack (g0) and switches to one coroutine at a time. Search order,
 * Go's: every GLOBAL_EVERYth time the global queue; the P's own queues (queues.c); the global queue; the
 * poller without blocking; half of another P's ring (steal.c); the poller, blocking. While all coroutines
 * are pinned there is nothing to steal and the non-blocking poll is left out: the blocking one returns at
 * once when there is something.
 *
 * A P that never runs dry still polls every POLL_EVERY switches.
 *
 * Sleeping, spinning, waking: idle.c. A P spins only inside find_elsewhere: it runs nothing before
 * idle_found.
 *
 * Threads  The M that holds the P. */
#include "rt/g_switch.h"
#include "rt/queues.h"
#include "rt/poll_ring.h"
#include "rt/rt_internal.h"

#include "base/clock.h"
#include "rt/sysmon.h"
#include "rt/trace_hooks.h"

enum {
    GLOBAL_EVERY = 61, /* Go's: prime, so that it does not fall in step with anything */
    POLL_EVERY = 64,   /* an epoll_wait without events is about 300 ns: 5 ns per switch */
    GLOBAL_BATCH_MAX = RUNQ_SLOTS / 2,
};

struct sched rt_sched = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* ---- Polling and sleeping ---- */

bool sched_sees_own_work(struct idle_p *idle) {
    struct p *p = container_of(idle, struct p, idle);
    return atomic_load(&p->inbox) || atomic_load(&rt_sched.stopping);
}

/* Events before deadlines: what has arrived is not timed out. */
static void poll_once(struct p *p, int timeout_ms) {
    p->now_fresh = false; /* the callbacks of this poll run after its sleep */
    poller_run(p, timeout_ms);
    p->now_fresh = false;
    unsigned fired = wheel_advance(&p->wheel, p_now_ns(p));
    fired += park_advance_deadlines(p, p_now_ns(p));
    if (fired > 0 && trace_is_on())
        trace_timers(p, fired);
}

/* Until the next timer; -1 when there is none. */
static int sleep_ms(struct p *p) {
    int own_ms = wheel_timeout_ms(&p->wheel, p_now_ns(p));
    int shared_ms = deadlines_timeout_ms(&p->deadlines, p_now_ns(p));
    if (own_ms < 0 || shared_ms < 0)
        return own_ms < 0 ? shared_ms : own_ms;
    return own_ms < shared_ms ? own_ms : shared_ms;
}

/* Behind what waited for the end of the round. */
static void poll_between(struct p *p) {
    if (p->round_pending)
        round_run(p, false);
    poll_once(p, 0);
}

/* The last thing before it sleeps; false when it must not. */
static bool round_is_over(struct p *p) {
    round_run(p, true);
    return !p->round_pending && queue_depth(p) == 0;
}

static void sleep_until_work(struct p *p) {
    p->now_fresh = false;
    int timeout_ms = !p->round_pending || round_is_over(p) ? sleep_ms(p) : 0;
    if (timeout_ms != 0 && !idle_fall_asleep(&p->idle)) {
        timeout_ms = 0;
        sysmon_p_awoke(p);
    }
    poll_once(p, timeout_ms);
}

static bool is_stopping(void) {
    return atomic_load_explicit(&rt_sched.stopping, memory_order_relaxed);
}

/* Nothing is ready here. NULL only when the runtime stops. */
static struct g *find_elsewhere(struct p *p) {
    struct g *g = NULL;
    while (!is_stopping()) {
        if ((g = queue_take_global(p, GLOBAL_BATCH_MAX)))
            break;
        if (idle_shared()) {
            poll_between(p);
            if ((g = queue_take(p)))
                break;
            if (idle_may_spin(&p->idle) && (g = steal(p)))
                break;
        }
        sleep_until_work(p);
        p->tick++;
        if (!inbox_is_empty(p))
            inbox_drain(p);
        if ((g = queue_take(p)))
            break;
    }
    idle_found(&p->idle);
    return g;
}

/* The turn of the global queue. With priorities at work what it gives queues up, so that their bounds
 * hold. */
static struct g *take_global_turn(struct p *p) {
    struct g *g = queue_take_global(p, 1);
    if (g && p->mixed) {
        queue_push(p, g);
        return NULL;
    }
    return g;
}

/* NULL only when the runtime stops. */
static struct g *find_runnable(struct p *p) {
    struct g *g;
    uint32_t tick = ++p->tick;
    if (tick % POLL_EVERY == 0)
        poll_between(p);
    else if (p->round_pending)
        round_run_old(p);
    if (!inbox_is_empty(p))
        inbox_drain(p);
    if (is_stopping())
        return NULL;
    if ((tick % GLOBAL_EVERY != 0 || !(g = take_global_turn(p))) && !(g = queue_take(p)))
        g = find_elsewhere(p);
    if (p->unannounced)
        queue_announce(p);
    return g;
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
            m->current = NULL; /* before: from the commit on g may run elsewhere, and is not ours */
            if (park_commit(g))
                return true;
            m->current = g;
            continue;
        case M_PARK_UNLOCK:
            m->current = NULL; /* unlock is a callback of ours */
            if (unlock_parked(m, g))
                return true;
            m->current = g;
            continue;
        case M_YIELD:
            m->current = NULL;
            queue_push(p, g);
            return true;
        case M_YIELD_POLL:
            m->current = NULL;
            poll_between(p); /* before the push: who is woken goes first */
            queue_push(p, g);
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
    if (m->p->ring)
        poll_ring_flush(m->p); /* the M before is in a call, and may stay there */
    if (m->p->round_pending)
        round_run(m->p, false); /* likewise */
    while ((g = find_runnable(m->p)))
        if (!run(m, g))
            return;
    if (m->p->ring)
        poll_ring_flush(m->p); /* what was sent before the end leaves */
    m->p = NULL;
}
