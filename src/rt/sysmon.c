/* sysmon: a thread without a P that takes Ps from Ms stuck in foreign code, and looks for coroutines
 * that hold up a P (stall.c).
 *
 *            foreign code, quick call              a P awakes
 *          +--------------------------+      +------------------+
 *          v                          |      v                  |
 *        FINE ------------------> COARSE ------------------> ASLEEP
 *      1 or 5 ms  nothing of it    10 ms   no P awake for     no wake-up
 *                 for FINE_REST_NS         IDLE_NS            at all
 *
 * A P whose M is in the same foreign call at two successive fine looks is given to a spare M. A look costs
 * 60 us of CPU on a virtual machine (a switch of threads there and back, on a core that was busy), so to look
 * each millisecond whether calls that are all short have not become long costs more than it is worth:
 *
 *   wary   for WARY_NS after a P had to be retaken from a call that slept or computed, not from one that only
 *          waited for a processor (Go's collector has ours for milliseconds), and after the start: ticks of 1 ms, so that a call costs
 *          its P between 1 and 2 ms. Calls that block often come together, and each would cost the P's other
 *          coroutines that time: after a tick that has retaken a P the next BURST_TICKS come in burst_tick_ns.
 *          (A tick of 20 us, Go's shortest, costs a quarter of a core here.)
 *   calm   else: ticks of 5 ms, and one that finds a call under way is followed by one of 1 ms. So the first
 *          call that blocks costs its P up to 6 ms (a system call in Go up to 20), and that once in WARY_NS:
 *          less than a thousandth of it. Coarse ticks would save little more: a P that is awake costs
 *          these anyway, for coroutines that run too long. Nor does the fine level end as soon: to be woken
 *          costs as much as a look.
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

enum { BURST_TICKS = 5 };
static const int64_t wary_ns = 10 * NS_PER_S;
static const int64_t fine_tick_ns = NS_PER_MS;
static const int64_t calm_tick_ns = 5 * NS_PER_MS;
static const int64_t burst_tick_ns = NS_PER_MS / 5;
static const int64_t fine_rest_ns = 10 * NS_PER_MS; /* wary; calm it is idle_ns */
static const int64_t coarse_tick_ns = 10 * NS_PER_MS;
static const int64_t idle_ns = NS_PER_S;
static const int64_t gap_ns = 20 * NS_PER_MS;

_Atomic uint32_t sysmon_state; /* also the futex word */
static _Atomic uint32_t has_stopped;

struct seen {
    uintptr_t owner;
    uint64_t foreign_calls, quick_calls, polls;
    int64_t cpu_ns; /* the owner's, at the first look at this foreign call */
};
static struct seen seen[RT_P_MAX];

/* ---- Levels ---- */

static uint32_t level(void) {
    return atomic_load(&sysmon_state) & SYSMON_LEVELS;
}

static void lower_to(uint32_t wanted) {
    uint32_t state = atomic_load(&sysmon_state);
    while ((state & SYSMON_LEVELS) > wanted)
        if (atomic_compare_exchange_weak(&sysmon_state, &state,
                                         (state & ~SYSMON_LEVELS) | wanted)) {
            futex_wake(&sysmon_state, 1);
            return;
        }
}

/* Only sysmon. False when somebody lowered it meanwhile, or wants it to stop. What was stored before a load
 * that did not see the new level is visible afterwards. */
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

static bool must_stop(void) {
    return atomic_load(&sysmon_state) & SYSMON_STOP;
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
    bool blocked;   /* a P was retaken from a call that did not merely wait for a processor */
    bool under_way; /* a foreign call, at this look; or there is something else to look at soon */
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
    struct m *caller = (struct m *)(owner & ~P_OWNER_FOREIGN);
    if (foreign && owner == last->owner && now.foreign_calls == last->foreign_calls) {
        now.cpu_ns = last->cpu_ns;
        bool blocked = fine && stall_is_blocked(caller, last->cpu_ns);
        activity->blocked |= fine && retake(p, owner) && blocked;
    } else if (foreign) {
        now.cpu_ns = stall_cpu_ns(caller);
    }
    activity->foreign |=
        foreign || now.foreign_calls != last->foreign_calls || now.quick_calls != last->quick_calls;
    activity->awake |=
        now.polls != last->polls || !atomic_load_explicit(&p->idle.sleeping, memory_order_relaxed);
    bool again = stall_look(p, now_ns, fine);
    activity->foreign |= again;
    activity->under_way |= foreign || again;
    *last = now;
}

int64_t sysmon_pace_next(struct sysmon_pace *pace, int64_t now_ns, bool blocked, bool under_way) {
    if (blocked) {
        pace->wary_until_ns = now_ns + wary_ns;
        pace->burst_ticks = BURST_TICKS;
    } else if (pace->burst_ticks > 0) {
        pace->burst_ticks--;
    }
    if (pace->burst_ticks > 0)
        return burst_tick_ns;
    return under_way || sysmon_is_wary(pace, now_ns) ? fine_tick_ns : calm_tick_ns;
}

/* ---- The thread ---- */

/* tick_ns is of the fine level. A short one is not ended before its time: nobody has to wait for long. */
static void await_tick(int64_t tick_ns) {
    uint32_t state = atomic_load(&sysmon_state);
    bool is_fine = (state & SYSMON_LEVELS) == SYSMON_FINE;
    struct timespec tick = {.tv_nsec = is_fine ? tick_ns : coarse_tick_ns};
    if ((state & SYSMON_LEVELS) == SYSMON_ASLEEP)
        while (level() == SYSMON_ASLEEP)
            futex_wait(&sysmon_state, state, NULL);
    else if (is_fine && tick_ns < calm_tick_ns)
        clock_nanosleep(CLOCK_MONOTONIC, 0, &tick, NULL);
    else
        futex_wait(&sysmon_state, state, &tick);
}

/* quiet_for_ns: nothing of foreign code was seen. */
static void slow_down(bool wary, int64_t quiet_for_ns, int64_t idle_for_ns) {
    if (level() == SYSMON_FINE) {
        if (quiet_for_ns > (wary ? fine_rest_ns : idle_ns) &&
            level_up(SYSMON_FINE, SYSMON_COARSE) && any_foreign())
            lower_to(SYSMON_FINE);
    } else if (idle_for_ns > idle_ns && level_up(SYSMON_COARSE, SYSMON_ASLEEP) &&
               (any_awake() || any_foreign())) {
        lower_to(SYSMON_COARSE);
    }
}

static void *sysmon_main(void *arg) {
    (void)arg;
    pthread_setname_np(pthread_self(), "sluice:sysmon");
    /* The kernel's slack of 50 us would make QUICK_CALL_NS 70 us; 1 is the least there is. */
    (void)prctl(PR_SET_TIMERSLACK, 1, 0, 0, 0);
    struct profile_thread profiled;
    profile_thread_begin(&profiled); /* borrow-ok: this frame ends with the thread */
    int64_t before_ns = clock_mono_ns(), tick_ns = fine_tick_ns;
    int64_t awake_ns = before_ns, foreign_ns = before_ns;
    struct sysmon_pace pace = {.wary_until_ns = before_ns + wary_ns};
    while (!must_stop()) {
        uint32_t was = level();
        bool close = was == SYSMON_FINE && tick_ns < calm_tick_ns;
        await_tick(tick_ns);
        int64_t now_ns = clock_mono_ns();
        if (was == SYSMON_ASLEEP)
            awake_ns = now_ns;
        if (was == SYSMON_ASLEEP || now_ns - before_ns > coarse_tick_ns + gap_ns)
            stall_forget(now_ns);
        before_ns = now_ns;

        struct activity activity = {0};
        for (unsigned i = 0; i < rt_sched.p_count; i++)
            look_at(rt_sched.ps[i], close, now_ns, &activity);
        if (was ==
            SYSMON_FINE) /* or the call in flight may be the one that woke us, and is at it */
            stall_look_at_quick_calls();

        tick_ns = sysmon_pace_next(&pace, now_ns, activity.blocked, activity.under_way);
        if (activity.awake)
            awake_ns = now_ns;
        if (activity.foreign || was != SYSMON_FINE)
            foreign_ns = now_ns;
        if (activity.foreign)
            lower_to(SYSMON_FINE);
        else
            slow_down(sysmon_is_wary(&pace, now_ns), now_ns - foreign_ns, now_ns - awake_ns);
    }
    profile_thread_end(&profiled);
    atomic_store_explicit(&has_stopped, 1, memory_order_release);
    futex_wake(&has_stopped, 1);
    return NULL;
}

int sysmon_start(void) {
    /* An attempt to start the runtime may have failed before. */
    atomic_store(&sysmon_state, has_membarrier() ? 0 : SYSMON_STRONG);
    atomic_store(&has_stopped, 0);
    return thread_start(sysmon_main, NULL);
}

void sysmon_stop(void) {
    atomic_fetch_or(&sysmon_state, SYSMON_STOP);
    lower_to(SYSMON_FINE);
    futex_wake(&sysmon_state, 1);
    while (!atomic_load_explicit(&has_stopped, memory_order_acquire))
        futex_wait(&has_stopped, 0, NULL);
}
