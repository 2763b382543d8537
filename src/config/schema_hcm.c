/* schema_hcm: envoy.extensions.filters.network.http_connection_manager.v3. */
#include "config/load.h"
#include "config/discovery_config.h"
#include "config/schema_tables.h"

/* ---- HTTP filters ---- */

static const struct cfg_field http_filter_fields[] = {
    FIELD(struct cfg_http_filter, 1, name, CFG_STRING, .rules = CFG_REQUIRED,
          .doc = "Any name; routes refer to it in typed_per_filter_config."),
    FIELD(struct cfg_http_filter, 4, typed_config, CFG_ANY, .oneof = "config_type",
          .has_at = CFG_AT(struct cfg_http_filter, has_typed_config), .slot = CFG_SLOT_HTTP_FILTER,
          .rules = CFG_ONEOF_REQUIRED, .doc = "Which filter, and its settings."),
    FIELD(struct cfg_http_filter, 6, is_optional, CFG_BOOL,
          .doc = "Leave the filter out, with a warning, when it is not built in."),
    FIELD(struct cfg_http_filter, 7, disabled, CFG_BOOL,
          .doc = "Off unless a route brings a typed_per_filter_config for it."),
};
static const struct cfg_missing http_filter_missing[] = {{5, "config_discovery"}};
static const struct cfg_schema http_filter_schema = {
    .name = "envoy.extensions.filters.network.http_connection_manager.v3.HttpFilter",
    .doc = "A filter; requests pass them in this order, responses in the reverse one.",
    .size = sizeof(struct cfg_http_filter),
    MARK(struct cfg_http_filter),
    FIELDS(http_filter_fields),
    MISSING(http_filter_missing),
};

/* ---- enums ---- */

#define HCM "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"

static const struct cfg_enum_value codec_type_values[] = {
    {0, "AUTO", CFG_SUPPORTED},
    {1, "HTTP1", CFG_SUPPORTED},
    {2, "HTTP2", CFG_UNSUPPORTED},
    {3, "HTTP3", CFG_UNSUPPORTED},
};
static const struct cfg_enum codec_type_enum = ENUM_TABLE(HCM ".CodecType", codec_type_values);

static const struct cfg_enum_value server_header_values[] = {
    {0, "OVERWRITE", CFG_SUPPORTED},
    {1, "APPEND_IF_ABSENT", CFG_SUPPORTED},
    {2, "PASS_THROUGH", CFG_SUPPORTED},
};
static const struct cfg_enum server_header_enum =
    ENUM_TABLE(HCM ".ServerHeaderTransformation", server_header_values);

static const struct cfg_enum_value escaped_slashes_values[] = {
    {0, "IMPLEMENTATION_SPECIFIC_DEFAULT", CFG_SUPPORTED},
    {1, "KEEP_UNCHANGED", CFG_SUPPORTED},
    {2, "REJECT_REQUEST", CFG_UNSUPPORTED},
    {3, "UNESCAPE_AND_REDIRECT", CFG_UNSUPPORTED},
    {4, "UNESCAPE_AND_FORWARD", CFG_UNSUPPORTED},
};
static const struct cfg_enum escaped_slashes_enum =
    ENUM_TABLE(HCM ".PathWithEscapedSlashesAction", escaped_slashes_values);

static const struct cfg_enum_value forward_cert_values[] = {
    {CFG_CERT_SANITIZE, "SANITIZE", CFG_SUPPORTED},
    {CFG_CERT_FORWARD_ONLY, "FORWARD_ONLY", CFG_SUPPORTED},
    {CFG_CERT_APPEND_FORWARD, "APPEND_FORWARD", CFG_SUPPORTED},
    {CFG_CERT_SANITIZE_SET, "SANITIZE_SET", CFG_SUPPORTED},
    {CFG_CERT_ALWAYS_FORWARD_ONLY, "ALWAYS_FORWARD_ONLY", CFG_SUPPORTED},
};
static const struct cfg_enum forward_cert_enum =
    ENUM_TABLE(HCM ".ForwardClientCertDetails", forward_cert_values);

static const struct cfg_field current_cert_fields[] = {
    WRAPPER(struct cfg_current_cert, 1, subject, CFG_BOOL, .default_text = "false",
            .doc = "Subject, as RFC 2253 writes it."),
    FIELD(struct cfg_current_cert, 3, cert, CFG_BOOL, .doc = "The certificate, URL-encoded PEM."),
    FIELD(struct cfg_current_cert, 4, dns, CFG_BOOL, .doc = "Its DNS names."),
    FIELD(struct cfg_current_cert, 5, uri, CFG_BOOL, .doc = "Its URIs."),
    FIELD(struct cfg_current_cert, 6, chain, CFG_BOOL,
          .doc = "All certificates that the client sent, URL-encoded PEM."),
};
static const struct cfg_schema current_cert_schema = {
    .name = HCM ".SetCurrentClientCertDetails",
    .doc = "What is said of the client's certificate.",
    .size = sizeof(struct cfg_current_cert),
    FIELDS(current_cert_fields),
};

/* ---- upgrades ---- */

static const struct cfg_field upgrade_fields[] = {
    FIELD(struct cfg_upgrade, 1, upgrade_type, CFG_STRING, .rules = CFG_REQUIRED,
          .doc = "What the client's upgrade field says, in any case: \"websocket\"."),
    WRAPPER(struct cfg_upgrade, 3, enabled, CFG_BOOL, .default_text = "true",
            .doc = "Off for those routes that do not say otherwise."),
};
static const struct cfg_missing upgrade_missing[] = {{2, "filters"}};
static const struct cfg_schema upgrade_schema = {
    .name = HCM ".UpgradeConfig",
    .doc = "A protocol that clients may change to on their connection.",
    .size = sizeof(struct cfg_upgrade),
    MARK(struct cfg_upgrade),
    FIELDS(upgrade_fields),
    MISSING(upgrade_missing),
    .check = cfg_check_upgrade,
};

/* ---- logs while a request runs ---- */

enum { MS = 1000000 };
#define FLUSH_INTERVAL                                                                             \
    .rules = CFG_RANGE, .min = MS, .max = INT64_MAX, .default_text = "at the end only"
static const struct cfg_field log_options_fields[] = {
    FIELD(struct cfg_log_options, 1, access_log_flush_interval, CFG_DURATION, FLUSH_INTERVAL,
          .doc = "A line is written each time so long has passed, and at the end."),
    FIELD(struct cfg_log_options, 2, flush_access_log_on_new_request, CFG_BOOL,
          .doc = "A line is written, too, when a request has come, before the first filter."),
    FIELD(struct cfg_log_options, 3, flush_log_on_tunnel_successfully_established, CFG_BOOL,
          .doc = "A line is written, too, when the upstream has agreed to an upgrade."),
};
static const struct cfg_schema log_options_schema = {
    .name = HCM ".HcmAccessLogOptions",
    .doc = "When a line of the access log is written, and Go filters are told. "
           "`%ACCESS_LOG_TYPE%` tells the lines apart.",
    .size = sizeof(struct cfg_log_options),
    FIELDS(log_options_fields),
};

/* ---- the manager ---- */

static const struct cfg_field hcm_fields[] = {
    ENUM(struct cfg_hcm, 1, codec_type, codec_type_enum, .default_text = "AUTO",
         .doc = "HTTP version. This release speaks HTTP/1 only, also under AUTO."),
    FIELD(struct cfg_hcm, 2, stat_prefix, CFG_STRING, .rules = CFG_REQUIRED,
          .doc = "Name of this manager in the statistics."),
    POINTER(struct cfg_hcm, 3, rds, struct cfg_rds, cfg_schema_rds,
            ONEOF(struct cfg_hcm, route_specifier), .rules = CFG_ONEOF_REQUIRED,
            .doc = "Routes of a file that may change."),
    POINTER(struct cfg_hcm, 4, route_config, struct cfg_route_configuration,
            cfg_schema_route_configuration, ONEOF(struct cfg_hcm, route_specifier),
            .rules = CFG_ONEOF_REQUIRED, .doc = "Virtual hosts and routes."),
    LIST(struct cfg_hcm, 5, http_filters, struct cfg_http_filter, http_filter_schema,
         .doc = "Filters; the last one is the router."),
    WRAPPER(struct cfg_hcm, 6, add_user_agent, CFG_BOOL, .default_text = "false",
            .doc = "Set user-agent where it is missing, and x-envoy-downstream-service-cluster."),
    POINTER(struct cfg_hcm, 8, http_protocol_options, struct cfg_http1_options,
            cfg_schema_http1_options, .doc = "Settings of HTTP/1."),
    FIELD(struct cfg_hcm, 10, server_name, CFG_STRING, .rules = CFG_HEADER_VALUE,
          .default_text = "envoy", .doc = "Value of the server header."),
    FIELD(struct cfg_hcm, 12, drain_timeout, CFG_DURATION, .default_text = "5s",
          .status = CFG_INERT, .doc = "As on Envoy, it matters to HTTP/2 only."),
    LIST(struct cfg_hcm, 13, access_log, struct cfg_access_log, cfg_schema_access_log,
         .doc = "Access logs."),
    WRAPPER(struct cfg_hcm, 14, use_remote_address, CFG_BOOL, .default_text = "false",
            .doc = "The peer is the client: append its address to x-forwarded-for."),
    WRAPPER(struct cfg_hcm, 15, generate_request_id, CFG_BOOL, .default_text = "true",
            .doc = "Give requests an x-request-id."),
    ENUM(struct cfg_hcm, 16, forward_client_cert_details, forward_cert_enum,
         .default_text = "SANITIZE",
         .doc = "What becomes of x-forwarded-client-cert: see [tls.md](tls.md)."),
    POINTER(struct cfg_hcm, 17, set_current_client_cert_details, struct cfg_current_cert,
            current_cert_schema,
            .doc = "What APPEND_FORWARD and SANITIZE_SET say of the client's certificate, besides "
                   "its hash."),
    FIELD(struct cfg_hcm, 18, proxy_100_continue, CFG_BOOL,
          .doc = "Pass \"Expect: 100-continue\" on rather than answering it."),
    FIELD(struct cfg_hcm, 19, xff_num_trusted_hops, CFG_U32, .default_text = "0",
          .doc = "How many proxies in front are trusted to fill x-forwarded-for."),
    FIELD(struct cfg_hcm, 21, skip_xff_append, CFG_BOOL, .doc = "Leave x-forwarded-for alone."),
    FIELD(struct cfg_hcm, 22, via, CFG_STRING, .rules = CFG_HEADER_VALUE,
          .doc = "Value to append to the via header."),
    LIST(struct cfg_hcm, 23, upgrade_configs, struct cfg_upgrade, upgrade_schema,
         .doc = "Upgrades that are passed on, unless the route says otherwise; all others are "
                "refused with 403."),
    FIELD(struct cfg_hcm, 24, stream_idle_timeout, CFG_DURATION, .default_text = "300s",
          .doc = "A request without progress is ended after this; 0s: never."),
    FIELD(struct cfg_hcm, 26, delayed_close_timeout, CFG_DURATION, .default_text = "1s",
          .doc = "How long to wait for the peer's close before closing hard."),
    FIELD(struct cfg_hcm, 28, request_timeout, CFG_DURATION, .default_text = "0s (off)",
          .doc = "Time in which a whole request must arrive."),
    WRAPPER(struct cfg_hcm, 29, max_request_headers_kb, CFG_U32, WITHIN(1, 8192),
            .default_text = "60", .doc = "Larger request heads are refused with 431."),
    WRAPPER(struct cfg_hcm, 30, normalize_path, CFG_BOOL, .default_text = "false",
            .doc = "Resolve \".\" and \"..\" in paths (RFC 3986)."),
    FIELD(struct cfg_hcm, 32, preserve_external_request_id, CFG_BOOL,
          .doc = "Keep an x-request-id that a client sent."),
    FIELD(struct cfg_hcm, 33, merge_slashes, CFG_BOOL, .doc = "Make \"//\" one slash."),
    ENUM(struct cfg_hcm, 34, server_header_transformation, server_header_enum,
         .default_text = "OVERWRITE", .doc = "What becomes of the cluster's server header."),
    POINTER(struct cfg_hcm, 35, common_http_protocol_options, struct cfg_http_options,
            cfg_schema_http_options, .doc = "Settings of HTTP, whichever version."),
    FIELD(struct cfg_hcm, 37, always_set_request_id_in_response, CFG_BOOL,
          .doc = "Send x-request-id back, too."),
    FIELD(struct cfg_hcm, 39, strip_matching_host_port, CFG_BOOL,
          .doc = "Take the port out of Host when it is the listener's."),
    WRAPPER(struct cfg_hcm, 40, stream_error_on_invalid_http_message, CFG_BOOL,
            .rules = CFG_ONLY_FALSE, .default_text = "false",
            .doc = "Keep the connection after an invalid message."),
    FIELD(struct cfg_hcm, 41, request_headers_timeout, CFG_DURATION, .default_text = "0s (off)",
          .doc = "Time in which a request's head must arrive."),
    FIELD(struct cfg_hcm, 42, strip_any_host_port, CFG_BOOL, .oneof = "strip_port_mode",
          .doc = "Take any port out of Host."),
    ENUM(struct cfg_hcm, 45, path_with_escaped_slashes_action, escaped_slashes_enum,
         .default_text = "KEEP_UNCHANGED", .doc = "What becomes of %2F and %5C in paths."),
    FIELD(struct cfg_hcm, 54, access_log_flush_interval, CFG_DURATION, FLUSH_INTERVAL,
          .doc = "Deprecated: use access_log_options."),
    FIELD(struct cfg_hcm, 55, flush_access_log_on_new_request, CFG_BOOL,
          .doc = "Deprecated: use access_log_options."),
    POINTER(struct cfg_hcm, 56, access_log_options, struct cfg_log_options, log_options_schema,
            .doc = "When a line of the access log is written."),
};
static const struct cfg_missing hcm_missing[] = {
    {7, "tracing"},
    {9, "http2_protocol_options"},
    {20, "represent_ipv4_remote_address_as_ipv4_mapped_ipv6"},
    {25, "internal_address_config"},
    {31, "scoped_routes"},
    {36, "request_id_extension"},
    {38, "local_reply_config"},
    {43, "path_normalization_options"},
    {44, "http3_protocol_options"},
    {46, "original_ip_detection_extensions"},
    {47, "strip_trailing_host_dot"},
    {48, "scheme_header_transformation"},
    {49, "proxy_status_config"},
    {50, "typed_header_validation_config"},
    {51, "append_x_forwarded_port"},
    {52, "early_header_mutation_extensions"},
    {53, "add_proxy_protocol_connection_state"},
    {57, "append_local_overload"},
    {58, "http1_safe_max_connection_duration"},
};
static void check_hcm(struct cfg_loader *loader, const struct cfg_tree *node,
                      const struct cfg_path *path, void *message) {
    const struct cfg_hcm *hcm = message;
    if (hcm->strip_matching_host_port && hcm->strip_any_host_port)
        cfg_report(loader, CFG_PROBLEM_INVALID, node, path,
                   "strip_matching_host_port and strip_any_host_port cannot both be set");
    if (hcm->access_log_options &&
        (hcm->access_log_flush_interval.set || hcm->flush_access_log_on_new_request))
        cfg_report(loader, CFG_PROBLEM_INVALID, node, path,
                   "access_log_options and the deprecated fields it replaces cannot both be set");
}

const struct cfg_schema cfg_schema_hcm = {
    .name = HCM,
    .doc = "Serves HTTP on the connections of a listener.",
    .size = sizeof(struct cfg_hcm),
    MARK(struct cfg_hcm),
    FIELDS(hcm_fields),
    MISSING(hcm_missing),
    .check = check_hcm,
};
