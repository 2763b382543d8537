/* sysmon: a thread without a P that takes Ps from Ms stuck in foreign code, and looks for coroutines
 * that hold up a P (stall.c).
 *
 *            foreign code, quick call              a P awakes
 *          +--------------------------+      +------------------+
 *          v                          |      v                  |
 *        FINE ------------------> COARSE ------------------> ASLEEP
 *        1 ms   nothing of it in    10 ms   no P awake for     no wake-up
 *               FINE_TICKS                  IDLE_NS            at all
 *
 * A P whose M is in the same foreign call at two successive fine ticks is given to a spare M, so a
 * call costs its P between 1 and 2 ms at most. Calls that block often come together, and each would
 * cost the P's other coroutines that time: after a tick that has retaken a P the next BURST_TICKS come
 * in burst_tick_ns. (A tick of 20 us, Go's shortest, costs a quarter of a core here.) Coarse ticks are
 * enough to notice coroutines that run too long.
 *
 * Being woken  The left arrow above is drawn by the M that enters foreign code, the right one by the
 *          P whose blocking poll is over: a running P finds sysmon awake, so the paths in between pay
 *          nothing. Each says what it does (P.owner, P.quick_site, P.sleeping), then loads
 *          sysmon_state; sysmon raises the level, then looks at all of these. One of the two must see
 *          the other, so between store and load of either side belongs a full barrier. Sysmon raises
 *          its level seldom, so it pays for both: membarrier(2) runs a barrier on every core that
 *          runs a thread of ours, while theirs only keeps the compiler from moving the load. An M
 *          whose load came before that barrier has stored before it, too, and sysmon sees it; one
 *          whose load comes after it sees the level.
 * Without membarrier  (an old kernel, a seccomp filter, ThreadSanitizer, which does not know it)
 *          SYSMON_STRONG is set from the start: both paths leave for their slow halves, where a
 *          seq_cst read-modify-write that changes nothing of P.owner, then a seq_cst load make
 *          the order; sysmon's compare-and-swap and its loads are seq_cst as well.
 * Same call  The number of foreign calls of the P, not only its owner: an M that comes and goes
 *          many times per tick is not stuck. The counter is relaxed: a mistake would retake a P
 *          early, which is slower and nothing else.
 * Order    The CAS on owner acquires the M's store on entry, m_hand_p releases to the spare. The
 *          spare is had before the CAS: with none the P must stay where it is.
 * Stopped  When a tick comes more than GAP_NS late nobody knows what the time between was: the
 *          process may have been stopped, by a signal, a debugger or its host. Looks start afresh. */
#include "rt/sysmon.h"

#include <errno.h>
#include <linux/membarrier.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/clock.h"
#include "rt/futex.h"
#include "rt/thread.h"
#include "rt/profile_thread.h"
#include "rt/trace_hooks.h"

enum { FINE_TICKS = 10, BURST_TICKS = 5 };
static const int64_t fine_tick_ns = NS_PER_MS;
static const int64_t burst_tick_ns = NS_PER_MS / 5;
static const int64_t coarse_tick_ns = 10 * NS_PER_MS;
static const int64_t idle_ns = NS_PER_S;
static const int64_t gap_ns = 20 * NS_PER_MS;

_Atomic uint32_t sysmon_state; /* also the futex word */
static _Atomic bool must_stop;
static _Atomic uint32_t has_stopped;

struct seen {
    uintptr_t owner;
    uint64_t foreign_calls, quick_calls, polls;
};
static struct seen seen[RT_P_MAX];

/* ---- Levels ---- */

static uint32_t level(void) {
    return atomic_load(&sysmon_state) & SYSMON_LEVELS;
}

static void lower_to(uint32_t wanted) {
    uint32_t state = atomic_load(&sysmon_state);
    while ((state & SYSMON_LEVELS) > wanted)
        if (atomic_compare_exchange_weak(&sysmon_state, &state, (state & SYSMON_STRONG) | wanted)) {
            futex_wake(&sysmon_state, 1);
            return;
        }
}

/* Only sysmon. False when somebody lowered it meanwhile. What was stored before a load that did not
 * see the new level is visible afterwards. */
static bool level_up(uint32_t from, uint32_t to) {
    uint32_t state = atomic_load(&sysmon_state);
    uint32_t expected = (state & SYSMON_STRONG) | from;
    if (!atomic_compare_exchange_strong(&sysmon_state, &expected, (state & SYSMON_STRONG) | to))
        return false;
    if (!(state & SYSMON_STRONG))
        (void)syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0,
                      0); /* it is registered */
    return true;
}

static bool has_membarrier(void) {
#ifdef RT_HAS_TSAN
    return false;
#else
    return syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0) == 0;
#endif
}

/* In the strong mode: orders what was stored before with the load of the level after it. */
static void publish(struct p *p) {
    (void)atomic_fetch_or(&p->owner, 0);
}

void sysmon_foreign_entered_slow(struct p *p) {
    publish(p);
    lower_to(SYSMON_FINE);
}

void sysmon_p_awoke_slow(struct p *p) {
    publish(p);
    lower_to(SYSMON_COARSE);
}

static bool any_foreign(void) {
    for (unsigned i = 0; i < rt_sched.p_count; i++) {
        struct p *p = rt_sched.ps[i];
        if ((atomic_load(&p->owner) & P_OWNER_FOREIGN) || atomic_load(&p->quick_site))
            return true;
    }
    return false;
}

static bool any_awake(void) {
    for (unsigned i = 0; i < rt_sched.p_count; i++) {
        struct p *p = rt_sched.ps[i];
        (void)atomic_load(&p->owner); /* see publish */
        if (!atomic_load(&p->idle.sleeping))
            return true;
    }
    return false;
}

/* ---- Looks ---- */

static bool retake(struct p *p, uintptr_t owner) {
    struct m *m = m_get_spare();
    if (!m)
        return false;
    if (!atomic_compare_exchange_strong_explicit(&p->owner, &owner, 0, memory_order_acq_rel,
                                                 memory_order_relaxed)) {
        m_put_spare(m); /* it has come back meanwhile */
        return false;
    }
    counter_add(&p->retakes, 1);
    if (trace_is_on())
        trace_retakes(p);
    m_hand_p(m, p);
    return true;
}

struct activity {
    bool foreign; /* or a quick call, or something that is to be looked at closely */
    bool awake;
    bool retook;
};

static void look_at(struct p *p, bool fine, int64_t now_ns, struct activity *activity) {
    struct seen *last = &seen[p->index];
    uintptr_t owner = atomic_load_explicit(&p->owner, memory_order_acquire);
    struct seen now = {
        .owner = owner,
        .foreign_calls = atomic_load_explicit(&p->foreign_calls, memory_order_relaxed),
        .quick_calls = atomic_load_explicit(&p->quick_calls, memory_order_relaxed),
        .polls = atomic_load_explicit(&p->io.of[IO_WAIT_CALLS], memory_order_relaxed),
    };
    bool foreign = owner & P_OWNER_FOREIGN;
    if (fine && foreign && owner == last->owner && now.foreign_calls == last->foreign_calls)
        activity->retook |= retake(p, owner);
    activity->foreign |=
        foreign || now.foreign_calls != last->foreign_calls || now.quick_calls != last->quick_calls;
    activity->awake |=
        now.polls != last->polls || !atomic_load_explicit(&p->idle.sleeping, memory_order_relaxed);
    activity->foreign |= stall_look(p, now_ns, fine);
    *last = now;
}

/* ---- The thread ---- */

static void await_tick(bool burst) {
    uint32_t state = atomic_load(&sysmon_state);
    struct timespec coarse = {.tv_nsec = coarse_tick_ns};
    struct timespec fine = {.tv_nsec = burst ? burst_tick_ns : fine_tick_ns};
    switch (state & SYSMON_LEVELS) {
    case SYSMON_FINE:
        clock_nanosleep(CLOCK_MONOTONIC, 0, &fine, NULL);
        break;
    case SYSMON_COARSE:
        futex_wait(&sysmon_state, state, &coarse);
        break;
    default:
        while (level() == SYSMON_ASLEEP)
            futex_wait(&sysmon_state, state, NULL);
    }
}

static void *sysmon_main(void *arg) {
    (void)arg;
    pthread_setname_np(pthread_self(), "sluice:sysmon");
    /* The kernel's slack of 50 us would make QUICK_CALL_NS 70 us; 1 is the least there is. */
    (void)prctl(PR_SET_TIMERSLACK, 1, 0, 0, 0);
    struct profile_thread profiled;
    profile_thread_begin(&profiled); /* borrow-ok: this frame ends with the thread */
    unsigned fine_ticks = 0, burst_ticks = 0;
    int64_t before_ns = clock_mono_ns(), awake_ns = before_ns;
    while (!atomic_load(&must_stop)) {
        uint32_t was = level();
        await_tick(burst_ticks > 0);
        int64_t now_ns = clock_mono_ns();
        if (was == SYSMON_ASLEEP)
            awake_ns = now_ns;
        if (was == SYSMON_ASLEEP || now_ns - before_ns > coarse_tick_ns + gap_ns)
            stall_forget(now_ns);
        before_ns = now_ns;
        if (was != SYSMON_FINE)
            fine_ticks = 0;

        struct activity activity = {0};
        for (unsigned i = 0; i < rt_sched.p_count; i++)
            look_at(rt_sched.ps[i], was == SYSMON_FINE, now_ns, &activity);
        if (was ==
            SYSMON_FINE) /* or the call in flight may be the one that woke us, and is at it */
            stall_look_at_quick_calls();

        burst_ticks = activity.retook ? BURST_TICKS : burst_ticks - (burst_ticks > 0);
        if (activity.awake)
            awake_ns = now_ns;
        if (activity.foreign) {
            fine_ticks = 0;
            lower_to(SYSMON_FINE);
        } else if (level() == SYSMON_FINE) {
            if (++fine_ticks > FINE_TICKS && level_up(SYSMON_FINE, SYSMON_COARSE) && any_foreign())
                lower_to(SYSMON_FINE);
        } else if (now_ns - awake_ns > idle_ns && level_up(SYSMON_COARSE, SYSMON_ASLEEP) &&
                   (any_awake() || any_foreign() || atomic_load(&must_stop))) {
            lower_to(SYSMON_COARSE);
        }
    }
    profile_thread_end(&profiled);
    atomic_store_explicit(&has_stopped, 1, memory_order_release);
    futex_wake(&has_stopped, 1);
    return NULL;
}

int sysmon_start(void) {
    atomic_store(&must_stop, false); /* an attempt to start the runtime may have failed before */
    atomic_store(&has_stopped, 0);
    if (!has_membarrier())
        atomic_store(&sysmon_state, SYSMON_STRONG);
    return thread_start(sysmon_main, NULL);
}

void sysmon_stop(void) {
    atomic_store(&must_stop, true);
    lower_to(SYSMON_FINE);
    while (!atomic_load_explicit(&has_stopped, memory_order_acquire))
        futex_wait(&has_stopped, 0, NULL);
}
