/* listener_filter_config: listener filters as users write them: envoy.extensions.filters.listener, as C structs.
 * Conventions: bootstrap.h. */
#pragma once
#include "config/types.h"

struct cfg_tls_inspector { /* tls_inspector.v3.TlsInspector */
    struct cfg_mark mark;
    struct cfg_u32 initial_read_buffer_size; /* inert */
    bool close_on_errors;                    /* close_connection_on_client_hello_parsing_errors */
    struct cfg_u32 max_client_hello_size;    /* default 16 KiB */
};

/* http_inspector.v3.HttpInspector and original_dst.v3.OriginalDst say nothing. */
struct cfg_empty_listener_filter {
    struct cfg_mark mark;
};

enum cfg_tlv_match { CFG_TLVS_INCLUDE_ALL = 0, CFG_TLVS_INCLUDE = 1 };
struct cfg_pass_through_tlvs { /* config.core.v3.ProxyProtocolPassThroughTLVs */
    struct cfg_mark mark;
    int match_type; /* enum cfg_tlv_match */
    uint32_t *tlv_type;
    size_t tlv_type_count;
};
struct cfg_tlv_rule { /* proxy_protocol.v3.ProxyProtocol.Rule, its KeyValuePair among it */
    struct cfg_mark mark;
    uint32_t tlv_type;
    bool has_key;
    struct span metadata_namespace, key;
};
enum cfg_proxy_version { CFG_PROXY_V1 = 0, CFG_PROXY_V2 = 1 };
struct cfg_proxy_protocol { /* proxy_protocol.v3.ProxyProtocol */
    struct cfg_mark mark;
    struct cfg_tlv_rule *rules;
    size_t rules_count;
    bool allow_requests_without_proxy_protocol;
    struct cfg_pass_through_tlvs *pass_through_tlvs; /* NULL: none */
    int *disallowed_versions;                        /* enum cfg_proxy_version */
    size_t disallowed_versions_count;
    struct span stat_prefix;
};

struct cfg_sniffer { /* sluice.extensions.filters.listener.sniffer.v1.Sniffer */
    struct cfg_mark mark;
    bool accept_proxy_protocol;
    struct cfg_u32 max_client_hello_size; /* default 16 KiB */
};

extern const struct cfg_schema cfg_schema_tls_inspector;
extern const struct cfg_schema cfg_schema_http_inspector;
extern const struct cfg_schema cfg_schema_proxy_protocol;
extern const struct cfg_schema cfg_schema_original_dst;
extern const struct cfg_schema cfg_schema_sniffer;
/* For PROXY headers that are written, too. */
extern const struct cfg_schema cfg_schema_pass_through_tlvs;
extern const struct cfg_enum cfg_enum_proxy_version;
