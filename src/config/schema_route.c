/* schema_route: envoy.config.route.v3. */
#include "config/load.h"
#include "config/rollout_config.h"
#include "config/schema_tables.h"

/* Most messages here have the same four lists, under different numbers. */
#define REQUEST_ADD(T, num)                                                                        \
    LIST(T, num, request_headers_to_add, struct cfg_header_value_option,                           \
         cfg_schema_header_value_option, .rules = CFG_MAX_ITEMS, .max = 1000,                      \
         .doc = "Headers to add to requests on their way to the cluster.")
#define RESPONSE_ADD(T, num)                                                                       \
    LIST(T, num, response_headers_to_add, struct cfg_header_value_option,                          \
         cfg_schema_header_value_option, .rules = CFG_MAX_ITEMS, .max = 1000,                      \
         .doc = "Headers to add to responses on their way to the client.")
#define REQUEST_REMOVE(T, num)                                                                     \
    SCALARS(T, num, request_headers_to_remove, CFG_STRING,                                         \
            .rules = CFG_HEADER_NAME | CFG_MODIFIABLE, .doc = "Headers to take out of requests.")
#define RESPONSE_REMOVE(T, num)                                                                    \
    SCALARS(T, num, response_headers_to_remove, CFG_STRING,                                        \
            .rules = CFG_HEADER_NAME | CFG_MODIFIABLE, .doc = "Headers to take out of responses.")
#define PER_FILTER(T, num)                                                                         \
    MAP(T, num, typed_per_filter_config, struct cfg_per_filter, cfg_schema_per_filter,             \
        .doc = "By name of an http_filters entry: what that filter does differently here.")

/* ---- match ---- */

static const struct cfg_schema grpc_schema = {
    .name = "envoy.config.route.v3.RouteMatch.GrpcRouteMatchOptions",
    .doc = "Nothing to set.",
};

static const struct cfg_field route_tls_fields[] = {
    WRAPPER(struct cfg_route_tls, 1, presented, CFG_BOOL,
            .doc = "Whether the client has shown a certificate."),
    WRAPPER(struct cfg_route_tls, 2, validated, CFG_BOOL,
            .doc = "Whether it was verified; where there is none it was not."),
};
static const struct cfg_schema route_tls_schema = {
    .name = "envoy.config.route.v3.RouteMatch.TlsContextMatchOptions",
    .doc = "Conditions on the client's certificate.",
    .size = sizeof(struct cfg_route_tls),
    FIELDS(route_tls_fields),
};

#define PATH ONEOF(struct cfg_route_match, path_specifier)
static const struct cfg_field route_match_fields[] = {
    FIELD(struct cfg_route_match, 1, prefix, CFG_STRING, PATH, .rules = CFG_ONEOF_REQUIRED,
          .doc = "What the path begins with."),
    FIELD(struct cfg_route_match, 2, path, CFG_STRING, PATH, .rules = CFG_ONEOF_REQUIRED,
          .doc = "The whole path, without the query."),
    WRAPPER(struct cfg_route_match, 4, case_sensitive, CFG_BOOL, .default_text = "true",
            .doc = "Compare paths with case; not for safe_regex."),
    LIST(struct cfg_route_match, 6, headers, struct cfg_header_matcher, cfg_schema_header_matcher,
         .doc = "Conditions on headers; all must hold."),
    LIST(struct cfg_route_match, 7, query_parameters, struct cfg_query_matcher,
         cfg_schema_query_matcher, .doc = "Conditions on the query; all must hold."),
    FLAT(struct cfg_route_match, 8, "grpc", grpc_schema,
         .has_at = CFG_AT(struct cfg_route_match, grpc), .doc = "Only gRPC requests match."),
    POINTER(struct cfg_route_match, 9, runtime_fraction, struct cfg_fraction,
            cfg_schema_runtime_fraction, .default_text = "all",
            .doc = "Only this share of the requests matches."),
    POINTER(struct cfg_route_match, 10, safe_regex, struct cfg_regex, cfg_schema_regex, PATH,
            .rules = CFG_ONEOF_REQUIRED, .doc = "An expression for the whole path."),
    POINTER(struct cfg_route_match, 11, tls_context, struct cfg_route_tls, route_tls_schema,
            .doc = "Conditions on the client's certificate."),
    FIELD(struct cfg_route_match, 14, path_separated_prefix, CFG_STRING, PATH,
          .rules = CFG_ONEOF_REQUIRED | CFG_SEPARATED_PATH,
          .doc = "The path, or what it begins with up to a '/'."),
};
static const struct cfg_missing route_match_missing[] = {
    {12, "connect_matcher"},
    {13, "dynamic_metadata"},
    {15, "path_match_policy"},
};
static const struct cfg_schema route_match_schema = {
    .name = "envoy.config.route.v3.RouteMatch",
    .doc = "Which requests a route is for.",
    .size = sizeof(struct cfg_route_match),
    MARK(struct cfg_route_match),
    FIELDS(route_match_fields),
    MISSING(route_match_missing),
};

/* ---- weighted clusters ---- */

static const struct cfg_field cluster_weight_fields[] = {
    FIELD(struct cfg_cluster_weight, 1, name, CFG_STRING, .rules = CFG_REQUIRED,
          .doc = "Name of a cluster."),
    WRAPPER(struct cfg_cluster_weight, 2, weight, CFG_U32, .default_text = "0",
            .doc = "Its share of the sum of all weights."),
    REQUEST_ADD(struct cfg_cluster_weight, 4),
    RESPONSE_ADD(struct cfg_cluster_weight, 5),
    RESPONSE_REMOVE(struct cfg_cluster_weight, 6),
    REQUEST_REMOVE(struct cfg_cluster_weight, 9),
    PER_FILTER(struct cfg_cluster_weight, 10),
};
static const struct cfg_missing cluster_weight_missing[] = {
    {3, "metadata_match"},
    {11, "host_rewrite_literal"},
    {12, "cluster_header"},
};
static const struct cfg_schema cluster_weight_schema = {
    .name = "envoy.config.route.v3.WeightedCluster.ClusterWeight",
    .doc = "One of several clusters.",
    .size = sizeof(struct cfg_cluster_weight),
    MARK(struct cfg_cluster_weight),
    FIELDS(cluster_weight_fields),
    MISSING(cluster_weight_missing),
};

static void check_weights(struct cfg_loader *loader, const struct cfg_tree *node,
                          const struct cfg_path *path, void *message) {
    const struct cfg_weighted_clusters *weighted = message;
    uint64_t sum = 0;
    for (size_t i = 0; i < weighted->clusters_count; i++)
        sum += weighted->clusters[i].weight.value;
    if (weighted->clusters_count && sum == 0)
        cfg_report(loader, CFG_PROBLEM_INVALID, node, path,
                   "the sum of the weights must be greater than 0");
    if (sum > UINT32_MAX)
        cfg_report(loader, CFG_PROBLEM_INVALID, node, path,
                   "the sum of the weights must be at most %u", UINT32_MAX);
}

static const struct cfg_field weighted_clusters_fields[] = {
    LIST(struct cfg_weighted_clusters, 1, clusters, struct cfg_cluster_weight,
         cluster_weight_schema, .rules = CFG_REQUIRED, .doc = "The clusters to choose from."),
    FIELD(struct cfg_weighted_clusters, 2, runtime_key_prefix, CFG_STRING, .status = CFG_INERT,
          .doc = "Not heeded: layered_runtime cannot override the weights."),
};
static const struct cfg_missing weighted_clusters_missing[] = {
    {3, "total_weight"},
    {4, "header_name"},
};
static const struct cfg_schema weighted_clusters_schema = {
    .name = "envoy.config.route.v3.WeightedCluster",
    .doc = "Several clusters, one chosen at random by weight for each request.",
    .size = sizeof(struct cfg_weighted_clusters),
    MARK(struct cfg_weighted_clusters),
    FIELDS(weighted_clusters_fields),
    MISSING(weighted_clusters_missing),
    .check = check_weights,
};

/* ---- plugins that choose ---- */

static const struct cfg_field extension_fields[] = {
    FIELD(struct cfg_cluster_specifier_plugin, 1, name, CFG_STRING, .rules = CFG_REQUIRED,
          .doc = "Any name; routes refer to it in cluster_specifier_plugin."),
    FIELD(struct cfg_cluster_specifier_plugin, 2, typed_config, CFG_ANY,
          .has_at = CFG_AT(struct cfg_cluster_specifier_plugin, has_typed_config),
          .slot = CFG_SLOT_CLUSTER_SPECIFIER, .rules = CFG_REQUIRED,
          .doc = "Which plugin, and its settings."),
};
static const struct cfg_schema extension_schema = {
    .name = "envoy.config.core.v3.TypedExtensionConfig",
    .doc = "An extension.",
    .size = sizeof(struct cfg_cluster_specifier_plugin),
    FIELDS(extension_fields),
};

static const struct cfg_field specifier_plugin_fields[] = {
    FLAT(struct cfg_cluster_specifier_plugin, 1, "extension", extension_schema,
         .rules = CFG_REQUIRED, .doc = "The plugin."),
    FIELD(struct cfg_cluster_specifier_plugin, 2, is_optional, CFG_BOOL, .status = CFG_INERT,
          .doc = "A plugin that is not built in is refused all the same."),
};
static const struct cfg_schema specifier_plugin_schema = {
    .name = "envoy.config.route.v3.ClusterSpecifierPlugin",
    .doc = "Chooses the cluster of a request, when its route is chosen.",
    .size = sizeof(struct cfg_cluster_specifier_plugin),
    MARK(struct cfg_cluster_specifier_plugin),
    FIELDS(specifier_plugin_fields),
};

/* ---- route ---- */

static const struct cfg_enum_value not_found_values[] = {
    {0, "SERVICE_UNAVAILABLE", CFG_SUPPORTED},
    {1, "NOT_FOUND", CFG_SUPPORTED},
    {2, "INTERNAL_SERVER_ERROR", CFG_SUPPORTED},
};
static const struct cfg_enum not_found_enum =
    ENUM_TABLE("envoy.config.route.v3.RouteAction.ClusterNotFoundResponseCode", not_found_values);

/* ---- upgrades ---- */

static const struct cfg_field upgrade_fields[] = {
    FIELD(struct cfg_upgrade, 1, upgrade_type, CFG_STRING, .rules = CFG_REQUIRED,
          .doc = "What the client's upgrade field says, in any case: \"websocket\"."),
    WRAPPER(struct cfg_upgrade, 2, enabled, CFG_BOOL, .default_text = "true",
            .doc = "Whether requests on this route may."),
};
static const struct cfg_missing upgrade_missing[] = {{3, "connect_config"}};
void cfg_check_upgrade(struct cfg_loader *loader, const struct cfg_tree *node,
                       const struct cfg_path *path, void *message) {
    const struct cfg_upgrade *upgrade = message;
    if (span_eq_nocase(upgrade->upgrade_type, SPAN_LIT("connect")) ||
        span_eq_nocase(upgrade->upgrade_type, SPAN_LIT("connect-udp")))
        cfg_report(loader, CFG_PROBLEM_INVALID, node, path,
                   "upgrades of CONNECT requests are not supported yet; upgrade_type names the "
                   "value of an upgrade field");
}
static const struct cfg_schema upgrade_schema = {
    .name = "envoy.config.route.v3.RouteAction.UpgradeConfig",
    .doc = "A protocol that clients may change to on their connection.",
    .size = sizeof(struct cfg_upgrade),
    MARK(struct cfg_upgrade),
    FIELDS(upgrade_fields),
    MISSING(upgrade_missing),
    .check = cfg_check_upgrade,
};

#define CLUSTER ONEOF(struct cfg_route_action, cluster_specifier)
#define HOST_REWRITE ONEOF(struct cfg_route_action, host_rewrite_specifier)
static const struct cfg_field route_action_fields[] = {
    FIELD(struct cfg_route_action, 1, cluster, CFG_STRING, CLUSTER,
          .rules = CFG_REQUIRED | CFG_ONEOF_REQUIRED, .doc = "Name of the cluster."),
    FIELD(struct cfg_route_action, 2, cluster_header, CFG_STRING, CLUSTER,
          .rules = CFG_REQUIRED | CFG_HEADER_NAME | CFG_ONEOF_REQUIRED,
          .doc = "Request header that names the cluster."),
    POINTER(struct cfg_route_action, 3, weighted_clusters, struct cfg_weighted_clusters,
            weighted_clusters_schema, CLUSTER, .rules = CFG_ONEOF_REQUIRED,
            .doc = "Several clusters by weight."),
    FIELD(struct cfg_route_action, 5, prefix_rewrite, CFG_STRING, .rules = CFG_HEADER_VALUE,
          .doc = "What to put in place of the part of the path that matched."),
    FIELD(struct cfg_route_action, 6, host_rewrite_literal, CFG_STRING, HOST_REWRITE,
          .rules = CFG_HEADER_VALUE, .doc = "Host to send to the cluster."),
    WRAPPER(struct cfg_route_action, 7, auto_host_rewrite, CFG_BOOL, HOST_REWRITE,
            .doc = "Send the host name of the endpoint; for DNS clusters."),
    FIELD(struct cfg_route_action, 8, timeout, CFG_DURATION, .default_text = "15s",
          .doc = "Time for the whole response, from the end of the request; 0s: no limit."),
    ENUM(struct cfg_route_action, 20, cluster_not_found_response_code, not_found_enum,
         .default_text = "SERVICE_UNAVAILABLE", .doc = "Answer when the cluster does not exist."),
    FIELD(struct cfg_route_action, 24, idle_timeout, CFG_DURATION,
          .default_text = "the connection manager's stream_idle_timeout",
          .doc = "Time without progress in either direction; 0s: no limit."),
    LIST(struct cfg_route_action, 25, upgrade_configs, struct cfg_upgrade, upgrade_schema,
         .doc = "Upgrades on this route, whatever the connection manager says of them."),
    FIELD(struct cfg_route_action, 29, host_rewrite_header, CFG_STRING, HOST_REWRITE,
          .rules = CFG_HEADER_NAME, .doc = "Request header whose value becomes the host."),
    POINTER(struct cfg_route_action, 32, regex_rewrite, struct cfg_regex_rewrite,
            cfg_schema_regex_rewrite, .doc = "Rewrite of the path by regular expression."),
    FIELD(struct cfg_route_action, 37, cluster_specifier_plugin, CFG_STRING, CLUSTER,
          .rules = CFG_ONEOF_REQUIRED,
          .doc = "Name of one of cluster_specifier_plugins, which chooses the cluster."),
    FIELD(struct cfg_route_action, 38, append_x_forwarded_host, CFG_BOOL,
          .doc = "Tell the host that was rewritten in x-forwarded-host."),
    POINTER(struct cfg_route_action, 39, inline_cluster_specifier_plugin,
            struct cfg_cluster_specifier_plugin, specifier_plugin_schema, CLUSTER,
            .rules = CFG_ONEOF_REQUIRED,
            .doc = "A plugin of this route, which chooses the cluster."),
};
static const struct cfg_missing route_action_missing[] = {
    {4, "metadata_match"},
    {9, "retry_policy"},
    {11, "priority"},
    {13, "rate_limits"},
    {14, "include_vh_rate_limits"},
    {15, "hash_policy"},
    {17, "cors"},
    {23, "max_grpc_timeout"},
    {26, "internal_redirect_action"},
    {27, "hedge_policy"},
    {28, "grpc_timeout_offset"},
    {30, "request_mirror_policies"},
    {31, "max_internal_redirects"},
    {33, "retry_policy_typed_config"},
    {34, "internal_redirect_policy"},
    {35, "host_rewrite_path_regex"},
    {36, "max_stream_duration"},
    {40, "early_data_policy"},
    {41, "path_rewrite_policy"},
};

static void check_route_action(struct cfg_loader *loader, const struct cfg_tree *node,
                               const struct cfg_path *path, void *message) {
    const struct cfg_route_action *action = message;
    if (action->prefix_rewrite.len && action->regex_rewrite)
        cfg_report(loader, CFG_PROBLEM_INVALID, node, path,
                   "prefix_rewrite and regex_rewrite cannot both be set");
}

static const struct cfg_schema route_action_schema = {
    .name = "envoy.config.route.v3.RouteAction",
    .doc = "Send the request to a cluster.",
    .size = sizeof(struct cfg_route_action),
    MARK(struct cfg_route_action),
    FIELDS(route_action_fields),
    MISSING(route_action_missing),
    .check = check_route_action,
};

/* ---- redirect, direct response ---- */

static const struct cfg_enum_value redirect_code_values[] = {
    {0, "MOVED_PERMANENTLY", CFG_SUPPORTED},  {1, "FOUND", CFG_SUPPORTED},
    {2, "SEE_OTHER", CFG_SUPPORTED},          {3, "TEMPORARY_REDIRECT", CFG_SUPPORTED},
    {4, "PERMANENT_REDIRECT", CFG_SUPPORTED},
};
static const struct cfg_enum redirect_code_enum =
    ENUM_TABLE("envoy.config.route.v3.RedirectAction.RedirectResponseCode", redirect_code_values);

#define SCHEME ONEOF(struct cfg_redirect_action, scheme_rewrite_specifier)
#define PATH_REWRITE ONEOF(struct cfg_redirect_action, path_rewrite_specifier)
static const struct cfg_field redirect_fields[] = {
    FIELD(struct cfg_redirect_action, 1, host_redirect, CFG_STRING, .rules = CFG_HEADER_VALUE,
          .default_text = "unchanged", .doc = "The new host."),
    FIELD(struct cfg_redirect_action, 2, path_redirect, CFG_STRING, PATH_REWRITE,
          .rules = CFG_HEADER_VALUE, .doc = "The new path; may bring a query of its own."),
    ENUM(struct cfg_redirect_action, 3, response_code, redirect_code_enum,
         .default_text = "MOVED_PERMANENTLY", .doc = "301, 302, 303, 307 or 308."),
    FIELD(struct cfg_redirect_action, 4, https_redirect, CFG_BOOL, SCHEME,
          .doc = "The new scheme is https."),
    FIELD(struct cfg_redirect_action, 5, prefix_rewrite, CFG_STRING, PATH_REWRITE,
          .rules = CFG_HEADER_VALUE,
          .doc = "What to put in place of the part of the path that matched."),
    FIELD(struct cfg_redirect_action, 6, strip_query, CFG_BOOL, .doc = "Drop the query."),
    FIELD(struct cfg_redirect_action, 7, scheme_redirect, CFG_STRING, SCHEME,
          .rules = CFG_HEADER_VALUE, .doc = "The new scheme."),
    FIELD(struct cfg_redirect_action, 8, port_redirect, CFG_U32, WITHIN(0, 65535),
          .default_text = "unchanged", .doc = "The new port."),
    POINTER(struct cfg_redirect_action, 9, regex_rewrite, struct cfg_regex_rewrite,
            cfg_schema_regex_rewrite, PATH_REWRITE, .doc = "Rewrite by regular expression."),
};
static const struct cfg_schema redirect_schema = {
    .name = "envoy.config.route.v3.RedirectAction",
    .doc = "Answer with a redirect.",
    .size = sizeof(struct cfg_redirect_action),
    MARK(struct cfg_redirect_action),
    FIELDS(redirect_fields),
};

static const struct cfg_field direct_response_fields[] = {
    FIELD(struct cfg_direct_response_action, 1, status, CFG_U32, WITHIN(200, 599),
          .doc = "Status of the answer."),
    POINTER(struct cfg_direct_response_action, 2, body, struct cfg_data_source,
            cfg_schema_data_source, .default_text = "empty", .doc = "Body of the answer."),
};
static const struct cfg_schema direct_response_schema = {
    .name = "envoy.config.route.v3.DirectResponseAction",
    .doc = "Answer without any cluster.",
    .size = sizeof(struct cfg_direct_response_action),
    MARK(struct cfg_direct_response_action),
    FIELDS(direct_response_fields),
};

#define ACTION ONEOF(struct cfg_route, action), .rules = CFG_ONEOF_REQUIRED
static const struct cfg_field route_fields[] = {
    POINTER(struct cfg_route, 1, match, struct cfg_route_match, route_match_schema,
            .rules = CFG_REQUIRED, .doc = "Which requests it is for."),
    POINTER(struct cfg_route, 2, route, struct cfg_route_action, route_action_schema, ACTION,
            .doc = "Send them to a cluster."),
    POINTER(struct cfg_route, 3, redirect, struct cfg_redirect_action, redirect_schema, ACTION,
            .doc = "Answer with a redirect."),
    POINTER(struct cfg_route, 4, metadata, struct cfg_metadata, cfg_schema_metadata,
            .doc = "For filters, which find it as `xds.route_metadata`."),
    POINTER(struct cfg_route, 7, direct_response, struct cfg_direct_response_action,
            direct_response_schema, ACTION, .doc = "Answer at once."),
    REQUEST_ADD(struct cfg_route, 9),
    RESPONSE_ADD(struct cfg_route, 10),
    RESPONSE_REMOVE(struct cfg_route, 11),
    REQUEST_REMOVE(struct cfg_route, 12),
    PER_FILTER(struct cfg_route, 13),
    FIELD(struct cfg_route, 14, name, CFG_STRING, .doc = "For logs and filters."),
};
static const struct cfg_missing route_missing[] = {
    {5, "decorator"},
    {15, "tracing"},
    {16, "per_request_buffer_limit_bytes"},
    {17, "filter_action"},
    {18, "non_forwarding_action"},
    {19, "stat_prefix"},
};
static const struct cfg_schema route_schema = {
    .name = "envoy.config.route.v3.Route",
    .doc = "What to do with some requests; the first route that matches counts.",
    .size = sizeof(struct cfg_route),
    MARK(struct cfg_route),
    FIELDS(route_fields),
    MISSING(route_missing),
};

/* ---- virtual host, route configuration ---- */

static const struct cfg_enum_value require_tls_values[] = {
    {0, "NONE", CFG_SUPPORTED},
    {1, "EXTERNAL_ONLY", CFG_SUPPORTED},
    {2, "ALL", CFG_SUPPORTED},
};
static const struct cfg_enum require_tls_enum =
    ENUM_TABLE("envoy.config.route.v3.VirtualHost.TlsRequirementType", require_tls_values);

static const struct cfg_field virtual_cluster_fields[] = {
    FIELD(struct cfg_virtual_cluster, 2, name, CFG_STRING, .rules = CFG_REQUIRED,
          .doc = "For logs and statistics."),
    LIST(struct cfg_virtual_cluster, 4, headers, struct cfg_header_matcher,
         cfg_schema_header_matcher, .rules = CFG_REQUIRED,
         .doc = "Conditions on headers; all must hold. `:path` and `:method` are headers here."),
};
static const struct cfg_schema virtual_cluster_schema = {
    .name = "envoy.config.route.v3.VirtualCluster",
    .doc = "Requests that are counted by themselves: `vhost.HOST.vcluster.NAME.upstream_rq_*`.",
    .size = sizeof(struct cfg_virtual_cluster),
    MARK(struct cfg_virtual_cluster),
    FIELDS(virtual_cluster_fields),
};

static const struct cfg_field virtual_host_fields[] = {
    FIELD(struct cfg_virtual_host, 1, name, CFG_STRING, .rules = CFG_REQUIRED,
          .doc = "For logs and statistics."),
    SCALARS(struct cfg_virtual_host, 2, domains, CFG_STRING,
            .rules = CFG_REQUIRED | CFG_HEADER_VALUE,
            .doc = "Hosts: \"www.example.com\", \"*.example.com\", \"www.*\" or \"*\"."),
    LIST(struct cfg_virtual_host, 3, routes, struct cfg_route, route_schema,
         .doc = "Routes, in the order in which they are tried."),
    ENUM(struct cfg_virtual_host, 4, require_tls, require_tls_enum, .default_text = "NONE",
         .doc = "Redirect requests that did not come over TLS."),
    LIST(struct cfg_virtual_host, 5, virtual_clusters, struct cfg_virtual_cluster,
         virtual_cluster_schema,
         .doc = "Kinds of requests that have statistics of their own, in the order in which they "
                "are tried; those of none are counted as `other`."),
    REQUEST_ADD(struct cfg_virtual_host, 7),
    RESPONSE_ADD(struct cfg_virtual_host, 10),
    RESPONSE_REMOVE(struct cfg_virtual_host, 11),
    REQUEST_REMOVE(struct cfg_virtual_host, 13),
    FIELD(struct cfg_virtual_host, 14, include_request_attempt_count, CFG_BOOL,
          .doc = "Tell the attempt in x-envoy-attempt-count."),
    PER_FILTER(struct cfg_virtual_host, 15),
    POINTER(struct cfg_virtual_host, 24, metadata, struct cfg_metadata, cfg_schema_metadata,
            .doc = "For filters, which find it as `xds.virtual_host_metadata`."),
};
static const struct cfg_missing virtual_host_missing[] = {
    {6, "rate_limits"},
    {8, "cors"},
    {16, "retry_policy"},
    {17, "hedge_policy"},
    {18, "per_request_buffer_limit_bytes"},
    {19, "include_attempt_count_in_response"},
    {20, "retry_policy_typed_config"},
    {21, "matcher"},
    {22, "request_mirror_policies"},
    {23, "include_is_timeout_retry_header"},
};
static const struct cfg_schema virtual_host_schema = {
    .name = "envoy.config.route.v3.VirtualHost",
    .doc = "The routes of some hosts.",
    .size = sizeof(struct cfg_virtual_host),
    MARK(struct cfg_virtual_host),
    FIELDS(virtual_host_fields),
    MISSING(virtual_host_missing),
};

static const struct cfg_field route_configuration_fields[] = {
    FIELD(struct cfg_route_configuration, 1, name, CFG_STRING, .doc = "For logs and the admin."),
    LIST(struct cfg_route_configuration, 2, virtual_hosts, struct cfg_virtual_host,
         virtual_host_schema, .doc = "One per group of hosts."),
    RESPONSE_ADD(struct cfg_route_configuration, 4),
    RESPONSE_REMOVE(struct cfg_route_configuration, 5),
    REQUEST_ADD(struct cfg_route_configuration, 6),
    WRAPPER(struct cfg_route_configuration, 7, validate_clusters, CFG_BOOL, .default_text = "true",
            .doc = "Refuse the config when a route names a cluster that does not exist."),
    REQUEST_REMOVE(struct cfg_route_configuration, 8),
    FIELD(struct cfg_route_configuration, 10, most_specific_header_mutations_wins, CFG_BOOL,
          .doc = "Apply header changes from the widest to the narrowest, not the other way round."),
    LIST(struct cfg_route_configuration, 12, cluster_specifier_plugins,
         struct cfg_cluster_specifier_plugin, specifier_plugin_schema,
         .doc = "Plugins that routes name in cluster_specifier_plugin."),
    FIELD(struct cfg_route_configuration, 14, ignore_port_in_host_matching, CFG_BOOL,
          .doc = "Match domains without the port of the Host header."),
    PER_FILTER(struct cfg_route_configuration, 16),
    POINTER(struct cfg_route_configuration, CFG_OWN_FIELD + 1, rollout, struct cfg_rollout,
            cfg_schema_rollout, .default_text = "it serves all at once",
            .doc = "Not in Envoy. When a change of the configuration brings other routes in the "
                   "place of these, by the names of listener, filter chain and this: the new "
                   "ones serve some clients first, the others are served as before. See "
                   "docs/rollout.md."),
};
static const struct cfg_missing route_configuration_missing[] = {
    {3, "internal_only_headers"},
    {9, "vhds"},
    {11, "max_direct_response_body_size_bytes"},
    {13, "request_mirror_policies"},
    {15, "ignore_path_parameters_in_path_matching"},
    {17, "metadata"},
};
const struct cfg_schema cfg_schema_route_configuration = {
    .name = "envoy.config.route.v3.RouteConfiguration",
    .doc = "All virtual hosts of a connection manager.",
    .size = sizeof(struct cfg_route_configuration),
    MARK(struct cfg_route_configuration),
    FIELDS(route_configuration_fields),
    MISSING(route_configuration_missing),
};
