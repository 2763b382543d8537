/* access_log: a sink and a line format, built from one access_log entry. */

#include <stdlib.h>

#include "proxy/access_log_internal.h"

/* Envoy's default, with its newline. */
#define DEFAULT_FORMAT                                                                             \
    "[%START_TIME%] \"%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%\" "             \
    "%RESPONSE_CODE% %RESPONSE_FLAGS% %BYTES_RECEIVED% %BYTES_SENT% %DURATION% "                   \
    "%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% "                                                       \
    "\"%REQ(X-FORWARDED-FOR)%\" \"%REQ(USER-AGENT)%\" \"%REQ(X-REQUEST-ID)%\" "                    \
    "\"%REQ(:AUTHORITY)%\" \"%UPSTREAM_HOST%\"\n"

struct access_log {
    struct log_sink *sink;
    struct format *text;        /* or */
    struct json_template *json; /* exactly one is set */
    struct span empty;          /* what an absent value prints in a text line */
    uint32_t types;             /* bits by enum format_event: of which lines are written */
};

/* ---- the format ---- */

static bool build_log_format(struct access_log *log, const struct cfg_log_format *config,
                             const struct cfg_mark *sink_mark, struct cfg_problems *problems) {
    const struct cfg_mark *mark = config->mark.path.ptr ? &config->mark : sink_mark;
    if (config->omit_empty_values)
        log->empty = SPAN_LIT("");
    switch (config->format_case) {
    case CFG_LOG_TEXT:
        log->text = format_compile(config->text_format, mark, problems);
        return log->text != NULL;
    case CFG_LOG_JSON:
        log->json =
            json_template_build(config->json_format, config->omit_empty_values, mark, problems);
        return log->json != NULL;
    case CFG_LOG_TEXT_SOURCE:
        log->text = format_compile_source(config->text_format_source, mark, problems);
        return log->text != NULL;
    default:
        cfg_problem_add(problems, CFG_PROBLEM_INVALID, mark, "a format is required");
        return false;
    }
}

static bool build_format(struct access_log *log, const struct cfg_access_log_sink *config,
                         struct cfg_problems *problems) {
    if (config->log_format)
        return build_log_format(log, config->log_format, &config->mark, problems);
    if (config->json_format) {
        log->json = json_template_build(config->json_format, false, &config->mark, problems);
        return log->json != NULL;
    }
    struct span text = config->format.len > 0 ? config->format : SPAN_LIT(DEFAULT_FORMAT);
    log->text = format_compile(text, &config->mark, problems);
    return log->text != NULL;
}

/* ---- the log ---- */

static uint32_t types_of(const struct cfg_log_filter *config) {
    uint32_t types = 0;
    if (!config)
        return UINT32_MAX;
    for (size_t i = 0; i < config->log_type_filter->types_count; i++)
        types |= 1u << config->log_type_filter->types[i];
    return config->log_type_filter->exclude ? ~types : types;
}

struct access_log *access_log_build(const struct cfg_access_log *config,
                                    struct cfg_problems *problems) {
    const struct cfg_schema *schema = config->typed_config.schema;
    const struct cfg_access_log_sink *sink = config->typed_config.message;
    enum log_sink_target target = SINK_FILE;
    if (schema == &cfg_schema_stdout_access_log) {
        target = SINK_STDOUT;
    } else if (schema == &cfg_schema_stderr_access_log) {
        target = SINK_STDERR;
    } else if (schema != &cfg_schema_file_access_log) {
        cfg_problem_add(problems, CFG_PROBLEM_UNSUPPORTED, &config->mark,
                        "access logs of type '%.*s' are not supported",
                        (int)config->typed_config.type_url.len,
                        config->typed_config.type_url.ptr ? config->typed_config.type_url.ptr : "");
        return NULL;
    }
    struct access_log *log = calloc(1, sizeof(*log));
    if (!log) {
        cfg_problem_add(problems, CFG_PROBLEM_INVALID, &config->mark, "out of memory");
        return NULL;
    }
    log->empty = SPAN_LIT("-");
    log->types = types_of(config->filter);
    if (!build_format(log, sink, problems))
        goto fail;
    int error = 0;
    log->sink = log_sink_open(target, sink->path, &error);
    if (!log->sink) {
        cfg_problem_add(problems, CFG_PROBLEM_INVALID, &sink->mark,
                        "unable to open file '%.*s': %s", (int)sink->path.len,
                        sink->path.ptr ? sink->path.ptr : "", strerror(-error));
        goto fail;
    }
    return log;

fail:
    access_log_free(log);
    return NULL;
}

void access_log_free(struct access_log *log) {
    if (!log)
        return;
    if (log->sink)
        log_sink_unref(log->sink);
    format_free(log->text);
    json_template_free(log->json);
    free(log);
}

void access_log_write(struct access_log *log, const struct format_subject *of) {
    if (__builtin_expect(!(log->types >> of->event & 1), false))
        return;
    struct format_out *out = log_sink_begin(log->sink, of->shard);
    size_t start = out->len;
    if (log->json)
        json_template_write(log->json, of, out);
    else
        format_write(log->text, of, log->empty, out, NULL);
    log_sink_commit(log->sink, of->shard, start);
}
