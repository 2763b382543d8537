/* format: Envoy's substitution formatter, "%REQ(X-A?Y):10% %START_TIME(%s)%", compiled once.
 *
 * Ownership  format_compile borrows nothing: it copies. format_free releases.
 * Threads    Immutable after compiling. format_write on the P of the exchange or the connection.
 * Errors     An unknown operator or bad argument is a config problem with its position. Operators
 *            that Envoy has and this release lacks are problems of kind UNSUPPORTED. */
#pragma once
#include <string.h>

#include "config/config.h"

struct connection_info;
struct downstream;
struct exchange;
struct format;
struct network_stream;
struct stream_info;

/* What a format speaks of: an exchange, or a connection that has none. An operator for something that the subject has
 * not prints nothing, as on Envoy. Borrows all of it. */
enum format_event { /* %ACCESS_LOG_TYPE%, by Envoy's numbers */
                    FORMAT_EVENT_NONE = 0,
                    FORMAT_EVENT_TCP_UPSTREAM_CONNECTED = 1,
                    FORMAT_EVENT_TCP_PERIODIC = 2,
                    FORMAT_EVENT_TCP_CONNECTION_END = 3,
                    FORMAT_EVENT_DOWNSTREAM_START = 4,
                    FORMAT_EVENT_DOWNSTREAM_PERIODIC = 5,
                    FORMAT_EVENT_DOWNSTREAM_END = 6,
                    FORMAT_EVENT_TUNNEL_ESTABLISHED = 10,
};
struct format_subject {
    struct exchange *exchange; /* NULL: it is a connection */
    const struct stream_info *info;
    struct downstream *downstream;            /* NULL: there is none (a request of our own) */
    const struct connection_info *connection; /* likewise */
    unsigned shard;
    enum format_event event;
};
struct format_subject format_of_exchange(struct exchange *x);
struct format_subject format_of_stream(struct network_stream *n, enum format_event event);

/* NULL and a problem on error. `empty` is what an absent value prints: "-" in logs, "" in headers. */
struct format *format_compile(struct span text, const struct cfg_mark *mark,
                              struct cfg_problems *problems);
/* What is in a `text_format_source`, of up to FORMAT_FILE_MAX bytes. Off the Ps: it may be a file. */
enum { FORMAT_FILE_MAX = 1024 * 1024 };
struct format *format_compile_source(const struct cfg_data_source *source,
                                     const struct cfg_mark *mark, struct cfg_problems *problems);
void format_free(struct format *format);

/* A growable buffer in malloc memory. */
struct format_out {
    char *data;
    size_t len, capacity;
    bool failed; /* memory was short: data is what fitted */
};
/* Private: makes room for so many more. False: memory is short. */
MUST_CHECK bool format_out_grow(struct format_out *out, size_t more);
static inline void format_out_put(struct format_out *out, struct span bytes) {
    if (bytes.len == 0)
        return;
    if (out->capacity - out->len < bytes.len && !format_out_grow(out, bytes.len)) {
        out->failed = true;
        return;
    }
    memcpy(out->data + out->len, bytes.ptr, bytes.len);
    out->len += bytes.len;
}

/* Appends. all_absent, when not NULL, tells whether every operator in it was without a value. */
void format_write(const struct format *format, const struct format_subject *of, struct span empty,
                  struct format_out *out, bool *all_absent);
/* True when the text has no operators: the literal is then in *literal. */
bool format_is_literal(const struct format *format, struct span *literal);
