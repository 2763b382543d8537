/* rt_bench: what the cases of bench_rt share.
 *
 * A case is a function that does n operations from the main coroutine and returns when they are over.
 * rt_main.c runs it once with fewer, so that stacks, pools and connections are there, and then
 * measures it. What an operation is stands at the top of rt_main.c. */
#pragma once
#include <stdint.h>

#include "rt/rt.h"

typedef void (*bench_fn)(uint64_t n);

struct bench_case {
    const char *name;
    unsigned p_count;
    bench_fn run;
    bool is_cold; /* measured the first time, and with the memory that it took */
};

/* The tables of the other files, each ended by a case without a name. */
extern const struct bench_case bench_sched_cases[], bench_chan_cases[], bench_sync_cases[],
    bench_foreign_cases[], bench_net_cases[];

/* rt_net.c: echoes on loopback until the process ends, with blocked_per_p coroutines on every P that
 * are always inside a foreign call of a second. Prints the port. */
void bench_serve_blocked(unsigned blocked_per_p);

/* These end the process when they fail: a benchmark has nothing to save. */
void bench_go(enum rt_place place, unsigned p_index, const char *name, rt_fn fn, void *arg);
void bench_check(const char *what, int result);

/* n split over parts: the share of one of them, so that the shares add up to n. */
static inline uint64_t bench_share(uint64_t n, unsigned parts, unsigned index) {
    return n / parts + (index < n % parts);
}
