/* rt_sync: locks and timers. The cases are explained in rt_main.c. */
#include "base/clock.h"
#include "rt/mutex.h"
#include "rt/timer.h"
#include "rt/waitgroup.h"
#include "rt_bench.h"

enum { LOCKERS = 8, TIMERS = 1000 };

static struct waitgroup wg;
static struct mutex mutex;
static uint64_t counter;

static void lock_all(uint64_t n, bool yields) {
    for (uint64_t i = 0; i < n; i++) {
        bench_check("mutex_lock", mutex_lock(&mutex, RT_FOREVER));
        counter++;
        if (yields)
            rt_yield();
        mutex_unlock(&mutex);
    }
    waitgroup_done(&wg);
}

static void lock_only(void *arg) {
    lock_all(*(uint64_t *)arg, false);
}

static void lock_and_yield(void *arg) {
    lock_all(*(uint64_t *)arg, true);
}

static void run_lockers(rt_fn fn, uint64_t n) {
    uint64_t shares[LOCKERS];
    counter = 0;
    waitgroup_init(&wg);
    waitgroup_add(&wg, LOCKERS);
    for (unsigned i = 0; i < LOCKERS; i++) {
        shares[i] = bench_share(n, LOCKERS, i);
        bench_go(RT_ANYWHERE, 0, "locks", fn, &shares[i]);
    }
    bench_check("waitgroup_wait", waitgroup_wait(&wg, RT_FOREVER));
    ASSERT(counter == n);
}

static void run_mutex(uint64_t n) {
    run_lockers(lock_only, n);
}

static void run_mutex_yield(uint64_t n) {
    run_lockers(lock_and_yield, n);
}

static void never_fires(struct timer *timer) {
    ASSERT(!"a timer of an hour fired");
}

static void run_timer(uint64_t n) {
    static struct timer timers[TIMERS];
    int64_t in_an_hour = clock_mono_ns() + 3600 * NS_PER_S;
    for (unsigned i = 0; i < TIMERS; i++)
        timer_init(&timers[i], never_fires);
    for (uint64_t i = 0; i < n; i++) {
        unsigned at = (unsigned)(i % TIMERS);
        timer_arm(&timers[at], in_an_hour + (int64_t)i * NS_PER_US);
        timer_disarm(&timers[(at + TIMERS / 2) % TIMERS]);
    }
    for (unsigned i = 0; i < TIMERS; i++)
        timer_disarm(&timers[i]);
}

const struct bench_case bench_sync_cases[] = {
    {"mutex", 2, run_mutex, false},
    {"mutex_yield", 2, run_mutex_yield, false},
    {"timer", 1, run_timer, false},
    {0},
};
