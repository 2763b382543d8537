/* schema_listener_filter: the listener filters that are built in. */
#include "config/listener_filter_config.h"
#include "config/load.h"
#include "config/schema_tables.h"

/* Of a ClientHello. Envoy documents 16 KiB and refuses more when it starts. */
enum { HELLO_SIZE_MAX = 16 * 1024, HELLO_SIZE_MIN = 256 };

#define LISTENER_FILTERS "envoy.extensions.filters.listener."

/* ---- tls_inspector ---- */

static const struct cfg_field tls_inspector_fields[] = {
    WRAPPER(struct cfg_tls_inspector, 2, initial_read_buffer_size, CFG_U32, .status = CFG_INERT,
            .rules = CFG_RANGE, .min = 256, .max = 65536, .default_text = "as much as has come",
            .doc = "Bytes are taken as they come."),
    FIELD_AS(struct cfg_tls_inspector, 4, "close_connection_on_client_hello_parsing_errors",
             close_on_errors, CFG_BOOL,
             .doc = "What is no ClientHello closes the connection, instead of being plain text."),
    WRAPPER(struct cfg_tls_inspector, 5, max_client_hello_size, CFG_U32,
            WITHIN(HELLO_SIZE_MIN, HELLO_SIZE_MAX), .default_text = "16384",
            .doc = "A ClientHello that is not whole with so many bytes closes the connection."),
};
static const struct cfg_missing tls_inspector_missing[] = {
    {1, "enable_ja3_fingerprinting"},
    {3, "enable_ja4_fingerprinting"},
};
const struct cfg_schema cfg_schema_tls_inspector = {
    .name = LISTENER_FILTERS "tls_inspector.v3.TlsInspector",
    .doc = "Finds out whether the client speaks TLS, which host it wants and which protocols it "
           "offers: see [listener-filters.md](listener-filters.md).",
    .size = sizeof(struct cfg_tls_inspector),
    MARK(struct cfg_tls_inspector),
    FIELDS(tls_inspector_fields),
    MISSING(tls_inspector_missing),
};

/* ---- http_inspector, original_dst ---- */

const struct cfg_schema cfg_schema_http_inspector = {
    .name = LISTENER_FILTERS "http_inspector.v3.HttpInspector",
    .doc = "Finds out whether a client without TLS speaks HTTP, and which.",
    .size = sizeof(struct cfg_empty_listener_filter),
    MARK(struct cfg_empty_listener_filter),
};

const struct cfg_schema cfg_schema_original_dst = {
    .name = LISTENER_FILTERS "original_dst.v3.OriginalDst",
    .doc = "Where the connection went before iptables redirected it is its destination.",
    .size = sizeof(struct cfg_empty_listener_filter),
    MARK(struct cfg_empty_listener_filter),
};

/* ---- proxy_protocol ---- */

static const struct cfg_enum_value proxy_version_values[] = {
    {CFG_PROXY_V1, "V1", CFG_SUPPORTED},
    {CFG_PROXY_V2, "V2", CFG_SUPPORTED},
};
const struct cfg_enum cfg_enum_proxy_version =
    ENUM_TABLE("envoy.config.core.v3.ProxyProtocolConfig.Version", proxy_version_values);

static const struct cfg_enum_value tlv_match_values[] = {
    {CFG_TLVS_INCLUDE_ALL, "INCLUDE_ALL", CFG_SUPPORTED},
    {CFG_TLVS_INCLUDE, "INCLUDE", CFG_SUPPORTED},
};
static const struct cfg_enum tlv_match_enum = ENUM_TABLE(
    "envoy.config.core.v3.ProxyProtocolPassThroughTLVs.PassTLVsMatchType", tlv_match_values);

static const struct cfg_field pass_through_fields[] = {
    ENUM(struct cfg_pass_through_tlvs, 1, match_type, tlv_match_enum, .default_text = "INCLUDE_ALL",
         .doc = "All of them, or those of tlv_type."),
    SCALARS(struct cfg_pass_through_tlvs, 2, tlv_type, CFG_U32, WITHIN(0, 255),
            .doc = "Types of TLVs, for INCLUDE."),
};
const struct cfg_schema cfg_schema_pass_through_tlvs = {
    .name = "envoy.config.core.v3.ProxyProtocolPassThroughTLVs",
    .doc = "Which TLVs of a PROXY header are passed on.",
    .size = sizeof(struct cfg_pass_through_tlvs),
    MARK(struct cfg_pass_through_tlvs),
    FIELDS(pass_through_fields),
};

#define PROXY_PROTOCOL LISTENER_FILTERS "proxy_protocol.v3.ProxyProtocol"
static const struct cfg_field key_fields[] = {
    FIELD(struct cfg_tlv_rule, 1, metadata_namespace, CFG_STRING,
          .default_text = "envoy.filters.listener.proxy_protocol", .doc = "Of the metadata."),
    FIELD(struct cfg_tlv_rule, 2, key, CFG_STRING, .rules = CFG_REQUIRED,
          .doc = "In the namespace; its value is the TLV's, as UTF-8."),
};
static const struct cfg_missing key_missing[] = {{3, "value_string_encoding"}};
static const struct cfg_schema key_schema = {
    .name = PROXY_PROTOCOL ".KeyValuePair",
    .doc = "A key of the dynamic metadata.",
    .size = sizeof(struct cfg_tlv_rule),
    FIELDS(key_fields),
    MISSING(key_missing),
};
static const struct cfg_field rule_fields[] = {
    FIELD(struct cfg_tlv_rule, 1, tlv_type, CFG_U32, WITHIN(0, 255),
          .doc = "Type of the TLV that it is for."),
    FLAT(struct cfg_tlv_rule, 2, "on_tlv_present", key_schema,
         .has_at = CFG_AT(struct cfg_tlv_rule, has_key), .rules = CFG_REQUIRED,
         .doc = "Where its value is noted."),
};
static const struct cfg_schema rule_schema = {
    .name = PROXY_PROTOCOL ".Rule",
    .doc = "What is done with a TLV.",
    .size = sizeof(struct cfg_tlv_rule),
    MARK(struct cfg_tlv_rule),
    FIELDS(rule_fields),
};

static const struct cfg_field proxy_protocol_fields[] = {
    LIST(struct cfg_proxy_protocol, 1, rules, struct cfg_tlv_rule, rule_schema,
         .doc = "TLVs that become dynamic metadata."),
    FIELD(struct cfg_proxy_protocol, 2, allow_requests_without_proxy_protocol, CFG_BOOL,
          .doc = "Connections without a header go on as they are. Only for listeners that nobody "
                 "reaches but those who are to be believed."),
    POINTER(struct cfg_proxy_protocol, 3, pass_through_tlvs, struct cfg_pass_through_tlvs,
            cfg_schema_pass_through_tlvs, .default_text = "none",
            .doc = "TLVs that are kept, to be passed on to upstreams."),
    {.number = 4,
     .name = "disallowed_versions",
     .type = CFG_ENUM,
     .shape = CFG_REPEATED,
     .enumeration = &cfg_enum_proxy_version,
     .offset = CFG_OFFSET(struct cfg_proxy_protocol, disallowed_versions, int *),
     .count_at = CFG_AT(struct cfg_proxy_protocol, disallowed_versions_count),
     .doc = "Headers of these versions close the connection; not all of them."},
    FIELD(struct cfg_proxy_protocol, 5, stat_prefix, CFG_STRING,
          .doc = "Statistics are proxy_proto.STAT_PREFIX.*, else proxy_proto.*."),
};
static const struct cfg_missing proxy_protocol_missing[] = {{6, "tlv_location"}};

static void check_versions(struct cfg_loader *loader, const struct cfg_tree *node,
                           const struct cfg_path *path, void *message) {
    const struct cfg_proxy_protocol *proxy = message;
    unsigned seen = 0;
    for (size_t i = 0; i < proxy->disallowed_versions_count; i++)
        seen |= 1U << proxy->disallowed_versions[i];
    if (seen == (1U << CFG_PROXY_V1 | 1U << CFG_PROXY_V2))
        cfg_report(loader, CFG_PROBLEM_INVALID, node, path,
                   "disallowed_versions has all versions: no connection could come in");
}
const struct cfg_schema cfg_schema_proxy_protocol = {
    .name = PROXY_PROTOCOL,
    .doc = "Takes a PROXY header, version 1 or 2, off the stream; its addresses are the "
           "connection's: see [listener-filters.md](listener-filters.md).",
    .size = sizeof(struct cfg_proxy_protocol),
    MARK(struct cfg_proxy_protocol),
    FIELDS(proxy_protocol_fields),
    MISSING(proxy_protocol_missing),
    .check = check_versions,
};

/* ---- sniffer ---- */

static const struct cfg_field sniffer_fields[] = {
    FIELD(struct cfg_sniffer, 1, accept_proxy_protocol, CFG_BOOL,
          .doc = "A PROXY header in front is believed and taken off. Only for listeners that "
                 "nobody reaches but those who are to be believed."),
    WRAPPER(struct cfg_sniffer, 2, max_client_hello_size, CFG_U32,
            WITHIN(HELLO_SIZE_MIN, HELLO_SIZE_MAX), .default_text = "16384",
            .doc = "A ClientHello that is not whole with so many bytes closes the connection."),
};
const struct cfg_schema cfg_schema_sniffer = {
    .name = "sluice.extensions.filters.listener.sniffer.v1.Sniffer",
    .doc = "Tells HTTP/1.x, h2c, Redis, TLS and PROXY headers apart in one go, and gives the "
           "connection a number: see [listener-filters.md](listener-filters.md).",
    .size = sizeof(struct cfg_sniffer),
    MARK(struct cfg_sniffer),
    FIELDS(sniffer_fields),
};
