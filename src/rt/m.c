/* m: threads that run coroutines, and the spares among them.
 *
 * Every P has an M from the start; more are made when sysmon takes a P from an M that is stuck in
 * foreign code. When that M comes back it finds its P in other hands and parks here as a spare, so
 * the number of Ms is that of the Ps plus the most foreign calls that ever blocked at once.
 *
 * Threads  spare_lock guards the list of spares and the counts. A struct m is never freed.
 * Order    m_hand_p stores handoff with release and bumps wake; the spare loads it with acquire: all
 *          that was done on the P before is visible to it.
 * TLS      The M of a thread is read by m_self only, which is not inlined: a coroutine may be on
 *          another thread after any call that parks, and compilers keep addresses of thread-locals
 *          over calls. */
#include "rt/rt_internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "rt/futex.h"
#include "rt/profile_thread.h"
#include "rt/signals.h"
#include "rt/thread.h"
#include "rt/trace_hooks.h"

static _Thread_local struct m *tls_m;

static pthread_mutex_t spare_lock = PTHREAD_MUTEX_INITIALIZER;
static struct m *spares;
static struct m *all_ms; /* for rt_stop, and so that LeakSanitizer finds them */
static unsigned m_count;
static _Atomic uint32_t running_count; /* Ms that hold a P or may yet touch one */

NOINLINE struct m *m_self(void) {
    __asm__ volatile(""); /* or the compiler takes two calls for one */
    return tls_m;
}

NOINLINE struct p *p_self(void) {
    __asm__ volatile("");
    return tls_m ? tls_m->p : NULL;
}

/* Here for the thread-local: it is asked twenty times in an exchange. */
NOINLINE int64_t rt_now_ns(void) {
    __asm__ volatile("");
    struct p *p = tls_m ? tls_m->p : NULL;
    return p ? p_now_ns(p) : clock_mono_ns();
}

static void m_ended(void) {
    if (atomic_fetch_sub_explicit(&running_count, 1, memory_order_acq_rel) == 1)
        futex_wake(&running_count, INT_MAX);
}

/* Sleeps until a P is handed over; NULL at the end of the runtime. */
static struct p *m_await_p(struct m *m) {
    for (;;) {
        uint32_t wake = atomic_load_explicit(&m->wake, memory_order_acquire);
        struct p *p = atomic_exchange_explicit(&m->handoff, NULL, memory_order_acquire);
        if (p)
            return p;
        if (atomic_load(&rt_sched.stopping))
            return NULL;
        futex_wait(&m->wake, wake, NULL);
    }
}

static void *m_main(void *arg) {
    struct m *m = arg;
    tls_m = m;
    pthread_setname_np(pthread_self(), "sluice:m");
    int err = signals_thread_init();
    if (err < 0)
        LOG(log_rt, LOG_WARN, "no alternate signal stack for a thread: error %d", -err);
    backtrace_thread_init(m);
    (void)pthread_getcpuclockid(pthread_self(), &m->cpu_clock); /* fails for threads that ended */
    struct profile_thread profiled;
    profile_thread_begin(&profiled); /* borrow-ok: this frame ends with the thread */
    struct p *p;
    while ((p = m_await_p(m))) {
        m->p = p;
        atomic_store_explicit(&p->owner, (uintptr_t)m, memory_order_release);
        if (trace_is_on())
            trace_handed(p);
        sched_loop(m); /* until its P was retaken, or the end of the runtime */
        if (atomic_load(&rt_sched.stopping))
            break;
        m_put_spare(m);
    }
    profile_thread_end(&profiled);
    atomic_store_explicit(&m->ended_tid, atomic_load_explicit(&m->tid, memory_order_relaxed),
                          memory_order_relaxed); /* before m_ended, which releases it */
    atomic_store_explicit(&m->tid, 0, memory_order_relaxed);
    pthread_mutex_lock(&spare_lock);
    m_count--;
    pthread_mutex_unlock(&spare_lock);
    m_ended();
    return NULL;
}

/* NULL when a thread cannot be had. It starts as a taken spare, waiting for its P. */
static struct m *m_new(void) {
    struct m *m = aligned_alloc(64, (sizeof *m + 63) & ~(size_t)63);
    if (!m)
        return NULL;
    *m = (struct m){0};

    atomic_fetch_add_explicit(&running_count, 1, memory_order_relaxed);
    if (thread_start(m_main, m) < 0) {
        m_ended();
        free(m);
        return NULL;
    }
    pthread_mutex_lock(&spare_lock);
    m->all_next = all_ms;
    all_ms = m;
    pthread_mutex_unlock(&spare_lock);
    return m;
}

struct m *m_get_spare(void) {
    pthread_mutex_lock(&spare_lock);
    struct m *m = spares;
    bool may_make = false;
    if (m)
        spares = m->next_spare;
    else if (m_count < rt_sched.p_count + rt_sched.spare_m_max)
        may_make = m_count++ < UINT32_MAX;
    pthread_mutex_unlock(&spare_lock);
    if (m)
        return m;
    if (may_make && (m = m_new()))
        return m;
    pthread_mutex_lock(&spare_lock);
    m_count -= may_make;
    pthread_mutex_unlock(&spare_lock);
    atomic_fetch_add_explicit(&rt_sched.m_refused, 1, memory_order_relaxed);
    return NULL;
}

void m_put_spare(struct m *m) {
    pthread_mutex_lock(&spare_lock);
    m->next_spare = spares;
    spares = m;
    pthread_mutex_unlock(&spare_lock);
}

static void give_p(struct m *m, struct p *p) {
    atomic_store_explicit(&m->handoff, p, memory_order_release);
    atomic_fetch_add_explicit(&m->wake, 1, memory_order_release);
    futex_wake(&m->wake, 1);
}

void m_hand_p(struct m *m, struct p *p) {
    counter_add(&p->handoffs, 1);
    give_p(m, p);
}

int m_start(struct p *p) {
    struct m *m = m_get_spare();
    if (!m)
        return -EAGAIN;
    give_p(m, p);
    return 0;
}

void m_each(void (*fn)(struct m *m, void *arg), void *arg) {
    pthread_mutex_lock(&spare_lock);
    for (struct m *m = all_ms; m; m = m->all_next)
        fn(m, arg);
    pthread_mutex_unlock(&spare_lock);
}

bool m_try_each(void (*fn)(struct m *m, void *arg), void *arg) {
    if (pthread_mutex_trylock(&spare_lock) != 0)
        return false;
    for (struct m *m = all_ms; m; m = m->all_next)
        fn(m, arg);
    pthread_mutex_unlock(&spare_lock);
    return true;
}

/* After rt_sched.stopping was set. */
void m_stop_all(void) {
    pthread_mutex_lock(&spare_lock);
    for (struct m *m = all_ms; m; m = m->all_next) {
        atomic_fetch_add_explicit(&m->wake, 1, memory_order_release);
        futex_wake(&m->wake, 1);
    }
    pthread_mutex_unlock(&spare_lock);
}

/* Ms inside foreign code end when they come back; nobody can make them hurry, so they do not count. */
static uint32_t foreign_count(void) {
    uint32_t count = 0;
    pthread_mutex_lock(&spare_lock);
    for (struct m *m = all_ms; m; m = m->all_next)
        count += atomic_load_explicit(&m->in_foreign, memory_order_relaxed);
    pthread_mutex_unlock(&spare_lock);
    return count;
}

void m_count_all(struct rt_stats *out) {
    out->foreign_ms = foreign_count();
    pthread_mutex_lock(&spare_lock);
    out->ms = m_count;
    for (struct m *m = spares; m; m = m->next_spare)
        out->spare_ms++;
    pthread_mutex_unlock(&spare_lock);
}

/* What libraries keep for a thread they free at its very end, which must not race with the exit of the process. */
static void wait_gone(struct m *m, void *arg) {
    const int64_t *deadline_ns = arg;
    int tid = atomic_load_explicit(&m->ended_tid, memory_order_relaxed);
    while (tid && syscall(SYS_tgkill, getpid(), tid, 0) == 0 && clock_mono_ns() < *deadline_ns)
        (void)sched_yield(); /* it is a matter of microseconds */
}

bool m_wait_stopped(int64_t deadline_ns) {
    for (;;) {
        uint32_t running = atomic_load_explicit(&running_count, memory_order_acquire);
        if (running <= foreign_count()) {
            m_each(wait_gone, &deadline_ns);
            return true;
        }
        if (clock_mono_ns() >= deadline_ns)
            return false;
        struct timespec ms = {.tv_nsec = NS_PER_MS};
        futex_wait(&running_count, running, &ms);
    }
}
