/* blocking: a pool of threads for calls that are known to block.
 *
 * The coroutine first makes sure of a thread, so that it can still be told no, then switches to g0,
 * which passes the job on: only then can the thread's answer not come too early. The answer is
 * g_resume, not a token, so the coroutine needs no loop and the thread never touches a G that may
 * have ended.
 *
 * Threads  pool_lock guards all of it. available counts threads that wait plus those being started,
 *          minus jobs not taken yet; it is >= 0 and each call takes one before it queues its job.
 * Limits   spare_m_max threads. One that waited IDLE_S without a job ends. */
#include <errno.h>
#include <stddef.h>

#include "rt/foreign.h"
#include "rt/g_switch.h"
#include "rt/rt_internal.h"
#include "rt/signals.h"

enum { IDLE_S = 10 };

struct blocking_job {
    struct blocking_job *next;
    struct g *g;
    rt_fn fn;
    void *arg;
};

static pthread_mutex_t pool_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t pool_wake;
static struct blocking_job *jobs, **jobs_end = &jobs;
static unsigned thread_count, available, busy;

/* Under pool_lock. NULL when the thread has been idle for long and should end. */
static struct blocking_job *await_job_locked(void) {
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += IDLE_S;
    while (!jobs) {
        int err = pthread_cond_timedwait(&pool_wake, &pool_lock, &until);
        if (err == ETIMEDOUT && !jobs && available > 0)
            return NULL;
    }
    struct blocking_job *job = jobs;
    jobs = job->next;
    busy++;
    if (!jobs)
        jobs_end = &jobs;
    return job;
}

static void *thread_main(void *unused) {
    (void)unused;
    pthread_setname_np(pthread_self(), "sluice:block");
    int err = signals_thread_init();
    if (err < 0)
        LOG(log_rt, LOG_WARN, "no alternate signal stack for a thread: error %d", -err);
    pthread_mutex_lock(&pool_lock);
    for (struct blocking_job *job; (job = await_job_locked());) {
        pthread_mutex_unlock(&pool_lock);
        struct g *g = job->g;
        job->fn(job->arg);
        pthread_mutex_lock(&pool_lock);
        busy--;
        available++; /* before the coroutine goes on: its next call finds this thread */
        pthread_mutex_unlock(&pool_lock);
        g_resume(g); /* job, on the coroutine's stack, is gone */
        pthread_mutex_lock(&pool_lock);
    }
    available--;
    thread_count--;
    pthread_mutex_unlock(&pool_lock);
    return NULL;
}

static void init_once(void) {
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&pool_wake, &attr);
    pthread_condattr_destroy(&attr);
}

static int start_thread(void) {
    pthread_attr_t attr;
    pthread_attr_init(&attr);
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    pthread_t thread;
    int err = pthread_create(&thread, &attr, thread_main, NULL);
    pthread_attr_destroy(&attr);
    return err;
}

/* Takes one thread out of available. */
static int reserve_thread(void) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, init_once);
    pthread_mutex_lock(&pool_lock);
    bool make = available == 0;
    if (!make)
        available--;
    bool may_make = make && thread_count < rt_sched.spare_m_max;
    if (may_make)
        thread_count++;
    pthread_mutex_unlock(&pool_lock);
    if (!make)
        return 0;
    if (!may_make)
        goto refused;
    if (start_thread() == 0)
        return 0;
    pthread_mutex_lock(&pool_lock);
    thread_count--;
    pthread_mutex_unlock(&pool_lock);
refused:
    atomic_fetch_add_explicit(&rt_sched.m_refused, 1, memory_order_relaxed);
    return -EAGAIN;
}

void blocking_submit(struct blocking_job *job) {
    pthread_mutex_lock(&pool_lock);
    job->next = NULL;
    *jobs_end = job;
    jobs_end = &job->next;
    pthread_cond_signal(&pool_wake);
    pthread_mutex_unlock(&pool_lock);
}

void blocking_count(struct rt_stats *out) {
    pthread_mutex_lock(&pool_lock);
    out->blocking_threads = thread_count;
    out->blocking_busy = busy;
    pthread_mutex_unlock(&pool_lock);
}

int blocking_call(rt_fn fn, void *arg) {
    struct m *m = m_self();
    ASSERT(m && m->p && m->current); /* from a coroutine only */
    struct g *g = m->current;
    int err = reserve_thread();
    if (err < 0)
        return err;
    struct blocking_job job = {.g = g, .fn = fn, .arg = arg};
    atomic_store_explicit(&g->reason, "blocking call", memory_order_relaxed);
    m->job = &job;
    m->request = M_BLOCKING;
    g_switch_out(m, g);
    atomic_store_explicit(&g->reason, NULL, memory_order_relaxed);
    return 0;
}
