/* rt_chan: channels and select. The cases are explained in rt_main.c. */
#include "rt/chan.h"
#include "rt/select.h"
#include "rt/waitgroup.h"
#include "rt_bench.h"

enum { ROOM = 128, WAYS = 4 };

static struct waitgroup wg;

struct flow {
    struct chan *there, *back; /* back only for round trips */
    uint64_t n;
};

static void send_all(void *arg) {
    struct flow *flow = arg;
    for (uint64_t i = 0; i < flow->n; i++)
        bench_check("chan_send", chan_send(flow->there, &i, RT_FOREVER));
    waitgroup_done(&wg);
}

static void receive_all(void *arg) {
    struct flow *flow = arg;
    uint64_t value;
    for (uint64_t i = 0; i < flow->n; i++)
        bench_check("chan_recv", chan_recv(flow->there, &value, RT_FOREVER));
    waitgroup_done(&wg);
}

static void ask(void *arg) {
    struct flow *flow = arg;
    for (uint64_t i = 0; i < flow->n; i++) {
        bench_check("chan_send", chan_send(flow->there, &i, RT_FOREVER));
        bench_check("chan_recv", chan_recv(flow->back, &i, RT_FOREVER));
    }
    waitgroup_done(&wg);
}

static void answer(void *arg) {
    struct flow *flow = arg;
    uint64_t value;
    for (uint64_t i = 0; i < flow->n; i++) {
        bench_check("chan_recv", chan_recv(flow->there, &value, RT_FOREVER));
        bench_check("chan_send", chan_send(flow->back, &value, RT_FOREVER));
    }
    waitgroup_done(&wg);
}

/* The second coroutine's P is p_of_second when they are pinned. */
static void run_two(rt_fn first, rt_fn second, enum rt_place place, unsigned p_of_second,
                    uint32_t capacity, uint64_t n) {
    struct flow flow = {chan_new(sizeof(uint64_t), capacity), chan_new(sizeof(uint64_t), capacity),
                        n};
    ASSERT(flow.there);
    ASSERT(flow.back);
    waitgroup_init(&wg);
    waitgroup_add(&wg, 2);
    bench_go(place, 0, "first", first, &flow);
    bench_go(place, p_of_second, "second", second, &flow);
    bench_check("waitgroup_wait", waitgroup_wait(&wg, RT_FOREVER));
    chan_unref(flow.there);
    chan_unref(flow.back);
}

static void run_round_trip(uint64_t n) {
    run_two(ask, answer, RT_ANYWHERE, 0, 0, n);
}

static void run_round_trip_pinned(uint64_t n) {
    run_two(ask, answer, RT_HERE, 0, 0, n);
}

static void run_round_trip_apart(uint64_t n) {
    run_two(ask, answer, RT_ON_P, 1, 0, n);
}

static void run_unbuffered(uint64_t n) {
    run_two(send_all, receive_all, RT_ANYWHERE, 0, 0, n);
}

static void run_unbuffered_pinned(uint64_t n) {
    run_two(send_all, receive_all, RT_HERE, 0, 0, n);
}

static void run_buffered(uint64_t n) {
    run_two(send_all, receive_all, RT_ANYWHERE, 0, ROOM, n);
}

static void run_buffered_pinned(uint64_t n) {
    run_two(send_all, receive_all, RT_HERE, 0, ROOM, n);
}

static void run_select4(uint64_t n) {
    struct flow flows[WAYS];
    struct select_case cases[WAYS];
    uint64_t value;
    waitgroup_init(&wg);
    waitgroup_add(&wg, WAYS);
    for (unsigned i = 0; i < WAYS; i++) {
        flows[i] = (struct flow){chan_new(sizeof(uint64_t), 0), NULL, bench_share(n, WAYS, i)};
        ASSERT(flows[i].there);
        cases[i] = (struct select_case){.op = SELECT_RECV, .ch = flows[i].there, .elem = &value};
        bench_go(RT_ANYWHERE, 0, "sends", send_all, &flows[i]);
    }
    for (uint64_t i = 0; i < n; i++)
        bench_check("select_wait", select_wait(cases, WAYS, RT_FOREVER));
    bench_check("waitgroup_wait", waitgroup_wait(&wg, RT_FOREVER));
    for (unsigned i = 0; i < WAYS; i++)
        chan_unref(flows[i].there);
}

const struct bench_case bench_chan_cases[] = {
    {"chan_same_p", 1, run_round_trip, false},
    {"chan_same_p_pinned", 1, run_round_trip_pinned, false},
    {"chan_cross_p", 2, run_round_trip, false},
    {"chan_pinned_p", 2, run_round_trip_apart, false},
    {"chan_unbuffered", 1, run_unbuffered, false},
    {"chan_unbuffered_pinned", 1, run_unbuffered_pinned, false},
    {"chan_buffered", 1, run_buffered, false},
    {"chan_buffered_pinned", 1, run_buffered_pinned, false},
    {"chan_buffered_2p", 2, run_buffered, false},
    {"select4", 1, run_select4, false},
    {0},
};
