/* blocking.c: how many threads there are, which of them works, and when they end. (What a call does:
 * test_foreign.) Time is ours: a thread's wait for work ends when we say so (--wrap). */
#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>

#include "rt/foreign.h"
#include "rt_story.h"

/* ---- Time ---- */

enum { WAITERS_MAX = 64 };
static _Atomic bool time_flies;
static _Atomic(pthread_cond_t *) waited_on[WAITERS_MAX];
static _Atomic(pthread_mutex_t *) waited_with;

int __real_pthread_cond_timedwait(pthread_cond_t *cond, pthread_mutex_t *mutex,
                                  const struct timespec *until);
int __wrap_pthread_cond_timedwait(pthread_cond_t *cond, pthread_mutex_t *mutex,
                                  const struct timespec *until);
int __wrap_pthread_cond_timedwait(pthread_cond_t *cond, pthread_mutex_t *mutex,
                                  const struct timespec *until) {
    int64_t wait_ns = until->tv_sec * NS_PER_S + until->tv_nsec - clock_mono_ns();
    CHECK(wait_ns <= 10 * NS_PER_S);
    if (atomic_load(&time_flies))
        return ETIMEDOUT;
    CHECK(wait_ns > 0); /* this is no test that takes ten seconds */
    atomic_store(&waited_with, mutex);
    unsigned i = 0;
    for (pthread_cond_t *empty = NULL; !atomic_compare_exchange_strong(&waited_on[i], &empty, cond);
         empty = NULL)
        CHECK(++i < WAITERS_MAX);
    int err = __real_pthread_cond_timedwait(cond, mutex, until);
    atomic_store(&waited_on[i], NULL);
    return err;
}

/* Who waits looks at the clock again. */
static void let_time_fly(void) {
    atomic_store(&time_flies, true);
    pthread_mutex_t *mutex = atomic_load(&waited_with);
    pthread_mutex_lock(mutex);
    for (unsigned i = 0; i < WAITERS_MAX; i++) {
        pthread_cond_t *cond = atomic_load(&waited_on[i]);
        if (cond)
            pthread_cond_signal(cond);
    }
    pthread_mutex_unlock(mutex);
}

static unsigned threads_of_process(void) {
    unsigned count = 0;
    DIR *tasks = opendir("/proc/self/task");
    CHECK(tasks);
    for (struct dirent *task; (task = readdir(tasks));)
        count += task->d_name[0] != '.';
    closedir(tasks);
    return count;
}

static struct rt_stats stats_now(void) {
    struct rt_stats stats;
    rt_stats(&stats);
    return stats;
}

/* ---- A burst ---- */

enum { BURST = 16 };
static sem_t gate;
static _Atomic unsigned inside, returned;
static _Atomic pid_t last_worker;

static void waits_at_gate(void *arg) {
    atomic_fetch_add(&inside, 1);
    while (sem_wait(&gate) < 0) {
    }
}

static void calls_gate(void *arg) {
    CHECK(blocking_call(waits_at_gate, NULL) == 0);
    atomic_fetch_add(&returned, 1);
}

static void burst(void) {
    atomic_store(&inside, 0);
    atomic_store(&returned, 0);
    for (int i = 0; i < BURST; i++)
        CHECK(go_here("one of a burst", calls_gate, NULL) == 0);
    STORY_AWAIT(atomic_load(&inside) == BURST);
    CHECK(stats_now().blocking_threads == BURST);
    CHECK(stats_now().blocking_busy == BURST);
    for (int i = 0; i < BURST; i++)
        sem_post(&gate);
    STORY_AWAIT(atomic_load(&returned) == BURST);
    CHECK(stats_now().blocking_busy == 0);
}

static void remembers_worker(void *arg) {
    atomic_store(&last_worker, gettid());
}

static void burst_story(void *arg) {
    sem_init(&gate, 0, 0);
    CHECK(stats_now().blocking_threads == 0);
    burst();
    CHECK(stats_now().blocking_threads == BURST);
    burst(); /* the same ones */
    CHECK(blocking_call(remembers_worker, NULL) == 0);
    pid_t worker = atomic_load(&last_worker);
    for (int i = 0; i < 100; i++) { /* one after the other: all by one, and the rest is not woken */
        CHECK(blocking_call(remembers_worker, NULL) == 0);
        CHECK(atomic_load(&last_worker) == worker);
    }
    CHECK(stats_now().blocking_threads == BURST);

    unsigned threads = threads_of_process();
    let_time_fly();
    STORY_AWAIT(stats_now().blocking_threads == 0);
    STORY_AWAIT(threads_of_process() == threads - BURST);
    atomic_store(&time_flies, false);
    burst();
    CHECK(stats_now().m_refused == 0);
    rt_stop(0);
}

static void a_burst_leaves_no_threads_behind(void **state) {
    story(1, burst_story);
}

/* ---- No time at all ---- */

enum { HASTY = 20, HASTY_CALLS = 50 };

static void count(void *arg) {
    (*(unsigned *)arg)++;
}

static void calls_hastily(void *arg) {
    unsigned calls = 0;
    for (unsigned i = 0; i < HASTY_CALLS; i++) {
        CHECK(blocking_call(count, &calls) == 0);
        CHECK(calls == i + 1);
    }
    atomic_fetch_add(&returned, 1);
}

/* Each thread gives up the moment that it is idle, which is when the next call takes it. */
static void hasty_story(void *arg) {
    atomic_store(&time_flies, true);
    for (int i = 0; i < HASTY; i++) {
        if (i % 2)
            CHECK(go("hasty", calls_hastily, NULL) == 0);
        else
            CHECK(go_here("hasty", calls_hastily, NULL) == 0);
    }
    STORY_AWAIT(atomic_load(&returned) == HASTY);
    STORY_AWAIT(stats_now().blocking_threads == 0);
    CHECK(stats_now().blocking_busy == 0);
    CHECK(stats_now().m_refused == 0);
    rt_stop(0);
}

static void a_thread_that_is_taken_does_not_end(void **state) {
    story(1, hasty_story);
    story(2, hasty_story);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_burst_leaves_no_threads_behind),
        cmocka_unit_test(a_thread_that_is_taken_does_not_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
