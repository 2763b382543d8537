#include "proxy/snapshot.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "config/runtime_layers.h"

enum { LISTENER_MEMORY_MIN = 1 << 20, LISTENER_FILTERS_TIMEOUT_S = 15 };

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

static void build_listener_filters(struct listener_config *listener,
                                   struct cfg_problems *problems) {
    const struct cfg_listener *cfg = listener->config;
    listener->filters_timeout_ns = cfg->listener_filters_timeout.set
                                       ? cfg->listener_filters_timeout.ns
                                       : LISTENER_FILTERS_TIMEOUT_S * NS_PER_S;
    listener->filters = calloc(cfg->listener_filters_count + 1, sizeof *listener->filters);
    if (!listener->filters) {
        problems->lost = true;
        return;
    }
    for (size_t i = 0; i < cfg->listener_filters_count; i++) {
        const struct cfg_listener_filter *entry = &cfg->listener_filters[i];
        const struct listener_filter_kind *kind = listener_filter_find(entry->typed_config.schema);
        if (!kind) {
            cfg_problem_add(problems, CFG_PROBLEM_UNSUPPORTED, &entry->mark,
                            "listener filter '%.*s': its typed_config is of no filter that this "
                            "release has",
                            (int)entry->name.len, entry->name.ptr);
            continue;
        }
        struct listener_filter *filter = &listener->filters[listener->filter_count];
        *filter = (struct listener_filter){
            .kind = kind, .name = entry->name, .disabled = entry->filter_disabled};
        if (!kind->build || kind->build(&entry->typed_config, problems, &filter->config) == 0)
            listener->filter_count++;
    }
}

static void build_logs(struct listener_config *listener, struct cfg_problems *problems) {
    const struct cfg_listener *cfg = listener->config;
    listener->logs = calloc(cfg->access_log_count + 1, sizeof *listener->logs);
    for (size_t i = 0; listener->logs && i < cfg->access_log_count; i++) {
        struct access_log *log = access_log_build(&cfg->access_log[i], problems);
        if (log)
            listener->logs[listener->log_count++] = log;
    }
}

/* The listener, of those before it and itself, that has it already; NULL: it is free. */
static const struct listener_config *owner_of(const struct snapshot *snapshot,
                                              const struct listener_config *last,
                                              const struct address *address) {
    for (const struct listener_config *at = snapshot->listeners; at <= last; at++)
        for (uint32_t i = 0; i < at->address_count; i++)
            if (address_port(address) != 0 && address_eq(&at->addresses[i].address, address))
                return at;
    return NULL;
}

/* False: there is a problem that makes it useless to look further. */
static bool build_addresses(const struct snapshot *snapshot, struct listener_config *listener,
                            struct cfg_problems *problems) {
    const struct cfg_listener *cfg = listener->config;
    listener->addresses = calloc(cfg->additional_addresses_count + 1, sizeof *listener->addresses);
    if (!listener->addresses) {
        problems->lost = true;
        return false;
    }
    for (size_t i = 0; i <= cfg->additional_addresses_count; i++) {
        const struct cfg_additional_address *more = i ? &cfg->additional_addresses[i - 1] : NULL;
        const struct cfg_address *from = more ? more->address : cfg->address;
        struct listener_address address = {
            .ipv4_compat = from->ipv4_compat,
            .socket_options = cfg->socket_options,
            .socket_option_count = cfg->socket_options_count,
        };
        if (more && more->socket_options) {
            address.socket_options = more->socket_options->socket_options;
            address.socket_option_count = more->socket_options->socket_options_count;
        }
        if (!address_parse(from->host, (uint16_t)from->port_value, &address.address)) {
            cfg_problem_add(problems, CFG_PROBLEM_INVALID, &from->mark,
                            "'%.*s' is no IP address; a listener takes one, such as 0.0.0.0",
                            (int)from->host.len, from->host.ptr);
            return false;
        }
        const struct listener_config *owner = owner_of(snapshot, listener, &address.address);
        if (owner)
            cfg_problem_add(problems, CFG_PROBLEM_INVALID, more ? &more->mark : &cfg->mark,
                            "the address is taken by the listener of line %u",
                            owner->config->mark.line);
        listener->addresses[listener->address_count++] = address;
    }
    return true;
}

/* "listener.127.0.0.1_80", malloc'ed: as on Envoy, where the address is a part of the name. NULL: no memory. */
static char *stats_owner(const struct listener_config *listener) {
    struct span prefix = listener->config->stat_prefix;
    char text[ADDRESS_TEXT_MAX], *owner = NULL;
    if (prefix.len)
        return asprintf(&owner, "listener.%.*s", (int)prefix.len, prefix.ptr) < 0 ? NULL : owner;
    address_text(&listener->addresses[0].address, text);
    if (asprintf(&owner, "listener.%s", text) < 0)
        return NULL;
    for (char *c = owner; *c; c++)
        if (*c == ':')
            *c = '_';
    return owner;
}

static void build_listener(struct snapshot *snapshot, const struct cfg_listener *cfg,
                           struct cfg_problems *problems) {
    struct listener_config *listener = &snapshot->listeners[snapshot->listener_count];
    *listener = (struct listener_config){.config = cfg, .name = cfg->name};
    if (!cfg->address) {
        cfg_problem_add(problems, CFG_PROBLEM_INVALID, &cfg->mark, "the listener has no address");
        return;
    }
    if (!build_addresses(snapshot, listener, problems)) {
        free(listener->addresses);
        return;
    }
    for (uint32_t i = 0; i < snapshot->listener_count; i++)
        if (cfg->name.len && span_eq(snapshot->listeners[i].name, cfg->name))
            cfg_problem_add(problems, CFG_PROBLEM_INVALID, &cfg->mark,
                            "the name '%.*s' is taken by the listener of line %u",
                            (int)cfg->name.len, cfg->name.ptr,
                            snapshot->listeners[i].config->mark.line);
    listener->memory_limit_bytes = memory_limit(cfg, problems);
    listener->connections_max = UINT64_MAX;
    if (cfg_runtime_listener_limit(config_bootstrap(snapshot->config)->layered_runtime, cfg->name,
                                   &listener->connections_max) < 0)
        problems->lost = true;
    char *owner = stats_owner(listener);
    if (owner)
        listener->chains = filter_chain_table_build(cfg, snapshot, span_of(owner), problems);
    else
        problems->lost = true;
    free(owner);
    build_listener_filters(listener, problems);
    build_logs(listener, problems);
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

static void free_listener(struct listener_config *listener) {
    filter_chain_table_free(listener->chains);
    for (uint32_t i = 0; i < listener->filter_count; i++) {
        struct listener_filter *filter = &listener->filters[i];
        if (filter->kind->free_config)
            filter->kind->free_config(filter->config);
    }
    free(listener->filters);
    for (uint32_t i = 0; i < listener->log_count; i++)
        access_log_free(listener->logs[i]);
    free(listener->logs);
    free(listener->addresses);
}

void snapshot_unref(struct snapshot *snapshot) {
    if (!snapshot || atomic_fetch_sub_explicit(&snapshot->refs, 1, memory_order_acq_rel) != 1)
        return;
    for (uint32_t i = 0; i < snapshot->listener_count; i++)
        free_listener(&snapshot->listeners[i]);
    for (uint32_t i = 0; i < snapshot->cluster_count; i++)
        cluster_unref(snapshot->clusters[i]);
    free(snapshot->listeners);
    free(snapshot->clusters);
    config_unref(snapshot->config);
    free(snapshot);
}
