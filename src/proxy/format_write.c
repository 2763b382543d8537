/* format_write: the values of operators, appended where they are wanted: an access log line is
 * formatted straight into the buffer that is written to the file. */
#include <stdlib.h>
#include <sys/random.h>

#include "base/clock.h"
#include "http/path.h"
#include "http/status.h"
#include "proxy/connection_info.h"
#include "proxy/downstream.h"
#include "proxy/format_internal.h"
#include "proxy/network_filter.h"

/* ---- kinds of values ---- */

static enum format_value_kind put_number(struct format_out *out, uint64_t number) {
    format_put_u64(out, number);
    return FORMAT_JSON;
}

enum format_value_kind format_put_text(struct format_out *out, struct span text, size_t max_len) {
    if (span_is_none(text))
        return FORMAT_ABSENT;
    if (text.len > max_len)
        text.len = max_len;
    format_out_put(out, text);
    return FORMAT_STRING;
}

/* An empty name is no value. */
static enum format_value_kind put_name(struct format_out *out, struct span name) {
    return name.len == 0 ? FORMAT_ABSENT : format_put_text(out, name, SIZE_MAX);
}

/* Blanks turn into "_", so that one value stays one word of a log line. */
static enum format_value_kind put_word(struct format_out *out, struct span text) {
    size_t start = out->len;
    if (put_name(out, text) == FORMAT_ABSENT)
        return FORMAT_ABSENT;
    for (size_t i = start; i < out->len; i++) {
        if (out->data[i] == ' ' || (out->data[i] >= '\t' && out->data[i] <= '\r'))
            out->data[i] = '_';
    }
    return FORMAT_STRING;
}

static enum format_value_kind put_header(const struct format_op *op,
                                         const struct header_map *headers, struct format_out *out) {
    int i = headers->count > 0 ? header_find(headers, op->id, op->name, 0) : -1;
    if (i < 0 && op->other_name.len > 0 && headers->count > 0)
        i = header_find(headers, op->other_id, op->other_name, 0);
    if (i < 0)
        return FORMAT_ABSENT;
    struct span value = header_value(&headers->entries[i]);
    return format_put_text(out, value.ptr ? value : SPAN_LIT(""), op->max_len);
}

/* ---- time ---- */

static int64_t point_ns(const struct stream_info *info, int point) {
    switch (point) {
    case POINT_DS_RX_BEG:
        return info->start_ns;
    case POINT_DS_RX_END:
        return info->request_received_ns;
    case POINT_US_TX_BEG:
        return info->upstream_tx_first_ns;
    case POINT_US_TX_END:
        return info->upstream_tx_last_ns;
    case POINT_US_RX_BEG:
        return info->upstream_rx_first_ns;
    case POINT_US_RX_END:
        return info->upstream_rx_last_ns;
    case POINT_DS_TX_BEG:
        return info->downstream_tx_first_ns;
    case POINT_DS_TX_END: /* nothing is sent after it */
        return info->downstream_tx_first_ns != 0 ? info->end_ns : 0;
    default:
        return info->end_ns != 0 ? info->end_ns : clock_mono_ns();
    }
}

static enum format_value_kind put_duration(const struct format_op *op,
                                           const struct stream_info *info, struct format_out *out) {
    int64_t start = point_ns(info, op->start);
    int64_t end = point_ns(info, op->end);
    if (start == 0 || end == 0 || end < start)
        return FORMAT_ABSENT;
    return put_number(out, (uint64_t)((end - start) / op->unit_ns));
}

/* ---- gRPC ---- */

static const struct {
    const char *camel, *snake;
} grpc_names[] = {
    {"OK", "OK"},
    {"Canceled", "CANCELLED"},
    {"Unknown", "UNKNOWN"},
    {"InvalidArgument", "INVALID_ARGUMENT"},
    {"DeadlineExceeded", "DEADLINE_EXCEEDED"},
    {"NotFound", "NOT_FOUND"},
    {"AlreadyExists", "ALREADY_EXISTS"},
    {"PermissionDenied", "PERMISSION_DENIED"},
    {"ResourceExhausted", "RESOURCE_EXHAUSTED"},
    {"FailedPrecondition", "FAILED_PRECONDITION"},
    {"Aborted", "ABORTED"},
    {"OutOfRange", "OUT_OF_RANGE"},
    {"Unimplemented", "UNIMPLEMENTED"},
    {"Internal", "INTERNAL"},
    {"Unavailable", "UNAVAILABLE"},
    {"DataLoss", "DATA_LOSS"},
    {"Unauthenticated", "UNAUTHENTICATED"},
};

static bool grpc_status(const struct exchange *x, uint64_t *out) {
    struct span type = header_get(&x->request.headers, HDR_CONTENT_TYPE);
    struct span want = SPAN_LIT("application/grpc");
    if (!span_starts_with(type, want) || (type.len > want.len && type.ptr[want.len] != '+'))
        return false;
    struct span value = header_get(&x->response.trailers, HDR_GRPC_STATUS);
    if (value.len == 0)
        value = header_get(&x->response.headers, HDR_GRPC_STATUS);
    if (value.len > 0)
        return span_to_u64(value, out);
    if (x->info.response_code == 0)
        return false;
    *out = status_to_grpc(x->info.response_code);
    return true;
}

static enum format_value_kind put_grpc(const struct format_op *op, const struct exchange *x,
                                       struct format_out *out) {
    uint64_t status;
    if (!grpc_status(x, &status))
        return FORMAT_ABSENT;
    if (op->which == GRPC_NUMBER)
        return put_number(out, status);
    if (status >= sizeof(grpc_names) / sizeof(grpc_names[0])) {
        format_put_u64(out, status);
        return FORMAT_STRING;
    }
    const char *name =
        op->which == GRPC_CAMEL ? grpc_names[status].camel : grpc_names[status].snake;
    return format_put_text(out, span_of(name), SIZE_MAX);
}

/* ---- paths ---- */

static enum format_value_kind put_path(const struct format_op *op, const struct exchange *x,
                                       struct format_out *out) {
    struct span path = span_none();
    if (op->which != PATH_CURRENT)
        path = header_get(&x->request.headers, HDR_X_ENVOY_ORIGINAL_PATH);
    if (op->which == PATH_CURRENT || (span_is_none(path) && op->which != PATH_ORIGINAL))
        path = header_get(&x->request.headers, HDR_PATH);
    return format_put_text(out, op->part == 0 ? path_only(path) : path, op->max_len);
}

static enum format_value_kind put_query_param(const struct format_op *op, const struct exchange *x,
                                              struct format_out *out) {
    struct span query = path_query(header_get(&x->request.headers, HDR_PATH)), value;
    return query_get(query, op->text, &value) ? format_put_text(out, value, op->max_len)
                                              : FORMAT_ABSENT;
}

/* ---- fields ---- */

static struct span code_details(const struct format_subject *of) {
    if (of->info->response_code_details.len > 0)
        return of->info->response_code_details;
    return of->exchange && of->info->upstream_rx_first_ns != 0 ? SPAN_LIT("via_upstream")
                                                               : span_none();
}

static enum format_value_kind put_flags(const struct stream_info *info, bool long_names,
                                        struct format_out *out) {
    char buf[128];
    size_t len = stream_info_flags_text(info->flags, long_names, buf);
    return format_put_text(out, span_make(buf, len), SIZE_MAX);
}

/* A random UUID, version 4. */
static enum format_value_kind put_uuid(struct format_out *out) {
    unsigned char raw[16];
    if (getrandom(raw, sizeof(raw), 0) != sizeof(raw))
        return FORMAT_ABSENT;
    raw[6] = (unsigned char)((raw[6] & 0x0f) | 0x40);
    raw[8] = (unsigned char)((raw[8] & 0x3f) | 0x80);
    char text[36];
    char *at = text;
    for (unsigned i = 0; i < 16; i += 2) {
        if (i == 4 || i == 6 || i == 8 || i == 10)
            *at++ = '-';
        at += span_put_hex(at, raw + i, 2);
    }
    return format_put_text(out, span_make(text, sizeof(text)), SIZE_MAX);
}

static enum format_value_kind put_host_name(const struct stream_info *info, bool with_port,
                                            struct format_out *out) {
    struct span name = info->upstream_host_name;
    if (name.len == 0) /* without a name the address stands for it */
        name = info->upstream_remote;
    if (!with_port) {
        for (size_t i = name.len; i > 0 && name.ptr[i - 1] != ']'; i--) {
            if (name.ptr[i - 1] == ':') {
                name.len = i - 1;
                break;
            }
        }
    }
    return put_name(out, name);
}

/* Of a request or a response; a connection without one has no values there. */
static enum format_value_kind put_message_field(enum format_field field, const struct exchange *x,
                                                size_t max_len, struct format_out *out) {
    const struct header_map *request = &x->request.headers;
    switch (field) {
    case FIELD_REQUEST_HEADERS_BYTES:
        return put_number(out, request->bytes);
    case FIELD_RESPONSE_HEADERS_BYTES:
        return put_number(out, x->response.headers.bytes);
    case FIELD_RESPONSE_TRAILERS_BYTES:
        return put_number(out, x->response.trailers.bytes);
    case FIELD_STREAM_ID: /* Envoy's stream id provider is the request id */
        return format_put_text(out, header_get(request, HDR_X_REQUEST_ID), SIZE_MAX);
    case FIELD_QUERY_PARAMS:
        return format_put_text(out, path_query(header_get(request, HDR_PATH)), max_len);
    case FIELD_PROTOCOL:
        return format_put_text(
            out, x->info.protocol == 0 ? SPAN_LIT("HTTP/1.0") : SPAN_LIT("HTTP/1.1"), SIZE_MAX);
    case FIELD_UPSTREAM_PROTOCOL:
        return format_put_text(
            out, x->info.upstream_tx_first_ns != 0 ? SPAN_LIT("HTTP/1.1") : span_none(), SIZE_MAX);
    default:
        return FORMAT_ABSENT;
    }
}

static struct span event_name(enum format_event event) {
    static const char *const names[] = {
        [FORMAT_EVENT_NONE] = "NotSet",
        [FORMAT_EVENT_DOWNSTREAM_START] = "DownstreamStart",
        [FORMAT_EVENT_DOWNSTREAM_PERIODIC] = "DownstreamPeriodic",
        [FORMAT_EVENT_DOWNSTREAM_END] = "DownstreamEnd",
        [FORMAT_EVENT_TUNNEL_ESTABLISHED] = "DownstreamTunnelSuccessfullyEstablished",
        [FORMAT_EVENT_TCP_UPSTREAM_CONNECTED] = "TcpUpstreamConnected",
        [FORMAT_EVENT_TCP_PERIODIC] = "TcpPeriodic",
        [FORMAT_EVENT_TCP_CONNECTION_END] = "TcpConnectionEnd",
    };
    return span_of(names[event]);
}

static enum format_value_kind put_field(const struct format_op *op, const struct format_subject *of,
                                        struct format_out *out) {
    const struct stream_info *info = of->info;
    switch ((enum format_field)op->which) {
    case FIELD_BYTES_RECEIVED:
        return put_number(out, info->bytes_received);
    case FIELD_BYTES_SENT:
        return put_number(out, info->bytes_sent);
    case FIELD_HEADER_BYTES_RECEIVED:
        return put_number(out, info->header_bytes_received);
    case FIELD_HEADER_BYTES_SENT:
        return put_number(out, info->header_bytes_sent);
    case FIELD_RESPONSE_CODE:
        return put_number(out, info->response_code);
    case FIELD_RESPONSE_CODE_DETAILS:
        return put_word(out, code_details(of));
    case FIELD_RESPONSE_CODE_DETAILS_SPACES:
        return put_name(out, code_details(of));
    case FIELD_CONNECTION_TERMINATION_DETAILS:
        return put_name(out, info->connection_termination_details);
    case FIELD_RESPONSE_FLAGS:
        return put_flags(info, false, out);
    case FIELD_RESPONSE_FLAGS_LONG:
        return put_flags(info, true, out);
    case FIELD_UPSTREAM_HOST_NAME:
        return put_host_name(info, true, out);
    case FIELD_UPSTREAM_HOST_NAME_WITHOUT_PORT:
        return put_host_name(info, false, out);
    case FIELD_UPSTREAM_CLUSTER:
        return put_name(out, info->upstream_cluster);
    case FIELD_UPSTREAM_ATTEMPTS:
        return put_number(out, info->upstream_attempts);
    case FIELD_UPSTREAM_TRANSPORT_FAILURE:
        return put_word(out, info->upstream_transport_failure);
    case FIELD_CONNECTION_ID:
        return put_number(out, of->downstream ? of->downstream->id : info->connection_id);
    case FIELD_ROUTE_NAME:
        return put_name(out, info->route_name);
    case FIELD_VIRTUAL_CLUSTER_NAME:
        return put_name(out, info->virtual_cluster);
    case FIELD_FILTER_CHAIN_NAME:
        return put_name(out, info->filter_chain);
    case FIELD_ACCESS_LOG_TYPE:
        return format_put_text(out, event_name(of->event), SIZE_MAX);
    case FIELD_CUSTOM_FLAGS:
        return format_put_text(out, SPAN_LIT(""), SIZE_MAX);
    case FIELD_UNIQUE_ID:
        return put_uuid(out);
    case FIELD_REQUESTED_SERVER_NAME:
        return put_name(out, of->connection ? of->connection->server_name : span_none());
    case FIELD_REQUEST_HEADERS_BYTES:
    case FIELD_RESPONSE_HEADERS_BYTES:
    case FIELD_RESPONSE_TRAILERS_BYTES:
        if (!of->exchange)
            return put_number(out, 0);
        break;
    default:
        break;
    }
    return of->exchange ? put_message_field(op->which, of->exchange, op->max_len, out)
                        : FORMAT_ABSENT;
}

/* ---- operators ---- */

struct format_subject format_of_exchange(struct exchange *x) {
    return (struct format_subject){.exchange = x,
                                   .info = &x->info,
                                   .downstream = x->downstream,
                                   .connection = x->downstream ? x->downstream->info : NULL,
                                   .shard = x->shard,
                                   .event = FORMAT_EVENT_DOWNSTREAM_END};
}

struct format_subject format_of_stream(struct network_stream *n, enum format_event event) {
    return (struct format_subject){.info = &n->log,
                                   .downstream = n->connection,
                                   .connection = n->info,
                                   .shard = n->worker->index,
                                   .event = event};
}

static enum format_value_kind write_of_message(const struct format_op *op, const struct exchange *x,
                                               struct format_out *out) {
    switch (op->kind) {
    case OP_REQUEST_HEADER:
        return put_header(op, &x->request.headers, out);
    case OP_RESPONSE_HEADER:
        return put_header(op, &x->response.headers, out);
    case OP_TRAILER:
        return put_header(op, &x->response.trailers, out);
    case OP_GRPC_STATUS:
        return put_grpc(op, x, out);
    case OP_PATH:
        return put_path(op, x, out);
    default:
        return put_query_param(op, x, out);
    }
}

enum format_value_kind format_op_write(const struct format_op *op, const struct format_subject *of,
                                       struct format_out *out) {
    switch (op->kind) {
    case OP_LITERAL:
        return format_put_text(out, op->text, SIZE_MAX);
    case OP_REQUEST_HEADER:
    case OP_RESPONSE_HEADER:
    case OP_TRAILER:
    case OP_GRPC_STATUS:
    case OP_PATH:
    case OP_QUERY_PARAM:
        return of->exchange ? write_of_message(op, of->exchange, out) : FORMAT_ABSENT;
    case OP_TIME:
        time_format_write(&op->time,
                          op->which == TIME_START ? of->info->start_wall_ns : clock_wall_ns(), out);
        return FORMAT_STRING;
    case OP_DURATION:
        return put_duration(op, of->info, out);
    case OP_ADDRESS:
        return format_put_address(op, of, out);
    case OP_FIELD:
        return put_field(op, of, out);
    case OP_METADATA:
        return format_put_metadata(op, of, out);
    case OP_FILTER_STATE:
        return format_put_filter_state(op, of, out);
    case OP_TLS:
        return format_put_tls(op, of, out);
    }
    return FORMAT_ABSENT;
}

void format_write(const struct format *format, const struct format_subject *of, struct span empty,
                  struct format_out *out, bool *all_absent) {
    bool absent = true;
    for (size_t i = 0; i < format->count; i++) {
        if (format_op_write(&format->ops[i], of, out) == FORMAT_ABSENT)
            format_out_put(out, empty);
        else if (format->ops[i].kind != OP_LITERAL)
            absent = false;
    }
    if (all_absent)
        *all_absent = absent;
}
