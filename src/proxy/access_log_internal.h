/* access_log_internal: the parts of an access log; shared by the access_log*.c files only. */
#pragma once
#include "proxy/access_log.h"
#include "proxy/format.h"

/* ---- JSON lines ---- */

struct json_template;
/* NULL and problems on error. Borrows nothing. */
struct json_template *json_template_build(const struct cfg_value *value, bool omit_empty,
                                          const struct cfg_mark *mark,
                                          struct cfg_problems *problems);
void json_template_free(struct json_template *json);
/* Appends one line with its newline. */
void json_template_write(const struct json_template *json, const struct format_subject *of,
                         struct format_out *out);

/* ---- where lines go ---- */

/* A file, shared by path between all logs that name it, or stdout or stderr. */
struct log_sink;
enum log_sink_target { SINK_FILE, SINK_STDOUT, SINK_STDERR };

/* One reference, owned. NULL with -errno in *error when the file cannot be opened. */
struct log_sink *log_sink_open(enum log_sink_target target, struct span path, int *error);
/* Drops the reference; with the last one the file is closed once everything is written. */
void log_sink_unref(struct log_sink *sink);

/* The shard's own buffer, locked: append one whole line, then commit. The lock is the shard's and
 * held by nobody else but the writer, for the swap of a pointer. */
struct format_out *log_sink_begin(struct log_sink *sink, unsigned shard);
void log_sink_commit(struct log_sink *sink, unsigned shard, size_t line_start);
