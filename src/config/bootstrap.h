/* bootstrap: the Envoy v3 messages that Sluice understands, as C structs.
 *
 * Field names, numbers and meaning are Envoy's (api/envoy/config/... and extensions/...); the schema
 * tables beside this header (schema_*.c) say which JSON field fills which member. Defaults that
 * Envoy documents are applied by the reader of a field, not here: `set` is false when absent.
 * Shapes of values, ownership and threads: types.h. */
#pragma once
#include "config/access_log_config.h"
#include "config/listener_config.h"
#include "config/types.h"

/* ---- core ---- */
struct cfg_address { /* config.core.v3.Address, socket_address only */
    struct cfg_mark mark;
    int protocol; /* 0 TCP; UDP is refused */
    struct span host;
    int port_specifier_case; /* 3 port_value, 4 named_port (refused) */
    uint32_t port_value;
    bool ipv4_compat;
};

struct cfg_locality {
    struct span region, zone, sub_zone;
};
struct cfg_node { /* config.core.v3.Node */
    struct span id, cluster;
    struct span region, zone, sub_zone; /* locality */
    struct cfg_value *metadata;
    struct span user_agent_name, user_agent_version;
    int user_agent_version_type_case; /* 7 user_agent_version */
};

struct cfg_metadata_entry {
    struct span key;
    struct cfg_value *value; /* a Struct */
};
struct cfg_metadata { /* config.core.v3.Metadata */
    struct cfg_metadata_entry *filter_metadata;
    size_t filter_metadata_count;
};

struct cfg_header_value {
    struct span key, value;
};

enum cfg_append_action {
    CFG_APPEND_IF_EXISTS_OR_ADD = 0,
    CFG_ADD_IF_ABSENT = 1,
    CFG_OVERWRITE_IF_EXISTS_OR_ADD = 2,
    CFG_OVERWRITE_IF_EXISTS = 3,
};
struct cfg_header_value_option {
    struct cfg_mark mark;
    struct cfg_header_value header;
    struct cfg_bool append; /* deprecated form: true = append, false = overwrite */
    int append_action;
    bool keep_empty_value;
};

enum cfg_data_source_case {
    CFG_DATA_FILENAME = 1,
    CFG_DATA_INLINE_BYTES = 2,
    CFG_DATA_INLINE_STRING = 3,
    CFG_DATA_ENVIRONMENT = 4,
};
struct cfg_data_source { /* read with config/data_source.h */
    struct cfg_mark mark;
    int specifier_case; /* enum cfg_data_source_case */
    struct span filename, inline_bytes, inline_string, environment_variable;
};

struct cfg_transport_socket { /* config.core.v3.TransportSocket */
    struct cfg_mark mark;
    struct span name;
    bool has_typed_config; /* else it is raw_buffer */
    struct cfg_any typed_config;
};

struct cfg_fraction { /* type.v3.FractionalPercent in RuntimeFractionalPercent.default_value */
    uint32_t numerator;
    int denominator;         /* 0 HUNDRED, 1 TEN_THOUSAND, 2 MILLION */
    struct span runtime_key; /* inert: see config/runtime_layers.h */
};

struct cfg_regex { /* type.matcher.v3.RegexMatcher: regex (google_re2 accepted and inert) */
    struct span regex;
    bool has_google_re2;
    struct cfg_u32 max_program_size; /* of google_re2 */
};
struct cfg_regex_rewrite {
    struct cfg_regex pattern;
    struct span substitution; /* \0..\9 */
};

enum cfg_string_match_case {
    CFG_STRING_EXACT = 1,
    CFG_STRING_PREFIX = 2,
    CFG_STRING_SUFFIX = 3,
    CFG_STRING_REGEX = 5,
    CFG_STRING_CONTAINS = 7,
};
struct cfg_string_matcher {
    struct cfg_mark mark;
    int match_pattern_case;
    struct span exact, prefix, suffix, contains;
    struct cfg_regex *safe_regex;
    bool ignore_case;
};

/* ---- routes: config.route.v3 ---- */
enum cfg_header_match_case {
    CFG_HEADER_EXACT = 4,
    CFG_HEADER_RANGE = 6,
    CFG_HEADER_PRESENT = 7,
    CFG_HEADER_PREFIX = 9,
    CFG_HEADER_SUFFIX = 10,
    CFG_HEADER_REGEX = 11,
    CFG_HEADER_CONTAINS = 12,
    CFG_HEADER_STRING = 13,
};
struct cfg_header_matcher {
    struct cfg_mark mark;
    struct span name;
    int header_match_specifier_case; /* 0: present */
    struct span exact_match, prefix_match, suffix_match, contains_match;
    struct cfg_regex *safe_regex_match;
    struct cfg_string_matcher *string_match;
    bool present_match;
    int64_t range_start, range_end; /* [start, end) */
    bool invert_match;
    bool treat_missing_header_as_empty;
};

struct cfg_query_matcher {
    struct span name;
    int match_specifier_case; /* 5 string_match, 6 present_match, 0: present */
    struct cfg_string_matcher *string_match;
    bool present_match;
};

enum cfg_path_case {
    CFG_PATH_PREFIX = 1,
    CFG_PATH_EXACT = 2,
    CFG_PATH_REGEX = 10,
    CFG_PATH_SEPARATED_PREFIX = 14,
};
struct cfg_route_tls { /* RouteMatch.TlsContextMatchOptions: of the client's certificate */
    struct cfg_bool presented, validated;
};
struct cfg_route_match {
    struct cfg_mark mark;
    int path_specifier_case; /* required */
    struct span prefix, path, path_separated_prefix;
    struct cfg_regex *safe_regex;
    struct cfg_bool case_sensitive; /* default true */
    struct cfg_header_matcher *headers;
    size_t headers_count;
    struct cfg_query_matcher *query_parameters;
    size_t query_parameters_count;
    bool grpc;                             /* GrpcRouteMatchOptions present */
    struct cfg_fraction *runtime_fraction; /* default_value of it */
    struct cfg_route_tls *tls_context;
};

struct cfg_per_filter { /* map entry of typed_per_filter_config */
    struct span key;    /* name of the http_filters entry */
    struct cfg_any value;
};

struct cfg_cluster_weight {
    struct cfg_mark mark;
    struct span name;
    struct cfg_u32 weight;
    struct cfg_header_value_option *request_headers_to_add, *response_headers_to_add;
    size_t request_headers_to_add_count, response_headers_to_add_count;
    struct span *request_headers_to_remove, *response_headers_to_remove;
    size_t request_headers_to_remove_count, response_headers_to_remove_count;
    struct cfg_per_filter *typed_per_filter_config;
    size_t typed_per_filter_config_count;
};
struct cfg_weighted_clusters {
    struct cfg_mark mark;
    struct cfg_cluster_weight *clusters;
    size_t clusters_count;
    struct span runtime_key_prefix; /* inert */
};

struct cfg_cluster_specifier_plugin { /* route.v3.ClusterSpecifierPlugin */
    struct cfg_mark mark;
    struct span name; /* of `extension`, as the next */
    struct cfg_any typed_config;
    bool has_typed_config;
    bool is_optional; /* inert */
};

enum cfg_cluster_case {
    CFG_CLUSTER_NAME = 1,
    CFG_CLUSTER_HEADER = 2,
    CFG_CLUSTER_WEIGHTED = 3,
    CFG_CLUSTER_PLUGIN = 37,
    CFG_CLUSTER_INLINE_PLUGIN = 39,
};
enum cfg_host_rewrite_case {
    CFG_HOST_REWRITE_LITERAL = 6,
    CFG_HOST_REWRITE_AUTO = 7,
    CFG_HOST_REWRITE_HEADER = 29,
};
struct cfg_upgrade { /* UpgradeConfig, of a connection manager and of a route action */
    struct cfg_mark mark;
    struct span upgrade_type;
    struct cfg_bool enabled; /* default true */
};

struct cfg_route_action {
    struct cfg_mark mark;
    int cluster_specifier_case;
    struct span cluster, cluster_header;
    struct cfg_weighted_clusters *weighted_clusters;
    struct span cluster_specifier_plugin;
    struct cfg_cluster_specifier_plugin *inline_cluster_specifier_plugin;
    int cluster_not_found_response_code; /* 0 SERVICE_UNAVAILABLE, 1 NOT_FOUND, 2 500 */
    struct cfg_duration timeout;         /* default 15 s, 0 = none */
    struct cfg_duration idle_timeout;    /* default: the HCM's stream_idle_timeout */
    struct span prefix_rewrite;
    struct cfg_regex_rewrite *regex_rewrite;
    int host_rewrite_specifier_case;
    struct span host_rewrite_literal, host_rewrite_header;
    struct cfg_bool auto_host_rewrite;
    bool append_x_forwarded_host;
    struct cfg_upgrade *upgrade_configs;
    size_t upgrade_configs_count;
};

struct cfg_redirect_action {
    struct cfg_mark mark;
    int scheme_rewrite_specifier_case; /* 4 https_redirect, 7 scheme_redirect */
    bool https_redirect;
    struct span scheme_redirect;
    struct span host_redirect;
    uint32_t port_redirect;          /* 0: unchanged */
    int path_rewrite_specifier_case; /* 2 path_redirect, 5 prefix_rewrite, 9 regex_rewrite */
    struct span path_redirect, prefix_rewrite;
    struct cfg_regex_rewrite *regex_rewrite;
    int response_code; /* 0 301, 1 302, 2 303, 3 307, 4 308 */
    bool strip_query;
};

struct cfg_direct_response_action {
    struct cfg_mark mark;
    uint32_t status; /* 200..599 */
    struct cfg_data_source *body;
};

enum cfg_action_case {
    CFG_ACTION_ROUTE = 2,
    CFG_ACTION_REDIRECT = 3,
    CFG_ACTION_DIRECT_RESPONSE = 7,
};
struct cfg_route {
    struct cfg_mark mark;
    struct span name;
    struct cfg_route_match *match;
    int action_case;
    struct cfg_route_action *route;
    struct cfg_redirect_action *redirect;
    struct cfg_direct_response_action *direct_response;
    struct cfg_metadata *metadata;
    struct cfg_header_value_option *request_headers_to_add, *response_headers_to_add;
    size_t request_headers_to_add_count, response_headers_to_add_count;
    struct span *request_headers_to_remove, *response_headers_to_remove;
    size_t request_headers_to_remove_count, response_headers_to_remove_count;
    struct cfg_per_filter *typed_per_filter_config;
    size_t typed_per_filter_config_count;
};

struct cfg_virtual_cluster {
    struct cfg_mark mark;
    struct span name;
    struct cfg_header_matcher *headers;
    size_t headers_count;
};
struct cfg_virtual_host {
    struct cfg_mark mark;
    struct span name;
    struct span *domains;
    size_t domains_count;
    struct cfg_route *routes;
    size_t routes_count;
    int require_tls; /* 0 NONE, 1 EXTERNAL_ONLY, 2 ALL */
    struct cfg_virtual_cluster *virtual_clusters;
    size_t virtual_clusters_count;
    struct cfg_metadata *metadata;
    struct cfg_header_value_option *request_headers_to_add, *response_headers_to_add;
    size_t request_headers_to_add_count, response_headers_to_add_count;
    struct span *request_headers_to_remove, *response_headers_to_remove;
    size_t request_headers_to_remove_count, response_headers_to_remove_count;
    struct cfg_per_filter *typed_per_filter_config;
    size_t typed_per_filter_config_count;
    bool include_request_attempt_count;
};

struct cfg_route_configuration {
    struct cfg_mark mark;
    struct span name;
    struct cfg_virtual_host *virtual_hosts;
    size_t virtual_hosts_count;
    struct cfg_header_value_option *request_headers_to_add, *response_headers_to_add;
    size_t request_headers_to_add_count, response_headers_to_add_count;
    struct span *request_headers_to_remove, *response_headers_to_remove;
    size_t request_headers_to_remove_count, response_headers_to_remove_count;
    bool most_specific_header_mutations_wins;
    struct cfg_bool validate_clusters; /* default true for static configs */
    struct cfg_cluster_specifier_plugin *cluster_specifier_plugins;
    size_t cluster_specifier_plugins_count;
    bool ignore_port_in_host_matching;
    struct cfg_per_filter *typed_per_filter_config;
    size_t typed_per_filter_config_count;
    struct cfg_rollout *rollout; /* NULL: it serves all at once */
};

/* ---- HTTP connection manager ---- */
struct cfg_http_filter {
    struct cfg_mark mark;
    struct span name;
    bool has_typed_config;
    struct cfg_any typed_config; /* schema NULL: is_optional and not built in; leave it out */
    bool is_optional;
    bool disabled;
};

struct cfg_http1_options {              /* core.v3.Http1ProtocolOptions */
    struct cfg_bool allow_absolute_url; /* default true */
    bool accept_http_10;
    struct span default_host_for_http_10;
    bool enable_trailers;
    bool allow_chunked_length;
    struct cfg_bool override_stream_error_on_invalid_http_message;
};
struct cfg_http_options { /* core.v3.HttpProtocolOptions (common_http_protocol_options) */
    struct cfg_duration idle_timeout; /* default 1 h */
    struct cfg_duration max_connection_duration, max_stream_duration;
    struct cfg_u32 max_headers_count; /* default 100 */
    struct cfg_u32 max_requests_per_connection;
    int headers_with_underscores_action; /* 0 ALLOW, 1 REJECT_REQUEST, 2 DROP_HEADER */
};

enum cfg_forward_cert {
    CFG_CERT_SANITIZE = 0,
    CFG_CERT_FORWARD_ONLY = 1,
    CFG_CERT_APPEND_FORWARD = 2,
    CFG_CERT_SANITIZE_SET = 3,
    CFG_CERT_ALWAYS_FORWARD_ONLY = 4,
};
struct cfg_current_cert { /* SetCurrentClientCertDetails */
    struct cfg_bool subject;
    bool cert, chain, dns, uri;
};

struct cfg_log_options { /* HttpConnectionManager.HcmAccessLogOptions */
    struct cfg_duration access_log_flush_interval;
    bool flush_access_log_on_new_request, flush_log_on_tunnel_successfully_established;
};
struct cfg_hcm { /* extensions.filters.network.http_connection_manager.v3 */
    struct cfg_mark mark;
    int codec_type; /* 0 AUTO, 1 HTTP1; HTTP2 and HTTP3 refused for now */
    struct span stat_prefix;
    int route_specifier_case; /* 3 rds, 4 route_config, 31 scoped_routes (refused) */
    struct cfg_rds *rds;      /* discovery_config.h */
    struct cfg_route_configuration *route_config;
    struct cfg_http_filter *http_filters;
    size_t http_filters_count;
    struct cfg_bool add_user_agent;
    struct cfg_http_options *common_http_protocol_options;
    struct cfg_http1_options *http_protocol_options;
    struct span server_name;                 /* default "envoy", as on Envoy */
    int server_header_transformation;        /* 0 OVERWRITE, 1 APPEND_IF_ABSENT, 2 PASS_THROUGH */
    struct cfg_u32 max_request_headers_kb;   /* default 60 */
    struct cfg_duration stream_idle_timeout; /* default 5 min */
    struct cfg_duration request_timeout;     /* default off */
    struct cfg_duration request_headers_timeout; /* default off */
    struct cfg_duration drain_timeout;           /* default 5 s */
    struct cfg_duration delayed_close_timeout;   /* default 1 s */
    struct cfg_access_log *access_log;
    size_t access_log_count;
    struct cfg_log_options *access_log_options;
    struct cfg_duration access_log_flush_interval; /* deprecated, as the next */
    bool flush_access_log_on_new_request;
    struct cfg_bool use_remote_address; /* default false */
    uint32_t xff_num_trusted_hops;
    bool skip_xff_append;
    struct span via;
    struct cfg_bool generate_request_id; /* default true */
    bool preserve_external_request_id;
    bool always_set_request_id_in_response;
    struct cfg_bool normalize_path; /* default false */
    bool merge_slashes;
    int path_with_escaped_slashes_action; /* 0 default, 1 KEEP_UNCHANGED; others refused */
    bool strip_matching_host_port;
    bool strip_any_host_port;
    struct cfg_bool stream_error_on_invalid_http_message; /* default false */
    bool proxy_100_continue;
    int forward_client_cert_details; /* enum cfg_forward_cert */
    struct cfg_current_cert *set_current_client_cert_details;
    struct cfg_upgrade *upgrade_configs;
    size_t upgrade_configs_count;
};

/* ---- clusters ---- */
struct cfg_endpoint { /* LbEndpoint */
    struct cfg_mark mark;
    struct cfg_address *address;
    struct span hostname;
    int health_status; /* 0 UNKNOWN, 1 HEALTHY, 2 UNHEALTHY, 3 DRAINING, 4 TIMEOUT, 5 DEGRADED */
    struct cfg_u32 load_balancing_weight;
};
struct cfg_locality_endpoints {
    struct cfg_mark mark;
    struct cfg_locality *locality; /* inert */
    struct cfg_endpoint *lb_endpoints;
    size_t lb_endpoints_count;
    struct cfg_u32 load_balancing_weight;
    uint32_t priority; /* 0 only for now */
};
struct cfg_load_assignment {
    struct cfg_mark mark;
    struct span cluster_name;
    struct cfg_locality_endpoints *endpoints;
    size_t endpoints_count;
};
struct cfg_thresholds {
    int priority; /* 0 DEFAULT, 1 HIGH */
    struct cfg_u32 max_connections, max_pending_requests, max_requests, max_retries; /* 1024 .. 3 */
    bool track_remaining;                                                            /* inert */
};
struct cfg_auto_sni;
enum cfg_cluster_type {
    CFG_CLUSTER_STATIC = 0,
    CFG_CLUSTER_STRICT_DNS = 1,
    CFG_CLUSTER_LOGICAL_DNS = 2
};
struct cfg_cluster {
    struct cfg_mark mark;
    struct span name, alt_stat_name;
    int cluster_discovery_type_case;     /* 2 type, 0: none given, which is STATIC */
    int type;                            /* enum cfg_cluster_type */
    struct cfg_duration connect_timeout; /* default 5 s */
    struct cfg_u32 per_connection_buffer_limit_bytes;
    int lb_policy; /* 0 ROUND_ROBIN only for now */
    struct cfg_load_assignment *load_assignment;
    struct cfg_thresholds *thresholds; /* of circuit_breakers */
    size_t thresholds_count;
    struct cfg_duration dns_refresh_rate; /* default 5 s */
    bool respect_dns_ttl;
    int dns_lookup_family; /* 0 AUTO, 1 V4_ONLY, 2 V6_ONLY, 3 V4_PREFERRED, 4 ALL */
    /* From typed_extension_protocol_options["envoy.extensions.upstreams.http.v3.HttpProtocolOptions"]
     * (explicit_http_config.http_protocol_options only) or the deprecated direct fields. */
    struct cfg_http_options *common_http_protocol_options;
    struct cfg_http1_options *http_protocol_options;
    struct cfg_per_filter *typed_extension_protocol_options; /* read through the two above */
    size_t typed_extension_protocol_options_count;
    struct cfg_transport_socket *transport_socket;
    struct cfg_auto_sni *upstream_http_protocol_options; /* or the typed options' */
    struct cfg_metadata *metadata;
};
struct cfg_auto_sni { /* core.v3.UpstreamHttpProtocolOptions */
    bool auto_sni, auto_san_validation;
    struct span override_auto_sni_header;
};
struct cfg_upstream_http { /* extensions.upstreams.http.v3.HttpProtocolOptions */
    struct cfg_http_options *common_http_protocol_options;
    struct cfg_auto_sni *upstream_http_protocol_options;
    int upstream_protocol_options_case; /* 3 explicit_http_config */
    int protocol_config_case;           /* of explicit_http_config: 1 http_protocol_options */
    struct cfg_http1_options *http_protocol_options;
};

/* ---- filters ---- */
struct cfg_router { /* extensions.filters.http.router.v3.Router */
    bool suppress_envoy_headers;
    struct cfg_bool dynamic_stats;
    bool start_child_span;
    bool respect_expected_rq_timeout;
};

/* ---- overload manager: config.overload.v3 ---- */
struct cfg_fixed_heap { /* extensions.resource_monitors.fixed_heap.v3.FixedHeapConfig */
    uint64_t max_heap_size_bytes;
};
struct cfg_injected_resource { /* ...injected_resource.v3.InjectedResourceConfig */
    struct span filename;
};
struct cfg_downstream_connections { /* ...downstream_connections.v3.DownstreamConnectionsConfig */
    int64_t max_active_downstream_connections;
};
struct cfg_resource_monitor {
    struct cfg_mark mark;
    struct span name;
    bool has_typed_config;
    struct cfg_any typed_config;
};
enum cfg_trigger_case { CFG_TRIGGER_THRESHOLD = 2, CFG_TRIGGER_SCALED = 3 };
struct cfg_trigger {
    struct cfg_mark mark;
    struct span name; /* of a resource monitor */
    int trigger_oneof_case;
    double threshold;
    double scaling_threshold, saturation_threshold;
};
struct cfg_overload_action {
    struct cfg_mark mark;
    struct span name;
    struct cfg_trigger *triggers;
    size_t triggers_count;
};
struct cfg_overload_manager {
    struct cfg_duration refresh_interval; /* default 1 s */
    struct cfg_resource_monitor *resource_monitors;
    size_t resource_monitors_count;
    struct cfg_overload_action *actions;
    size_t actions_count;
};

/* ---- bootstrap ---- */
struct cfg_admin {
    struct cfg_mark mark;
    struct cfg_address *address;
    struct cfg_access_log *access_log; /* inert */
    size_t access_log_count;
    struct span access_log_path, profile_path; /* inert */
    bool ignore_global_conn_limit;
};
struct cfg_runtime_layer { /* RuntimeLayer */
    struct cfg_mark mark;
    struct span name;
    int layer_specifier_case;       /* 2 static_layer */
    struct cfg_value *static_layer; /* a Struct */
};
struct cfg_layered_runtime { /* read with config/runtime_layers.h */
    struct cfg_runtime_layer *layers;
    size_t layers_count;
};
struct cfg_static_resources {
    struct cfg_secret *secrets; /* tls_config.h */
    size_t secrets_count;
    struct cfg_listener *listeners;
    size_t listeners_count;
    struct cfg_cluster *clusters;
    size_t clusters_count;
};
struct cfg_bootstrap {
    struct cfg_node *node;
    struct cfg_static_resources *static_resources;
    struct cfg_dynamic_resources *dynamic_resources; /* discovery_config.h */
    struct cfg_admin *admin;
    struct cfg_duration stats_flush_interval; /* accepted and inert */
    struct cfg_overload_manager *overload_manager;
    struct cfg_layered_runtime *layered_runtime;
};

/* Of what one configuration and the next are compared by. */
extern const struct cfg_schema cfg_schema_listener;
extern const struct cfg_schema cfg_schema_filter_chain;
extern const struct cfg_schema cfg_schema_cluster;
extern const struct cfg_schema cfg_schema_route_configuration;
extern const struct cfg_schema cfg_schema_secret;
extern const struct cfg_schema cfg_schema_secret_reference;
extern const struct cfg_schema cfg_schema_layered_runtime;

/* Schemas of Any payloads that code tells apart by pointer. */
extern const struct cfg_schema cfg_schema_bootstrap;
extern const struct cfg_schema cfg_schema_hcm;
extern const struct cfg_schema cfg_schema_router;
extern const struct cfg_schema cfg_schema_fixed_heap;
extern const struct cfg_schema cfg_schema_injected_resource;
extern const struct cfg_schema cfg_schema_downstream_connections;
