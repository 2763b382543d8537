/* go_ahead: see the header.
 *
 * What is offered is among the side's shown buffers while the headers are lent, so the host's changes and questions find it
 * there, as in a loan of its own. It owns its bytes: the reader is asked for the end before they are gone. */
#include "ext/go/go_ahead.h"

#include <errno.h>

#include "ext/go/go_filter.h"
#include "ext/go/go_side_internal.h"
#include "proxy/exchange.h"

static struct ext_stream *stream_of(const struct go_side *side) {
    return &side->filter->block->stream;
}

static bool guessed(const _Atomic bool *guess) {
    return atomic_load_explicit(guess, memory_order_relaxed);
}

static bool sees_it_last(const struct go_side *side) {
    return side->direction == EXT_RESPONSE && side->filter->x->filters[0].self == side->filter;
}

static enum remote_ahead kind_for(const struct go_side *side) {
    const struct go_config *config = side->filter->config;
    if (!side->filter->remote || guessed(&config->body_is_slow) ||
        reader_peek(side->inner) != READER_READY || reader_unread(side->inner) != 0)
        return REMOTE_AHEAD_NONE;
    return guessed(&config->body_is_gathered[side->direction]) ? REMOTE_AHEAD_WHOLE
           : sees_it_last(side)                                ? REMOTE_AHEAD_PIECE
                                                               : REMOTE_AHEAD_NONE;
}

int go_ahead_pull(struct go_side *side) {
    struct go_ahead *ahead = &side->ahead;
    enum remote_ahead kind = kind_for(side);
    struct span chunk;
    if (kind == REMOTE_AHEAD_NONE || reader_next(side->inner, GO_AHEAD_MAX, &chunk) <= 0)
        return 0; /* an error comes again */
    struct ext_buffer *buffer = ext_buffer_new(chunk);
    if (!buffer || ext_buffer_own(buffer) != 0) {
        ext_buffer_free(buffer);
        return -ENOMEM;
    }
    ahead->pulled = buffer;
    ahead->kind = reader_peek(side->inner) == READER_END &&
                          chunk.len <= exchange_buffer_limit(side->filter->x)
                      ? kind
                      : REMOTE_AHEAD_NONE;
    return 0;
}

static bool lend(struct go_side *side, struct ext_buffer *buffer) {
    return buffer && ext_side_lend_more(stream_of(side), side->filter->x->shard, side->direction,
                                        buffer) == 0;
}

void go_ahead_offer(struct go_side *side) {
    struct go_ahead *ahead = &side->ahead;
    enum remote_ahead kind = ahead->kind;
    if (!ahead->pulled || kind == REMOTE_AHEAD_NONE || !lend(side, ahead->pulled))
        return;
    struct ext_buffer *end = kind == REMOTE_AHEAD_PIECE ? ext_buffer_new(span_make("", 0)) : NULL;
    if (kind == REMOTE_AHEAD_PIECE && !lend(side, end)) {
        ext_buffer_free(end);
        (void)ext_side_recall_newest(stream_of(side), side->direction);
        return;
    }
    ahead->pulled = NULL;
    side->filter->remote->ahead[side->direction].offered = kind;
}

/* What is offered comes back, but for those that the host was called with. */
static uint8_t recall(struct go_side *side, uint8_t calls) {
    struct remote_exchange *remote = side->filter->remote;
    enum remote_ahead kind = remote ? remote->ahead[side->direction].offered : REMOTE_AHEAD_NONE;
    if (kind == REMOTE_AHEAD_NONE)
        return 0;
    remote->ahead[side->direction].offered = REMOTE_AHEAD_NONE;
    remote->ahead[side->direction].calls = 0;
    if (kind == REMOTE_AHEAD_PIECE && calls < 2)
        ext_buffer_free(ext_side_recall_newest(stream_of(side), side->direction));
    if (calls == 0)
        side->ahead.pulled = ext_side_recall_newest(stream_of(side), side->direction);
    return calls;
}

void go_ahead_take_back(struct go_side *side) {
    (void)recall(side, 0);
}

int go_ahead_settle(struct go_side *side, int status, bool *async, struct ext_taken *taken) {
    struct go_ahead *ahead = &side->ahead;
    const struct remote_exchange *remote = side->filter->remote;
    enum remote_ahead kind = remote->ahead[side->direction].offered;
    ahead->calls = recall(side, remote->ahead[side->direction].calls);
    if (ahead->calls == 0)
        return status;
    ahead->kind = kind;
    ahead->status = status;
    ahead->async = *async;
    const struct ext_buffer *piece = stream_of(side)->sides[side->direction].shown.head;
    ahead->looked_at = piece->looked_at;
    ahead->size = piece->len;
    ahead->reply = taken->reply;
    taken->reply = NULL;
    *async = false;
    return kind == REMOTE_AHEAD_WHOLE ? GO_STOP_AND_BUFFER : GO_CONTINUE;
}

/* Its turn has come: a call that was made with the headers. */
static int account_for(struct go_side *side) {
    struct go_ahead *ahead = &side->ahead;
    bool whole = ahead->kind == REMOTE_AHEAD_WHOLE, end = whole || ahead->end_is_next;
    struct span none;
    ssize_t n = end ? reader_next(side->inner, 1, &none) : 0; /* it says that nothing more comes */
    if (n != 0)
        return n < 0 ? (int)n : -EPROTO;
    side->body_ended = end;
    int err = whole ? go_side_charge(side, ahead->size) : 0;
    if (err)
        return err;
    side->looked_at = ahead->looked_at;
    if (ahead->calls == 2) {
        ahead->calls = 1;
        ahead->end_is_next = true;
        return go_side_data_shown(side, GO_CONTINUE, false, false);
    }
    struct go_ahead made = *ahead;
    *ahead = (struct go_ahead){0};
    if (!made.reply)
        return exchange_alive(side->filter->x)
                   ? go_side_data_shown(side, made.status, made.async, end)
                   : go_side_end(side, GO_DONE);
    int status = go_side_answer(side, made.reply);
    ext_reply_free(made.reply);
    return status;
}

/* A piece that was pulled before the headers were shown. */
static int show_pulled(struct go_side *side) {
    struct ext_buffer *buffer = side->ahead.pulled;
    side->ahead.pulled = NULL;
    if (side->state != GO_WAITING_ALL_DATA)
        return go_side_show_data(side, buffer, false);
    int err = go_side_gather(side, span_make(buffer->data, buffer->len));
    ext_buffer_free(buffer);
    return err;
}

int go_ahead_step(struct go_side *side) {
    return side->ahead.calls ? account_for(side) : show_pulled(side);
}

void go_ahead_fini(struct go_ahead *ahead) {
    ext_buffer_free(ahead->pulled);
    ext_reply_free(ahead->reply);
    *ahead = (struct go_ahead){0};
}
