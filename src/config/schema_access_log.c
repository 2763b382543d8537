/* schema_access_log: envoy.config.accesslog.v3 and the loggers that are built in. */
#include "config/schema_tables.h"

static const struct cfg_enum_value log_type_values[] = {
    {0, "NotSet", CFG_SUPPORTED},
    {1, "TcpUpstreamConnected", CFG_SUPPORTED},
    {2, "TcpPeriodic", CFG_SUPPORTED},
    {3, "TcpConnectionEnd", CFG_SUPPORTED},
    {4, "DownstreamStart", CFG_SUPPORTED},
    {5, "DownstreamPeriodic", CFG_SUPPORTED},
    {6, "DownstreamEnd", CFG_SUPPORTED},
    {7, "UpstreamPoolReady", CFG_SUPPORTED},
    {8, "UpstreamPeriodic", CFG_SUPPORTED},
    {9, "UpstreamEnd", CFG_SUPPORTED},
    {10, "DownstreamTunnelSuccessfullyEstablished", CFG_SUPPORTED},
    {11, "UdpTunnelUpstreamConnected", CFG_SUPPORTED},
    {12, "UdpPeriodic", CFG_SUPPORTED},
    {13, "UdpSessionEnd", CFG_SUPPORTED},
};
static const struct cfg_enum log_type_enum =
    ENUM_TABLE("envoy.data.accesslog.v3.AccessLogType", log_type_values);

static const struct cfg_field log_type_filter_fields[] = {
    SCALARS(struct cfg_log_type_filter, 1, types, CFG_ENUM, .enumeration = &log_type_enum,
            .doc = "What `%ACCESS_LOG_TYPE%` says."),
    FIELD(struct cfg_log_type_filter, 2, exclude, CFG_BOOL,
          .doc = "All other types, rather than these."),
};
static const struct cfg_schema log_type_filter_schema = {
    .name = "envoy.config.accesslog.v3.LogTypeFilter",
    .doc = "Lines of some types. Of those that are about an upstream or about UDP there are none.",
    .size = sizeof(struct cfg_log_type_filter),
    FIELDS(log_type_filter_fields),
};

#define LOG_FILTER ONEOF(struct cfg_log_filter, filter_specifier)
static const struct cfg_field log_filter_fields[] = {
    POINTER(struct cfg_log_filter, 13, log_type_filter, struct cfg_log_type_filter,
            log_type_filter_schema, LOG_FILTER, .rules = CFG_ONEOF_REQUIRED,
            .doc = "By what made the line: a request's start, its end, an interval."),
};
static const struct cfg_missing log_filter_missing[] = {
    {1, "status_code_filter"},  {2, "duration_filter"},   {3, "not_health_check_filter"},
    {4, "traceable_filter"},    {5, "runtime_filter"},    {6, "and_filter"},
    {7, "or_filter"},           {8, "header_filter"},     {9, "response_flag_filter"},
    {10, "grpc_status_filter"}, {11, "extension_filter"}, {12, "metadata_filter"},
};
static const struct cfg_schema log_filter_schema = {
    .name = "envoy.config.accesslog.v3.AccessLogFilter",
    .doc = "Which lines are written.",
    .size = sizeof(struct cfg_log_filter),
    MARK(struct cfg_log_filter),
    FIELDS(log_filter_fields),
    MISSING(log_filter_missing),
};

static const struct cfg_field access_log_fields[] = {
    FIELD(struct cfg_access_log, 1, name, CFG_STRING, .doc = "Any name."),
    POINTER(struct cfg_access_log, 2, filter, struct cfg_log_filter, log_filter_schema,
            .default_text = "every line", .doc = "Which lines are written."),
    FIELD(struct cfg_access_log, 4, typed_config, CFG_ANY, .oneof = "config_type",
          .slot = CFG_SLOT_ACCESS_LOG, .rules = CFG_ONEOF_REQUIRED, .doc = "Which logger."),
};
const struct cfg_schema cfg_schema_access_log = {
    .name = "envoy.config.accesslog.v3.AccessLog",
    .doc = "An access log.",
    .size = sizeof(struct cfg_access_log),
    MARK(struct cfg_access_log),
    FIELDS(access_log_fields),
};

#define FORMAT ONEOF(struct cfg_access_log_sink, access_log_format)
static const struct cfg_field file_access_log_fields[] = {
    FIELD(struct cfg_access_log_sink, 1, path, CFG_STRING, .rules = CFG_REQUIRED,
          .doc = "File to append to; /dev/stdout and /dev/stderr work."),
    FIELD(struct cfg_access_log_sink, 2, format, CFG_STRING, FORMAT,
          .doc = "Deprecated form of log_format.text_format."),
    FIELD(struct cfg_access_log_sink, 3, json_format, CFG_STRUCT, FORMAT,
          .doc = "Deprecated form of log_format.json_format."),
    FIELD_AS(struct cfg_access_log_sink, 4, "typed_json_format", json_format, CFG_STRUCT, FORMAT,
             .doc = "Deprecated form of log_format.json_format."),
    POINTER(struct cfg_access_log_sink, 5, log_format, struct cfg_log_format, cfg_schema_log_format,
            FORMAT, .default_text = "Envoy's default format", .doc = "Format of a line."),
};
const struct cfg_schema cfg_schema_file_access_log = {
    .name = "envoy.extensions.access_loggers.file.v3.FileAccessLog",
    .doc = "Writes lines to a file.",
    .size = sizeof(struct cfg_access_log_sink),
    MARK(struct cfg_access_log_sink),
    FIELDS(file_access_log_fields),
};

static const struct cfg_field stream_access_log_fields[] = {
    POINTER(struct cfg_access_log_sink, 1, log_format, struct cfg_log_format, cfg_schema_log_format,
            FORMAT, .default_text = "Envoy's default format", .doc = "Format of a line."),
};
const struct cfg_schema cfg_schema_stdout_access_log = {
    .name = "envoy.extensions.access_loggers.stream.v3.StdoutAccessLog",
    .doc = "Writes lines to standard output.",
    .size = sizeof(struct cfg_access_log_sink),
    MARK(struct cfg_access_log_sink),
    FIELDS(stream_access_log_fields),
};
const struct cfg_schema cfg_schema_stderr_access_log = {
    .name = "envoy.extensions.access_loggers.stream.v3.StderrAccessLog",
    .doc = "Writes lines to standard error.",
    .size = sizeof(struct cfg_access_log_sink),
    MARK(struct cfg_access_log_sink),
    FIELDS(stream_access_log_fields),
};
