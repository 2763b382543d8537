/* schema_access_log: envoy.config.accesslog.v3 and the loggers that are built in. */
#include "config/schema_tables.h"

static const struct cfg_field access_log_fields[] = {
    FIELD(struct cfg_access_log, 1, name, CFG_STRING, .doc = "Any name."),
    FIELD(struct cfg_access_log, 4, typed_config, CFG_ANY, .oneof = "config_type",
          .slot = CFG_SLOT_ACCESS_LOG, .rules = CFG_ONEOF_REQUIRED, .doc = "Which logger."),
};
static const struct cfg_missing access_log_missing[] = {{2, "filter"}};
const struct cfg_schema cfg_schema_access_log = {
    .name = "envoy.config.accesslog.v3.AccessLog",
    .doc = "An access log.",
    .size = sizeof(struct cfg_access_log),
    MARK(struct cfg_access_log),
    FIELDS(access_log_fields),
    MISSING(access_log_missing),
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
