/* mutex: Go's, on our queue of waiters.
 *
 * Whoever finds it unlocked takes it, also past those who wait: they are parked, and the lock would lie
 * idle until one of them is awake again, which takes longer than most critical sections. An unlock
 * wakes the first that waits, which then competes like any newcomer, and goes back to the head of the
 * queue when it loses. One that has lost after MUTEX_STARVING_NS sets STARVING: from then on unlocks
 * hand over, in the order of the queue, until somebody is served who waited less than that, or nobody
 * waits. So no wait is longer than about that time and the turns of those who were there before.
 *
 *      LOCKED ---unlock---> LOCKED off, WOKEN on, first is awake ---it wins---> LOCKED, WOKEN off
 *        |                                     |
 *        |                                     +---a newcomer was faster---> first again, WOKEN off,
 *        |                                                                   STARVING if it is time
 *        +---unlock, STARVING---> LOCKED, the first has it
 *
 *   X1  LOCKED is clear only while the queue is empty or somebody awake competes (WOKEN). So no wake-up
 *       is lost: WOKEN goes together with taking the lock, or together with queueing behind a holder,
 *       whose unlock then finds QUEUED without WOKEN.
 *   X2  QUEUED says that the queue is not empty. It and STARVING change with the spin-lock held, but for
 *       the end of STARVING, which the new holder sets. STARVING implies LOCKED and QUEUED, and excludes
 *       WOKEN: the only one who may set STARVING gives up WOKEN for it.
 *   X3  At most one competitor has WOKEN: the one that an unlock has woken, or a spinning one that put
 *       itself into that role so that unlocks do not wake another for nothing.
 *   X4  The unlock's last touch is what clears LOCKED, or what comes before it wakes the one it handed
 *       over to. The next holder may free the mutex.
 *
 * Spinning  A parked waiter costs two switches and perhaps a futex, a critical section of another P
 *       much less: so a little while is spent looking, when somebody runs on another P who may have it,
 *       and nobody is ready here, who may have it and would make better use of the P.
 *
 * Order  Taking LOCKED acquires what clearing it released; a hand-over is ordered by waiters.c.
 * Rejected  A count of waiters in the state, as in Go: there it lets unlock and the queue, a semaphore
 *       elsewhere, meet without a lock. Our queue has one anyway. */
#include "rt/mutex.h"

#include <stddef.h>

#include "base/clock.h"
#include "rt/queues.h"
#include "rt/rt_internal.h"

enum {
    SPIN_TRIES = 4,  /* Go's */
    TRY_PAUSES = 30, /* Go's: with the tries about a microsecond */
};

struct contender {
    struct waiter waiter;
    bool handed_over; /* by an unlock: it has the lock */
    bool is_woken;    /* it has MUTEX_WOKEN */
    unsigned spins;
    int64_t since_ns; /* it first queued; 0: it has not yet */
};

static uint32_t state_of(struct mutex *mutex) {
    return atomic_load_explicit(&mutex->state, memory_order_relaxed);
}

static bool change_state(struct mutex *mutex, uint32_t *from, uint32_t to) {
    return atomic_compare_exchange_weak_explicit(&mutex->state, from, to, memory_order_acq_rel,
                                                 memory_order_relaxed);
}

static bool spinning_may_help(void) {
    struct p *self = p_self();
    if (rt_sched.p_count == 1 || queue_depth(self) > 0)
        return false;
    for (unsigned i = 0; i < rt_sched.p_count; i++)
        if (rt_sched.ps[i] != self &&
            !atomic_load_explicit(&rt_sched.ps[i]->idle.sleeping, memory_order_relaxed))
            return true;
    return false;
}

/* Takes the lock, or sees to it that it is held by another and returns false. */
static bool compete(struct mutex *mutex, struct contender *self) {
    uint32_t mine = self->is_woken ? MUTEX_WOKEN : 0;
    uint32_t state = state_of(mutex);
    while (!(state & MUTEX_LOCKED))
        if (change_state(mutex, &state, (state & ~mine) | MUTEX_LOCKED))
            return true;
    return false;
}

/* A while of looking; true when it is worth another compete. */
static bool spin(struct mutex *mutex, struct contender *self) {
    uint32_t state = state_of(mutex);
    if (self->spins == SPIN_TRIES || (state & MUTEX_STARVING) || !spinning_may_help())
        return false;
    if (!self->is_woken && (state & (MUTEX_QUEUED | MUTEX_WOKEN)) == MUTEX_QUEUED)
        self->is_woken = change_state(mutex, &state, state | MUTEX_WOKEN); /* X3 */
    for (unsigned i = 0; i < TRY_PAUSES && (state_of(mutex) & MUTEX_LOCKED); i++)
        spin_pause();
    self->spins++;
    return true;
}

/* Queues up behind a holder; false when there is none any more. */
static bool queue_up(struct mutex *mutex, struct contender *self) {
    int64_t now_ns = clock_mono_ns();
    bool is_first_time = self->since_ns == 0;
    if (is_first_time)
        self->since_ns = now_ns;
    uint32_t add = MUTEX_QUEUED;
    if (self->is_woken && now_ns - self->since_ns >= MUTEX_STARVING_NS)
        add |= MUTEX_STARVING;
    uint32_t mine = self->is_woken ? MUTEX_WOKEN : 0;
    spin_lock(&mutex->lock);
    uint32_t state = state_of(mutex);
    do {
        if (!(state & MUTEX_LOCKED)) {
            spin_unlock(&mutex->lock);
            return false;
        }
    } while (!change_state(mutex, &state, (state & ~mine) | add)); /* X1 */
    if (is_first_time)
        waiters_push_back(&mutex->waiters, &self->waiter);
    else
        waiters_push_front(&mutex->waiters, &self->waiter);
    spin_unlock(&mutex->lock);
    self->is_woken = false;
    return true;
}

static void forget_queue_locked(struct mutex *mutex) {
    if (waiters_is_empty(&mutex->waiters))
        atomic_fetch_and_explicit(&mutex->state, ~(uint32_t)(MUTEX_QUEUED | MUTEX_STARVING),
                                  memory_order_relaxed);
}

/* X2. Served by a hand-over: who waited so short a time is not what starving is about. */
static void end_starving(struct mutex *mutex, struct contender *self) {
    if (clock_mono_ns() - self->since_ns < MUTEX_STARVING_NS)
        atomic_fetch_and_explicit(&mutex->state, ~(uint32_t)MUTEX_STARVING, memory_order_relaxed);
}

static int lock(struct mutex *mutex, bool shielded, int64_t deadline_ns) {
    struct contender self = {0};
    for (;;) {
        if (compete(mutex, &self))
            return 0;
        if (spin(mutex, &self) || !queue_up(mutex, &self))
            continue;
        int err = 0;
        if (shielded)
            waiter_wait_shielded(&self.waiter, "mutex");
        else
            err = waiter_wait(&mutex->waiters, &self.waiter, &mutex->lock, "mutex", deadline_ns);
        if (err < 0) {
            forget_queue_locked(mutex);
            spin_unlock(&mutex->lock);
            return err;
        }
        if (self.handed_over) {
            end_starving(mutex, &self);
            return 0;
        }
        self.is_woken = true;
        self.spins = 0;
    }
}

int mutex_lock_slowly(struct mutex *mutex, int64_t deadline_ns) {
    return lock(mutex, false, deadline_ns);
}

void mutex_lock_shielded(struct mutex *mutex) {
    if (!mutex_try_lock(mutex))
        (void)!lock(mutex, true, RT_FOREVER);
}

/* With the mutex and the spin-lock held: the one to wake, off the queue, and handed the mutex when
 * somebody starves; NULL when there is nobody to wake. */
static struct contender *claim_locked(struct mutex *mutex) {
    uint32_t state = state_of(mutex);
    do {
        if ((state & (MUTEX_QUEUED | MUTEX_WOKEN)) != MUTEX_QUEUED)
            return NULL;
    } while (!(state & MUTEX_STARVING) && !change_state(mutex, &state, state | MUTEX_WOKEN));
    struct waiter *waiter = waiters_claim_locked(&mutex->waiters);
    ASSERT(waiter); /* X2 */
    struct contender *first = container_of(waiter, struct contender, waiter);
    first->handed_over = state & MUTEX_STARVING;
    forget_queue_locked(mutex);
    return first;
}

void mutex_unlock_slowly(struct mutex *mutex) {
    uint32_t state = state_of(mutex);
    ASSERT(state & MUTEX_LOCKED);
    for (;;) {
        if ((state & (MUTEX_QUEUED | MUTEX_WOKEN)) != MUTEX_QUEUED) {
            if (change_state(mutex, &state, state & ~(uint32_t)MUTEX_LOCKED))
                return;
            continue;
        }
        spin_lock(&mutex->lock);
        struct contender *first = claim_locked(mutex);
        spin_unlock(&mutex->lock);
        if (first) {
            if (!first->handed_over) /* X4: it cannot have left yet, whoever has the mutex then */
                atomic_fetch_and_explicit(&mutex->state, ~(uint32_t)MUTEX_LOCKED,
                                          memory_order_release);
            waiter_wake(&first->waiter);
            return;
        }
        state = state_of(mutex);
    }
}
