/* rt_sched: what the scheduler alone does. The cases are explained in rt_main.c. */
#include "rt/chan.h"
#include "rt/waitgroup.h"
#include "rt_bench.h"

enum { SPAWN_BATCH = 100, PAIRS = 32, QUEUE = 16, YIELD_EVERY = 4, ROUNDS = 128 };

static struct waitgroup wg;

static void wait_for_all(void) {
    bench_check("waitgroup_wait", waitgroup_wait(&wg, RT_FOREVER));
}

static void announce(unsigned count) {
    waitgroup_init(&wg);
    waitgroup_add(&wg, count);
}

static void yield_some(void *arg) {
    uint64_t n = *(uint64_t *)arg;
    for (uint64_t i = 0; i < n; i++)
        rt_yield();
    waitgroup_done(&wg);
}

static void switches(enum rt_place place, uint64_t n) {
    uint64_t shares[2];
    announce(2);
    for (unsigned i = 0; i < 2; i++) {
        shares[i] = bench_share(n, 2, i);
        bench_go(place, 0, "yields", yield_some, &shares[i]);
    }
    wait_for_all();
}

static void run_switch(uint64_t n) {
    switches(RT_ANYWHERE, n);
}

static void run_switch_pinned(uint64_t n) {
    switches(RT_HERE, n);
}

static void end_at_once(void *arg) {
    waitgroup_done(&wg);
}

static void spawns(enum rt_place place, uint64_t n) {
    while (n > 0) {
        unsigned batch = n < SPAWN_BATCH ? (unsigned)n : SPAWN_BATCH;
        announce(batch);
        for (unsigned i = 0; i < batch; i++)
            bench_go(place, 0, "ends", end_at_once, NULL);
        wait_for_all();
        n -= batch;
    }
}

static void run_spawn(uint64_t n) {
    spawns(RT_ANYWHERE, n);
}

static void run_spawn_pinned(uint64_t n) {
    spawns(RT_HERE, n);
}

static uint64_t compute(uint64_t x) {
    for (unsigned i = 0; i < ROUNDS; i++) {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
    }
    return x;
}

struct pair {
    struct chan *queue;
    uint64_t n, result;
};

static void produce(void *arg) {
    struct pair *pair = arg;
    uint64_t x = 1;
    for (uint64_t i = 0; i < pair->n; i++) {
        x = compute(x);
        bench_check("chan_send", chan_send(pair->queue, &x, RT_FOREVER));
        if (i % YIELD_EVERY == 0)
            rt_yield();
    }
    waitgroup_done(&wg);
}

static void consume(void *arg) {
    struct pair *pair = arg;
    for (uint64_t i = 0; i < pair->n; i++) {
        uint64_t x;
        bench_check("chan_recv", chan_recv(pair->queue, &x, RT_FOREVER));
        pair->result += compute(x);
    }
    waitgroup_done(&wg);
}

static void run_work(uint64_t n) {
    static struct pair pairs[PAIRS];
    announce(2 * PAIRS);
    for (unsigned i = 0; i < PAIRS; i++) {
        pairs[i] = (struct pair){chan_new(sizeof(uint64_t), QUEUE), bench_share(n, PAIRS, i), 0};
        bench_go(RT_ANYWHERE, 0, "produces", produce, &pairs[i]);
        bench_go(RT_ANYWHERE, 0, "consumes", consume, &pairs[i]);
    }
    wait_for_all();
    for (unsigned i = 0; i < PAIRS; i++)
        chan_unref(pairs[i].queue);
}

static void park_for_good(void *arg) {
    waitgroup_done(&wg);
    while (rt_park("bench: for good", RT_FOREVER) == 0) {
    }
}

static void parked(enum rt_place place, uint64_t n) {
    waitgroup_init(&wg);
    waitgroup_add(&wg, (int64_t)n);
    for (uint64_t i = 0; i < n; i++)
        bench_go(place, 0, "parks", park_for_good, NULL);
    wait_for_all();
}

static void run_parked(uint64_t n) {
    parked(RT_ANYWHERE, n);
}

static void run_parked_pinned(uint64_t n) {
    parked(RT_HERE, n);
}

const struct bench_case bench_sched_cases[] = {
    {"switch", 1, run_switch, false},
    {"switch_pinned", 1, run_switch_pinned, false},
    {"spawn", 1, run_spawn, false},
    {"spawn_pinned", 1, run_spawn_pinned, false},
    {"work_1p", 1, run_work, false},
    {"work_2p", 2, run_work, false},
    {"parked", 1, run_parked, true},
    {"parked_pinned", 1, run_parked_pinned, true},
    {0},
};
