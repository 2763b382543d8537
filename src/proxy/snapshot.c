#include "proxy/snapshot.h"

#include <stdlib.h>

#include "base/clock.h"
#include "config/runtime_layers.h"
#include "config/tls_config.h"

enum { LISTENER_MEMORY_MIN = 1 << 20 };

static int compare_names(struct span a, struct span b) {
    size_t shorter = a.len < b.len ? a.len : b.len;
    int order = shorter ? memcmp(a.ptr, b.ptr, shorter) : 0;
    if (order != 0)
        return order;
    return a.len < b.len ? -1 : a.len > b.len;
}

static int compare_clusters(const void *a, const void *b) {
    const struct cluster *const *left = a;
    const struct cluster *const *right = b;
    return compare_names((*left)->name, (*right)->name);
}

struct cluster *snapshot_cluster(const struct snapshot *snapshot, struct span name) {
    uint32_t low = 0, high = snapshot->cluster_count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        int order = compare_names(name, snapshot->clusters[middle]->name);
        if (order == 0)
            return snapshot->clusters[middle];
        if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return NULL;
}

static bool same_definition(const struct cluster *cluster, const struct cfg_cluster *cfg) {
    extern const struct cfg_schema cfg_schema_cluster;
    char *before = cfg_to_json(&cfg_schema_cluster, cluster->config, 0);
    char *after = cfg_to_json(&cfg_schema_cluster, cfg, 0);
    bool same = before && after && strcmp(before, after) == 0;
    free(before);
    free(after);
    return same;
}

static void build_clusters(struct snapshot *snapshot, const struct cfg_static_resources *resources,
                           const struct snapshot *previous, struct cfg_problems *problems) {
    snapshot->clusters = calloc(resources->clusters_count + 1, sizeof(struct cluster *));
    for (size_t i = 0; snapshot->clusters && i < resources->clusters_count; i++) {
        const struct cfg_cluster *cfg = &resources->clusters[i];
        for (size_t j = 0; j < i; j++)
            if (span_eq(resources->clusters[j].name, cfg->name))
                cfg_problem_add(problems, CFG_PROBLEM_INVALID, &cfg->mark,
                                "the name '%.*s' is taken by the cluster of line %u",
                                (int)cfg->name.len, cfg->name.ptr,
                                resources->clusters[j].mark.line);
        struct cluster *old = previous ? snapshot_cluster(previous, cfg->name) : NULL;
        struct cluster *cluster = old && same_definition(old, cfg)
                                      ? cluster_ref(old)
                                      : cluster_build(snapshot->config, cfg, problems);
        if (cluster)
            snapshot->clusters[snapshot->cluster_count++] = cluster;
    }
    if (snapshot->clusters)
        qsort(snapshot->clusters, snapshot->cluster_count, sizeof snapshot->clusters[0],
              compare_clusters);
}

/* What the tables know already and nothing does yet. */
static void refuse_fields(const struct cfg_listener *cfg, const struct cfg_filter_chain *chain,
                          struct cfg_problems *problems) {
    const struct {
        const char *name;
        bool is_there;
    } fields[] = {
        {"listener_filters", cfg->listener_filters_count > 0},
        {"access_log of a listener", cfg->access_log_count > 0},
        {"socket_options, transparent, freebind and tcp_fast_open_queue_length",
         cfg->socket_options_count > 0 || cfg->transparent.set || cfg->freebind.set ||
             cfg->tcp_fast_open_queue_length.set},
        {"filter_chain_match", chain->filter_chain_match != NULL},
        {"transport_socket_connect_timeout", chain->transport_socket_connect_timeout.set},
    };
    for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++)
        if (fields[i].is_there)
            cfg_problem_add(problems, CFG_PROBLEM_UNSUPPORTED, &cfg->mark, "no %s in this release",
                            fields[i].name);
}

/* The one HTTP connection manager of a listener. */
static const struct cfg_hcm *find_hcm(const struct cfg_listener *cfg, struct span *chain_name,
                                      struct cfg_problems *problems) {
    size_t chains = cfg->filter_chains_count + (cfg->default_filter_chain ? 1 : 0);
    if (chains != 1) {
        cfg_problem_add(problems, chains ? CFG_PROBLEM_UNSUPPORTED : CFG_PROBLEM_INVALID,
                        &cfg->mark,
                        "a listener has exactly one filter chain in this release, "
                        "this one has %zu",
                        chains);
        return NULL;
    }
    const struct cfg_filter_chain *chain =
        cfg->filter_chains_count ? &cfg->filter_chains[0] : cfg->default_filter_chain;
    refuse_fields(cfg, chain, problems);
    *chain_name = chain->name;
    if (chain->transport_socket && chain->transport_socket->has_typed_config &&
        chain->transport_socket->typed_config.schema != &cfg_schema_raw_buffer) {
        cfg_problem_add(problems, CFG_PROBLEM_UNSUPPORTED, &chain->transport_socket->mark,
                        "only envoy.transport_sockets.raw_buffer is supported yet");
        return NULL;
    }
    if (chain->filters_count != 1 || chain->filters[0].typed_config.schema != &cfg_schema_hcm) {
        cfg_problem_add(problems, CFG_PROBLEM_UNSUPPORTED,
                        chain->filters_count ? &chain->filters[0].mark : &chain->mark,
                        "a filter chain holds one envoy.filters.network.http_connection_manager "
                        "in this release");
        return NULL;
    }
    const struct cfg_hcm *hcm = chain->filters[0].typed_config.message;
    if (!hcm->route_config) {
        cfg_problem_add(problems, CFG_PROBLEM_INVALID, &hcm->mark, "route_config is missing");
        return NULL;
    }
    return hcm;
}

/* metadata.filter_metadata["sluice.memory"]: what Envoy has no field for, where it accepts anything. */
static uint64_t memory_limit(const struct cfg_listener *cfg, struct cfg_problems *problems) {
    static const double bytes_max = (double)(UINT64_C(1) << 50);
    const struct cfg_value *ours = NULL;
    for (size_t i = 0; cfg->metadata && i < cfg->metadata->filter_metadata_count; i++)
        if (span_eq(cfg->metadata->filter_metadata[i].key, SPAN_LIT("sluice.memory")))
            ours = cfg->metadata->filter_metadata[i].value;
    double bytes = 0;
    for (size_t i = 0; ours && i < ours->fields_count; i++) {
        const struct cfg_value_field *field = &ours->fields[i];
        bool is_known = span_eq(field->key, SPAN_LIT("limit_bytes"));
        uint64_t large; /* YAML has integers above 32 bits as text: see config/value.c */
        if (is_known && field->value.kind == CFG_VALUE_STRING &&
            span_to_u64(field->value.string, &large))
            bytes = (double)large;
        else if (is_known && field->value.kind == CFG_VALUE_NUMBER)
            bytes = field->value.number;
        else
            cfg_problem_add(problems, CFG_PROBLEM_INVALID, &cfg->mark,
                            is_known ? "sluice.memory: %.*s is not a number of bytes"
                                     : "sluice.memory: there is no '%.*s'; there is limit_bytes",
                            (int)field->key.len, field->key.ptr);
    }
    if (ours && !(bytes >= LISTENER_MEMORY_MIN && bytes <= bytes_max)) {
        cfg_problem_add(problems, CFG_PROBLEM_INVALID, &cfg->mark,
                        "sluice.memory: limit_bytes is required, from %d, a dozen requests at a "
                        "time, to %.0f",
                        LISTENER_MEMORY_MIN, bytes_max);
        return 0;
    }
    return (uint64_t)bytes;
}

static void build_listener(struct snapshot *snapshot, const struct cfg_listener *cfg,
                           struct cfg_problems *problems) {
    struct listener_config *listener = &snapshot->listeners[snapshot->listener_count];
    *listener = (struct listener_config){.config = cfg, .name = cfg->name};
    if (!cfg->address) {
        cfg_problem_add(problems, CFG_PROBLEM_INVALID, &cfg->mark, "the listener has no address");
        return;
    }
    if (!address_parse(cfg->address->host, (uint16_t)cfg->address->port_value,
                       &listener->address)) {
        cfg_problem_add(problems, CFG_PROBLEM_INVALID, &cfg->address->mark,
                        "'%.*s' is no IP address; a listener takes one, such as 0.0.0.0",
                        (int)cfg->address->host.len, cfg->address->host.ptr);
        return;
    }
    for (uint32_t i = 0; i < snapshot->listener_count; i++) {
        if (cfg->name.len && span_eq(snapshot->listeners[i].name, cfg->name))
            cfg_problem_add(problems, CFG_PROBLEM_INVALID, &cfg->mark,
                            "the name '%.*s' is taken by the listener of line %u",
                            (int)cfg->name.len, cfg->name.ptr,
                            snapshot->listeners[i].config->mark.line);
        if (address_port(&listener->address) != 0 &&
            address_eq(&snapshot->listeners[i].address, &listener->address))
            cfg_problem_add(problems, CFG_PROBLEM_INVALID, &cfg->mark,
                            "the address is taken by the listener of line %u",
                            snapshot->listeners[i].config->mark.line);
    }
    listener->memory_limit_bytes = memory_limit(cfg, problems);
    listener->connections_max = UINT64_MAX;
    if (cfg_runtime_listener_limit(config_bootstrap(snapshot->config)->layered_runtime, cfg->name,
                                   &listener->connections_max) < 0)
        problems->lost = true;
    struct span chain_name = span_none();
    const struct cfg_hcm *hcm = find_hcm(cfg, &chain_name, problems);
    if (!hcm)
        return;
    uint32_t limit = cfg->per_connection_buffer_limit_bytes.set
                         ? cfg->per_connection_buffer_limit_bytes.value
                         : 1024 * 1024;
    listener->hcm = hcm_build(hcm, snapshot, cfg->name, chain_name, limit, problems);
    if (listener->hcm)
        listener->hcm->bypass_overload = cfg->bypass_overload_manager;
    snapshot->listener_count++;
}

struct snapshot *snapshot_build(struct config *config, const struct snapshot *previous,
                                struct cfg_problems *problems) {
    static const struct cfg_static_resources nothing;
    static _Atomic uint64_t versions;
    const struct cfg_static_resources *resources = config_bootstrap(config)->static_resources;
    if (!resources)
        resources = &nothing;
    struct snapshot *snapshot = calloc(1, sizeof *snapshot);
    if (!snapshot)
        return NULL;
    snapshot->refs = 1;
    snapshot->config = config_ref(config);
    snapshot->built_wall_ns = clock_wall_ns();
    snapshot->version = ++versions;
    build_clusters(snapshot, resources, previous, problems);
    snapshot->listeners = calloc(resources->listeners_count + 1, sizeof *snapshot->listeners);
    for (size_t i = 0; snapshot->listeners && i < resources->listeners_count; i++)
        build_listener(snapshot, &resources->listeners[i], problems);
    if (cfg_problems_refuse(problems)) {
        snapshot_unref(snapshot);
        return NULL;
    }
    return snapshot;
}

struct snapshot *snapshot_ref(struct snapshot *snapshot) {
    atomic_fetch_add_explicit(&snapshot->refs, 1, memory_order_relaxed);
    return snapshot;
}

void snapshot_unref(struct snapshot *snapshot) {
    if (!snapshot || atomic_fetch_sub_explicit(&snapshot->refs, 1, memory_order_acq_rel) != 1)
        return;
    for (uint32_t i = 0; i < snapshot->listener_count; i++)
        hcm_free(snapshot->listeners[i].hcm);
    for (uint32_t i = 0; i < snapshot->cluster_count; i++)
        cluster_unref(snapshot->clusters[i]);
    free(snapshot->listeners);
    free(snapshot->clusters);
    config_unref(snapshot->config);
    free(snapshot);
}
