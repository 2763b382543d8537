/* tcp_proxy: configuration, the choice of an upstream, connecting. What comes then: tcp_session.c. */
#include "filter/tcp_proxy.h"

#include <errno.h>
#include <stdlib.h>

#include "base/clock.h"
#include "config/network_config.h"
#include "filter/tcp_proxy_internal.h"
#include "proxy/access_log.h"
#include "proxy/downstream.h"
#include "proxy/format.h"
#include "proxy/snapshot.h"
#include "proxy/worker.h"
#include "rt/sync.h"

enum { BACKOFF_MAX_FACTOR = 10 }; /* Envoy's default of max_interval, in base_intervals */

/* ---- configuration ---- */

static void init_stats(struct tcp_stats *stats, struct span prefix) {
    const struct stat_place table[] = {
        {&stats->rx_bytes, STAT_COUNTER, "downstream_cx_rx_bytes_total"},
        {&stats->tx_bytes, STAT_COUNTER, "downstream_cx_tx_bytes_total"},
        {&stats->rx_buffered, STAT_GAUGE, "downstream_cx_rx_bytes_buffered"},
        {&stats->tx_buffered, STAT_GAUGE, "downstream_cx_tx_bytes_buffered"},
        {&stats->cx_total, STAT_COUNTER, "downstream_cx_total"},
        {&stats->cx_no_route, STAT_COUNTER, "downstream_cx_no_route"},
        {&stats->paused, STAT_COUNTER, "downstream_flow_control_paused_reading_total"},
        {&stats->resumed, STAT_COUNTER, "downstream_flow_control_resumed_reading_total"},
        {&stats->idle_timeout, STAT_COUNTER, "idle_timeout"},
        {&stats->max_duration, STAT_COUNTER, "max_downstream_connection_duration"},
    };
    stats_get_table(table, sizeof table / sizeof table[0], "tcp", "envoy.tcp_prefix", prefix);
}

static bool build_targets(struct tcp_proxy *proxy, const struct cfg_tcp_proxy *config,
                          struct snapshot *snapshot) {
    size_t count = config->clusters_count ? config->clusters_count : 1;
    uint64_t below = 0;
    proxy->targets = calloc(count, sizeof *proxy->targets);
    if (!proxy->targets)
        return false;
    proxy->target_count = (uint32_t)count;
    for (size_t i = 0; i < count; i++) {
        const struct cfg_weighted_tcp_cluster *weighted =
            config->clusters_count ? &config->clusters[i] : NULL;
        below += weighted ? weighted->weight : 1;
        proxy->targets[i] = (struct tcp_target){
            .cluster = snapshot_use_cluster(snapshot, weighted ? weighted->name : config->cluster),
            .below = below,
        };
    }
    return true;
}

static bool build_logs(struct tcp_proxy *proxy, const struct cfg_tcp_proxy *config,
                       struct cfg_problems *problems) {
    proxy->logs = calloc(config->access_log_count + 1, sizeof *proxy->logs);
    for (size_t i = 0; proxy->logs && i < config->access_log_count; i++) {
        struct access_log *log = access_log_build(&config->access_log[i], problems);
        if (!log)
            return false;
        proxy->logs[proxy->log_count++] = log;
    }
    return proxy->logs != NULL;
}

static void read_times(struct tcp_proxy *proxy, const struct cfg_tcp_proxy *config) {
    const struct cfg_tcp_log_options *log = config->access_log_options;
    const struct cfg_backoff *backoff = config->backoff_options;
    proxy->idle_ns = config->idle_timeout.set ? config->idle_timeout.ns : 3600 * NS_PER_S;
    proxy->duration_ns = config->max_downstream_connection_duration.ns;
    proxy->flush_ns =
        log ? log->access_log_flush_interval.ns : config->access_log_flush_interval.ns;
    proxy->logs_connected =
        log ? log->flush_access_log_on_connected : config->flush_access_log_on_connected;
    proxy->attempts_max = config->max_connect_attempts.set ? config->max_connect_attempts.value : 1;
    if (!backoff)
        return;
    proxy->backoff_ns = backoff->base_interval.ns;
    if (backoff->max_interval.set)
        proxy->backoff_max_ns = backoff->max_interval.ns;
    else if (__builtin_mul_overflow(proxy->backoff_ns, BACKOFF_MAX_FACTOR, &proxy->backoff_max_ns))
        proxy->backoff_max_ns = INT64_MAX;
}

static void free_config(void *config) {
    struct tcp_proxy *proxy = config;
    for (uint32_t i = 0; i < proxy->log_count; i++)
        access_log_free(proxy->logs[i]);
    free(proxy->logs);
    free(proxy->targets);
    free(proxy);
}

static int build(const struct cfg_any *typed_config, struct snapshot *snapshot,
                 struct cfg_problems *problems, void **out) {
    const struct cfg_tcp_proxy *config = typed_config->message;
    struct tcp_proxy *proxy = calloc(1, sizeof *proxy);
    size_t before = problems->count;
    if (!proxy || !build_targets(proxy, config, snapshot) || !build_logs(proxy, config, problems)) {
        if (problems->count == before)
            cfg_problem_add(problems, CFG_PROBLEM_INVALID, &config->mark, "out of memory");
        if (proxy)
            free_config(proxy);
        return -EINVAL;
    }
    read_times(proxy, config);
    init_stats(&proxy->stats, config->stat_prefix);
    *out = proxy;
    return 0;
}

/* ---- an upstream ---- */

/* NULL: there is none of that name. */
static struct cluster *choose_cluster(struct tcp_session *s) {
    const struct network_stream *n = s->n;
    const struct tcp_proxy *proxy = s->proxy;
    if (n->cluster.len) {
        struct cluster *named = snapshot_cluster(n->worker->snapshot, n->cluster);
        s->leased_cluster = named ? cluster_ref(named) : NULL;
        return named;
    }
    uint64_t sum = proxy->targets[proxy->target_count - 1].below;
    uint64_t chosen = sum > 1 ? worker_random(n->worker) % sum : 0;
    const struct tcp_target *target = proxy->targets;
    while (chosen >= target->below)
        target++;
    return target->cluster;
}

/* What was learnt of the one that was tried. The lease on the host ends with the session's. */
static void note_host(struct tcp_session *s, struct upstream_opened *opened) {
    struct stream_info *log = &s->n->log;
    host_unref(s->host);
    s->host = opened->upstream ? NULL : opened->host;
    log->upstream_remote = opened->host ? opened->host->text : span_none();
    log->upstream_host_name = opened->host ? opened->host->hostname : span_none();
    if (opened->failure[0])
        log->upstream_transport_failure =
            connection_info_keep(s->n->info, span_of(opened->failure));
}

/* True: another host may be tried. */
static bool note_failure(struct tcp_session *s, struct cluster *cluster,
                         enum upstream_failure failure) {
    struct stream_info *log = &s->n->log;
    switch (failure) {
    case UPSTREAM_NO_HOST:
        log->flags |= FLAG_NO_HEALTHY_UPSTREAM;
        return false;
    case UPSTREAM_OVERFLOW:
        log->flags |= FLAG_UPSTREAM_OVERFLOW;
        return false;
    case UPSTREAM_CONNECT_FAILED:
    case UPSTREAM_CONNECT_TIMEOUT:
        log->flags |= FLAG_UPSTREAM_CONNECTION_FAILURE;
        stat_inc(cluster->stats.rq_pending_failure_eject, s->n->worker->index);
        return true;
    default: /* the session is over */
        return false;
    }
}

/* A random part of an interval that doubles. 0, or -ECANCELED. */
static int back_off(const struct tcp_session *s, uint32_t failures) {
    const struct tcp_proxy *proxy = s->proxy;
    int64_t most_ns = proxy->backoff_ns;
    for (uint32_t i = 1; i < failures && most_ns < proxy->backoff_max_ns; i++)
        if (__builtin_mul_overflow(most_ns, 2, &most_ns))
            most_ns = INT64_MAX;
    if (most_ns > proxy->backoff_max_ns)
        most_ns = proxy->backoff_max_ns;
    if (most_ns == 0)
        return rt_cancelled() ? -ECANCELED : 0;
    int64_t wait_ns = (int64_t)(worker_random(s->n->worker) % (uint64_t)most_ns);
    return rt_sleep_until(clock_mono_ns() + wait_ns);
}

static bool is_logged(const struct tcp_session *s) {
    return s->proxy->log_count || s->n->info->listener->config->log_count;
}

static bool connect_to(struct tcp_session *s, struct cluster *cluster) {
    struct stream_info *log = &s->n->log;
    unsigned shard = s->n->worker->index;
    const struct transport_wishes wishes = {.downstream = s->n->connection};
    const struct upstream_wants wants = {.on_event = tcp_session_upstream_event,
                                         .wishes = &wishes,
                                         .deadline_ns = RT_FOREVER,
                                         .without_local = !is_logged(s)};
    for (uint32_t failures = 0; failures < s->proxy->attempts_max; failures++) {
        struct upstream_opened opened;
        if (failures && back_off(s, failures) != 0)
            return false;
        log->upstream_attempts++;
        enum upstream_failure failure = upstream_open(cluster, shard, &wants, &opened);
        note_host(s, &opened);
        if (failure == UPSTREAM_OK) {
            s->upstream = opened.upstream;
            return true;
        }
        if (!note_failure(s, cluster, failure))
            return false;
    }
    log->flags |= FLAG_UPSTREAM_RETRY_LIMIT_EXCEEDED;
    stat_inc(cluster->stats.cx_connect_attempts_exceeded, shard);
    return false;
}

static bool connect_somewhere(struct tcp_session *s) {
    struct stream_info *log = &s->n->log;
    unsigned shard = s->n->worker->index;
    struct cluster *cluster = choose_cluster(s);
    if (!cluster) {
        log->flags |= FLAG_NO_CLUSTER_FOUND;
        stat_inc(s->proxy->stats.cx_no_route, shard);
        return false;
    }
    log->upstream_cluster = cluster->name;
    if (!connect_to(s, cluster))
        return false;
    struct upstream *u = s->upstream;
    log->upstream_local = span_make(u->local_text, u->local_len);
    stat_inc(cluster->stats.rq_total, shard);
    stat_inc(cluster->stats.rq_active, shard);
    return true;
}

/* ---- the filter ---- */

static int open_session(struct network_stream *n, const struct network_filter *filter,
                        void **self) {
    struct tcp_session *s;
    const struct tcp_proxy *proxy = filter->config;
    int rc = tcp_session_open(n, proxy, &s);
    if (rc != 0)
        return rc;
    stat_inc(proxy->stats.cx_total, n->worker->index);
    *self = s;
    return 0;
}

static enum network_result serve(struct network_stream *n, void *self) {
    struct tcp_session *s = self;
    tcp_session_connects(s);
    bool connected = connect_somewhere(s);
    if (!connected || s->end) { /* it may be over although the connection stands */
        rt_cancel_clear();
        return NETWORK_DONE;
    }
    if (s->proxy->logs_connected)
        tcp_session_log(s, FORMAT_EVENT_TCP_UPSTREAM_CONNECTED);
    tcp_session_start(s);
    return NETWORK_TAKEN;
}

static void close_session(struct network_stream *n, void *self) {
    tcp_session_close(self);
}

static const struct network_filter_itab itab = {
    .name = "envoy.filters.network.tcp_proxy",
    .open = open_session,
    .serve = serve,
    .event = tcp_session_event,
    .close = close_session,
};

const struct network_filter_kind network_filter_kind_tcp_proxy = {
    .itab = &itab,
    .schema = &cfg_schema_tcp_proxy,
    .build = build,
    .free_config = free_config,
};
