/* sysmon: a thread without a P that takes Ps from Ms stuck in foreign code.
 *
 * It looks at all Ps once per tick of 1 ms, but only while some M is in foreign code or was during
 * the last IDLE_TICKS; otherwise it sleeps. (A tick of 20 us, Go's shortest, costs a quarter of a core
 * here.) A P whose M is in the same foreign call at two successive ticks is given to a spare M, so a
 * call costs its P between 1 and 2 ms at most.
 *
 * Going to sleep  Sysmon stores asleep = 1, then looks at every P.owner; an M stores P.owner, then
 *                 loads asleep. All four are seq_cst: one of the two sees the other, so no M can be
 *                 in foreign code while sysmon sleeps unless it has seen asleep and woken it.
 * Same call       The number of foreign calls of the P, not only its owner: an M that comes and goes
 *                 many times per tick is not stuck. The counter is relaxed: a mistake would retake a
 *                 P early, which is slower and nothing else.
 * Order           The CAS on owner acquires the M's store on entry, m_hand_p releases to the spare.
 *                 The spare is had before the CAS: with none the P must stay where it is.
 *
 * While it ticks it also counts Ps that ran one coroutine for LONG_RUN_TICKS without coming back to
 * the scheduler. */
#include <errno.h>

#include "base/clock.h"
#include "rt/futex.h"
#include "rt/rt_internal.h"

enum {
    IDLE_TICKS = 10,
    LONG_RUN_TICKS = 10, /* 10 ms: Go's time slice */
};

_Atomic uint32_t sysmon_asleep; /* also the futex word */
static _Atomic bool must_stop;
static _Atomic uint32_t has_stopped;

struct seen {
    uintptr_t owner;
    uint64_t foreign_calls, switches;
    unsigned stuck_ticks;
};
static struct seen seen[RT_P_MAX];

static void retake(struct p *p, uintptr_t owner) {
    struct m *m = m_get_spare();
    if (!m)
        return;
    if (!atomic_compare_exchange_strong_explicit(&p->owner, &owner, 0, memory_order_acq_rel,
                                                 memory_order_relaxed)) {
        m_put_spare(m); /* it has come back meanwhile */
        return;
    }
    counter_add(&p->retakes, 1);
    m_hand_p(m, p);
}

static bool look_at(struct p *p, struct seen *last) {
    uintptr_t owner = atomic_load_explicit(&p->owner, memory_order_acquire);
    uint64_t calls = atomic_load_explicit(&p->foreign_calls, memory_order_relaxed);
    uint64_t switches = atomic_load_explicit(&p->switches, memory_order_relaxed);
    bool foreign = owner & P_OWNER_FOREIGN;
    bool active = foreign || calls != last->foreign_calls;

    if (foreign && owner == last->owner && calls == last->foreign_calls)
        retake(p, owner);
    if (foreign || switches != last->switches || calls != last->foreign_calls ||
        atomic_load_explicit(&p->sleeping, memory_order_relaxed))
        last->stuck_ticks = 0;
    else if (++last->stuck_ticks == LONG_RUN_TICKS)
        counter_add(&p->long_runs, 1);

    last->owner = owner;
    last->foreign_calls = calls;
    last->switches = switches;
    return active;
}

static bool any_foreign(void) {
    for (unsigned i = 0; i < rt_sched.p_count; i++)
        if (atomic_load(&rt_sched.ps[i]->owner) & P_OWNER_FOREIGN)
            return true;
    return false;
}

static void sleep_until_foreign(void) {
    atomic_store(&sysmon_asleep, 1);
    if (any_foreign() || atomic_load(&must_stop)) {
        atomic_store(&sysmon_asleep, 0);
        return;
    }
    while (atomic_load(&sysmon_asleep))
        futex_wait(&sysmon_asleep, 1, NULL);
}

static void *sysmon_main(void *arg) {
    (void)arg;
    pthread_setname_np(pthread_self(), "sluice:sysmon");
    unsigned idle_ticks = 0;
    while (!atomic_load(&must_stop)) {
        struct timespec tick = {.tv_nsec = NS_PER_MS};
        clock_nanosleep(CLOCK_MONOTONIC, 0, &tick, NULL);
        bool active = false;
        for (unsigned i = 0; i < rt_sched.p_count; i++)
            active |= look_at(rt_sched.ps[i], &seen[i]);
        idle_ticks = active ? 0 : idle_ticks + 1;
        if (idle_ticks > IDLE_TICKS) {
            sleep_until_foreign();
            idle_ticks = 0;
        }
    }
    atomic_store_explicit(&has_stopped, 1, memory_order_release);
    futex_wake(&has_stopped, 1);
    return NULL;
}

void sysmon_wake(void) {
    if (atomic_exchange(&sysmon_asleep, 0))
        futex_wake(&sysmon_asleep, 1);
}

int sysmon_start(void) {
    pthread_attr_t attr;
    pthread_attr_init(&attr);
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    pthread_t thread;
    int err = pthread_create(&thread, &attr, sysmon_main, NULL);
    pthread_attr_destroy(&attr);
    return -err;
}

void sysmon_stop(void) {
    atomic_store(&must_stop, true);
    sysmon_wake();
    while (!atomic_load_explicit(&has_stopped, memory_order_acquire))
        futex_wait(&has_stopped, 0, NULL);
}
