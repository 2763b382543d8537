#include "proxy/worker.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/random.h>

#include "proxy/downstream.h"
#include "proxy/upstream.h"

static struct worker *workers;

static struct pool downstreams = {.name = "downstream", .object_size = sizeof(struct downstream)};
static struct pool upstreams = {.name = "upstream", .object_size = sizeof(struct upstream)};

int workers_init(void) {
    unsigned count = rt_p_count();
    struct worker *made = aligned_alloc(64, (count * sizeof *made + 63) / 64 * 64);
    if (!made)
        return -ENOMEM;
    for (unsigned i = 0; i < count; i++) {
        made[i] = (struct worker){.index = i, .next_id = 1, .wall_asked_ns = -WORKER_WALL_NS};
        splice_pool_init(&made[i].pipes);
        list_init(&made[i].downstreams);
        list_init(&made[i].listeners);
        list_init(&made[i].held);
        if (getrandom(made[i].random, sizeof made[i].random, 0) != sizeof made[i].random)
            made[i].random[0] = 0x9e3779b97f4a7c15u + i; /* an early boot without entropy */
    }
    workers = made;
    return 0;
}

struct worker *worker_at(unsigned p_index) {
    return &workers[p_index];
}

/* On its own P, whose memory it is. */
static NOINLINE void open_memory(struct worker *worker) {
    worker->blocks = rt_blocks();
    pool_cache_init(&worker->downstream_pool, &downstreams, &worker->blocks->recycler);
    pool_cache_init(&worker->upstream_pool, &upstreams, &worker->blocks->recycler);
}

struct worker *worker_here(void) {
    struct worker *worker = &workers[rt_p_index()];
    if (!worker->blocks)
        open_memory(worker);
    return worker;
}

/* Both clocks are asked: now_ns is of the scheduling round. */
NOINLINE void worker_ask_wall(struct worker *worker, int64_t now_ns) {
    worker->wall_asked_ns = now_ns;
    worker->wall_ahead_ns = clock_wall_ns() - clock_mono_ns();
}

static uint64_t rotl(uint64_t x, int k) {
    return x << k | x >> (64 - k);
}

/* xoroshiro128+ by Blackman and Vigna, 2018 parameters. */
uint64_t worker_random(struct worker *worker) {
    uint64_t s0 = worker->random[0];
    uint64_t s1 = worker->random[1];
    uint64_t result = s0 + s1;
    s1 ^= s0;
    worker->random[0] = rotl(s0, 24) ^ s1 ^ (s1 << 16);
    worker->random[1] = rotl(s1, 37);
    return result;
}

uint64_t worker_next_id(struct worker *worker) {
    return worker->next_id++ * RT_P_MAX + worker->index;
}
