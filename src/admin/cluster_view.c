/* cluster_view: a running cluster as the admin shows it. Host counters are kept per P, and a reader
 * on any thread may be one behind. */
#include <stdlib.h>

#include "admin/admin.h"

static uint64_t load(const _Atomic uint64_t *counter) {
    return atomic_load_explicit(counter, memory_order_relaxed);
}

static struct admin_host show_host(const struct host *host) {
    struct admin_host shown = {.address = host->address,
                               .hostname = host->hostname,
                               .weight = host->weight,
                               .healthy = host->healthy};
    for (unsigned p = 0; p < host->pool_count; p++) {
        const struct host_counters *counters = &host->pools[p].counters;
        shown.cx_total += load(&counters->cx_total);
        shown.cx_active += load(&counters->cx_active);
        shown.cx_connect_fail += load(&counters->cx_connect_fail);
        shown.rq_total += load(&counters->rq_total);
        shown.rq_active += load(&counters->rq_active);
        shown.rq_success += load(&counters->rq_success);
        shown.rq_error += load(&counters->rq_error);
        shown.rq_timeout += load(&counters->rq_timeout);
    }
    return shown;
}

static void read_thresholds(const struct cfg_cluster *config, struct admin_cluster *shown) {
    for (size_t i = 0; i < config->thresholds_count; i++) {
        const struct cfg_thresholds *from = &config->thresholds[i];
        struct admin_thresholds *to =
            from->priority == 1 ? &shown->high_priority : &shown->default_priority;
        if (from->max_connections.set)
            to->max_connections = from->max_connections.value;
        if (from->max_pending_requests.set)
            to->max_pending_requests = from->max_pending_requests.value;
        if (from->max_requests.set)
            to->max_requests = from->max_requests.value;
        if (from->max_retries.set)
            to->max_retries = from->max_retries.value;
    }
}

void admin_show_cluster(struct cluster *cluster, admin_cluster_fn fn, void *arg) {
    static const struct admin_thresholds defaults = {1024, 1024, 1024, 3}; /* Envoy's */
    struct admin_cluster shown = {
        .name = cluster->name, .default_priority = defaults, .high_priority = defaults};
    read_thresholds(cluster->config, &shown);

    struct host_set *set = cluster_hosts(cluster); /* leased until the callback is through */
    struct admin_host *hosts = set && set->count ? calloc(set->count, sizeof *hosts) : NULL;
    if (hosts) {
        for (uint32_t i = 0; i < set->count; i++)
            hosts[i] = show_host(set->hosts[i]);
        shown.hosts = hosts;
        shown.host_count = set->count;
    }
    fn(&shown, arg);
    free(hosts);
    if (set)
        host_set_unref(set);
}
