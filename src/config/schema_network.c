/* schema_network: the network filters that are built in, but for the HTTP connection manager. */
#include "config/network_config.h"

#include "config/listener_filter_config.h"
#include "config/load.h"
#include "config/schema_tables.h"
#include "config/tls_config.h"

enum { MS = 1000 * 1000 };

/* ---- what several of them have ---- */

static const struct cfg_field token_bucket_fields[] = {
    FIELD(struct cfg_token_bucket, 1, max_tokens, CFG_U32, WITHIN(1, UINT32_MAX),
          .doc = "How many there may be, and are at first."),
    WRAPPER(struct cfg_token_bucket, 2, tokens_per_fill, CFG_U32, WITHIN(1, UINT32_MAX),
            .default_text = "1", .doc = "How many come at a time."),
    FIELD(struct cfg_token_bucket, 3, fill_interval, CFG_DURATION,
          .rules = CFG_REQUIRED | CFG_RANGE, .min = 1, .max = INT64_MAX,
          .doc = "When they come; 50ms at least for local_ratelimit."),
};
static const struct cfg_schema token_bucket_schema = {
    .name = "envoy.type.v3.TokenBucket",
    .doc = "What is allowed takes a token.",
    .size = sizeof(struct cfg_token_bucket),
    MARK(struct cfg_token_bucket),
    FIELDS(token_bucket_fields),
};

static const struct cfg_field feature_flag_fields[] = {
    WRAPPER(struct cfg_feature_flag, 1, default_value, CFG_BOOL, .rules = CFG_REQUIRED,
            .doc = "What applies."),
    FIELD(struct cfg_feature_flag, 2, runtime_key, CFG_STRING, .rules = CFG_REQUIRED,
          .status = CFG_INERT, .doc = "Not heeded: layered_runtime cannot override the value."),
};
static const struct cfg_schema feature_flag_schema = {
    .name = "envoy.config.core.v3.RuntimeFeatureFlag",
    .doc = "Whether something is on.",
    .size = sizeof(struct cfg_feature_flag),
    FIELDS(feature_flag_fields),
};

static const struct cfg_field backoff_fields[] = {
    FIELD(struct cfg_backoff, 1, base_interval, CFG_DURATION, .rules = CFG_REQUIRED | CFG_RANGE,
          .min = MS, .max = INT64_MAX,
          .doc = "The first wait is up to this, the next up to twice."),
    FIELD(struct cfg_backoff, 2, max_interval, CFG_DURATION, POSITIVE,
          .default_text = "ten times base_interval", .doc = "The longest wait."),
};
static void check_backoff(struct cfg_loader *loader, const struct cfg_tree *node,
                          const struct cfg_path *path, void *message) {
    const struct cfg_backoff *backoff = message;
    if (backoff->max_interval.set && backoff->max_interval.ns < backoff->base_interval.ns)
        cfg_report(loader, CFG_PROBLEM_INVALID, node, path,
                   "max_interval is less than base_interval");
}
static const struct cfg_schema backoff_schema = {
    .name = "envoy.config.core.v3.BackoffStrategy",
    .doc = "Waits that grow, each of a random length.",
    .size = sizeof(struct cfg_backoff),
    MARK(struct cfg_backoff),
    FIELDS(backoff_fields),
    .check = check_backoff,
};

/* ---- tcp_proxy ---- */

#define TCP_PROXY "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy"

static const struct cfg_field cluster_weight_fields[] = {
    FIELD(struct cfg_weighted_tcp_cluster, 1, name, CFG_STRING, .rules = CFG_REQUIRED,
          .doc = "The cluster."),
    FIELD(struct cfg_weighted_tcp_cluster, 2, weight, CFG_U32, WITHIN(1, UINT32_MAX),
          .doc = "Its share of the sum of all weights."),
};
static const struct cfg_missing cluster_weight_missing[] = {{3, "metadata_match"}};
static const struct cfg_schema cluster_weight_schema = {
    .name = TCP_PROXY ".WeightedCluster.ClusterWeight",
    .doc = "A cluster and its weight.",
    .size = sizeof(struct cfg_weighted_tcp_cluster),
    MARK(struct cfg_weighted_tcp_cluster),
    FIELDS(cluster_weight_fields),
    MISSING(cluster_weight_missing),
};

static const struct cfg_field weighted_cluster_fields[] = {
    LIST(struct cfg_tcp_proxy, 1, clusters, struct cfg_weighted_tcp_cluster, cluster_weight_schema,
         .rules = CFG_REQUIRED, .doc = "One of them has the connection."),
};
static const struct cfg_schema weighted_cluster_schema = {
    .name = TCP_PROXY ".WeightedCluster",
    .doc = "Several clusters, each with a share of the connections.",
    .size = sizeof(struct cfg_tcp_proxy),
    FIELDS(weighted_cluster_fields),
};

#define FLUSH_INTERVAL                                                                             \
    .rules = CFG_RANGE, .min = MS, .max = INT64_MAX, .default_text = "at the end only"
static const struct cfg_field log_options_fields[] = {
    FIELD(struct cfg_tcp_log_options, 1, access_log_flush_interval, CFG_DURATION, FLUSH_INTERVAL,
          .doc = "A line is written each time so long has passed, and at the end."),
    FIELD(struct cfg_tcp_log_options, 2, flush_access_log_on_connected, CFG_BOOL,
          .doc = "A line is written, too, when the upstream is connected."),
};
static const struct cfg_missing log_options_missing[] = {{3, "flush_access_log_on_start"}};
static const struct cfg_schema log_options_schema = {
    .name = TCP_PROXY ".TcpAccessLogOptions",
    .doc = "When a line of the access log is written.",
    .size = sizeof(struct cfg_tcp_log_options),
    FIELDS(log_options_fields),
    MISSING(log_options_missing),
};

#define SPECIFIER ONEOF(struct cfg_tcp_proxy, cluster_specifier), .rules = CFG_ONEOF_REQUIRED
static const struct cfg_field tcp_proxy_fields[] = {
    FIELD(struct cfg_tcp_proxy, 1, stat_prefix, CFG_STRING, .rules = CFG_REQUIRED,
          .doc = "Its statistics are tcp.STAT_PREFIX."),
    FIELD(struct cfg_tcp_proxy, 2, cluster, CFG_STRING, SPECIFIER,
          .doc = "Where connections go, unless a filter before it says otherwise (sni_cluster)."),
    LIST(struct cfg_tcp_proxy, 5, access_log, struct cfg_access_log, cfg_schema_access_log,
         .doc = "A line for each connection."),
    WRAPPER(struct cfg_tcp_proxy, 7, max_connect_attempts, CFG_U32, WITHIN(1, UINT32_MAX),
            .default_text = "1", .doc = "How many hosts are tried, one after the other."),
    FIELD(struct cfg_tcp_proxy, 8, idle_timeout, CFG_DURATION, .default_text = "3600s",
          .doc = "A connection on which nothing moves for so long is closed; 0s: never."),
    FLAT(struct cfg_tcp_proxy, 10, "weighted_clusters", weighted_cluster_schema, SPECIFIER,
         .doc = "Where connections go, by chance."),
    FIELD(struct cfg_tcp_proxy, 13, max_downstream_connection_duration, CFG_DURATION,
          .rules = CFG_RANGE, .min = MS, .max = INT64_MAX, .default_text = "unlimited",
          .doc = "A connection is closed after so long, whatever moves on it."),
    FIELD(struct cfg_tcp_proxy, 15, access_log_flush_interval, CFG_DURATION, FLUSH_INTERVAL,
          .doc = "Deprecated: use access_log_options."),
    FIELD(struct cfg_tcp_proxy, 16, flush_access_log_on_connected, CFG_BOOL,
          .doc = "Deprecated: use access_log_options."),
    POINTER(struct cfg_tcp_proxy, 17, access_log_options, struct cfg_tcp_log_options,
            log_options_schema, .doc = "When a line of the access log is written."),
    POINTER(struct cfg_tcp_proxy, 18, backoff_options, struct cfg_backoff, backoff_schema,
            .default_text = "no wait", .doc = "How long to wait before the next attempt."),
};
static const struct cfg_missing tcp_proxy_missing[] = {
    {3, "downstream_idle_timeout"},
    {4, "upstream_idle_timeout"},
    {9, "metadata_match"},
    {11, "hash_policy"},
    {12, "tunneling_config"},
    {14, "on_demand"},
    {19, "proxy_protocol_tlvs"},
    {20, "max_downstream_connection_duration_jitter_percentage"},
    {21, "upstream_connect_mode"},
    {22, "max_early_data_bytes"},
    {23, "proxy_protocol_tlv_merge_policy"},
    {24, "check_drain_close"},
};
static void check_tcp_proxy(struct cfg_loader *loader, const struct cfg_tree *node,
                            const struct cfg_path *path, void *message) {
    struct cfg_tcp_proxy *tcp = message;
    uint64_t sum = 0;
    for (size_t i = 0; i < tcp->clusters_count; i++)
        sum += tcp->clusters[i].weight;
    if (sum > UINT32_MAX)
        cfg_report(loader, CFG_PROBLEM_INVALID, node, path,
                   "the weights of weighted_clusters come to more than %u together", UINT32_MAX);
    if (tcp->access_log_options &&
        (tcp->access_log_flush_interval.set || tcp->flush_access_log_on_connected))
        cfg_report(loader, CFG_PROBLEM_INVALID, node, path,
                   "access_log_options and the deprecated fields it replaces cannot both be set");
}
const struct cfg_schema cfg_schema_tcp_proxy = {
    .name = TCP_PROXY,
    .doc = "Passes bytes between a client and an upstream: see [tcp-proxy.md](tcp-proxy.md).",
    .size = sizeof(struct cfg_tcp_proxy),
    MARK(struct cfg_tcp_proxy),
    FIELDS(tcp_proxy_fields),
    MISSING(tcp_proxy_missing),
    .check = check_tcp_proxy,
};

/* ---- others ---- */

const struct cfg_schema cfg_schema_sni_cluster = {
    .name = "envoy.extensions.filters.network.sni_cluster.v3.SniCluster",
    .doc = "The TCP proxy behind it takes the cluster that is named as the server the client asked "
           "for.",
    .size = sizeof(struct cfg_no_fields),
    MARK(struct cfg_no_fields),
};

const struct cfg_schema cfg_schema_echo = {
    .name = "envoy.extensions.filters.network.echo.v3.Echo",
    .doc = "Sends back what comes; the last filter.",
    .size = sizeof(struct cfg_no_fields),
    MARK(struct cfg_no_fields),
};

static const struct cfg_field connection_limit_fields[] = {
    FIELD(struct cfg_network_connection_limit, 1, stat_prefix, CFG_STRING, .rules = CFG_REQUIRED,
          .doc = "Its statistics are connection_limit.STAT_PREFIX."),
    WRAPPER(struct cfg_network_connection_limit, 2, max_connections, CFG_U64,
            .rules = CFG_REQUIRED | CFG_RANGE, .min = 1, .max = INT64_MAX,
            .doc = "More of this filter chain are closed."),
    FIELD(struct cfg_network_connection_limit, 3, delay, CFG_DURATION, .default_text = "at once",
          .doc = "They are closed after so long, and not read meanwhile."),
    POINTER(struct cfg_network_connection_limit, 4, runtime_enabled, struct cfg_feature_flag,
            feature_flag_schema, .default_text = "enabled", .doc = "Whether it limits."),
};
const struct cfg_schema cfg_schema_network_connection_limit = {
    .name = "envoy.extensions.filters.network.connection_limit.v3.ConnectionLimit",
    .doc = "A limit of connections.",
    .size = sizeof(struct cfg_network_connection_limit),
    MARK(struct cfg_network_connection_limit),
    FIELDS(connection_limit_fields),
};

static const struct cfg_field rate_limit_fields[] = {
    FIELD(struct cfg_network_rate_limit, 1, stat_prefix, CFG_STRING, .rules = CFG_REQUIRED,
          .doc = "Its statistics are local_rate_limit.STAT_PREFIX."),
    POINTER(struct cfg_network_rate_limit, 2, token_bucket, struct cfg_token_bucket,
            token_bucket_schema, .rules = CFG_REQUIRED,
            .doc = "Each connection takes a token; without one it is closed."),
    POINTER(struct cfg_network_rate_limit, 3, runtime_enabled, struct cfg_feature_flag,
            feature_flag_schema, .default_text = "enabled", .doc = "Whether it limits."),
    FIELD(struct cfg_network_rate_limit, 4, share_key, CFG_STRING,
          .doc = "Filters with the same key, and the same token_bucket, share one."),
};
static void check_rate_limit(struct cfg_loader *loader, const struct cfg_tree *node,
                             const struct cfg_path *path, void *message) {
    enum { FILL_INTERVAL_MIN = 50 * MS }; /* Envoy's */
    const struct cfg_network_rate_limit *limit = message;
    if (limit->token_bucket && limit->token_bucket->fill_interval.set &&
        limit->token_bucket->fill_interval.ns < FILL_INTERVAL_MIN)
        cfg_report(loader, CFG_PROBLEM_INVALID, node, path,
                   "token_bucket.fill_interval must be at least 50ms");
}
const struct cfg_schema cfg_schema_network_rate_limit = {
    .name = "envoy.extensions.filters.network.local_ratelimit.v3.LocalRateLimit",
    .doc = "A limit of new connections by time.",
    .size = sizeof(struct cfg_network_rate_limit),
    MARK(struct cfg_network_rate_limit),
    FIELDS(rate_limit_fields),
    .check = check_rate_limit,
};

static const struct cfg_field direct_response_fields[] = {
    POINTER(struct cfg_network_direct_response, 1, response, struct cfg_data_source,
            cfg_schema_data_source,
            .doc = "What each client gets before its connection is closed."),
};
const struct cfg_schema cfg_schema_network_direct_response = {
    .name = "envoy.extensions.filters.network.direct_response.v3.Config",
    .doc = "Sends something and closes the connection; the last filter.",
    .size = sizeof(struct cfg_network_direct_response),
    MARK(struct cfg_network_direct_response),
    FIELDS(direct_response_fields),
};

/* ---- PROXY headers to upstreams ---- */

static const struct cfg_field added_tlv_fields[] = {
    FIELD(struct cfg_added_tlv, 1, type, CFG_U32, WITHIN(0, 255), .doc = "Its type."),
    FIELD(struct cfg_added_tlv, 2, value, CFG_BYTES, .doc = "Its value, as base64."),
    POINTER(struct cfg_added_tlv, 3, format_string, struct cfg_log_format, cfg_schema_log_format,
            .doc = "Instead of value, text with operators of the connection, such as "
                   "%FILTER_STATE(sluice.flow_id)%."),
};
static void check_added_tlv(struct cfg_loader *loader, const struct cfg_tree *node,
                            const struct cfg_path *path, void *message) {
    const struct cfg_added_tlv *tlv = message;
    const struct cfg_log_format *format = tlv->format_string;
    if (format && tlv->value.len)
        cfg_report(loader, CFG_PROBLEM_INVALID, node, path,
                   "value and format_string cannot both be set");
    if (!format && tlv->value.len == 0)
        cfg_report(loader, CFG_PROBLEM_INVALID, node, path,
                   "one of value, format_string is required");
    if (format && format->format_case == CFG_LOG_JSON)
        cfg_report(loader, CFG_PROBLEM_UNSUPPORTED, node, path,
                   "format_string is text: json_format is not supported here");
}
static const struct cfg_schema added_tlv_schema = {
    .name = "envoy.config.core.v3.TlvEntry",
    .doc = "A TLV of a PROXY header of version 2.",
    .size = sizeof(struct cfg_added_tlv),
    MARK(struct cfg_added_tlv),
    FIELDS(added_tlv_fields),
    .check = check_added_tlv,
};

static const struct cfg_field proxy_header_fields[] = {
    ENUM(struct cfg_proxy_header, 1, version, cfg_enum_proxy_version, .default_text = "V1",
         .doc = "Of the header."),
    POINTER(struct cfg_proxy_header, 2, pass_through_tlvs, struct cfg_pass_through_tlvs,
            cfg_schema_pass_through_tlvs, .default_text = "none",
            .doc = "TLVs of the client's own header, which a listener filter kept."),
    LIST(struct cfg_proxy_header, 3, added_tlvs, struct cfg_added_tlv, added_tlv_schema,
         .doc = "TLVs to add; they are put instead of those of the same type that are passed on."),
};
static void check_proxy_header(struct cfg_loader *loader, const struct cfg_tree *node,
                               const struct cfg_path *path, void *message) {
    const struct cfg_proxy_header *header = message;
    if (header->version == CFG_PROXY_V1 && (header->pass_through_tlvs || header->added_tlvs_count))
        cfg_report(loader, CFG_PROBLEM_INVALID, node, path,
                   "a header of version V1 has no TLVs: say version V2");
}
static const struct cfg_schema proxy_header_schema = {
    .name = "envoy.config.core.v3.ProxyProtocolConfig",
    .doc = "A PROXY header.",
    .size = sizeof(struct cfg_proxy_header),
    MARK(struct cfg_proxy_header),
    FIELDS(proxy_header_fields),
    .check = check_proxy_header,
};

static const struct cfg_field upstream_proxy_protocol_fields[] = {
    POINTER(struct cfg_upstream_proxy_protocol, 1, config, struct cfg_proxy_header,
            proxy_header_schema, .default_text = "version V1", .doc = "What the header says."),
    POINTER(struct cfg_upstream_proxy_protocol, 2, transport_socket, struct cfg_transport_socket,
            cfg_schema_transport_socket, .rules = CFG_REQUIRED, .doc = "What comes behind it."),
    FIELD(struct cfg_upstream_proxy_protocol, 3, allow_unspecified_address, CFG_BOOL,
          .status = CFG_INERT, .doc = "A client's addresses are always known."),
};
static const struct cfg_missing upstream_proxy_protocol_missing[] = {{4, "tlv_as_pool_key"}};
const struct cfg_schema cfg_schema_upstream_proxy_protocol = {
    .name = "envoy.extensions.transport_sockets.proxy_protocol.v3.ProxyProtocolUpstreamTransport",
    .doc = "Tells upstreams who the client is: see [tcp-proxy.md](tcp-proxy.md).",
    .size = sizeof(struct cfg_upstream_proxy_protocol),
    MARK(struct cfg_upstream_proxy_protocol),
    FIELDS(upstream_proxy_protocol_fields),
    MISSING(upstream_proxy_protocol_missing),
};

/* ---- inject ---- */

#define INJECT "sluice.extensions.filters.network.inject.v1.Inject"

static const struct cfg_field inject_texts_fields[] = {
    FIELD(struct cfg_inject_texts, 1, prefix, CFG_STRING, .default_text = "nothing",
          .doc = "Goes before the first byte, also when there is none."),
    FIELD(struct cfg_inject_texts, 2, footer, CFG_STRING, .default_text = "nothing",
          .doc = "Goes behind the last byte, when the stream has ended; one that broke gets none."),
};
static void check_inject_texts(struct cfg_loader *loader, const struct cfg_tree *node,
                               const struct cfg_path *path, void *message) {
    const struct cfg_inject_texts *texts = message;
    if (texts->prefix.len == 0 && texts->footer.len == 0)
        cfg_report(loader, CFG_PROBLEM_INVALID, node, path,
                   "there is nothing to inject: set prefix, footer or both");
}
static const struct cfg_schema inject_texts_schema = {
    .name = INJECT ".Texts",
    .doc = "Texts with values of the connection: the operators are those of access logs. A text is "
           "made when it goes out.",
    .size = sizeof(struct cfg_inject_texts),
    MARK(struct cfg_inject_texts),
    FIELDS(inject_texts_fields),
    .check = check_inject_texts,
};

static const struct cfg_field inject_fields[] = {
    POINTER(struct cfg_inject, 1, to_upstream, struct cfg_inject_texts, inject_texts_schema,
            .default_text = "nothing", .doc = "Around what the client sends."),
    POINTER(struct cfg_inject, 2, to_client, struct cfg_inject_texts, inject_texts_schema,
            .default_text = "nothing", .doc = "Around what the client gets."),
};
static void check_inject(struct cfg_loader *loader, const struct cfg_tree *node,
                         const struct cfg_path *path, void *message) {
    const struct cfg_inject *inject = message;
    if (!inject->to_upstream && !inject->to_client)
        cfg_report(loader, CFG_PROBLEM_INVALID, node, path,
                   "there is nothing to inject: set to_upstream, to_client or both");
}
const struct cfg_schema cfg_schema_inject = {
    .name = INJECT,
    .doc = "Puts texts with values of the connection into its bytes: a trace header, a tenant, a "
           "tag.",
    .size = sizeof(struct cfg_inject),
    MARK(struct cfg_inject),
    FIELDS(inject_fields),
    .check = check_inject,
};
