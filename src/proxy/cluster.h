/* cluster: a named group of endpoints, its hosts as each P sees them, and their stats.
 *
 * A cluster object outlives configs: a snapshot leases it by name, and when a new config has the same
 * definition the object with its connections, rotation and hosts goes on.
 *
 *   cluster ─ local[P] ─ host_set (immutable, leased by each P) ─► host ─ pool[P]
 *
 * Ownership  Counted (atomic): cluster_unref, host_unref, host_set_unref.
 * Threads    local[p] and host->pools[p] belong to P p. The rest is immutable or atomic.
 *            cluster_set_hosts may be called on any P or off them: it posts to each P. */
#pragma once
#include <stdatomic.h>

#include "base/list.h"
#include "base/stats.h"
#include "config/config.h"
#include "io/address.h"
#include "rt/rt.h"
#include "rt/sync.h"

struct host_counters { /* of one P; read by any thread, relaxed */
    _Atomic uint64_t cx_total, cx_active, cx_connect_fail;
    _Atomic uint64_t rq_total, rq_active, rq_success, rq_error, rq_timeout;
};

struct host_pool {    /* of one P */
    struct list idle; /* struct upstream.node, most recently used first */
    uint32_t idle_count, open_count;
    bool retired; /* the host left the cluster, for good: nothing comes back here */
    struct host_counters counters;
} __attribute__((aligned(64)));

struct host {
    _Atomic uint32_t refs;
    struct address address;
    char text_bytes[ADDRESS_TEXT_MAX];
    struct span text;     /* "ip:port" */
    struct span hostname; /* name it was resolved from, or the configured one; may be empty */
    char *hostname_bytes;
    uint32_t weight;
    bool healthy; /* by configured health_status */
    unsigned pool_count;
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
        *cx_protocol_error, *cx_pool_overflow, *cx_destroy_with_active_rq, *cx_max_requests;
    struct statistic *rq_total, *rq_active, *rq_completed, *rq_pending_total, *rq_pending_active,
        *rq_pending_overflow, *rq_pending_failure_eject, *rq_timeout, *rq_rx_reset, *rq_tx_reset,
        *rq_cancelled, *rq_time, *rq_maintenance_mode;
    struct statistic *rq_class[5]; /* 1xx .. 5xx */
    struct statistic *rq_code[600];
    struct statistic *membership_total, *membership_healthy, *membership_change, *update_attempt,
        *update_success, *update_failure, *update_empty, *max_host_weight;
};

struct cluster_local {         /* of one P */
    struct host_set *hosts;    /* leased; NULL until the first set arrives */
    uint32_t next;             /* rotation */
    struct wait_queue pending; /* exchanges that wait for a connection to come back */
    uint32_t pending_count, open_count;
} __attribute__((aligned(64)));

struct cluster {
    _Atomic uint32_t refs;
    struct config *config_ref; /* keeps `config` alive */
    const struct cfg_cluster *config;
    struct span name;
    int64_t connect_timeout_ns, idle_timeout_ns; /* 0: none */
    int64_t max_connection_duration_ns;
    uint32_t max_requests_per_connection; /* 0: none */
    uint32_t max_connections, max_pending, max_requests;
    uint32_t buffer_limit;
    bool enable_trailers;
    _Atomic uint32_t connections, requests; /* against the circuit breakers, all Ps together */
    _Atomic bool stopping;                  /* the resolver ends */
    _Atomic bool warm;                      /* has had its first resolution, good or bad */
    struct host_set *_Atomic published;     /* newest set, for dumps and late Ps; leased */
    struct cluster_stats stats;
    unsigned local_count;
    struct cluster_local local[]; /* by P */
};

/* Builds it and, for STATIC, publishes its hosts; DNS types start resolving with cluster_start.
 * NULL and problems on error. */
struct cluster *cluster_build(struct config *config, const struct cfg_cluster *cfg,
                              struct cfg_problems *problems);
/* Inside rt_run: spreads the hosts to the Ps and starts the resolver of a DNS cluster. */
void cluster_start(struct cluster *cluster);
void cluster_stop(struct cluster *cluster);
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

/* Counts a response (or local failure) in cluster stats. */
void cluster_count_response(struct cluster *cluster, unsigned shard, unsigned status);
