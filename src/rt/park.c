/* park: how a coroutine waits and how it is woken.
 *
 * A G has at most one token (the state NOTIFIED). rt_ready gives it, rt_park consumes it or waits.
 *
 *            park                       ready / deadline
 *    ACTIVE -------> PARKED     PARKED -----------------> ACTIVE, into a run queue
 *    NOTIFIED -----> ACTIVE     ACTIVE --ready only-----> NOTIFIED
 *
 * Pinned Gs, nearly all of them, are woken by their own P only: its state is then plain data of the
 * P (stored as relaxed atomics for dumps), and a park and a wake-up cost no locked instruction. An
 * rt_ready from elsewhere sends the G's token_post to the P's inbox instead.
 *   K1  token_posted is 1 from before token_post is pushed until it was taken out, so a node is never
 *       pushed twice.
 *   K2  Both sides change token_posted by exchange. A sender that finds 1 relies on the P's later
 *       exchange, which acquires the sender's (they are in one release sequence), so the coroutine
 *       sees what the sender wrote before; one that finds 0 pushes again. No wake-up is lost.
 *   K3  PARKED may be set before the switch to g0: whoever could see it is this M, later.
 *   K4  A caller of rt_ready knows that G has not ended, so when G ends no sender is between its
 *       exchange and its push; a token_post still in the inbox is recognised by token_posted and the
 *       struct g is freed when it arrives (g_free).
 *
 * Gs that are not pinned are woken from anywhere: the state changes by compare-and-swap, and whoever
 * moves it from PARKED to ACTIVE queues the G, alone.
 *   K5  PARKED is set on g0, after the switch (park_commit): another P may run G that very moment.
 *       The CAS releases all of G's state, the waker's acquires it.
 *   K6  A deadline is armed in the deadlines of the P it parks on, under their lock. Whoever wins the
 *       CAS from PARKED takes the timer out, from any thread, before it queues the G: no G in a run
 *       queue has its deadline armed. The deadline makes its own CAS under that lock, too. So when the
 *       winner has had the lock, nobody holds on to the timer of a wait that is over, and the G may
 *       park with it anew, on another P.
 *   K7  Who finds a token there already still writes the state (NOTIFIED over NOTIFIED): the coroutine
 *       that takes the token then acquires this waker's writes as well as the first one's. By a mere
 *       look it could take the first one's token, miss what the second one had written before, and
 *       park for ever. (On x86 a failed compare-and-swap hides that; on aarch64 nothing does.)
 *
 *   K8  A dump reads the stack of one that is parked: it moves PARKED_ANY to SCANNING and back, by the
 *       same rules as a waker (acquire, release). Whoever wants to wake it meanwhile waits for that
 *       moment, some hundred instructions. To wait and not to leave a mark for the dump keeps all
 *       knowledge of queues and deadlines with the waker. Pinned Gs have another state for parked, so
 *       a dump with an old idea of a G cannot take one away from its P. In blocking_call, where the
 *       state says nothing, away does the same.
 *
 * resume_post is used at the start of a G, and on the way back from foreign_call and blocking_call.
 * These exclude each other: each is sent for a G that is in no queue. */
#include "rt/g_switch.h"
#include "rt/queues.h"
#include "rt/rt_internal.h"

#include <errno.h>

#include "rt/spin.h"
#include "rt/trace_hooks.h"

static uint32_t state_of(struct g *g) {
    return atomic_load_explicit(&g->state, memory_order_relaxed);
}

static void set_state(struct g *g, enum g_state state) {
    atomic_store_explicit(&g->state, state, memory_order_relaxed);
}

static bool change_state(struct g *g, enum g_state from, enum g_state to) {
    uint32_t expected = from;
    return atomic_compare_exchange_strong_explicit(&g->state, &expected, to, memory_order_acq_rel,
                                                   memory_order_acquire);
}

static bool is_cancelled(struct g *g) {
    return atomic_load_explicit(&g->cancelled, memory_order_relaxed) != 0;
}

static bool take_token(struct g *g) {
    if (!g->pinned)
        return change_state(g, G_NOTIFIED, G_ACTIVE);
    if (state_of(g) != G_NOTIFIED)
        return false;
    set_state(g, G_ACTIVE);
    return true;
}

/* True when the call is over without a wait; *err is what it returns. */
static bool ends_early(struct p *p, struct g *g, int64_t deadline_ns, int *err) {
    *err = 0;
    if (is_cancelled(g)) {
        *err = -ECANCELED;
        return true;
    }
    if (take_token(g))
        return true;
    if (deadline_ns != RT_FOREVER && deadline_ns <= p->now_ns) {
        *err = -ETIMEDOUT;
        return true;
    }
    return false;
}

static int wait_for_token(struct m *m, struct g *g, enum m_request request, const char *reason,
                          int64_t deadline_ns) {
    if (deadline_ns != RT_FOREVER) {
        g->timed_out = false;
        g->deadline.deadline_ns = deadline_ns;
        if (g->pinned) {
            wheel_add(&m->p->wheel, &g->deadline);
        } else {
            deadlines_add(&m->p->deadlines, &g->deadline);
            g->deadline_p = m->p;
        }
    }
    atomic_store_explicit(&g->reason, reason, memory_order_relaxed);
    atomic_store_explicit(&g->waits_since_ns, m->p->now_ns, memory_order_relaxed);
    if (g->pinned)
        set_state(g, G_PARKED); /* K3 */
    m->request = request;
    g_switch_out(m, g);
    if (is_cancelled(g))
        return -ECANCELED;
    if (deadline_ns != RT_FOREVER && g->timed_out) {
        g->timed_out = false;
        return -ETIMEDOUT;
    }
    return 0;
}

FLATTEN int rt_park(const char *reason, int64_t deadline_ns) {
    struct m *m = m_self();
    ASSERT(m && m->p && m->current); /* a scheduler callback or foreign code cannot park */
    struct g *g = m->current;
    int err;
    if (ends_early(m->p, g, deadline_ns, &err))
        return err;
    return wait_for_token(m, g, g->pinned ? M_PARKED : M_PARK, reason, deadline_ns);
}

FLATTEN int rt_park_unlock(rt_fn unlock, void *arg, const char *reason, int64_t deadline_ns) {
    struct m *m = m_self();
    ASSERT(m && m->p && m->current);
    struct g *g = m->current;
    int err;
    if (ends_early(m->p, g, deadline_ns, &err)) {
        unlock(arg);
        return err;
    }
    m->unlock = unlock;
    m->unlock_arg = arg;
    return wait_for_token(m, g, M_PARK_UNLOCK, reason, deadline_ns);
}

/* K8: one more turn of a wait for a dump, whose thread may have lost its core. */
static void scan_pause(unsigned turn) {
    spin_pause();
    if (turn % SPIN_TURNS == 0)
        (void)sched_yield();
}

enum { AWAY_NOT, AWAY_SUSPENDED, AWAY_SCANNED };

static bool change_away(struct g *g, uint32_t from, uint32_t to) {
    return atomic_compare_exchange_strong_explicit(&g->away, &from, to, memory_order_acq_rel,
                                                   memory_order_relaxed);
}

enum g_scan park_scan_begin(struct g *g) {
    if (change_state(g, G_PARKED_ANY, G_SCANNING))
        return G_SCAN_PARKED;
    return change_away(g, AWAY_SUSPENDED, AWAY_SCANNED) ? G_SCAN_AWAY : G_SCAN_NOT;
}

void park_scan_end(struct g *g, enum g_scan scan) {
    if (scan == G_SCAN_PARKED)
        atomic_store_explicit(&g->state, G_PARKED_ANY, memory_order_release);
    else
        atomic_store_explicit(&g->away, AWAY_SUSPENDED, memory_order_release);
}

void park_away(struct g *g) {
    atomic_store_explicit(&g->away, AWAY_SUSPENDED, memory_order_release);
}

void park_back(struct g *g) {
    for (unsigned turn = 1; !change_away(g, AWAY_SUSPENDED, AWAY_NOT); turn++)
        scan_pause(turn);
}

static void disarm_pinned(struct p *p, struct g *g) {
    if (timer_is_armed(&g->deadline))
        wheel_remove(&p->wheel, &g->deadline);
}

/* K6. By whoever has moved g from PARKED to ACTIVE. */
static void disarm_stealable(struct g *g) {
    if (!g->deadline_p)
        return;
    deadlines_remove(&g->deadline_p->deadlines, &g->deadline);
    g->deadline_p = NULL;
}

bool park_commit(struct g *g) {
    if (change_state(g, G_ACTIVE, G_PARKED_ANY)) /* K5; from here on g is not ours */
        return true;
    ASSERT(change_state(g, G_NOTIFIED, G_ACTIVE));
    disarm_stealable(g);
    return false;
}

/* On the G's own P. A coroutine that wakes another is often about to wait for it, so the woken one
 * goes next (queues.h); what a scheduler callback wakes queues up, in order. */
static void ready_pinned(struct p *p, struct g *g, bool next) {
    switch (state_of(g)) {
    case G_PARKED:
        if (trace_is_on())
            trace_readies(g);
        set_state(g, G_ACTIVE);
        disarm_pinned(p, g);
        if (next)
            queue_push_next(p, g);
        else
            queue_push(p, g);
        break;
    case G_ACTIVE:
        if (trace_is_on())
            trace_token_unused(g);
        set_state(g, G_NOTIFIED);
        break;
    default:
        break;
    }
}

static void ready_stealable(struct m *m, struct g *g) {
    for (unsigned turn = 1;; turn++) {
        if (change_state(g, G_PARKED_ANY, G_ACTIVE)) {
            if (trace_is_on())
                trace_readies(g);
            disarm_stealable(g);
            if (!m || !m->p)
                queue_push_global(g);
            else if (m->current)
                queue_push_next(m->p, g);
            else
                queue_push(m->p, g);
            return;
        }
        if (change_state(g, G_ACTIVE, G_NOTIFIED))
            return;
        if (change_state(g, G_NOTIFIED, G_NOTIFIED)) /* K7 */
            return;
        uint32_t state = state_of(g);
        if (state == G_FREE)
            return; /* against the promise: harmless, a loop would not be */
        if (state == G_SCANNING)
            scan_pause(turn);
    }
}

void rt_ready(struct g *g) {
    struct m *m = m_self();
    if (!g->pinned)
        ready_stealable(m, g);
    else if (m && m->p == g->p)
        ready_pinned(g->p, g, m->current != NULL);
    else if (!atomic_exchange_explicit(&g->token_posted, 1, memory_order_acq_rel)) { /* K1, K2 */
        if (trace_is_on())
            trace_readies(g);
        inbox_post(g->p, &g->token_post);
    }
}

void park_token_arrived(struct rt_post *post) {
    struct g *g = container_of(post, struct g, token_post);
    struct p *p = p_self();
    atomic_exchange_explicit(&g->token_posted, 0, memory_order_acq_rel); /* K2 */
    if (g->zombie) {                                                     /* K4 */
        g->zombie = false;
        stack_put(p, g);
    } else {
        ready_pinned(p, g, false);
    }
}

void park_resume_arrived(struct rt_post *post) {
    queue_push(p_self(), container_of(post, struct g, resume_post));
}

void g_resume(struct g *g) {
    if (g->pinned)
        inbox_post(g->p, &g->resume_post);
    else
        queue_push_global(g);
}

/* K8. False when somebody else woke it, who now waits for the lock to take the timer out (K6). */
static bool wake_stealable(struct g *g) {
    for (unsigned turn = 1; !change_state(g, G_PARKED_ANY, G_ACTIVE); turn++) {
        uint32_t state = state_of(g);
        if (state != G_SCANNING && state != G_PARKED_ANY)
            return false;
        scan_pause(turn);
    }
    return true;
}

/* On the P that has the timer. One of a stealable coroutine is called under the lock of its deadlines: the
 * rest is left to park_advance_deadlines. */
void park_deadline_fired(struct timer *timer) {
    struct g *g = container_of(timer, struct g, deadline);
    struct p *p = p_self();
    if (g->pinned) {
        ASSERT(state_of(g) == G_PARKED); /* every wake-up disarms */
        set_state(g, G_ACTIVE);
    } else if (!wake_stealable(g)) {
        return;
    }
    g->timed_out = true;
    g->deadline_p = NULL;
    if (trace_is_on())
        trace_readies(g);
    if (g->pinned) {
        queue_push(p, g);
        return;
    }
    g_queue_append(&p->expired, g, g);
}

unsigned park_advance_deadlines(struct p *p, int64_t now_ns) {
    unsigned fired = deadlines_advance(&p->deadlines, now_ns);
    struct g *g = p->expired.head;
    p->expired.head = p->expired.tail = NULL;
    while (g) {
        struct g *next = g->next;
        queue_push(p, g);
        g = next;
    }
    return fired;
}

void rt_cancel(struct g *g) {
    /* On g's P only, so nobody adds in between. */
    uint8_t times = atomic_load_explicit(&g->cancelled, memory_order_relaxed);
    if (times < UINT8_MAX)
        atomic_store_explicit(&g->cancelled, times + 1, memory_order_relaxed);
    if (!g->pinned || state_of(g) == G_PARKED)
        rt_ready(g);
}

bool rt_cancelled(void) {
    struct g *g = rt_self();
    return g && is_cancelled(g);
}

void rt_cancel_clear(void) {
    struct g *g = rt_self();
    ASSERT(g);
    atomic_store_explicit(&g->cancelled, 0, memory_order_relaxed);
}

void rt_cancel_undo(void) {
    struct g *g = rt_self();
    ASSERT(g);
    uint8_t times = atomic_load_explicit(&g->cancelled, memory_order_relaxed);
    ASSERT(times > 0);
    if (times < UINT8_MAX) /* else nobody knows how many it were */
        atomic_store_explicit(&g->cancelled, times - 1, memory_order_relaxed);
}

static void yield(enum m_request request) {
    struct m *m = m_self();
    ASSERT(m && m->p && m->current);
    m->request = request;
    g_switch_out(m, m->current);
}

void rt_yield(void) {
    yield(M_YIELD);
}

void rt_yield_to_events(void) {
    yield(M_YIELD_POLL);
}
