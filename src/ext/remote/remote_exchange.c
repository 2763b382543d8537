/* remote_exchange: see the header.
 *
 * Everything goes through the functions that exports of the Go SDK's C interface use (go_exports_http.c, _state.c), under
 * the same lock and behind the same gate: is the side lent, or is a log being made? So what ext_stream.c argues for
 * threads of Go holds for a host, too; that its messages come in one order, and on the exchange's own P, only makes
 * less possible. */
#include "ext/remote/remote_exchange.h"

#include <errno.h>
#include <stdlib.h>

#include "config/value_wire.h"
#include "ext/go/go_log.h"
#include "ext/go/go_side.h"
#include "ext/go/go_stats.h"
#include "ext/go/go_value.h"
#include "ext/remote/remote_state.h"
#include "proxy/exchange.h"
#include "proxy/metadata.h"
#include "proxy/route.h"
#include "rt/rt.h"

/* ---- changes ---- */

static bool may_touch(const struct ext_stream *stream, const struct ext_side *side) {
    return !stream->destroyed &&
           (stream->logging || (side->phase != EXT_NOT_LENT && !side->abandoned));
}

static int edit_locked(struct ext_side *side, const struct remote_op *op) {
    return ext_side_edit_locked(side, op->edit.trailers, (enum ext_edit_kind)op->edit.kind,
                                op->edit.name, op->edit.value);
}

static int buffer_locked(struct ext_side *side, const struct remote_op *op) {
    struct ext_buffer *buffer = ext_side_buffer_locked(side, op->buffer.handle);
    if (!buffer)
        return -ENOENT;
    switch ((enum remote_buffer_action)op->buffer.action) {
    case REMOTE_BUFFER_SET:
        return ext_buffer_set(buffer, op->bytes);
    case REMOTE_BUFFER_APPEND:
        return ext_buffer_append(buffer, op->bytes);
    case REMOTE_BUFFER_PREPEND:
        return ext_buffer_prepend(buffer, op->bytes);
    case REMOTE_BUFFER_DRAIN:
        ext_buffer_drain(buffer, op->buffer.drain);
        return 0;
    }
    return -EINVAL;
}

static int add_locked(struct ext_side *side, struct span bytes) {
    if (side->abandoned || (side->phase != EXT_HEADERS && side->phase != EXT_TRAILERS))
        return -EPERM; /* in a log, of a loan that was given up, nobody takes it any more */
    return ext_side_add_data_locked(side, bytes);
}

/* Parts of a reply's body, which may be larger than a record. When one is refused so is the rest: nobody is to be answered
 * with a piece of a body. */
static int gather_reply(struct remote_exchange *x, struct span bytes) {
    if (x->reply.failed)
        return -E2BIG;
    if (bytes.len > EXT_ADDED_BYTES_MAX - x->reply.len)
        x->reply.failed = true;
    else
        remote_out_put(&x->reply, bytes);
    return x->reply.failed ? -E2BIG : 0;
}

static struct ext_reply_header *headers_of(const struct remote_op *op, size_t *count) {
    struct span rest = op->reply.headers;
    size_t max =
        op->reply.header_count < HEADER_COUNT_MAX ? op->reply.header_count : HEADER_COUNT_MAX;
    struct ext_reply_header *list = max ? calloc(max, sizeof *list) : NULL;
    *count = 0;
    while (list && *count < max &&
           remote_next_header(&rest, &list[*count].name, &list[*count].value))
        ++*count;
    return list;
}

/* The host takes its reply for given and decides nothing more, so one that is too large is a reply all the same. */
static int reply_locked(struct remote_exchange *x, struct ext_side *side,
                        const struct remote_op *op) {
    unsigned refused = 0, status = op->reply.status;
    size_t count = 0;
    int err = gather_reply(x, op->bytes);
    if (err || status < 200 || status > 599)
        status = 500;
    /* borrow-ok: ext_reply_new copies what the list points at, and the list is freed here. */
    struct ext_reply_header *list = err ? NULL : headers_of(op, &count);
    struct ext_reply *reply = ext_reply_new(
        status, err || !x->reply.data ? SPAN_LIT("") : span_make(x->reply.data, x->reply.len),
        err ? SPAN_LIT("golang_reply_too_large") : op->reply.details, list, count, &refused);
    free(list);
    remote_out_fini(&x->reply);
    if (!reply)
        return -ENOMEM;
    reply->panic = op->reply.panic;
    reply->grpc_status = err ? GRPC_STATUS_UNSET : op->reply.grpc_status;
    ext_side_reply_locked(side, reply);
    return err;
}

static int change_locked(struct remote_exchange *x, const struct remote_op *op) {
    struct ext_stream *stream = &x->block->stream;
    struct ext_side *side = &stream->sides[op->direction];
    if (!may_touch(stream, side))
        return -ECANCELED;
    switch (op->kind) {
    case REMOTE_OP_EDIT:
        return edit_locked(side, op);
    case REMOTE_OP_ADD:
        return add_locked(side, op->bytes);
    case REMOTE_OP_BUFFER:
        return buffer_locked(side, op);
    case REMOTE_OP_CLEAR_ROUTE:
        ext_stream_clear_route_locked(stream, op->refresh);
        return 0;
    case REMOTE_OP_REPLY_BODY:
        return gather_reply(x, op->bytes);
    case REMOTE_OP_REPLY:
        return reply_locked(x, side, op);
    }
    return -EINVAL;
}

static int changes_locked(struct remote_exchange *x, struct remote_in *ops) {
    struct remote_op op;
    int more;
    while ((more = remote_next_op(ops, &op)) == 1) {
        int err = change_locked(x, &op);
        if (err && err != -ECANCELED)
            stat_inc(go_stats.refused_edits, x->block->home);
    }
    return more;
}

static void add_counts(struct go_counts *to, const struct go_counts *more) {
    to->crossings += more->crossings;
    to->header_copies += more->header_copies;
    to->panics += more->panics;
    to->local_replies += more->local_replies;
    to->header_bytes_to_go += more->header_bytes_to_go;
    to->header_bytes_from_go += more->header_bytes_from_go;
    to->body_bytes_to_go += more->body_bytes_to_go;
    to->body_bytes_from_go += more->body_bytes_from_go;
}

/* The host has gone on to what is ahead. It says so until it hears of the side again: then it is said of no loan. */
static int go_on_locked(struct remote_exchange *x, const struct ext_side *side,
                        const struct remote_result *result) {
    if (side->phase != EXT_HEADERS || side->abandoned || result->calls == 0)
        return 0;
    if (result->calls > remote_ahead_calls(x->ahead[side->direction].offered) ||
        result->calls < x->ahead[side->direction].calls)
        return -EPROTO;
    x->ahead[side->direction].calls = result->calls;
    return 0;
}

/* A status that does not fit was for the host to hold back. */
static int decide_locked(const struct remote_exchange *x, struct ext_side *side,
                         const struct remote_result *result) {
    if (side->phase == EXT_NOT_LENT)
        return 0; /* the loan was taken back meanwhile */
    enum ext_phase phase = x->ahead[side->direction].calls ? EXT_BODY : side->phase;
    if (result->status < 0 || !go_status_fits(phase, (uint64_t)result->status))
        return -EPROTO;
    ext_side_continue_locked(side, result->status);
    side->prompt = result->returned;
    return 0;
}

/* Of an empty piece, as the last one is, nobody looks at the bytes. */
static void learn(const struct remote_exchange *x, const struct remote_result *result,
                  struct ext_buffer *newest) {
    _Atomic bool *guess = &x->filter->looks_at_bodies[result->direction];
    bool looked = result->counts.body_bytes_to_go > 0;
    if (!newest || newest->len == 0)
        return;
    if (looked)
        newest->looked_at = true;
    if (looked != atomic_load_explicit(guess, memory_order_relaxed))
        atomic_store_explicit(guess, looked, memory_order_relaxed);
}

static struct remote_exchange *exchange_of(struct remote_party *party) {
    return container_of(party, struct remote_exchange, party);
}

static void log_is_over(struct remote_exchange *x) {
    if (list_is_empty(&x->logs))
        return; /* nobody waits */
    struct list *oldest = x->logs.next;
    list_remove(oldest);
    rt_ready(container_of(oldest, struct remote_log_wait, node)->g);
}

static int result(struct remote_party *party, const struct remote_result *result,
                  struct remote_in *ops, bool of_log) {
    struct remote_exchange *x = exchange_of(party);
    struct ext_stream *stream = &x->block->stream;
    struct ext_side *side = &stream->sides[result->direction];
    ext_lock(stream);
    add_counts(&x->block->counts, &result->counts);
    int err = go_on_locked(x, side, result);
    bool of_ahead = x->ahead[result->direction].calls > 0;
    if (result->decided && (side->phase == EXT_BODY || of_ahead))
        learn(x, result, of_ahead ? side->shown.head : side->shown.last);
    if (!err)
        err = changes_locked(x, ops);
    if (!err && result->decided)
        err = decide_locked(x, side, result);
    ext_unlock(stream);
    if (!err && of_log)
        log_is_over(x);
    return err;
}

/* ---- questions ---- */

static int code_of(enum attribute_result result) {
    return result == ATTRIBUTE_TEXT      ? GO_OK
           : result == ATTRIBUTE_ABSENT  ? GO_VALUE_NOT_FOUND
           : result == ATTRIBUTE_NO_TEXT ? GO_SERIALIZATION_FAILURE
                                         : GO_INTERNAL_FAILURE;
}

/* 0, or the error that refused it: -EPERM and -E2BIG are the plugin's, which the host logs. */
static int64_t set_metadata_locked(struct ext_stream *stream, const struct remote_ask *ask) {
    struct cfg_value value;
    void *block = NULL;
    int err = value_wire_read(ask->c, METADATA_BYTES_MAX, &value, &block);
    if (!err)
        err = ext_stream_set_metadata_locked(stream, ask->a, ask->b, &value);
    free(block);
    return err;
}

static int64_t set_state_locked(struct ext_stream *stream, const struct remote_ask *ask) {
    struct filter_state_object object;
    if (!remote_state_object(ask, &object))
        return -EINVAL;
    return ext_stream_set_state_locked(stream, &object);
}

/* Copied under the lock: what it borrows may go when that is given up. */
static void keep(struct remote_answer *answer, struct span text, void **memory) {
    char *copy = malloc(text.len ? text.len : 1);
    *memory = copy;
    if (!copy) {
        answer->code = GO_INTERNAL_FAILURE;
        return;
    }
    if (text.len)
        memcpy(copy, text.ptr, text.len);
    answer->text = span_make(copy, text.len);
}

static void made(struct remote_answer *answer, struct format_out *text, void **memory) {
    *memory = text->data;
    if (text->failed)
        answer->code = GO_INTERNAL_FAILURE;
    else
        answer->text = span_make(text->data ? text->data : "", text->len);
}

static void text_locked(struct ext_stream *stream, const struct remote_ask *ask,
                        struct remote_answer *answer, void **memory) {
    struct attribute_subject of;
    char address[ADDRESS_TEXT_MAX];
    ext_stream_subject_locked(stream, &of);
    struct span text = go_value_text(&of, (int)ask->n, address);
    if (span_is_none(text))
        answer->code = GO_VALUE_NOT_FOUND;
    else
        keep(answer, text, memory);
}

static void number_locked(struct ext_stream *stream, const struct remote_ask *ask,
                          struct remote_answer *answer) {
    struct attribute_subject of;
    ext_stream_subject_locked(stream, &of);
    if (!go_value_number(&of, (int)ask->n, &answer->number))
        answer->code = GO_VALUE_NOT_FOUND;
}

static void metadata_locked(struct ext_stream *stream, const struct remote_ask *ask,
                            struct remote_answer *answer, void **memory) {
    struct cfg_buf wire = {0};
    if (!ext_stream_metadata_locked(stream, ask->a, &wire))
        answer->code = GO_VALUE_NOT_FOUND;
    else if (wire.failed)
        answer->code = GO_INTERNAL_FAILURE;
    else
        keep(answer, cfg_buf_view(&wire), memory);
    cfg_buf_fini(&wire);
}

/* Of whichever side shows it: its handle opens no other's. */
static void buffer_part_locked(struct remote_exchange *x, const struct remote_ask *ask, size_t room,
                               struct remote_answer *answer, void **memory) {
    struct ext_stream *stream = &x->block->stream;
    int direction = EXT_REQUEST;
    struct ext_buffer *buffer = ext_side_buffer_locked(&stream->sides[direction], ask->n);
    if (!buffer)
        buffer = ext_side_buffer_locked(&stream->sides[direction = EXT_RESPONSE], ask->n);
    if (!buffer || ask->m > buffer->len) {
        answer->code = GO_INVALID_PHASE;
        return;
    }
    if (ext_buffer_look(buffer) != 0) {
        answer->code = GO_INTERNAL_FAILURE;
        return;
    }
    buffer->looked_at = true;
    size_t left = buffer->len - ask->m;
    keep(answer, span_make(buffer->data + ask->m, left < room ? left : room), memory);
    atomic_store_explicit(&x->filter->looks_at_bodies[direction], true, memory_order_relaxed);
}

static void answer_locked(struct remote_exchange *x, const struct remote_ask *ask, size_t room,
                          struct remote_answer *answer, void **memory) {
    struct ext_stream *stream = &x->block->stream;
    struct format_out text = {0};
    switch ((enum remote_question)ask->question) {
    case REMOTE_ASK_ATTRIBUTE:
        answer->code = code_of(ext_stream_attribute_locked(stream, ask->a, &text));
        made(answer, &text, memory);
        break;
    case REMOTE_ASK_TEXT:
        text_locked(stream, ask, answer, memory);
        break;
    case REMOTE_ASK_NUMBER:
        number_locked(stream, ask, answer);
        break;
    case REMOTE_ASK_METADATA:
        metadata_locked(stream, ask, answer, memory);
        break;
    case REMOTE_SET_METADATA:
        answer->number = (uint64_t)set_metadata_locked(stream, ask);
        break;
    case REMOTE_ASK_STATE:
        if (!ext_stream_state_locked(stream, ask->a, &text))
            answer->code = GO_VALUE_NOT_FOUND;
        made(answer, &text, memory);
        break;
    case REMOTE_SET_STATE:
        answer->number = (uint64_t)set_state_locked(stream, ask);
        break;
    case REMOTE_ASK_BUFFER:
        buffer_part_locked(x, ask, room, answer, memory);
        break;
    default: /* of a configuration */
        answer->code = GO_INTERNAL_FAILURE;
    }
}

static void answer(struct remote_party *party, const struct remote_ask *ask, size_t room,
                   struct remote_answer *answer, void **memory) {
    struct remote_exchange *x = exchange_of(party);
    struct ext_stream *stream = &x->block->stream;
    *answer = (struct remote_answer){.code = GO_OK, .text = span_make("", 0)};
    *memory = NULL;
    ext_lock(stream);
    if (may_touch(stream, &stream->sides[0]) || may_touch(stream, &stream->sides[1]))
        answer_locked(x, ask, room, answer, memory);
    else
        answer->code = GO_FILTER_IS_DESTROYED;
    ext_unlock(stream);
    if (answer->text.len > room) { /* no plugin reads so much of a property */
        answer->code = GO_INTERNAL_FAILURE;
        answer->text = span_make("", 0);
    }
}

/* ---- the end of its host ---- */

/* The coroutine goes on, and finds that nothing was decided. */
static void lose_side_locked(struct remote_exchange *x, struct ext_side *side) {
    if (side->phase == EXT_NOT_LENT || side->abandoned || side->reply || side->continued)
        return;
    x->undecided[side->direction] = true;
    ext_side_continue_locked(side, GO_CONTINUE);
}

static void lose(struct remote_party *party) {
    struct remote_exchange *x = exchange_of(party);
    struct ext_stream *stream = &x->block->stream;
    ext_lock(stream);
    for (int i = 0; i < 2; i++)
        lose_side_locked(x, &stream->sides[i]);
    ext_unlock(stream);
}

/* Nobody says any more that a log is over: all are. */
static void left(struct remote_party *party) {
    struct remote_exchange *x = exchange_of(party);
    remote_out_fini(&x->reply);
    while (!list_is_empty(&x->logs))
        log_is_over(x);
}

static const struct remote_party_itab itab = {
    .result = result, .answer = answer, .left = left, .lose = lose};

void remote_exchange_init(struct remote_exchange *x, struct remote_filter *filter,
                          struct go_plugin *plugin) {
    x->party.itab = &itab;
    x->party.plugin = plugin;
    x->filter = filter;
    list_init(&x->logs);
}
