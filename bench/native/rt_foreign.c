/* rt_foreign: calls to C code that is not ours, and back. The cases are explained in rt_main.c.
 *
 * Code inside a foreign call never has a P, so what it may do is take a lock that no one parks with, and
 * rt_ready. A callback that only touches its host's object costs a lock; one that needs a coroutine
 * to run for it (callback_wake) costs a message to the P and the switches there and back. */
#include "rt/foreign.h"
#include "rt/spin.h"
#include "rt/waitgroup.h"
#include "rt_bench.h"

static uint64_t counter;

static NOINLINE void add_one(void *arg) {
    *(uint64_t *)arg += 1;
    __asm__ volatile(""); /* or it is done where it is called */
}

static void run_foreign_call(uint64_t n) {
    for (uint64_t i = 0; i < n; i++)
        foreign_call(add_one, &counter);
}

static void run_foreign_call_quick(uint64_t n) {
    for (uint64_t i = 0; i < n; i++)
        foreign_call_quick("bench", add_one, &counter);
}

struct host {
    void (*called_back)(struct host *host); /* as a library learns it */
    struct spin lock;
    uint64_t value;
    struct g *worker, *caller;
    bool asked, answered, is_over;
    struct waitgroup ended;
};

static NOINLINE void call_back(void *arg) {
    struct host *host = arg;
    host->called_back(host);
    __asm__ volatile("");
}

static void touch(struct host *host) {
    spin_lock(&host->lock);
    host->value++;
    spin_unlock(&host->lock);
}

static void run_callback(uint64_t n) {
    struct host host = {.called_back = touch};
    for (uint64_t i = 0; i < n; i++)
        foreign_call(call_back, &host);
    ASSERT(host.value == n);
}

static void wake_worker(struct host *host) {
    spin_lock(&host->lock);
    host->asked = true;
    spin_unlock(&host->lock);
    rt_ready(host->worker);
}

static void work(void *arg) {
    struct host *host = arg;
    host->worker = rt_self();
    rt_ready(host->caller);
    for (;;) {
        spin_lock(&host->lock);
        bool asked = host->asked;
        host->asked = false;
        spin_unlock(&host->lock);
        if (host->is_over)
            break;
        if (asked) {
            host->answered = true;
            rt_ready(host->caller);
        } else {
            bench_check("rt_park", rt_park("bench: callback", RT_FOREVER));
        }
    }
    waitgroup_done(&host->ended);
}

static void run_callback_wake(uint64_t n) {
    struct host host = {.called_back = wake_worker, .caller = rt_self()};
    waitgroup_init(&host.ended);
    waitgroup_add(&host.ended, 1);
    bench_go(RT_ANYWHERE, 0, "works", work, &host);
    while (!host.worker)
        bench_check("rt_park", rt_park("bench: worker", RT_FOREVER));
    for (uint64_t i = 0; i < n; i++) {
        foreign_call(call_back, &host);
        while (!host.answered)
            bench_check("rt_park", rt_park("bench: answer", RT_FOREVER));
        host.answered = false;
    }
    host.is_over = true;
    rt_ready(host.worker);
    bench_check("waitgroup_wait", waitgroup_wait(&host.ended, RT_FOREVER));
}

const struct bench_case bench_foreign_cases[] = {
    {"foreign_call", 1, run_foreign_call, false},
    {"foreign_call_quick", 1, run_foreign_call_quick, false},
    {"callback", 1, run_callback, false},
    {"callback_wake", 1, run_callback_wake, false},
    {0},
};
