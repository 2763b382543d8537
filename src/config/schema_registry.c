/* schema_registry: which messages may stand in an Any, and a walk over all tables. */
#include "config/discovery_config.h"
#include "config/golang_config.h"
#include "config/listener_filter_config.h"
#include "config/json_router_config.h"
#include "config/native_config.h"
#include "config/network_config.h"
#include "config/schema_tables.h"
#include "config/tls_config.h"

static const struct cfg_any_type any_types[] = {
    {&cfg_schema_hcm, CFG_SLOT_NETWORK_FILTER, "envoy.filters.network.http_connection_manager"},
    {&cfg_schema_tcp_proxy, CFG_SLOT_NETWORK_FILTER, "envoy.filters.network.tcp_proxy"},
    {&cfg_schema_sni_cluster, CFG_SLOT_NETWORK_FILTER, "envoy.filters.network.sni_cluster"},
    {&cfg_schema_network_connection_limit, CFG_SLOT_NETWORK_FILTER,
     "envoy.filters.network.connection_limit"},
    {&cfg_schema_network_rate_limit, CFG_SLOT_NETWORK_FILTER,
     "envoy.filters.network.local_ratelimit"},
    {&cfg_schema_echo, CFG_SLOT_NETWORK_FILTER, "envoy.filters.network.echo"},
    {&cfg_schema_network_direct_response, CFG_SLOT_NETWORK_FILTER,
     "envoy.filters.network.direct_response"},
    {&cfg_schema_inject, CFG_SLOT_NETWORK_FILTER, "sluice.filters.network.inject"},
    {&cfg_schema_golang_network, CFG_SLOT_NETWORK_FILTER, "envoy.filters.network.golang"},
    {&cfg_schema_golang_cluster_specifier, CFG_SLOT_CLUSTER_SPECIFIER,
     "envoy.router.cluster_specifier_plugin.golang"},
    {&cfg_schema_router, CFG_SLOT_HTTP_FILTER, "envoy.filters.http.router"},
    {&cfg_schema_golang, CFG_SLOT_HTTP_FILTER, "envoy.filters.http.golang"},
    {&cfg_schema_golang_per_route, CFG_SLOT_PER_ROUTE, "envoy.filters.http.golang"},
    {&cfg_schema_json_router, CFG_SLOT_HTTP_FILTER, "sluice.filters.http.json_router"},
    {&cfg_schema_native, CFG_SLOT_HTTP_FILTER, "sluice.filters.http.native"},
    {&cfg_schema_native_per_route, CFG_SLOT_PER_ROUTE, "sluice.filters.http.native"},
    {&cfg_schema_file_access_log, CFG_SLOT_ACCESS_LOG, "envoy.access_loggers.file"},
    {&cfg_schema_stdout_access_log, CFG_SLOT_ACCESS_LOG, "envoy.access_loggers.stdout"},
    {&cfg_schema_stderr_access_log, CFG_SLOT_ACCESS_LOG, "envoy.access_loggers.stderr"},
    {&cfg_schema_upstream_http, CFG_SLOT_UPSTREAM_PROTOCOL,
     "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"},
    {&cfg_schema_fixed_heap, CFG_SLOT_RESOURCE_MONITOR, "envoy.resource_monitors.fixed_heap"},
    {&cfg_schema_injected_resource, CFG_SLOT_RESOURCE_MONITOR,
     "envoy.resource_monitors.injected_resource"},
    {&cfg_schema_downstream_connections, CFG_SLOT_RESOURCE_MONITOR,
     "envoy.resource_monitors.global_downstream_max_connections"},
    {&cfg_schema_downstream_tls, CFG_SLOT_TRANSPORT_SOCKET, "envoy.transport_sockets.tls"},
    {&cfg_schema_upstream_tls, CFG_SLOT_TRANSPORT_SOCKET, "envoy.transport_sockets.tls"},
    {&cfg_schema_tls_inspector, CFG_SLOT_LISTENER_FILTER, "envoy.filters.listener.tls_inspector"},
    {&cfg_schema_http_inspector, CFG_SLOT_LISTENER_FILTER, "envoy.filters.listener.http_inspector"},
    {&cfg_schema_proxy_protocol, CFG_SLOT_LISTENER_FILTER, "envoy.filters.listener.proxy_protocol"},
    {&cfg_schema_original_dst, CFG_SLOT_LISTENER_FILTER, "envoy.filters.listener.original_dst"},
    {&cfg_schema_sniffer, CFG_SLOT_LISTENER_FILTER, "sluice.filters.listener.sniffer"},
    {&cfg_schema_upstream_proxy_protocol, CFG_SLOT_TRANSPORT_SOCKET,
     "envoy.transport_sockets.upstream_proxy_protocol"},
    {&cfg_schema_raw_buffer, CFG_SLOT_TRANSPORT_SOCKET, "envoy.transport_sockets.raw_buffer"},
    {&cfg_schema_listener, CFG_SLOT_RESOURCE, NULL},
    {&cfg_schema_cluster, CFG_SLOT_RESOURCE, NULL},
    {&cfg_schema_route_configuration, CFG_SLOT_RESOURCE, NULL},
    {&cfg_schema_discovery_resource, CFG_SLOT_RESOURCE, NULL},
};

static const struct cfg_any_type *added[CFG_ADDED_TYPES_MAX];
static size_t added_count;

void cfg_any_type_add(const struct cfg_any_type *type) {
    ASSERT(added_count < CFG_ADDED_TYPES_MAX);
    added[added_count++] = type;
}

const struct cfg_any_type *cfg_any_type_at(size_t index) {
    if (index < COUNT_OF(any_types))
        return &any_types[index];
    index -= COUNT_OF(any_types);
    return index < added_count ? added[index] : NULL;
}

const struct cfg_any_type *cfg_any_type_find(struct span full_name) {
    const struct cfg_any_type *type;
    for (size_t i = 0; (type = cfg_any_type_at(i)); i++) {
        if (span_eq(full_name, span_of(type->schema->name)))
            return type;
    }
    return NULL;
}

struct walk {
    const struct cfg_schema **out;
    size_t capacity, count;
};

static void visit(struct walk *walk, const struct cfg_schema *schema) {
    for (size_t i = 0; i < walk->count && i < walk->capacity; i++) {
        if (walk->out[i] == schema)
            return;
    }
    if (walk->count < walk->capacity)
        walk->out[walk->count] = schema;
    walk->count++;
    for (size_t i = 0; i < schema->fields_count; i++) {
        if (schema->fields[i].schema)
            visit(walk, schema->fields[i].schema);
    }
}

size_t cfg_schema_all(const struct cfg_schema **out, size_t capacity) {
    struct walk walk = {.out = out, .capacity = capacity};
    visit(&walk, &cfg_schema_bootstrap);
    visit(&walk, &cfg_schema_discovery_response);
    const struct cfg_any_type *type;
    for (size_t i = 0; (type = cfg_any_type_at(i)); i++)
        visit(&walk, type->schema);
    return walk.count;
}
