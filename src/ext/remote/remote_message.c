/* remote_message: see the header.
 *
 * Writing goes on after memory was short, into nothing, and so does reading after the record's end, from nothing: who
 * calls asks once, at the end. Readers of both sides are the same code, so what the proxy must not trust is
 * checked everywhere. */
#include "ext/remote/remote_message.h"

#include <errno.h>
#include <stdlib.h>

#include "base/log.h"
#include "ext/ext_stream.h"
#include "ext/go/go_abi.h"
#include "ext/remote/remote_wire.h"

/* ---- writing ---- */

void remote_out_fini(struct remote_out *out) {
    free(out->data);
    *out = (struct remote_out){0};
}

void remote_out_put(struct remote_out *out, struct span bytes) {
    put(out, bytes.ptr, bytes.len);
}

/* ---- reading ---- */

static uint8_t take_direction(struct remote_in *in) {
    return take_enum(in, EXT_REQUEST, EXT_RESPONSE);
}

/* ---- to the host ---- */

static void put_stream(struct remote_out *out, const struct remote_stream *stream) {
    put_64(out, stream->number);
    put_64(out, stream->config_id);
    put_32(out, stream->worker_id);
    put_8(out, stream->lenient);
}

static void take_stream(struct remote_in *in, struct remote_stream *out) {
    out->number = take_64(in);
    out->config_id = take_64(in);
    out->worker_id = take_32(in);
    out->lenient = take_bool(in);
}

void remote_put_lend(struct remote_out *out, const struct remote_lend *lend) {
    put_stream(out, &lend->stream);
    put_8(out, lend->direction);
    put_8(out, lend->phase);
    put_8(out, lend->state);
    put_8(out, lend->end);
    put_map(out, &lend->headers);
    put_map(out, &lend->trailers);
    put_8(out, lend->ahead);
    if (lend->ahead == REMOTE_AHEAD_PIECE)
        put_64(out, lend->end_buffer);
    if (lend->phase != EXT_BODY && !lend->ahead)
        return;
    put_64(out, lend->buffer);
    put_64(out, lend->size);
    put_8(out, lend->carried);
    if (lend->carried)
        put_text(out, lend->bytes);
}

int remote_read_lend(struct span record, struct header *entries, uint32_t max,
                     struct remote_lend *out) {
    struct remote_in in = reading(record);
    struct entries room = {entries, max};
    *out = (struct remote_lend){.bytes = span_make("", 0)};
    take_stream(&in, &out->stream);
    out->direction = take_direction(&in);
    out->phase = take_enum(&in, EXT_HEADERS, EXT_TRAILERS);
    out->state = take_enum(&in, GO_WAITING_HEADER, GO_DONE);
    out->end = take_bool(&in);
    take_map(&in, &room, &out->headers);
    take_map(&in, &room, &out->trailers);
    out->ahead = take_enum(&in, REMOTE_AHEAD_NONE, REMOTE_AHEAD_WHOLE);
    in.bad |= out->ahead && out->phase != EXT_HEADERS;
    if (out->ahead == REMOTE_AHEAD_PIECE)
        out->end_buffer = take_64(&in);
    if (out->phase == EXT_BODY || out->ahead) {
        out->buffer = take_64(&in);
        out->size = take_64(&in);
        out->carried = take_bool(&in);
        if (out->carried)
            out->bytes = take_text(&in);
        in.bad |= out->size > EXT_BUFFER_BYTES_MAX || out->bytes.len > out->size;
    }
    return done(&in);
}

void remote_put_body(struct remote_out *out, const struct remote_body *body) {
    put_64(out, body->number);
    put_8(out, body->direction);
    put_text(out, body->bytes);
}

int remote_read_body(struct span record, struct remote_body *out) {
    struct remote_in in = reading(record);
    out->number = take_64(&in);
    out->direction = take_direction(&in);
    out->bytes = take_text(&in);
    return done(&in);
}

void remote_put_log(struct remote_out *out, const struct remote_log *log) {
    put_stream(out, &log->stream);
    put_8(out, log->type);
    put_8(out, log->complete);
    put_8(out, log->ends);
    put_8(out, log->reason);
    for (int i = 0; i < 4; i++)
        put_map(out, &log->maps[i / 2][i % 2]);
}

int remote_read_log(struct span record, struct header *entries, uint32_t max,
                    struct remote_log *out) {
    struct remote_in in = reading(record);
    struct entries room = {entries, max};
    take_stream(&in, &out->stream);
    out->type = take_enum(&in, GO_LOG_START, GO_LOG_END);
    out->complete = take_bool(&in);
    out->ends = take_bool(&in);
    out->reason = take_enum(&in, GO_DESTROY_NORMAL, GO_DESTROY_TERMINATE);
    for (int i = 0; i < 4; i++)
        take_map(&in, &room, &out->maps[i / 2][i % 2]);
    return done(&in);
}

void remote_put_end(struct remote_out *out, const struct remote_end *end) {
    put_64(out, end->number);
    put_8(out, end->reason);
}

int remote_read_end(struct span record, struct remote_end *out) {
    struct remote_in in = reading(record);
    out->number = take_64(&in);
    out->reason = take_enum(&in, GO_DESTROY_NORMAL, GO_DESTROY_TERMINATE);
    return done(&in);
}

void remote_put_specify(struct remote_out *out, const struct remote_specify *specify) {
    put_64(out, specify->number);
    put_64(out, specify->config_id);
    put_map(out, &specify->headers);
}

int remote_read_specify(struct span record, struct header *entries, uint32_t max,
                        struct remote_specify *out) {
    struct remote_in in = reading(record);
    struct entries room = {entries, max};
    out->number = take_64(&in);
    out->config_id = take_64(&in);
    take_map(&in, &room, &out->headers);
    return done(&in);
}

/* ---- from the host ---- */

static void put_counts(struct remote_out *out, const struct go_counts *counts) {
    put_32(out, counts->crossings);
    put_32(out, counts->header_copies);
    put_32(out, counts->panics);
    put_32(out, counts->local_replies);
    put_64(out, counts->header_bytes_to_go);
    put_64(out, counts->header_bytes_from_go);
    put_64(out, counts->body_bytes_to_go);
    put_64(out, counts->body_bytes_from_go);
}

static struct go_counts take_counts(struct remote_in *in) {
    struct go_counts counts;
    counts.crossings = take_32(in);
    counts.header_copies = take_32(in);
    counts.panics = take_32(in);
    counts.local_replies = take_32(in);
    counts.header_bytes_to_go = take_64(in);
    counts.header_bytes_from_go = take_64(in);
    counts.body_bytes_to_go = take_64(in);
    counts.body_bytes_from_go = take_64(in);
    return counts;
}

void remote_put_result(struct remote_out *out, const struct remote_result *result) {
    put_64(out, result->number);
    put_8(out, result->direction);
    put_8(out, result->returned);
    put_8(out, result->decided);
    put_32(out, (uint32_t)result->status);
    put_8(out, result->calls);
    put_64(out, result->took_ns);
    put_counts(out, &result->counts);
}

int remote_read_result(struct span record, struct remote_result *out, struct remote_in *ops) {
    struct remote_in in = reading(record);
    out->number = take_64(&in);
    out->direction = take_direction(&in);
    out->returned = take_bool(&in);
    out->decided = take_bool(&in);
    out->status = (int32_t)take_32(&in);
    out->calls = take_8(&in);
    out->took_ns = take_64(&in);
    out->counts = take_counts(&in);
    *ops = in;
    return in.bad ? -EPROTO : 0;
}

void remote_put_op(struct remote_out *out, const struct remote_op *op) {
    put_8(out, (uint8_t)op->kind);
    put_8(out, op->direction);
    switch (op->kind) {
    case REMOTE_OP_EDIT:
        put_8(out, op->edit.kind);
        put_8(out, op->edit.trailers);
        put_text(out, op->edit.name);
        put_text(out, op->edit.value);
        break;
    case REMOTE_OP_ADD:
    case REMOTE_OP_REPLY_BODY:
        put_text(out, op->bytes);
        break;
    case REMOTE_OP_BUFFER:
        put_64(out, op->buffer.handle);
        put_64(out, op->buffer.drain);
        put_8(out, op->buffer.action);
        put_text(out, op->bytes);
        break;
    case REMOTE_OP_CLEAR_ROUTE:
        put_8(out, op->refresh);
        break;
    case REMOTE_OP_REPLY:
        put_32(out, op->reply.status);
        put_8(out, op->reply.panic);
        put_64(out, (uint64_t)op->reply.grpc_status);
        put_text(out, op->reply.details);
        put_32(out, op->reply.header_count);
        put_text(out, op->reply.headers);
        put_text(out, op->bytes);
        break;
    }
}

int remote_next_op(struct remote_in *ops, struct remote_op *out) {
    if (ops->left == 0 && !ops->bad)
        return 0;
    *out = (struct remote_op){.bytes = span_make("", 0)};
    out->kind = (enum remote_op_kind)take_enum(ops, REMOTE_OP_EDIT, REMOTE_OP_REPLY);
    out->direction = take_direction(ops);
    switch (out->kind) {
    case REMOTE_OP_EDIT:
        out->edit.kind = take_enum(ops, EXT_EDIT_SET, EXT_EDIT_REMOVE);
        out->edit.trailers = take_bool(ops);
        out->edit.name = take_text(ops);
        out->edit.value = take_text(ops);
        break;
    case REMOTE_OP_ADD:
    case REMOTE_OP_REPLY_BODY:
        out->bytes = take_text(ops);
        break;
    case REMOTE_OP_BUFFER:
        out->buffer.handle = take_64(ops);
        out->buffer.drain = take_64(ops);
        out->buffer.action = take_enum(ops, REMOTE_BUFFER_SET, REMOTE_BUFFER_DRAIN);
        out->bytes = take_text(ops);
        break;
    case REMOTE_OP_CLEAR_ROUTE:
        out->refresh = take_bool(ops);
        break;
    case REMOTE_OP_REPLY:
        out->reply.status = take_32(ops);
        out->reply.panic = take_bool(ops);
        out->reply.grpc_status = (int64_t)take_64(ops);
        out->reply.details = take_text(ops);
        out->reply.header_count = take_32(ops);
        out->reply.headers = take_text(ops);
        out->bytes = take_text(ops);
        break;
    }
    return ops->bad ? -EPROTO : 1;
}

void remote_put_reply_header(struct remote_out *headers, struct span name, struct span value) {
    put_text(headers, name);
    put_text(headers, value);
}

bool remote_next_header(struct span *headers, struct span *name, struct span *value) {
    struct remote_in in = reading(*headers);
    *name = take_text(&in);
    *value = take_text(&in);
    *headers = span_make(in.at, in.bad ? 0 : in.left);
    return !in.bad;
}

void remote_put_named(struct remote_out *out, const struct remote_named *named) {
    put_64(out, named->number);
    put_64(out, named->took_ns);
    put_counts(out, &named->counts);
    put_8(out, named->panicked);
    put_64(out, named->len);
    put_text(out, named->name);
}

int remote_read_named(struct span record, struct remote_named *out) {
    struct remote_in in = reading(record);
    out->number = take_64(&in);
    out->took_ns = take_64(&in);
    out->counts = take_counts(&in);
    out->panicked = take_bool(&in);
    out->len = take_64(&in);
    out->name = take_text(&in);
    in.bad |= out->name.len != (out->len <= REMOTE_NAME_MAX ? out->len : 0);
    in.bad |= out->panicked && out->len;
    return done(&in);
}

/* ---- questions ---- */

void remote_put_ask(struct remote_out *out, const struct remote_ask *ask) {
    put_64(out, ask->subject);
    put_32(out, ask->slot);
    put_8(out, ask->question);
    put_64(out, ask->n);
    put_64(out, ask->m);
    put_text(out, ask->a);
    put_text(out, ask->b);
    put_text(out, ask->c);
}

int remote_read_ask(struct span record, struct remote_ask *out) {
    struct remote_in in = reading(record);
    out->subject = take_64(&in);
    out->slot = take_32(&in);
    out->question = take_enum(&in, REMOTE_ASK_ATTRIBUTE, REMOTE_QUESTIONS - 1);
    out->n = take_64(&in);
    out->m = take_64(&in);
    out->a = take_text(&in);
    out->b = take_text(&in);
    out->c = take_text(&in);
    return done(&in);
}

void remote_put_answer(struct remote_out *out, const struct remote_answer *answer) {
    put_32(out, (uint32_t)answer->code);
    put_64(out, answer->number);
    put_text(out, answer->text);
}

int remote_read_answer(struct span record, struct remote_answer *out) {
    struct remote_in in = reading(record);
    out->code = (int32_t)take_32(&in);
    out->number = take_64(&in);
    out->text = take_text(&in);
    return done(&in);
}

void remote_put_metric(struct remote_out *out, const struct remote_metric *metric) {
    put_64(out, metric->config_id);
    put_32(out, metric->id);
    put_8(out, metric->action);
    put_64(out, metric->value);
}

int remote_read_metric(struct span record, struct remote_metric *out) {
    struct remote_in in = reading(record);
    out->config_id = take_64(&in);
    out->id = take_32(&in);
    out->action = take_enum(&in, REMOTE_METRIC_ADD, REMOTE_METRIC_RECORD);
    out->value = take_64(&in);
    return done(&in);
}

void remote_put_text(struct remote_out *out, const struct remote_text *text) {
    put_8(out, text->level);
    put_text(out, text->text);
}

int remote_read_text(struct span record, struct remote_text *out) {
    struct remote_in in = reading(record);
    out->level = take_enum(&in, LOG_TRACE, LOG_CRITICAL);
    out->text = take_text(&in);
    return done(&in);
}
