/* host_result: changes of a stream, as RESULT messages.
 *
 * Changes are encoded in the order in which they were made, except that edits and added bytes, which the stream lists anyway
 * (ext_stream.h), are encoded when something is sent. What is too large for a record goes in several: a message
 * without `returned` and `decided` says changes alone. So what is sent last has them all before it.
 *
 *     ops ◄── buffers as they are changed; edits, added, clear route when sent; the reply
 *      │ would be larger than a record: RESULT with what there is
 *      └──► RESULT or LOGGED: head, the rest
 *
 * A single change that no record holds (an edit of a value that large) is left out and counted, as one that may not
 * go on the wire: the SDK tells a plugin of neither. */
#include <errno.h>
#include <stdlib.h>

#include "base/log.h"
#include "ext/go/go_log.h"
#include "ext/go/go_stats.h"
#include "ext/remote/host_stream.h"

enum { HEAD_MAX = 128, OP_MAX = 64 }; /* beside spans */

static size_t room_of_ops(const struct host_stream *s) {
    return s->host->record_max - HEAD_MAX;
}
/* Of what can be cut. */
static size_t piece_max(const struct host_stream *s) {
    return room_of_ops(s) / 4;
}

static void send_ops(struct host_stream *s, enum remote_kind kind, struct remote_result *result) {
    struct go_counts *counts = &s->block->counts;
    result->number = s->number;
    result->calls = s->sides[result->direction].calls;
    result->counts = *counts;
    *counts = (struct go_counts){0};
    remote_out_clear(&s->head);
    remote_put_result(&s->head, result);
    if (s->head.failed || s->ops.failed)
        host_die("out of memory");
    ASSERT(s->head.len <= HEAD_MAX);
    host_send(s->host, s->p, kind, span_make(s->head.data, s->head.len),
              span_make(s->ops.data, s->ops.len), HOST_BATCHED);
    remote_out_clear(&s->ops);
}

/* False: it is too large for a record. */
static bool put_op(struct host_stream *s, const struct remote_op *op) {
    size_t size = OP_MAX + op->bytes.len;
    if (op->kind == REMOTE_OP_EDIT)
        size += op->edit.name.len + op->edit.value.len;
    if (op->kind == REMOTE_OP_REPLY)
        size += op->reply.details.len + op->reply.headers.len;
    if (size > room_of_ops(s))
        return false;
    if (s->ops.len + size > room_of_ops(s))
        send_ops(s, REMOTE_RESULT, &(struct remote_result){.direction = op->direction});
    remote_put_op(&s->ops, op);
    return true;
}

/* What is small enough by its making. */
static void put_small(struct host_stream *s, const struct remote_op *op) {
    bool fits = put_op(s, op);
    ASSERT(fits);
}

static void put_pieces(struct host_stream *s, struct remote_op *op, struct span bytes) {
    while (bytes.len) {
        size_t piece = bytes.len < piece_max(s) ? bytes.len : piece_max(s);
        op->bytes = span_make(bytes.ptr, piece);
        put_small(s, op);
        bytes = span_from(bytes, piece);
    }
}

void host_result_buffer_locked(struct host_stream *s, enum ext_direction direction, uint64_t handle,
                               enum remote_buffer_action action, struct span bytes,
                               uint64_t drain) {
    struct remote_op op = {.kind = REMOTE_OP_BUFFER,
                           .direction = (uint8_t)direction,
                           .buffer = {handle, drain, (uint8_t)action},
                           .bytes = span_make("", 0)};
    size_t max = piece_max(s);
    if (action == REMOTE_BUFFER_DRAIN || bytes.len <= max) {
        op.bytes = bytes;
        put_small(s, &op);
        return;
    }
    if (action == REMOTE_BUFFER_PREPEND) { /* the last piece first */
        while (bytes.len) {
            size_t piece = bytes.len < max ? bytes.len : max;
            op.bytes = span_make(bytes.ptr + bytes.len - piece, piece);
            put_small(s, &op);
            bytes.len -= piece;
        }
        return;
    }
    if (action == REMOTE_BUFFER_SET) {
        op.bytes = span_make(bytes.ptr, max);
        put_small(s, &op);
        op.buffer.action = REMOTE_BUFFER_APPEND;
        bytes = span_from(bytes, max);
    }
    put_pieces(s, &op, bytes);
}

static void put_edits(struct host_stream *s, const struct ext_side *side) {
    struct host_side *mine = &s->sides[side->direction];
    const struct ext_edit *edit = mine->sent ? mine->sent->next : side->edits;
    for (; edit; edit = edit->next) {
        const struct remote_op op = {
            .kind = REMOTE_OP_EDIT,
            .direction = (uint8_t)side->direction,
            .edit = {(uint8_t)edit->kind, edit->trailers, span_make(edit->bytes, edit->name_len),
                     span_make(edit->bytes + edit->name_len, edit->value_len)},
            .bytes = span_make("", 0),
        };
        mine->sent = edit;
        if (put_op(s, &op))
            continue;
        go_stats_count(GO_REFUSED_EDITS, 1);
        LOG(log_golang, LOG_WARN, "change of header %.*s refused: it has %u bytes",
            (int)(edit->name_len < 200 ? edit->name_len : 200), edit->bytes,
            (unsigned)edit->value_len);
    }
}

static void put_added(struct host_stream *s, struct ext_side *side) {
    struct remote_op op = {.kind = REMOTE_OP_ADD, .direction = (uint8_t)side->direction};
    for (const struct ext_buffer *buffer = side->added.head; buffer; buffer = buffer->next)
        put_pieces(s, &op, span_make(buffer->data, buffer->len));
    ext_buffers_clear(&side->added);
}

/* While a log in between shows copies, what is changed of those goes nowhere. */
static void put_changes(struct host_stream *s) {
    struct ext_stream *stream = &s->block->stream;
    for (int i = 0; i < 2; i++) {
        struct ext_side *side = &stream->sides[i];
        if (stream->aside && side->phase == EXT_NOT_LENT)
            continue;
        put_edits(s, side);
        put_added(s, side);
    }
    if (stream->clear_route) {
        put_small(s, &(struct remote_op){.kind = REMOTE_OP_CLEAR_ROUTE,
                                         .direction = EXT_REQUEST,
                                         .refresh = stream->refresh_route,
                                         .bytes = span_make("", 0)});
        stream->clear_route = stream->refresh_route = false;
    }
}

static void put_reply(struct host_stream *s, uint8_t direction, const struct ext_reply *reply) {
    struct remote_op op = {.kind = REMOTE_OP_REPLY_BODY, .direction = direction};
    struct span body = reply->body;
    if (body.len > piece_max(s)) {
        put_pieces(s, &op, body);
        body = span_make("", 0);
    }
    struct remote_out headers = {0};
    uint32_t count = 0;
    for (; count < reply->header_count; count++) {
        const struct header *header = &reply->headers[count];
        struct span name = header_name(header), value = header_value(header);
        if (name.len + value.len + 16 > piece_max(s) - headers.len)
            break;
        remote_put_reply_header(&headers, name, value);
    }
    if (count < reply->header_count)
        LOG(log_golang, LOG_WARN, "%zu headers of a local reply left out: they are too large",
            reply->header_count - count);
    if (headers.failed)
        host_die("out of memory");
    struct span details = reply->details;
    if (details.len > piece_max(s))
        details.len = piece_max(s);
    op = (struct remote_op){
        .kind = REMOTE_OP_REPLY,
        .direction = direction,
        .reply = {.status = reply->status,
                  .panic = reply->panic,
                  .grpc_status = reply->grpc_status,
                  .details = details,
                  .header_count = count,
                  .headers = span_make(headers.data, headers.len)},
        .bytes = body,
    };
    put_small(s, &op);
    remote_out_fini(&headers);
}

void host_result_note_locked(struct host_stream *s) {
    put_changes(s);
}

void host_result_flush_locked(struct host_stream *s) {
    put_changes(s);
    if (s->ops.len)
        send_ops(s, REMOTE_RESULT, &(struct remote_result){0});
}

void host_result_send_locked(struct host_stream *s, enum remote_kind kind,
                             struct remote_result *result, const struct ext_reply *reply) {
    put_changes(s);
    if (reply)
        put_reply(s, result->direction, reply);
    send_ops(s, kind, result);
}
