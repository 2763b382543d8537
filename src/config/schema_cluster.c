/* schema_cluster: envoy.config.cluster.v3, envoy.config.endpoint.v3 and the upstream's protocol. */
#include <inttypes.h>

#include "config/load.h"
#include "config/schema_tables.h"

/* ---- endpoints ---- */

static const struct cfg_field endpoint_fields[] = {
    POINTER(struct cfg_endpoint, 1, address, struct cfg_address, cfg_schema_address,
            .doc = "Where to connect to; a host name in DNS clusters."),
    FIELD(struct cfg_endpoint, 3, hostname, CFG_STRING,
          .doc = "Name of the host, for auto_host_rewrite."),
};
static const struct cfg_missing endpoint_missing[] = {
    {2, "health_check_config"},
    {4, "additional_addresses"},
};

static void check_endpoint(struct cfg_loader *loader, const struct cfg_tree *node,
                           const struct cfg_path *path, void *message) {
    const struct cfg_endpoint *endpoint = message;
    if (!endpoint->address && !cfg_tree_get(node, SPAN_LIT("address")))
        cfg_report(loader, CFG_PROBLEM_INVALID, node, path, "address is required");
}

static const struct cfg_schema endpoint_schema = {
    .name = "envoy.config.endpoint.v3.Endpoint",
    .doc = "A host.",
    .size = sizeof(struct cfg_endpoint),
    FIELDS(endpoint_fields),
    MISSING(endpoint_missing),
    .check = check_endpoint,
};

static const struct cfg_enum_value health_status_values[] = {
    {0, "UNKNOWN", CFG_SUPPORTED},  {1, "HEALTHY", CFG_SUPPORTED}, {2, "UNHEALTHY", CFG_SUPPORTED},
    {3, "DRAINING", CFG_SUPPORTED}, {4, "TIMEOUT", CFG_SUPPORTED}, {5, "DEGRADED", CFG_SUPPORTED},
};
static const struct cfg_enum health_status_enum =
    ENUM_TABLE("envoy.config.core.v3.HealthStatus", health_status_values);

static const struct cfg_field lb_endpoint_fields[] = {
    FLAT(struct cfg_endpoint, 1, "endpoint", endpoint_schema, .oneof = "host_identifier",
         .rules = CFG_ONEOF_REQUIRED, .doc = "The host."),
    ENUM(struct cfg_endpoint, 2, health_status, health_status_enum, .default_text = "UNKNOWN",
         .doc = "UNHEALTHY, DRAINING and TIMEOUT keep requests away from it."),
    WRAPPER(struct cfg_endpoint, 4, load_balancing_weight, CFG_U32, WITHIN(1, UINT32_MAX),
            .default_text = "1", .doc = "Its share of the requests."),
};
static const struct cfg_missing lb_endpoint_missing[] = {
    {3, "metadata"},
    {5, "endpoint_name"},
};
static const struct cfg_schema lb_endpoint_schema = {
    .name = "envoy.config.endpoint.v3.LbEndpoint",
    .doc = "A host and its weight.",
    .size = sizeof(struct cfg_endpoint),
    MARK(struct cfg_endpoint),
    FIELDS(lb_endpoint_fields),
    MISSING(lb_endpoint_missing),
};

static void check_priority(struct cfg_loader *loader, const struct cfg_tree *node,
                           const struct cfg_path *path, void *message) {
    const struct cfg_locality_endpoints *endpoints = message;
    if (endpoints->priority)
        cfg_report(loader, CFG_PROBLEM_UNSUPPORTED, node, path,
                   "priority %" PRIu32 " is not supported yet: only 0 is", endpoints->priority);
}

static const struct cfg_field locality_endpoints_fields[] = {
    POINTER(struct cfg_locality_endpoints, 1, locality, struct cfg_locality, cfg_schema_locality,
            .status = CFG_INERT, .doc = "Where the hosts are."),
    LIST(struct cfg_locality_endpoints, 2, lb_endpoints, struct cfg_endpoint, lb_endpoint_schema,
         .doc = "The hosts."),
    WRAPPER(struct cfg_locality_endpoints, 3, load_balancing_weight, CFG_U32, WITHIN(1, UINT32_MAX),
            .status = CFG_INERT,
            .doc = "As on Envoy, without effect unless balancing by locality is on."),
    FIELD(struct cfg_locality_endpoints, 5, priority, CFG_U32, .default_text = "0",
          .rules = CFG_RANGE, .min = 0, .max = 128, .doc = "Only 0 for now."),
};
static const struct cfg_missing locality_endpoints_missing[] = {
    {6, "proximity"},
    {7, "load_balancer_endpoints"},
    {8, "leds_cluster_locality_config"},
    {9, "metadata"},
};
static const struct cfg_schema locality_endpoints_schema = {
    .name = "envoy.config.endpoint.v3.LocalityLbEndpoints",
    .doc = "Hosts in one place.",
    .size = sizeof(struct cfg_locality_endpoints),
    MARK(struct cfg_locality_endpoints),
    FIELDS(locality_endpoints_fields),
    MISSING(locality_endpoints_missing),
    .check = check_priority,
};

static const struct cfg_field load_assignment_fields[] = {
    FIELD(struct cfg_load_assignment, 1, cluster_name, CFG_STRING, .rules = CFG_REQUIRED,
          .doc = "Usually the cluster's name; no more than a label here."),
    LIST(struct cfg_load_assignment, 2, endpoints, struct cfg_locality_endpoints,
         locality_endpoints_schema, .doc = "The hosts, by place."),
};
static const struct cfg_missing load_assignment_missing[] = {
    {4, "policy"},
    {5, "named_endpoints"},
};
static const struct cfg_schema load_assignment_schema = {
    .name = "envoy.config.endpoint.v3.ClusterLoadAssignment",
    .doc = "The hosts of a cluster.",
    .size = sizeof(struct cfg_load_assignment),
    MARK(struct cfg_load_assignment),
    FIELDS(load_assignment_fields),
    MISSING(load_assignment_missing),
};

/* ---- circuit breakers ---- */

static const struct cfg_field thresholds_fields[] = {
    ENUM(struct cfg_thresholds, 1, priority, cfg_enum_routing_priority, .default_text = "DEFAULT",
         .doc = "Which requests they are for; all have DEFAULT so far."),
    WRAPPER(struct cfg_thresholds, 2, max_connections, CFG_U32, .default_text = "1024",
            .doc = "Connections to the cluster."),
    WRAPPER(struct cfg_thresholds, 3, max_pending_requests, CFG_U32, .default_text = "1024",
            .doc = "Requests that wait for a connection."),
    WRAPPER(struct cfg_thresholds, 4, max_requests, CFG_U32, .default_text = "1024",
            .doc = "Requests at the same time."),
    WRAPPER(struct cfg_thresholds, 5, max_retries, CFG_U32, .default_text = "3",
            .status = CFG_INERT, .doc = "There are no retries yet."),
    FIELD(struct cfg_thresholds, 6, track_remaining, CFG_BOOL, .status = CFG_INERT,
          .doc = "Gauges of what remains are not kept."),
};
static const struct cfg_missing thresholds_missing[] = {
    {7, "max_connection_pools"},
    {8, "retry_budget"},
};
static const struct cfg_schema thresholds_schema = {
    .name = "envoy.config.cluster.v3.CircuitBreakers.Thresholds",
    .doc = "Limits of a cluster.",
    .size = sizeof(struct cfg_thresholds),
    FIELDS(thresholds_fields),
    MISSING(thresholds_missing),
};

static const struct cfg_field circuit_breakers_fields[] = {
    LIST(struct cfg_cluster, 1, thresholds, struct cfg_thresholds, thresholds_schema,
         .doc = "One per priority."),
};
static const struct cfg_missing circuit_breakers_missing[] = {{2, "per_host_thresholds"}};
static const struct cfg_schema circuit_breakers_schema = {
    .name = "envoy.config.cluster.v3.CircuitBreakers",
    .doc = "Limits of a cluster.",
    .size = sizeof(struct cfg_cluster),
    FIELDS(circuit_breakers_fields),
    MISSING(circuit_breakers_missing),
};

/* ---- the upstream's protocol ---- */

static const struct cfg_field explicit_http_fields[] = {
    POINTER(struct cfg_upstream_http, 1, http_protocol_options, struct cfg_http1_options,
            cfg_schema_http1_options, ONEOF(struct cfg_upstream_http, protocol_config),
            .rules = CFG_ONEOF_REQUIRED, .doc = "HTTP/1."),
};
static const struct cfg_missing explicit_http_missing[] = {
    {2, "http2_protocol_options"},
    {3, "http3_protocol_options"},
};
static const struct cfg_schema explicit_http_schema = {
    .name = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions.ExplicitHttpConfig",
    .doc = "One version of HTTP.",
    .size = sizeof(struct cfg_upstream_http),
    FIELDS(explicit_http_fields),
    MISSING(explicit_http_missing),
};

static const struct cfg_field auto_sni_fields[] = {
    FIELD(struct cfg_auto_sni, 1, auto_sni, CFG_BOOL,
          .doc = "Ask for the host of the request, as it goes to the endpoint."),
    FIELD(struct cfg_auto_sni, 2, auto_san_validation, CFG_BOOL,
          .doc = "The endpoint's certificate must have that name."),
    FIELD(struct cfg_auto_sni, 3, override_auto_sni_header, CFG_STRING, .rules = CFG_HEADER_NAME,
          .doc = "A header that has the name instead."),
};
static const struct cfg_schema auto_sni_schema = {
    .name = "envoy.config.core.v3.UpstreamHttpProtocolOptions",
    .doc = "What HTTP says to TLS.",
    .size = sizeof(struct cfg_auto_sni),
    FIELDS(auto_sni_fields),
};

static const struct cfg_field upstream_http_fields[] = {
    POINTER(struct cfg_upstream_http, 1, common_http_protocol_options, struct cfg_http_options,
            cfg_schema_http_options, .doc = "Settings of HTTP, whichever version."),
    POINTER(struct cfg_upstream_http, 2, upstream_http_protocol_options, struct cfg_auto_sni,
            auto_sni_schema, .doc = "The server name of TLS, by request."),
    FLAT(struct cfg_upstream_http, 3, "explicit_http_config", explicit_http_schema,
         ONEOF(struct cfg_upstream_http, upstream_protocol_options), .rules = CFG_ONEOF_REQUIRED,
         .doc = "The version to speak."),
};
static const struct cfg_missing upstream_http_missing[] = {
    {4, "use_downstream_protocol_config"},
    {5, "auto_config"},
    {6, "http_filters"},
    {7, "header_validation_config"},
};
const struct cfg_schema cfg_schema_upstream_http = {
    .name = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
    .doc = "How HTTP is spoken to a cluster.",
    .size = sizeof(struct cfg_upstream_http),
    FIELDS(upstream_http_fields),
    MISSING(upstream_http_missing),
};

static const struct cfg_field protocol_option_fields[] = {
    FIELD(struct cfg_per_filter, 1, key, CFG_STRING, .doc = "Name of the extension."),
    FIELD(struct cfg_per_filter, 2, value, CFG_ANY, .slot = CFG_SLOT_UPSTREAM_PROTOCOL,
          .doc = "Its settings."),
};
static const struct cfg_schema protocol_option_schema = {
    .name = "map<string, google.protobuf.Any>",
    .size = sizeof(struct cfg_per_filter),
    FIELDS(protocol_option_fields),
};

/* ---- cluster ---- */

static const struct cfg_enum_value discovery_type_values[] = {
    {CFG_CLUSTER_STATIC, "STATIC", CFG_SUPPORTED},
    {CFG_CLUSTER_STRICT_DNS, "STRICT_DNS", CFG_SUPPORTED},
    {CFG_CLUSTER_LOGICAL_DNS, "LOGICAL_DNS", CFG_SUPPORTED},
    {3, "EDS", CFG_UNSUPPORTED},
    {4, "ORIGINAL_DST", CFG_UNSUPPORTED},
};
static const struct cfg_enum discovery_type_enum =
    ENUM_TABLE("envoy.config.cluster.v3.Cluster.DiscoveryType", discovery_type_values);

static const struct cfg_enum_value lb_policy_values[] = {
    {0, "ROUND_ROBIN", CFG_SUPPORTED},
    {1, "LEAST_REQUEST", CFG_UNSUPPORTED},
    {2, "RING_HASH", CFG_UNSUPPORTED},
    {3, "RANDOM", CFG_UNSUPPORTED},
    {5, "MAGLEV", CFG_UNSUPPORTED},
    {6, "CLUSTER_PROVIDED", CFG_UNSUPPORTED},
    {7, "LOAD_BALANCING_POLICY_CONFIG", CFG_UNSUPPORTED},
};
static const struct cfg_enum lb_policy_enum =
    ENUM_TABLE("envoy.config.cluster.v3.Cluster.LbPolicy", lb_policy_values);

static const struct cfg_enum_value dns_family_values[] = {
    {0, "AUTO", CFG_SUPPORTED},    {1, "V4_ONLY", CFG_SUPPORTED},
    {2, "V6_ONLY", CFG_SUPPORTED}, {3, "V4_PREFERRED", CFG_SUPPORTED},
    {4, "ALL", CFG_SUPPORTED},
};
static const struct cfg_enum dns_family_enum =
    ENUM_TABLE("envoy.config.cluster.v3.Cluster.DnsLookupFamily", dns_family_values);

static const struct cfg_field cluster_fields[] = {
    FIELD(struct cfg_cluster, 1, name, CFG_STRING, .rules = CFG_REQUIRED,
          .doc = "What routes call it; unique."),
    ENUM(struct cfg_cluster, 2, type, discovery_type_enum,
         ONEOF(struct cfg_cluster, cluster_discovery_type), .default_text = "STATIC",
         .doc = "Where its hosts come from."),
    FIELD(struct cfg_cluster, 4, connect_timeout, CFG_DURATION, POSITIVE, .default_text = "5s",
          .doc = "Time to connect."),
    WRAPPER(struct cfg_cluster, 5, per_connection_buffer_limit_bytes, CFG_U32,
            .default_text = "1048576", .doc = "How much of a body is held for a slow peer."),
    ENUM(struct cfg_cluster, 6, lb_policy, lb_policy_enum, .default_text = "ROUND_ROBIN",
         .doc = "How a host is chosen."),
    FLAT(struct cfg_cluster, 10, "circuit_breakers", circuit_breakers_schema,
         .doc = "Limits of the cluster."),
    POINTER(struct cfg_cluster, 13, http_protocol_options, struct cfg_http1_options,
            cfg_schema_http1_options, .doc = "Deprecated; see typed_extension_protocol_options."),
    FIELD(struct cfg_cluster, 16, dns_refresh_rate, CFG_DURATION, WITHIN(1000001, INT64_MAX),
          .default_text = "5s", .doc = "How often names are resolved again."),
    ENUM(struct cfg_cluster, 17, dns_lookup_family, dns_family_enum, .default_text = "AUTO",
         .doc = "Which addresses are asked for."),
    POINTER(struct cfg_cluster, 24, transport_socket, struct cfg_transport_socket,
            cfg_schema_transport_socket, .default_text = "envoy.transport_sockets.raw_buffer",
            .doc = "TLS: see [tls.md](tls.md)."),
    POINTER(struct cfg_cluster, 25, metadata, struct cfg_metadata, cfg_schema_metadata,
            .doc = "For filters, which find it as `xds.cluster_metadata`."),
    FIELD(struct cfg_cluster, 28, alt_stat_name, CFG_STRING, .default_text = "name",
          .doc = "Name in the statistics."),
    POINTER(struct cfg_cluster, 29, common_http_protocol_options, struct cfg_http_options,
            cfg_schema_http_options, .doc = "Deprecated; see typed_extension_protocol_options."),
    POINTER(struct cfg_cluster, 33, load_assignment, struct cfg_load_assignment,
            load_assignment_schema, .doc = "The hosts."),
    MAP(struct cfg_cluster, 36, typed_extension_protocol_options, struct cfg_per_filter,
        protocol_option_schema,
        .doc = "How HTTP is spoken, under the key "
               "\"envoy.extensions.upstreams.http.v3.HttpProtocolOptions\"."),
    FIELD(struct cfg_cluster, 39, respect_dns_ttl, CFG_BOOL, .status = CFG_INERT,
          .doc = "Names are resolved again at the dns_refresh_rate, whatever their TTL."),
    POINTER(struct cfg_cluster, 46, upstream_http_protocol_options, struct cfg_auto_sni,
            auto_sni_schema, .doc = "Deprecated; see typed_extension_protocol_options."),
};
static const struct cfg_missing cluster_missing[] = {
    {3, "eds_cluster_config"},
    {8, "health_checks"},
    {9, "max_requests_per_connection"},
    {14, "http2_protocol_options"},
    {18, "dns_resolvers"},
    {19, "outlier_detection"},
    {20, "cleanup_interval"},
    {21, "upstream_bind_config"},
    {22, "lb_subset_config"},
    {23, "ring_hash_lb_config"},
    {26, "protocol_selection"},
    {27, "common_lb_config"},
    {30, "upstream_connection_options"},
    {31, "close_connections_on_host_health_failure"},
    {32, "ignore_health_on_host_removal"},
    {34, "original_dst_lb_config"},
    {37, "least_request_lb_config"},
    {38, "cluster_type"},
    {40, "filters"},
    {41, "load_balancing_policy"},
    {42, "lrs_server"},
    {43, "transport_socket_matches"},
    {44, "dns_failure_refresh_rate"},
    {45, "use_tcp_for_dns_lookups"},
    {47, "track_timeout_budgets"},
    {48, "upstream_config"},
    {49, "track_cluster_stats"},
    {50, "preconnect_policy"},
    {51, "connection_pool_per_downstream_connection"},
    {52, "maglev_lb_config"},
    {53, "dns_resolution_config"},
    {54, "wait_for_warm_on_init"},
    {55, "typed_dns_resolver_config"},
    {56, "round_robin_lb_config"},
    {57, "lrs_report_endpoint_metrics"},
    {58, "dns_jitter"},
};

/* The options live in one of two places; readers find them in the cluster in both cases. As on
 * Envoy, the typed ones count and the deprecated fields are then ignored. */
static void take_protocol_options(struct cfg_loader *loader, const struct cfg_tree *node,
                                  const struct cfg_path *path, void *message) {
    struct cfg_cluster *cluster = message;
    for (size_t i = 0; i < cluster->typed_extension_protocol_options_count; i++) {
        const struct cfg_per_filter *option = &cluster->typed_extension_protocol_options[i];
        if (!span_eq(option->key,
                     SPAN_LIT("envoy.extensions.upstreams.http.v3.HttpProtocolOptions"))) {
            const struct cfg_path at = {.up = path, .name = "typed_extension_protocol_options"};
            cfg_report(loader, CFG_PROBLEM_UNSUPPORTED, node, &at,
                       "the extension \"%.*s\" is not supported: only "
                       "envoy.extensions.upstreams.http.v3.HttpProtocolOptions is",
                       (int)option->key.len, option->key.ptr);
            continue;
        }
        const struct cfg_upstream_http *http = option->value.message;
        if (!http)
            continue;
        cluster->common_http_protocol_options = http->common_http_protocol_options;
        cluster->http_protocol_options = http->http_protocol_options;
        cluster->upstream_http_protocol_options = http->upstream_http_protocol_options;
    }
}

const struct cfg_schema cfg_schema_cluster = {
    .name = "envoy.config.cluster.v3.Cluster",
    .doc = "Hosts that requests are sent to.",
    .size = sizeof(struct cfg_cluster),
    MARK(struct cfg_cluster),
    FIELDS(cluster_fields),
    MISSING(cluster_missing),
    .check = take_protocol_options,
};
