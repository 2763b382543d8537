/* schema_core: envoy.config.core.v3 and envoy.type.v3. */
#include "config/load.h"
#include "config/schema_tables.h"

/* ---- addresses ---- */

static const struct cfg_enum_value protocol_values[] = {
    {0, "TCP", CFG_SUPPORTED},
    {1, "UDP", CFG_UNSUPPORTED},
};
static const struct cfg_enum protocol_enum =
    ENUM_TABLE("envoy.config.core.v3.SocketAddress.Protocol", protocol_values);

static const struct cfg_field socket_address_fields[] = {
    ENUM(struct cfg_address, 1, protocol, protocol_enum, .default_text = "TCP",
         .doc = "Transport protocol."),
    FIELD_AS(struct cfg_address, 2, "address", host, CFG_STRING, .rules = CFG_REQUIRED,
             .doc = "IP address; a host name only for endpoints of DNS clusters."),
    FIELD(struct cfg_address, 3, port_value, CFG_U32, ONEOF(struct cfg_address, port_specifier),
          .rules = CFG_RANGE | CFG_ONEOF_REQUIRED, .min = 0, .max = 65535,
          .doc = "Port; 0 lets the system choose one."),
    FIELD(struct cfg_address, 6, ipv4_compat, CFG_BOOL,
          .doc = "A listener on :: takes IPv4 connections too."),
};
static const struct cfg_missing socket_address_missing[] = {
    {4, "named_port"},
    {5, "resolver_name"},
};
static const struct cfg_schema socket_address_schema = {
    .name = "envoy.config.core.v3.SocketAddress",
    .doc = "IP address and port.",
    .size = sizeof(struct cfg_address),
    FIELDS(socket_address_fields),
    MISSING(socket_address_missing),
};

static const struct cfg_field address_fields[] = {
    FLAT(struct cfg_address, 1, "socket_address", socket_address_schema, .oneof = "address",
         .rules = CFG_ONEOF_REQUIRED, .doc = "A TCP address."),
};
static const struct cfg_missing address_missing[] = {
    {2, "pipe"},
    {3, "envoy_internal_address"},
};
const struct cfg_schema cfg_schema_address = {
    .name = "envoy.config.core.v3.Address",
    .doc = "Where to listen or to connect to.",
    .size = sizeof(struct cfg_address),
    MARK(struct cfg_address),
    FIELDS(address_fields),
    MISSING(address_missing),
};

/* ---- node ---- */

static const struct cfg_field locality_fields[] = {
    FIELD(struct cfg_locality, 1, region, CFG_STRING, .status = CFG_INERT, .doc = "Region."),
    FIELD(struct cfg_locality, 2, zone, CFG_STRING, .status = CFG_INERT, .doc = "Zone."),
    FIELD(struct cfg_locality, 3, sub_zone, CFG_STRING, .status = CFG_INERT, .doc = "Sub-zone."),
};
const struct cfg_schema cfg_schema_locality = {
    .name = "envoy.config.core.v3.Locality",
    .doc = "Where something runs. Nothing depends on it yet.",
    .size = sizeof(struct cfg_locality),
    FIELDS(locality_fields),
};

/* The same message over cfg_node, which holds its fields itself. */
static const struct cfg_field node_locality_fields[] = {
    FIELD(struct cfg_node, 1, region, CFG_STRING, .status = CFG_INERT, .doc = "Region."),
    FIELD(struct cfg_node, 2, zone, CFG_STRING, .status = CFG_INERT, .doc = "Zone."),
    FIELD(struct cfg_node, 3, sub_zone, CFG_STRING, .status = CFG_INERT, .doc = "Sub-zone."),
};
static const struct cfg_schema node_locality_schema = {
    .name = "envoy.config.core.v3.Locality",
    .doc = "Where something runs. Nothing depends on it yet.",
    .size = sizeof(struct cfg_node),
    FIELDS(node_locality_fields),
};

static const struct cfg_field node_fields[] = {
    FIELD(struct cfg_node, 1, id, CFG_STRING, .doc = "Name of this process, shown by the admin."),
    FIELD(struct cfg_node, 2, cluster, CFG_STRING, .doc = "Name of the group it belongs to."),
    FIELD(struct cfg_node, 3, metadata, CFG_STRUCT, .status = CFG_INERT,
          .doc = "Anything, for control planes."),
    FLAT(struct cfg_node, 4, "locality", node_locality_schema, .status = CFG_INERT,
         .doc = "Where this process runs."),
    FIELD(struct cfg_node, 6, user_agent_name, CFG_STRING, .status = CFG_INERT,
          .doc = "For control planes."),
    FIELD(struct cfg_node, 7, user_agent_version, CFG_STRING,
          ONEOF(struct cfg_node, user_agent_version_type), .status = CFG_INERT,
          .doc = "For control planes."),
};
static const struct cfg_missing node_missing[] = {
    {8, "user_agent_build_version"}, {9, "extensions"},          {10, "client_features"},
    {11, "listening_addresses"},     {12, "dynamic_parameters"},
};
const struct cfg_schema cfg_schema_node = {
    .name = "envoy.config.core.v3.Node",
    .doc = "Who this process is.",
    .size = sizeof(struct cfg_node),
    FIELDS(node_fields),
    MISSING(node_missing),
};

/* ---- metadata ---- */

static const struct cfg_field metadata_entry_fields[] = {
    FIELD(struct cfg_metadata_entry, 1, key, CFG_STRING, .doc = "Whom it is for."),
    FIELD(struct cfg_metadata_entry, 2, value, CFG_STRUCT, .doc = "Anything."),
};
static const struct cfg_schema metadata_entry_schema = {
    .name = "map<string, google.protobuf.Struct>",
    .size = sizeof(struct cfg_metadata_entry),
    FIELDS(metadata_entry_fields),
};
static const struct cfg_field metadata_fields[] = {
    MAP(struct cfg_metadata, 1, filter_metadata, struct cfg_metadata_entry, metadata_entry_schema,
        .doc = "By whom it is for. What nobody here knows is accepted without effect."),
};
static const struct cfg_missing metadata_missing[] = {{2, "typed_filter_metadata"}};
const struct cfg_schema cfg_schema_metadata = {
    .name = "envoy.config.core.v3.Metadata",
    .doc = "What is said beside the API.",
    .size = sizeof(struct cfg_metadata),
    FIELDS(metadata_fields),
    MISSING(metadata_missing),
};

/* ---- headers ---- */

static const struct cfg_field header_value_fields[] = {
    FIELD(struct cfg_header_value, 1, key, CFG_STRING,
          .rules = CFG_REQUIRED | CFG_HEADER_NAME | CFG_MODIFIABLE | CFG_MAX_LEN, .max = 16384,
          .doc = "Header name; neither a pseudo-header (\":path\") nor host."),
    FIELD(struct cfg_header_value, 2, value, CFG_STRING, .rules = CFG_HEADER_VALUE | CFG_MAX_LEN,
          .max = 16384,
          .doc = "Header value; may hold operators such as %REQ(x-name)%, as in access logs."),
};
static const struct cfg_missing header_value_missing[] = {{3, "raw_value"}};
static const struct cfg_schema header_value_schema = {
    .name = "envoy.config.core.v3.HeaderValue",
    .doc = "A header.",
    .size = sizeof(struct cfg_header_value),
    FIELDS(header_value_fields),
    MISSING(header_value_missing),
};

static const struct cfg_enum_value append_action_values[] = {
    {CFG_APPEND_IF_EXISTS_OR_ADD, "APPEND_IF_EXISTS_OR_ADD", CFG_SUPPORTED},
    {CFG_ADD_IF_ABSENT, "ADD_IF_ABSENT", CFG_SUPPORTED},
    {CFG_OVERWRITE_IF_EXISTS_OR_ADD, "OVERWRITE_IF_EXISTS_OR_ADD", CFG_SUPPORTED},
    {CFG_OVERWRITE_IF_EXISTS, "OVERWRITE_IF_EXISTS", CFG_SUPPORTED},
};
static const struct cfg_enum append_action_enum =
    ENUM_TABLE("envoy.config.core.v3.HeaderValueOption.HeaderAppendAction", append_action_values);

static const struct cfg_field header_value_option_fields[] = {
    INLINE(struct cfg_header_value_option, 1, header, struct cfg_header_value, header_value_schema,
           .rules = CFG_REQUIRED, .doc = "The header."),
    WRAPPER(struct cfg_header_value_option, 2, append, CFG_BOOL,
            .doc = "Deprecated form of append_action: true appends, false overwrites."),
    ENUM(struct cfg_header_value_option, 3, append_action, append_action_enum,
         .default_text = "APPEND_IF_EXISTS_OR_ADD", .doc = "What to do when it is there already."),
    FIELD(struct cfg_header_value_option, 4, keep_empty_value, CFG_BOOL,
          .doc = "Add the header although its value came out empty."),
};
static void check_append(struct cfg_loader *loader, const struct cfg_tree *node,
                         const struct cfg_path *path, void *message) {
    const struct cfg_header_value_option *option = message;
    if (option->append.set && option->append_action != CFG_APPEND_IF_EXISTS_OR_ADD)
        cfg_report(loader, CFG_PROBLEM_INVALID, node, path,
                   "append and append_action cannot both be set");
}

const struct cfg_schema cfg_schema_header_value_option = {
    .name = "envoy.config.core.v3.HeaderValueOption",
    .doc = "A header to add to a request or a response.",
    .size = sizeof(struct cfg_header_value_option),
    MARK(struct cfg_header_value_option),
    FIELDS(header_value_option_fields),
    .check = check_append,
};

/* ---- data source ---- */

static const struct cfg_field data_source_fields[] = {
    FIELD(struct cfg_data_source, 1, filename, CFG_STRING, ONEOF(struct cfg_data_source, specifier),
          .rules = CFG_REQUIRED | CFG_ONEOF_REQUIRED,
          .doc = "Path of a file, read when the config is loaded."),
    FIELD(struct cfg_data_source, 2, inline_bytes, CFG_BYTES,
          ONEOF(struct cfg_data_source, specifier), .rules = CFG_ONEOF_REQUIRED,
          .doc = "The data itself, as base64."),
    FIELD(struct cfg_data_source, 3, inline_string, CFG_STRING,
          ONEOF(struct cfg_data_source, specifier), .rules = CFG_ONEOF_REQUIRED | CFG_NUL_OK,
          .doc = "The data itself, as text."),
    FIELD(struct cfg_data_source, 4, environment_variable, CFG_STRING,
          ONEOF(struct cfg_data_source, specifier), .rules = CFG_REQUIRED | CFG_ONEOF_REQUIRED,
          .doc = "Name of an environment variable that has the data."),
};
static const struct cfg_missing data_source_missing[] = {{5, "watched_directory"}};
const struct cfg_schema cfg_schema_data_source = {
    .name = "envoy.config.core.v3.DataSource",
    .doc = "Data given inline, in a file or in the environment.",
    .size = sizeof(struct cfg_data_source),
    MARK(struct cfg_data_source),
    FIELDS(data_source_fields),
    MISSING(data_source_missing),
};

/* ---- fractions ---- */

static const struct cfg_enum_value denominator_values[] = {
    {0, "HUNDRED", CFG_SUPPORTED},
    {1, "TEN_THOUSAND", CFG_SUPPORTED},
    {2, "MILLION", CFG_SUPPORTED},
};
static const struct cfg_enum denominator_enum =
    ENUM_TABLE("envoy.type.v3.FractionalPercent.DenominatorType", denominator_values);

static const struct cfg_field fraction_fields[] = {
    FIELD(struct cfg_fraction, 1, numerator, CFG_U32, .doc = "How many ..."),
    ENUM(struct cfg_fraction, 2, denominator, denominator_enum, .default_text = "HUNDRED",
         .doc = "... out of how many."),
};
static const struct cfg_schema fraction_schema = {
    .name = "envoy.type.v3.FractionalPercent",
    .doc = "A share of all requests.",
    .size = sizeof(struct cfg_fraction),
    FIELDS(fraction_fields),
};

static const struct cfg_field runtime_fraction_fields[] = {
    FLAT(struct cfg_fraction, 1, "default_value", fraction_schema, .rules = CFG_REQUIRED,
         .doc = "The share that applies."),
    FIELD(struct cfg_fraction, 2, runtime_key, CFG_STRING, .status = CFG_INERT,
          .doc = "Not heeded: layered_runtime cannot override the share."),
};
const struct cfg_schema cfg_schema_runtime_fraction = {
    .name = "envoy.config.core.v3.RuntimeFractionalPercent",
    .doc = "A share of all requests.",
    .size = sizeof(struct cfg_fraction),
    FIELDS(runtime_fraction_fields),
};

/* ---- log format ---- */

static const struct cfg_field log_format_fields[] = {
    FIELD(struct cfg_log_format, 1, text_format, CFG_STRING, .oneof = "format",
          .case_at = 1 + CFG_OFFSET(struct cfg_log_format, format_case, int),
          .rules = CFG_ONEOF_REQUIRED, .doc = "A line with operators such as %RESPONSE_CODE%."),
    FIELD(struct cfg_log_format, 2, json_format, CFG_STRUCT, .oneof = "format",
          .case_at = 1 + CFG_OFFSET(struct cfg_log_format, format_case, int),
          .rules = CFG_ONEOF_REQUIRED, .doc = "A JSON object whose strings hold operators."),
    FIELD(struct cfg_log_format, 3, omit_empty_values, CFG_BOOL,
          .doc = "Leave out what has no value, rather than \"-\" or null."),
    FIELD(struct cfg_log_format, 4, content_type, CFG_STRING, .status = CFG_INERT,
          .doc = "Only local replies have a content type."),
    POINTER(struct cfg_log_format, 5, text_format_source, struct cfg_data_source,
            cfg_schema_data_source, .oneof = "format",
            .case_at = 1 + CFG_OFFSET(struct cfg_log_format, format_case, int),
            .rules = CFG_ONEOF_REQUIRED, .doc = "As text_format, from a file."),
};
static const struct cfg_missing log_format_missing[] = {
    {6, "formatters"},
    {7, "json_format_options"},
};
const struct cfg_schema cfg_schema_log_format = {
    .name = "envoy.config.core.v3.SubstitutionFormatString",
    .doc = "Format of an access log.",
    .size = sizeof(struct cfg_log_format),
    MARK(struct cfg_log_format),
    FIELDS(log_format_fields),
    MISSING(log_format_missing),
};

/* ---- HTTP options ---- */

static const struct cfg_field http1_options_fields[] = {
    WRAPPER(struct cfg_http1_options, 1, allow_absolute_url, CFG_BOOL, .default_text = "true",
            .doc = "Take requests whose target is a whole URL."),
    FIELD(struct cfg_http1_options, 2, accept_http_10, CFG_BOOL,
          .doc = "Serve HTTP/1.0 requests; else they get 426."),
    FIELD(struct cfg_http1_options, 3, default_host_for_http_10, CFG_STRING,
          .doc = "Host of HTTP/1.0 requests that name none."),
    FIELD(struct cfg_http1_options, 5, enable_trailers, CFG_BOOL,
          .doc = "Pass trailers on; else they are dropped."),
    FIELD(struct cfg_http1_options, 6, allow_chunked_length, CFG_BOOL,
          .doc = "Take messages with both Content-Length and chunked, dropping the former."),
    WRAPPER(struct cfg_http1_options, 7, override_stream_error_on_invalid_http_message, CFG_BOOL,
            .rules = CFG_ONLY_FALSE, .doc = "Keep the connection after an invalid message."),
};
static const struct cfg_missing http1_options_missing[] = {
    {4, "header_key_format"},
    {8, "send_fully_qualified_url"},
    {9, "use_balsa_parser"},
    {10, "allow_custom_methods"},
};
const struct cfg_schema cfg_schema_http1_options = {
    .name = "envoy.config.core.v3.Http1ProtocolOptions",
    .doc = "Settings of HTTP/1.",
    .size = sizeof(struct cfg_http1_options),
    FIELDS(http1_options_fields),
    MISSING(http1_options_missing),
};

static const struct cfg_enum_value underscores_values[] = {
    {0, "ALLOW", CFG_SUPPORTED},
    {1, "REJECT_REQUEST", CFG_SUPPORTED},
    {2, "DROP_HEADER", CFG_SUPPORTED},
};
static const struct cfg_enum underscores_enum = ENUM_TABLE(
    "envoy.config.core.v3.HttpProtocolOptions.HeadersWithUnderscoresAction", underscores_values);

static const struct cfg_field http_options_fields[] = {
    FIELD(struct cfg_http_options, 1, idle_timeout, CFG_DURATION, .default_text = "3600s",
          .doc = "A connection without requests is closed after this; 0s: never."),
    WRAPPER(struct cfg_http_options, 2, max_headers_count, CFG_U32, .default_text = "100",
            WITHIN(1, UINT32_MAX), .doc = "More headers than this are refused."),
    FIELD(struct cfg_http_options, 3, max_connection_duration, CFG_DURATION,
          .default_text = "unlimited", .doc = "A connection is drained after this."),
    FIELD(struct cfg_http_options, 4, max_stream_duration, CFG_DURATION,
          .default_text = "unlimited", .doc = "A request is ended after this."),
    ENUM(struct cfg_http_options, 5, headers_with_underscores_action, underscores_enum,
         .default_text = "ALLOW", .doc = "What becomes of header names that contain '_'."),
    WRAPPER(struct cfg_http_options, 6, max_requests_per_connection, CFG_U32,
            .default_text = "unlimited", .doc = "A connection is closed after this many requests."),
};
static const struct cfg_missing http_options_missing[] = {{7, "max_response_headers_kb"}};
const struct cfg_schema cfg_schema_http_options = {
    .name = "envoy.config.core.v3.HttpProtocolOptions",
    .doc = "Settings of HTTP, whichever version.",
    .size = sizeof(struct cfg_http_options),
    FIELDS(http_options_fields),
    MISSING(http_options_missing),
};

/* ---- map<string, Any> with per-route filter configs ---- */

static const struct cfg_field per_filter_fields[] = {
    FIELD(struct cfg_per_filter, 1, key, CFG_STRING, .doc = "Name of the http_filters entry."),
    FIELD(struct cfg_per_filter, 2, value, CFG_ANY, .slot = CFG_SLOT_PER_ROUTE,
          .doc = "What the filter does differently here."),
};
const struct cfg_schema cfg_schema_per_filter = {
    .name = "map<string, google.protobuf.Any>",
    .size = sizeof(struct cfg_per_filter),
    FIELDS(per_filter_fields),
};

static const struct cfg_enum_value routing_priority_values[] = {
    {0, "DEFAULT", CFG_SUPPORTED},
    {1, "HIGH", CFG_SUPPORTED},
};
const struct cfg_enum cfg_enum_routing_priority =
    ENUM_TABLE("envoy.config.core.v3.RoutingPriority", routing_priority_values);
