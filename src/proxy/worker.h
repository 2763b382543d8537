/* worker: what the proxy keeps per P. A P's worker is touched by that P alone, so nothing in it is
 * locked; others send it a message (rt_post).
 *
 * Ownership  One array for the process, made by server_start, never freed before exit. */
#pragma once
#include "base/clock.h"
#include "base/list.h"
#include "http/date.h"
#include "http/http1.h"
#include "io/splice.h"
#include "mem/pool.h"
#include "proxy/overload.h"
#include "rt/rt.h"

struct snapshot;
struct worker {
    unsigned index;             /* of the P, and the shard of its stats */
    struct block_cache *blocks; /* NULL: nothing ran on its P yet; so are the two pools */
    struct http_date date;
    int64_t wall_asked_ns, wall_ahead_ns; /* when, and by how much it was ahead of rt_now_ns */
    uint64_t random[2];                   /* xoroshiro128+ state */
    struct list downstreams;      /* struct downstream.node: open client connections, but for
                              * those that wait for memory */
    _Atomic int64_t client_count; /* of those that are not the admin's; any thread reads */
    uint32_t serving_count;
    struct snapshot *snapshot; /* leased: what this P serves with, for what is found by name */
    struct serving *servings;  /* free; the one used last is the first */
    /* Of downstream_head.c: heads that are kept, and their memory. Any thread reads. */
    _Atomic uint64_t head_count, head_bytes;
    bool draining;    /* responses say Connection: close; idle connections are closed */
    bool leaving;     /* responses say so, and connections go on until one has */
    uint64_t next_id; /* of connections and streams */
    struct overload_state overload;
    struct list listeners;    /* struct listener_fd.node: those that accept here */
    struct list held;         /* struct downstream.node: see OVERLOAD_HOLD_REQUESTS */
    struct splice_pool pipes; /* for bodies */
    struct pool_cache downstream_pool, upstream_pool; /* of struct downstream and struct upstream */
    /* Where a small head is rendered, and small body bytes behind it, to be sent before anything parks:
     * the same lines of the cache for every message of the P. */
    char head_room[HTTP1_SMALL_ROOM];
};

/* The current P's. Pinned code may keep the pointer. */
struct worker *worker_here(void);
struct worker *worker_at(unsigned p_index);
/* 0 or -ENOMEM. Inside rt_run, once. */
MUST_CHECK int workers_init(void);

/* What clock_wall_ns would say, or has said: people read it, so that it is asked WORKER_WALL_NS apart. */
#define WORKER_WALL_NS (10 * NS_PER_MS)
void worker_ask_wall(struct worker *worker, int64_t now_ns);
static inline int64_t worker_wall_ns(struct worker *worker, int64_t now_ns) {
    if (__builtin_expect(now_ns - worker->wall_asked_ns >= WORKER_WALL_NS, 0))
        worker_ask_wall(worker, now_ns);
    return now_ns + worker->wall_ahead_ns;
}

/* Not for secrets: request ids, load balancing, fractions. */
uint64_t worker_random(struct worker *worker);
/* Whether an action of the overload manager strikes now. Nearly always one load. */
static inline bool worker_overload(struct worker *worker, enum overload_action action) {
    if (__builtin_expect(!(worker->overload.active >> action & 1), 1))
        return false;
    return overload_strikes(&worker->overload, action, (uint32_t)(worker_random(worker) >> 32));
}
/* Distinct in the process, growing on a P, whose index is in the low bits; never 0. */
uint64_t worker_next_id(struct worker *worker);
