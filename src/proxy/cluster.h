/* cluster: a named group of endpoints, its hosts as each P sees them, and their stats.
 *
 * A cluster object outlives configs: a snapshot leases it by name, and when a new config has the same
 * definition the object with its connections, rotation and hosts goes on.
 *
 *   cluster ─ local[P] ─ host_set (immutable, leased by each P) ─► host ─ pool[P]
 *
 * Ownership  Counted (atomic): cluster_unref, host_unref, host_set_unref.
 * Threads    local[p] and host->pools[p] belong to P p, but for local[p].requests, which other Ps may take
 *            from. The rest is immutable or atomic.
 *            cluster_set_hosts may be called on any P or off them: it posts to each P. */
#pragma once
#include <stdatomic.h>

#include "base/list.h"
#include "base/stats.h"
#include "config/config.h"
#include "io/address.h"
#include "proxy/breaker.h"
#include "proxy/transport_socket.h"
#include "rt/rt.h"
#include "rt/sync.h"
#include "rt/timer.h"

struct
    host_counters { /* of one P; read by any thread, relaxed. A good request changes the first three */
    _Atomic uint64_t rq_total, rq_active, rq_success, rq_error, rq_timeout;
    _Atomic uint64_t cx_total, cx_active, cx_connect_fail;
};

struct host_pool {    /* of one P. A request that finds a connection touches the first line only */
    struct list idle; /* struct upstream.node, most recently put first, so the last ends first */
    uint32_t idle_count, open_count;
    bool retired;    /* the host left the cluster, for good: nothing comes back here */
    bool idle_timed; /* idle_timer is armed */
    struct host_counters counters;
    struct timer idle_timer; /* for a time no later than the end of the last one of `idle` */
} __attribute__((aligned(64)));

struct host {
    struct span text;     /* "ip:port" */
    struct span hostname; /* name it was resolved from, or the configured one; may be empty */
    bool healthy;         /* by configured health_status */
    uint32_t weight;
    unsigned pool_count;
    _Atomic uint32_t refs;
    struct address address;
    char *hostname_bytes;
    char text_bytes[ADDRESS_TEXT_MAX];
    struct host_pool pools[]; /* by P */
};

struct host_set {
    _Atomic uint32_t refs;
    uint32_t count;
    uint32_t schedule_len;
    uint16_t *schedule; /* rotation of healthy hosts by weight: indexes into hosts */
    struct host **hosts;
};

struct cluster_stats {
    struct statistic *cx_total, *cx_active, *cx_http1_total, *cx_connect_fail, *cx_connect_timeout,
        *cx_overflow, *cx_destroy, *cx_destroy_local, *cx_destroy_remote, *cx_idle_timeout,
        *cx_none_healthy, *cx_rx_bytes, *cx_tx_bytes, *cx_connect_ms, *cx_length_ms,
        *cx_protocol_error, *cx_pool_overflow, *cx_destroy_with_active_rq, *cx_max_requests,
        *cx_no_descriptor, *cx_connect_attempts_exceeded, *cx_paused, *cx_resumed;
    struct statistic *rq_total, *rq_active, *rq_completed, *rq_pending_total, *rq_pending_active,
        *rq_pending_overflow, *rq_pending_failure_eject, *rq_timeout, *rq_rx_reset, *rq_tx_reset,
        *rq_cancelled, *rq_time, *rq_maintenance_mode;
    struct statistic *membership_total, *membership_healthy, *membership_change, *update_attempt,
        *update_success, *update_failure, *update_empty, *max_host_weight;
};

struct cluster_local {         /* of one P */
    struct host_set *hosts;    /* leased; NULL until the first set arrives */
    uint32_t next;             /* rotation */
    _Atomic uint32_t requests; /* the P's share of the breaker: how many more it may let in */
    struct wait_queue pending; /* exchanges that wait for a connection to come back */
    uint32_t pending_count, open_count;
} __attribute__((aligned(64)));

/* Cells of those stats that every request changes, so that it need not look at the stats' descriptions,
 * which are a cache line each. */
struct cluster_cells {
    uint32_t rq_total, rq_active, rq_completed, rq_time, cx_rx_bytes, cx_tx_bytes;
    _Atomic uint32_t rq_class[5]; /* 1xx .. 5xx; 0: none came yet, see cluster_count_response */
};

struct cluster {
    /* What every request reads; it is written before the cluster serves, but for `stopping`. */
    struct span name;
    int64_t idle_timeout_ns, max_connection_duration_ns; /* 0: none */
    uint32_t max_requests_per_connection;                /* 0: none */
    bool enable_trailers;
    bool has_wishes; /* its transport says something of each request's host, or of its client */
    _Atomic bool stopping; /* the resolver ends */
    struct cluster_cells cells;
    unsigned local_count;

    /* What opening a connection reads. */
    int64_t connect_timeout_ns; /* 0: none */
    uint32_t max_connections, max_pending, max_requests;
    uint32_t buffer_limit;
    struct transport_socket transport; /* kind NULL: bytes as they are */
    const struct cfg_cluster *config;
    struct config
        *configs[2];    /* leased: of `config`, and of the bootstrap, which has the secrets */
    struct g *resolver; /* of names: P 0's; NULL: there is none */
    struct cluster_stats stats;
    _Atomic uint32_t rq_code[600]; /* cells by status, as cells.rq_class */

    /* What one P writes and others read. */
    _Atomic uint32_t refs __attribute__((aligned(64)));
    _Atomic uint32_t connections;       /* against the circuit breaker, all Ps together */
    struct breaker requests;            /* max_requests */
    _Atomic bool warm;                  /* has had its first resolution, good or bad */
    struct host_set *_Atomic published; /* newest set, for dumps and late Ps; leased */
    struct cluster_local local[];       /* by P */
};

/* cfg lies in config. Builds it and, for STATIC, publishes its hosts; DNS types start resolving with cluster_start.
 * NULL and problems on error. */
struct cluster *cluster_build(struct config *config, struct config *bootstrap,
                              const struct cfg_cluster *cfg, struct cfg_problems *problems);
/* Inside rt_run: spreads the hosts to the Ps and starts the resolver of a DNS cluster. */
void cluster_start(struct cluster *cluster);
/* It is in no configuration any more: names are not resolved, and its connections close when nobody uses them. P 0. */
void cluster_retire(struct cluster *cluster);
/* Gauges of its hosts, which another one of its name may have set meanwhile. */
void cluster_show_members(struct cluster *cluster);
struct cluster *cluster_ref(struct cluster *cluster);
void cluster_unref(struct cluster *cluster);

/* Takes over the array's references (transferred). NULL when memory is short. */
struct host_set *host_set_new(struct host **hosts, uint32_t count);
void host_set_unref(struct host_set *set);
struct host_set *host_set_ref(struct host_set *set);
struct host *host_new(const struct address *address, struct span hostname, uint32_t weight,
                      bool healthy);
struct host *host_ref(struct host *host);
void host_unref(struct host *host);

/* Publishes a set (transferred) to every P. */
void cluster_set_hosts(struct cluster *cluster, struct host_set *set);
/* The newest set, leased to the caller; NULL when there is none yet. Any thread. */
struct host_set *cluster_hosts(struct cluster *cluster);

/* Endpoints in the configuration, before any name is resolved. */
uint32_t cluster_endpoint_count(const struct cfg_cluster *cfg);

/* The next host in rotation, borrowed until the current P's set changes (which only a return to
 * the scheduler allows); NULL: no healthy host. On the cluster's P. */
struct host *cluster_choose(struct cluster *cluster, unsigned p_index);

/* A request is let in, or not: max_requests are there. Whoever was let in leaves in the end. */
MUST_CHECK static inline bool cluster_admit(struct cluster *cluster, unsigned p_index) {
    return breaker_take(&cluster->requests, &cluster->local[p_index].requests);
}
static inline void cluster_leave(struct cluster *cluster, unsigned p_index) {
    breaker_give(&cluster->requests, &cluster->local[p_index].requests);
}

/* Private: the first response of its kind. */
void cluster_count_first(struct cluster *cluster, unsigned shard, unsigned status);
/* Counts a response (or local failure) in cluster stats, on the P whose shard it is. */
static inline void cluster_count_response(struct cluster *cluster, unsigned shard,
                                          unsigned status) {
    if (status < 100 || status >= 600)
        return;
    uint32_t by_class =
        atomic_load_explicit(&cluster->cells.rq_class[status / 100 - 1], memory_order_relaxed);
    uint32_t by_code = atomic_load_explicit(&cluster->rq_code[status], memory_order_relaxed);
    stats_cell_add_on_p(cluster->cells.rq_completed, shard, 1);
    if (by_class == 0 || by_code == 0) {
        cluster_count_first(cluster, shard, status);
        return;
    }
    stats_cell_add_on_p(by_class, shard, 1);
    stats_cell_add_on_p(by_code, shard, 1);
}
