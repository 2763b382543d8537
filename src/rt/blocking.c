/* blocking: a pool of threads for calls that are known to block.
 *
 *     coroutine                     g0                         thread
 *     takes an idle one,
 *     or starts one       ------>   gives it the job  ------>  fn(arg)
 *         ^                                                    back to the idle ones
 *         +--------------------------- g_resume ---------------+
 *
 * The coroutine first makes sure of a thread, so that it can still be told no, then switches to g0,
 * which passes the job on: only then can the thread's answer not come too early. The answer is
 * g_resume, not a token, so the coroutine needs no loop and the thread never touches a G that may
 * have ended.
 *
 * T1  A thread is in idle, or is taken: by one caller, who gives it one job. New ones start taken.
 * T2  A thread ends only while it is in idle, which it leaves by itself. A taken one waits without
 *     limit: its job is a few instructions away.
 *
 * The one that was idle for the shortest time is taken, so a thread that a burst has left over is left
 * alone, and ends after IDLE_NS. (With one queue of jobs and one condition for all, each wakes in its
 * turn: a trickle of calls would keep every thread alive for ever.)
 *
 * Threads  pool_lock guards all of it. A struct blocking_thread is the thread's own, which frees it.
 * Limits   spare_m_max threads. */
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>

#include "rt/foreign.h"
#include "rt/g_switch.h"
#include "rt/profile_thread.h"
#include "rt/rt_internal.h"
#include "rt/signals.h"
#include "rt/thread.h"

static const int64_t idle_ns = 10 * NS_PER_S;

struct blocking_thread {
    struct list node; /* in idle, or not linked: taken */
    struct blocking_job *job;
    pthread_cond_t wake; /* job is there */
};

const char reason_blocking_call[] = "blocking call";

struct blocking_job {
    struct blocking_thread *thread;
    struct g *g;
    rt_fn fn;
    void *arg;
};

static pthread_mutex_t pool_lock = PTHREAD_MUTEX_INITIALIZER;
static struct list idle = {&idle, &idle}; /* idle for the shortest time first */
static unsigned thread_count, busy_count;

/* NULL when the thread has been idle for long and is to end (T2). */
static struct blocking_job *await_job_locked(struct blocking_thread *thread, int64_t until_ns) {
    struct timespec until = {.tv_sec = until_ns / NS_PER_S, .tv_nsec = until_ns % NS_PER_S};
    while (!thread->job) {
        if (!list_is_linked(&thread->node)) {
            pthread_cond_wait(&thread->wake, &pool_lock);
        } else if (pthread_cond_timedwait(&thread->wake, &pool_lock, &until) == ETIMEDOUT &&
                   list_is_linked(&thread->node)) {
            list_remove(&thread->node);
            return NULL;
        }
    }
    struct blocking_job *job = thread->job;
    thread->job = NULL;
    return job;
}

static void thread_free(struct blocking_thread *thread) {
    pthread_cond_destroy(&thread->wake);
    free(thread);
}

static void *thread_main(void *arg) {
    struct blocking_thread *thread = arg;
    pthread_setname_np(pthread_self(), "sluice:block");
    int err = signals_thread_init();
    if (err < 0)
        LOG(log_rt, LOG_WARN, "no alternate signal stack for a thread: error %d", -err);
    struct profile_thread profiled;
    profile_thread_begin(&profiled); /* borrow-ok: this frame ends with the thread */
    int64_t until_ns = RT_FOREVER;
    pthread_mutex_lock(&pool_lock);
    for (struct blocking_job *job; (job = await_job_locked(thread, until_ns));) {
        pthread_mutex_unlock(&pool_lock);
        struct g *g = job->g;
        atomic_store_explicit(&profiled.g, g, memory_order_relaxed);
        job->fn(job->arg);
        atomic_store_explicit(&profiled.g, NULL, memory_order_relaxed);
        until_ns = clock_mono_ns() + idle_ns;
        pthread_mutex_lock(&pool_lock);
        busy_count--;
        list_push_front(&idle,
                        &thread->node); /* before the coroutine goes on: its next call finds it */
        pthread_mutex_unlock(&pool_lock);
        if (!g->pinned)
            park_back(g);
        g_resume(g); /* job, on the coroutine's stack, is gone */
        pthread_mutex_lock(&pool_lock);
    }
    thread_count--;
    pthread_mutex_unlock(&pool_lock);
    profile_thread_end(&profiled);
    thread_free(thread);
    return NULL;
}

/* NULL when it cannot be had. */
static struct blocking_thread *thread_new(void) {
    struct blocking_thread *thread = malloc(sizeof *thread);
    if (!thread)
        return NULL;
    *thread = (struct blocking_thread){0};
    pthread_condattr_t clock;
    pthread_condattr_init(&clock);
    pthread_condattr_setclock(&clock, CLOCK_MONOTONIC);
    pthread_cond_init(&thread->wake, &clock);
    pthread_condattr_destroy(&clock);
    if (thread_start(thread_main, thread) < 0) {
        thread_free(thread);
        return NULL;
    }
    return thread;
}

/* NULL when there is none to be had. */
static struct blocking_thread *take_thread(void) {
    pthread_mutex_lock(&pool_lock);
    struct list *node = list_pop_front(&idle);
    bool may_make = !node && thread_count < rt_sched.spare_m_max;
    thread_count += may_make;
    busy_count += node || may_make;
    pthread_mutex_unlock(&pool_lock);
    if (node)
        return container_of(node, struct blocking_thread, node);
    struct blocking_thread *thread = may_make ? thread_new() : NULL;
    if (thread)
        return thread;
    pthread_mutex_lock(&pool_lock);
    thread_count -= may_make;
    busy_count -= may_make;
    pthread_mutex_unlock(&pool_lock);
    atomic_fetch_add_explicit(&rt_sched.m_refused, 1, memory_order_relaxed);
    return NULL;
}

void blocking_submit(struct blocking_job *job) {
    struct blocking_thread *thread = job->thread;
    if (!job->g->pinned)
        park_away(job->g);
    pthread_mutex_lock(&pool_lock);
    ASSERT(!thread->job); /* T1 */
    thread->job = job;
    pthread_cond_signal(&thread->wake); /* under the lock: it could not free wake before */
    pthread_mutex_unlock(&pool_lock);
}

void blocking_count(struct rt_stats *out) {
    pthread_mutex_lock(&pool_lock);
    out->blocking_threads = thread_count;
    out->blocking_busy = busy_count;
    pthread_mutex_unlock(&pool_lock);
}

int blocking_call(rt_fn fn, void *arg) {
    struct m *m = m_self();
    ASSERT(m && m->p && m->current); /* from a coroutine only */
    struct g *g = m->current;
    struct blocking_thread *thread = take_thread();
    if (!thread)
        return -EAGAIN;
    struct blocking_job job = {.thread = thread, .g = g, .fn = fn, .arg = arg};
    atomic_store_explicit(&g->reason, reason_blocking_call, memory_order_relaxed);
    atomic_store_explicit(&g->waits_since_ns, m->p->now_ns, memory_order_relaxed);
    m->job = &job;
    m->request = M_BLOCKING;
    g_switch_out(m, g);
    atomic_store_explicit(&g->reason, NULL, memory_order_relaxed);
    return 0;
}
