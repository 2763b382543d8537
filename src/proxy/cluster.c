/* cluster: building from config, publishing host sets to the Ps, choosing a host.
 *
 * cluster_set_hosts may run on a resolver's coroutine or before the Ps serve. It swaps `published`
 * under a lock (publish_lock, off the hot path) and posts one message per P; each message leases
 * the set, and the P swaps its own pointer. So a P never sees a set that is going away, and the
 * set's last reference may die on any P. */
#include "proxy/cluster.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/log.h"
#include "config/tls_config.h"
#include "proxy/dns.h"
#include "proxy/upstream.h"
#include "proxy/worker.h"

LOG_COMPONENT(upstream, "upstream");

static pthread_mutex_t publish_lock = PTHREAD_MUTEX_INITIALIZER;

static void init_stats(struct cluster *cluster) {
    struct cluster_stats *s = &cluster->stats;
    const struct stat_place table[] = {
        /* Their cells lie side by side: every request changes them. */
        {&s->rq_total, STAT_COUNTER, "upstream_rq_total"},
        {&s->rq_active, STAT_GAUGE, "upstream_rq_active"},
        {&s->rq_completed, STAT_COUNTER, "upstream_rq_completed"},
        {&s->cx_rx_bytes, STAT_COUNTER, "upstream_cx_rx_bytes_total"},
        {&s->cx_tx_bytes, STAT_COUNTER, "upstream_cx_tx_bytes_total"},
        /* These a connection, or something that failed. */
        {&s->cx_total, STAT_COUNTER, "upstream_cx_total"},
        {&s->cx_active, STAT_GAUGE, "upstream_cx_active"},
        {&s->cx_http1_total, STAT_COUNTER, "upstream_cx_http1_total"},
        {&s->cx_connect_fail, STAT_COUNTER, "upstream_cx_connect_fail"},
        {&s->cx_connect_timeout, STAT_COUNTER, "upstream_cx_connect_timeout"},
        {&s->cx_connect_attempts_exceeded, STAT_COUNTER, "upstream_cx_connect_attempts_exceeded"},
        {&s->cx_overflow, STAT_COUNTER, "upstream_cx_overflow"},
        {&s->cx_pool_overflow, STAT_COUNTER, "upstream_cx_pool_overflow"},
        {&s->cx_destroy, STAT_COUNTER, "upstream_cx_destroy"},
        {&s->cx_destroy_local, STAT_COUNTER, "upstream_cx_destroy_local"},
        {&s->cx_destroy_remote, STAT_COUNTER, "upstream_cx_destroy_remote"},
        {&s->cx_destroy_with_active_rq, STAT_COUNTER, "upstream_cx_destroy_with_active_rq"},
        {&s->cx_paused, STAT_COUNTER, "upstream_flow_control_paused_reading_total"},
        {&s->cx_resumed, STAT_COUNTER, "upstream_flow_control_resumed_reading_total"},
        {&s->cx_idle_timeout, STAT_COUNTER, "upstream_cx_idle_timeout"},
        {&s->cx_max_requests, STAT_COUNTER, "upstream_cx_max_requests"},
        {&s->cx_no_descriptor, STAT_COUNTER, "upstream_cx_no_descriptor"},
        {&s->cx_none_healthy, STAT_COUNTER, "upstream_cx_none_healthy"},
        {&s->cx_protocol_error, STAT_COUNTER, "upstream_cx_protocol_error"},
        {&s->cx_connect_ms, STAT_HISTOGRAM, "upstream_cx_connect_ms"},
        {&s->cx_length_ms, STAT_HISTOGRAM, "upstream_cx_length_ms"},
        {&s->rq_pending_total, STAT_COUNTER, "upstream_rq_pending_total"},
        {&s->rq_pending_active, STAT_GAUGE, "upstream_rq_pending_active"},
        {&s->rq_pending_overflow, STAT_COUNTER, "upstream_rq_pending_overflow"},
        {&s->rq_pending_failure_eject, STAT_COUNTER, "upstream_rq_pending_failure_eject"},
        {&s->rq_timeout, STAT_COUNTER, "upstream_rq_timeout"},
        {&s->rq_rx_reset, STAT_COUNTER, "upstream_rq_rx_reset"},
        {&s->rq_tx_reset, STAT_COUNTER, "upstream_rq_tx_reset"},
        {&s->rq_cancelled, STAT_COUNTER, "upstream_rq_cancelled"},
        {&s->rq_maintenance_mode, STAT_COUNTER, "upstream_rq_maintenance_mode"},
        {&s->rq_time, STAT_HISTOGRAM, "upstream_rq_time"},
        {&s->membership_total, STAT_GAUGE, "membership_total"},
        {&s->membership_healthy, STAT_GAUGE, "membership_healthy"},
        {&s->membership_change, STAT_COUNTER, "membership_change"},
        {&s->max_host_weight, STAT_GAUGE, "max_host_weight"},
        {&s->update_attempt, STAT_COUNTER, "update_attempt"},
        {&s->update_success, STAT_COUNTER, "update_success"},
        {&s->update_failure, STAT_COUNTER, "update_failure"},
        {&s->update_empty, STAT_COUNTER, "update_empty"},
    };
    struct span label =
        cluster->config->alt_stat_name.len ? cluster->config->alt_stat_name : cluster->name;
    stats_get_table(table, sizeof table / sizeof table[0], "cluster", "envoy.cluster_name", label);
    struct cluster_cells *cells = &cluster->cells;
    cells->rq_total = s->rq_total->slot;
    cells->rq_active = s->rq_active->slot;
    cells->rq_completed = s->rq_completed->slot;
    cells->rq_time = s->rq_time->slot;
    cells->cx_rx_bytes = s->cx_rx_bytes->slot;
    cells->cx_tx_bytes = s->cx_tx_bytes->slot;
}

static void read_limits(struct cluster *cluster) {
    const struct cfg_cluster *cfg = cluster->config;
    cluster->max_connections = cluster->max_pending = cluster->max_requests = 1024;
    for (size_t i = 0; i < cfg->thresholds_count; i++) {
        const struct cfg_thresholds *t = &cfg->thresholds[i];
        if (t->priority != 0)
            continue; /* HIGH: nothing asks for it yet */
        if (t->max_connections.set)
            cluster->max_connections = t->max_connections.value;
        if (t->max_pending_requests.set)
            cluster->max_pending = t->max_pending_requests.value;
        if (t->max_requests.set)
            cluster->max_requests = t->max_requests.value;
    }
    cluster->connect_timeout_ns = cfg->connect_timeout.set ? cfg->connect_timeout.ns : 5 * NS_PER_S;
    cluster->buffer_limit = cfg->per_connection_buffer_limit_bytes.set
                                ? cfg->per_connection_buffer_limit_bytes.value
                                : 1024 * 1024;
    cluster->idle_timeout_ns = 3600 * NS_PER_S;
    const struct cfg_http_options *http = cfg->common_http_protocol_options;
    if (http && http->idle_timeout.set)
        cluster->idle_timeout_ns = http->idle_timeout.ns;
    if (http && http->max_connection_duration.set)
        cluster->max_connection_duration_ns = http->max_connection_duration.ns;
    if (http && http->max_requests_per_connection.set)
        cluster->max_requests_per_connection = http->max_requests_per_connection.value;
    cluster->enable_trailers =
        cfg->http_protocol_options && cfg->http_protocol_options->enable_trailers;
}

static bool is_healthy(int health_status) {
    return health_status == 0 || health_status == 1 || health_status == 5; /* UNKNOWN, HEALTHY,
                                                                              DEGRADED */
}

uint32_t cluster_endpoint_count(const struct cfg_cluster *cfg) {
    uint32_t count = 0;
    for (size_t i = 0; cfg->load_assignment && i < cfg->load_assignment->endpoints_count; i++)
        count += (uint32_t)cfg->load_assignment->endpoints[i].lb_endpoints_count;
    return count;
}

static struct host_set *static_hosts(const struct cfg_cluster *cfg, struct cfg_problems *problems) {
    uint32_t count = 0;
    struct host **hosts = calloc(cluster_endpoint_count(cfg) + 1, sizeof(struct host *));
    if (!hosts)
        return NULL;
    for (size_t i = 0; cfg->load_assignment && i < cfg->load_assignment->endpoints_count; i++) {
        const struct cfg_locality_endpoints *locality = &cfg->load_assignment->endpoints[i];
        for (size_t j = 0; j < locality->lb_endpoints_count; j++) {
            const struct cfg_endpoint *e = &locality->lb_endpoints[j];
            struct address address;
            if (!e->address ||
                !address_parse(e->address->host, (uint16_t)e->address->port_value, &address)) {
                cfg_problem_add(problems, CFG_PROBLEM_INVALID,
                                e->address ? &e->address->mark : &e->mark,
                                "a STATIC cluster takes IP addresses; use STRICT_DNS or "
                                "LOGICAL_DNS for the name '%.*s'",
                                e->address ? (int)e->address->host.len : 0,
                                e->address ? e->address->host.ptr : "");
                continue;
            }
            uint32_t weight = e->load_balancing_weight.set ? e->load_balancing_weight.value : 1;
            struct host *host =
                host_new(&address, e->hostname, weight, is_healthy(e->health_status));
            if (host)
                hosts[count++] = host;
        }
    }
    struct host_set *set = host_set_new(hosts, count);
    free(hosts);
    return set;
}

static int build_transport(struct cluster *cluster, struct cfg_problems *problems) {
    const struct cfg_transport_socket *config = cluster->config->transport_socket;
    if (!config || !config->has_typed_config ||
        config->typed_config.schema == &cfg_schema_raw_buffer)
        return 0; /* bytes as they are */
    const struct transport_socket_kind *kind = transport_socket_find(config->typed_config.schema);
    if (!kind || !kind->itab->connect) {
        cfg_problem_add(problems, CFG_PROBLEM_UNSUPPORTED, &config->mark,
                        "transport_socket '%.*s': its typed_config is of none that a cluster of "
                        "this release has",
                        (int)config->name.len, config->name.ptr);
        return -EINVAL;
    }
    struct span label =
        cluster->config->alt_stat_name.len ? cluster->config->alt_stat_name : cluster->name;
    char *owner;
    int len = asprintf(&owner, "cluster.%.*s", (int)label.len, label.ptr);
    if (len < 0) {
        problems->lost = true;
        return -ENOMEM;
    }
    int rc = kind->build(&config->typed_config, cluster->configs[1], span_make(owner, (size_t)len),
                         true, problems, &cluster->transport.config);
    free(owner);
    if (rc == 0)
        cluster->transport.kind = kind;
    const struct cfg_auto_sni *automatic = cluster->config->upstream_http_protocol_options;
    cluster->has_wishes = (automatic && (automatic->auto_sni || automatic->auto_san_validation)) ||
                          (rc == 0 && kind->itab->is_of_client);
    return rc;
}

struct cluster *cluster_build(struct config *config, struct config *bootstrap,
                              const struct cfg_cluster *cfg, struct cfg_problems *problems) {
    unsigned locals = rt_p_count();
    size_t size = sizeof(struct cluster) + locals * sizeof(struct cluster_local);
    struct cluster *cluster = aligned_alloc(64, (size + 63) / 64 * 64);
    if (!cluster) {
        cfg_problem_add(problems, CFG_PROBLEM_INVALID, &cfg->mark, "out of memory");
        return NULL;
    }
    memset(cluster, 0, size);
    cluster->refs = 1;
    cluster->configs[0] = config_ref(config);
    cluster->configs[1] = config_beside(bootstrap, config);
    cluster->config = cfg;
    cluster->name = cfg->name;
    cluster->local_count = locals;
    for (unsigned i = 0; i < locals; i++)
        wait_queue_init(&cluster->local[i].pending);
    read_limits(cluster);
    breaker_init(&cluster->requests, cluster->max_requests, &cluster->local[0].requests,
                 sizeof(struct cluster_local), locals);
    init_stats(cluster);
    if (cfg->type == CFG_CLUSTER_STATIC) {
        cluster->published = static_hosts(cfg, problems);
        cluster->warm = true;
    } else {
        dns_check(cfg, problems);
    }
    if (!cluster->configs[1])
        problems->lost = true;
    if (!cluster->configs[1] || build_transport(cluster, problems) != 0) {
        cluster_unref(cluster);
        return NULL;
    }
    return cluster;
}

struct cluster *cluster_ref(struct cluster *cluster) {
    atomic_fetch_add_explicit(&cluster->refs, 1, memory_order_relaxed);
    return cluster;
}

void cluster_unref(struct cluster *cluster) {
    if (!cluster || atomic_fetch_sub_explicit(&cluster->refs, 1, memory_order_acq_rel) != 1)
        return;
    for (unsigned i = 0; i < cluster->local_count; i++)
        host_set_unref(cluster->local[i].hosts);
    host_set_unref(cluster->published);
    if (cluster->transport.kind && cluster->transport.kind->free_config)
        cluster->transport.kind->free_config(cluster->transport.config);
    config_unref(cluster->configs[0]);
    config_unref(cluster->configs[1]);
    free(cluster);
}

struct publish {
    struct rt_post post;
    struct cluster *cluster; /* leased */
    struct host_set *set;    /* leased */
    unsigned p_index;
};

static bool set_has(const struct host_set *set, const struct host *host) {
    for (uint32_t i = 0; i < set->count; i++)
        if (set->hosts[i] == host)
            return true;
    return false;
}

/* On the P: the old set's hosts that left lose their idle connections. */
static void take_set(struct rt_post *post) {
    struct publish *message = container_of(post, struct publish, post);
    struct cluster_local *local = &message->cluster->local[message->p_index];
    struct host_set *old = local->hosts;
    local->hosts = message->set;
    if (old) {
        for (uint32_t i = 0; i < old->count; i++)
            if (!set_has(message->set, old->hosts[i]))
                upstream_retire_pool(old->hosts[i], message->p_index);
        host_set_unref(old);
    } else {
        /* Or all Ps would begin with the same host. */
        uint32_t random = (uint32_t)worker_random(worker_here());
        local->next = message->set->schedule_len ? random % message->set->schedule_len : 0;
    }
    wait_queue_wake_all(&local->pending);
    cluster_unref(message->cluster);
    free(message);
}

static void spread(struct cluster *cluster, struct host_set *set) {
    for (unsigned p = 0; p < cluster->local_count; p++) {
        struct publish *message = malloc(sizeof *message);
        if (!message) {
            LOG(log_upstream, LOG_ERROR, "cluster %.*s: out of memory, hosts not updated",
                (int)cluster->name.len, cluster->name.ptr);
            return;
        }
        *message = (struct publish){.post.fn = take_set,
                                    .cluster = cluster_ref(cluster),
                                    .set = host_set_ref(set),
                                    .p_index = p};
        rt_post(p, &message->post);
    }
}

/* set may be NULL: nobody. */
static void show_members(struct cluster *cluster, const struct host_set *set) {
    uint32_t healthy = 0, heaviest = 0;
    for (uint32_t i = 0; set && i < set->count; i++) {
        healthy += set->hosts[i]->healthy;
        if (set->hosts[i]->weight > heaviest)
            heaviest = set->hosts[i]->weight;
    }
    stat_set(cluster->stats.membership_total, set ? set->count : 0);
    stat_set(cluster->stats.membership_healthy, healthy);
    stat_set(cluster->stats.max_host_weight, heaviest);
}

static void count_members(struct cluster *cluster, const struct host_set *set) {
    if (!cluster->stopping)
        show_members(cluster, set);
    stat_add(cluster->stats.membership_change, STATS_SHARD_FOREIGN, 1);
}

void cluster_show_members(struct cluster *cluster) {
    struct host_set *set = cluster_hosts(cluster);
    show_members(cluster, set);
    host_set_unref(set);
}

void cluster_set_hosts(struct cluster *cluster, struct host_set *set) {
    pthread_mutex_lock(&publish_lock);
    struct host_set *old = cluster->published;
    cluster->published = set;
    pthread_mutex_unlock(&publish_lock);
    cluster->warm = true;
    count_members(cluster, set);
    spread(cluster, set);
    host_set_unref(old);
}

struct host_set *cluster_hosts(struct cluster *cluster) {
    pthread_mutex_lock(&publish_lock);
    struct host_set *set = cluster->published ? host_set_ref(cluster->published) : NULL;
    pthread_mutex_unlock(&publish_lock);
    return set;
}

void cluster_start(struct cluster *cluster) {
    if (cluster->config->type != CFG_CLUSTER_STATIC) {
        dns_start(cluster);
        return;
    }
    struct host_set *set = cluster_hosts(cluster);
    if (set) {
        count_members(cluster, set);
        spread(cluster, set);
        host_set_unref(set);
    }
}

struct retirement {
    struct rt_post post;
    struct cluster *cluster; /* leased */
    unsigned p_index;
};

static void retire(struct rt_post *post) {
    struct retirement *message = container_of(post, struct retirement, post);
    const struct host_set *hosts = message->cluster->local[message->p_index].hosts;
    for (uint32_t i = 0; hosts && i < hosts->count; i++)
        upstream_retire_pool(hosts->hosts[i], message->p_index);
    cluster_unref(message->cluster);
    free(message);
}

void cluster_retire(struct cluster *cluster) {
    cluster->stopping = true; /* what comes back to a pool from now on is closed */
    dns_stop(cluster);
    show_members(cluster, NULL);
    for (unsigned p = 0; p < cluster->local_count; p++) {
        struct retirement *message = malloc(sizeof *message);
        if (!message)
            continue; /* they idle until their time is over */
        *message =
            (struct retirement){.post.fn = retire, .cluster = cluster_ref(cluster), .p_index = p};
        rt_post(p, &message->post);
    }
}

struct host *cluster_choose(struct cluster *cluster, unsigned p_index) {
    struct cluster_local *local = &cluster->local[p_index];
    struct host_set *set = local->hosts;
    if (!set || set->schedule_len == 0)
        return NULL;
    local->next = local->next + 1 >= set->schedule_len ? 0 : local->next + 1;
    return set->hosts[set->schedule[local->next]];
}

/* Never 0: that is a cell of the sink, where a stat counts for which there is no room. It then takes
 * this way each time. */
static uint32_t response_cell(struct cluster *cluster, const char *suffix) {
    struct span label =
        cluster->config->alt_stat_name.len ? cluster->config->alt_stat_name : cluster->name;
    return stats_get_tagged(STAT_COUNTER, "cluster", "envoy.cluster_name", label, suffix)->slot;
}

void cluster_count_first(struct cluster *cluster, unsigned shard, unsigned status) {
    char name[32];
    snprintf(name, sizeof name, "upstream_rq_%uxx", status / 100);
    uint32_t by_class = response_cell(cluster, name);
    snprintf(name, sizeof name, "upstream_rq_%u", status);
    uint32_t by_code = response_cell(cluster, name);
    /* Two Ps may both come here, and store the same. Relaxed: a cell's memory was there before. */
    atomic_store_explicit(&cluster->cells.rq_class[status / 100 - 1], by_class,
                          memory_order_relaxed);
    atomic_store_explicit(&cluster->rq_code[status], by_code, memory_order_relaxed);
    stats_cell_add_on_p(by_class, shard, 1);
    stats_cell_add_on_p(by_code, shard, 1);
}
