/* access_log_config: config.accesslog.v3 and extensions.access_loggers as C structs. Shapes of values, ownership and threads:
 * types.h. Meaning of fields: schema_access_log.c. */
#pragma once
#include "config/types.h"

struct cfg_data_source;

enum cfg_log_format_case { /* of SubstitutionFormatString */
                           CFG_LOG_TEXT = 1,
                           CFG_LOG_JSON = 2,
                           CFG_LOG_TEXT_SOURCE = 5,
};
struct cfg_log_format { /* config.core.v3.SubstitutionFormatString */
    struct cfg_mark mark;
    int format_case;
    struct span text_format;
    struct cfg_value *json_format;
    struct cfg_data_source *text_format_source;
    bool omit_empty_values;
    struct span content_type; /* inert: access logs have none */
};
/* FileAccessLog, StdoutAccessLog and StderrAccessLog share this struct. */
struct cfg_access_log_sink {
    struct cfg_mark mark;
    struct span path;           /* FileAccessLog only */
    int access_log_format_case; /* File: 2 format, 3 json_format, 4 typed_json_format, 5 log_format;
                                    stdout/stderr: 1 log_format */
    struct span format;         /* deprecated text form */
    struct cfg_value *json_format;
    struct cfg_log_format *log_format;
};
struct cfg_log_type_filter { /* LogTypeFilter */
    int *types;              /* enum format_event */
    size_t types_count;
    bool exclude;
};
struct cfg_log_filter { /* AccessLogFilter */
    struct cfg_mark mark;
    int filter_specifier_case; /* 13 log_type_filter */
    struct cfg_log_type_filter *log_type_filter;
};
struct cfg_access_log {
    struct cfg_mark mark;
    struct span name;
    struct cfg_log_filter *filter; /* NULL: every line */
    struct cfg_any typed_config;   /* schema tells which of the three */
};

/* Of FileAccessLog, StdoutAccessLog and StderrAccessLog. */
extern const struct cfg_schema cfg_schema_file_access_log;
extern const struct cfg_schema cfg_schema_stdout_access_log;
extern const struct cfg_schema cfg_schema_stderr_access_log;
