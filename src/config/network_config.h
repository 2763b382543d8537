/* network_config: network filters as users write them: envoy.extensions.filters.network, as C structs. Conventions:
 * bootstrap.h. */
#pragma once
#include "config/types.h"

struct cfg_access_log;
struct cfg_data_source;
struct cfg_log_format;
struct cfg_pass_through_tlvs;
struct cfg_transport_socket;

struct cfg_token_bucket { /* type.v3.TokenBucket */
    struct cfg_mark mark;
    uint32_t max_tokens;
    struct cfg_u32 tokens_per_fill; /* default 1 */
    struct cfg_duration fill_interval;
};
struct cfg_feature_flag { /* core.v3.RuntimeFeatureFlag */
    struct cfg_bool default_value;
    struct span runtime_key; /* inert */
};
struct cfg_backoff { /* core.v3.BackoffStrategy */
    struct cfg_mark mark;
    struct cfg_duration base_interval, max_interval; /* default: ten times base */
};

/* ---- tcp_proxy ---- */
struct cfg_weighted_tcp_cluster { /* TcpProxy.WeightedCluster.ClusterWeight */
    struct cfg_mark mark;
    struct span name;
    uint32_t weight;
};
struct cfg_tcp_log_options { /* TcpProxy.TcpAccessLogOptions */
    struct cfg_duration access_log_flush_interval;
    bool flush_access_log_on_connected;
};
enum cfg_tcp_cluster_case { CFG_TCP_CLUSTER = 2, CFG_TCP_WEIGHTED_CLUSTERS = 10 };
struct cfg_tcp_proxy {
    struct cfg_mark mark;
    struct span stat_prefix;
    int cluster_specifier_case; /* enum cfg_tcp_cluster_case */
    struct span cluster;
    struct cfg_weighted_tcp_cluster *clusters; /* of weighted_clusters */
    size_t clusters_count;
    struct cfg_duration idle_timeout; /* default 1 h */
    struct cfg_access_log *access_log;
    size_t access_log_count;
    struct cfg_u32 max_connect_attempts; /* default 1 */
    struct cfg_backoff *backoff_options; /* default: at once */
    struct cfg_duration max_downstream_connection_duration;
    struct cfg_duration access_log_flush_interval; /* deprecated, as the next */
    bool flush_access_log_on_connected;
    struct cfg_tcp_log_options *access_log_options;
};

/* ---- others ---- */
struct cfg_network_connection_limit {
    struct cfg_mark mark;
    struct span stat_prefix;
    struct cfg_u64 max_connections;
    struct cfg_duration delay;
    struct cfg_feature_flag *runtime_enabled; /* default: enabled */
};
struct cfg_network_rate_limit {
    struct cfg_mark mark;
    struct span stat_prefix;
    struct cfg_token_bucket *token_bucket;
    struct cfg_feature_flag *runtime_enabled; /* default: enabled */
    struct span share_key;
};
struct cfg_network_direct_response {
    struct cfg_mark mark;
    struct cfg_data_source *response;
};
struct cfg_inject_texts { /* sluice...Inject.Texts */
    struct cfg_mark mark;
    struct span prefix, footer;
};
struct cfg_inject { /* sluice.extensions.filters.network.inject.v1.Inject */
    struct cfg_mark mark;
    struct cfg_inject_texts *to_upstream, *to_client;
};
struct cfg_no_fields { /* sni_cluster, echo */
    struct cfg_mark mark;
};

/* ---- PROXY headers to upstreams ---- */
struct cfg_added_tlv { /* core.v3.TlvEntry */
    struct cfg_mark mark;
    uint32_t type;
    struct span value;
    struct cfg_log_format *format_string; /* instead of value */
};
struct cfg_proxy_header { /* core.v3.ProxyProtocolConfig */
    struct cfg_mark mark;
    int version;                                     /* enum cfg_proxy_version */
    struct cfg_pass_through_tlvs *pass_through_tlvs; /* NULL: none */
    struct cfg_added_tlv *added_tlvs;
    size_t added_tlvs_count;
};
struct cfg_upstream_proxy_protocol { /* ProxyProtocolUpstreamTransport */
    struct cfg_mark mark;
    struct cfg_proxy_header *config; /* NULL: version 1 */
    struct cfg_transport_socket *transport_socket;
    bool allow_unspecified_address; /* inert: addresses are always known */
};

extern const struct cfg_schema cfg_schema_upstream_proxy_protocol;
extern const struct cfg_schema cfg_schema_tcp_proxy;
extern const struct cfg_schema cfg_schema_sni_cluster;
extern const struct cfg_schema cfg_schema_network_connection_limit;
extern const struct cfg_schema cfg_schema_network_rate_limit;
extern const struct cfg_schema cfg_schema_echo;
extern const struct cfg_schema cfg_schema_network_direct_response;
extern const struct cfg_schema cfg_schema_inject;
