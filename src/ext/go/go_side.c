/* go_side: Envoy's state machine of a Go filter, written as a loop that pulls.
 *
 *     headers ──2──────────────► out            state 2: each chunk is shown as it is pulled
 *        ├──3──► pull the whole body, show it once with the end
 *        └──4──► pull and show chunk by chunk, headers held, until something is let go
 *     chunk   ──2──► all shown chunks go out    3: keep it, gather the rest, show that once
 *        ├──4──► keep it, show the next         5: drop it
 *     trailers ─2──► kept chunks, then trailers
 *
 * Statuses come back from the call, or later by Continue (status 0 means: later). Both take the same
 * way, so Envoy's "on Continue" loop is just the pull going on. What it gets wrong there is right by
 * construction: (a) trailers are shown after an async header continue without body, as the end of
 * the body finds them; (b) kept chunks go out when the trailers do, whatever status kept them; (c) 3
 * or 4 without a body to come is answered with 500, as nothing could ever let the message go. For
 * the same reason a last chunk that is kept (3, 4) or dropped (5) is answered with 500, where Envoy
 * hangs until a timeout.
 *
 * A body that a plugin lets pass without a look at its bytes needs none of them in memory. So where the consumer
 * splices, it does so through a filter, too: the chunk is in its pipe when it is shown, and out of there for
 * Go only if that asks (ext_buffer.h). What a plugin did with its latest chunk is the guess for the next: one
 * that looks, holds or decides elsewhere is shown chunks in memory, and holds no pipe.
 *
 *     body_splice: inner ──splice──► pipe ── shown ──► untouched: it goes on as it is
 *                                                 └──► else what is left of it is in memory, for body_next
 *
 * I1  Nothing is pulled while Go has the side, or while `out` holds anything borrowed: spans that
 *     inner lends die with its next step. Kept chunks own their bytes. What is borrowed of a pipe is gone from
 *     the stream and from `out` when body_splice returns, for the pipe is somebody else's then.
 * I2  Go's state is stored before the call; the phase (ext_stream) ends before state moves on.
 * I3  After a reply, ours or the plugin's, nothing more of the side is shown: `over`.
 *
 * The shape of the end is Envoy's: chunks never carry it; a body without trailers ends with an empty
 * chunk that does. */
#include "ext/go/go_side_internal.h"

#include <errno.h>

#include "ext/go/go_filter.h"
#include "ext/go/go_log.h"
#include "ext/go/go_phase.h"
#include "ext/go/go_remote.h"
#include "io/splice.h"
#include "proxy/exchange.h"

static struct ext_stream *stream_of(const struct go_side *side) {
    return &side->filter->block->stream;
}

static void set_state(struct go_side *side, enum go_state state) {
    side->state = state;
    atomic_store_explicit(&side->filter->block->lent->states[side->direction].state, (int32_t)state,
                          memory_order_release);
}

void go_side_init(struct go_side *side, struct go_filter *filter, enum ext_direction direction,
                  struct message *message) {
    *side = (struct go_side){.filter = filter, .direction = direction, .message = message};
}

static void drop_body(struct go_side *side) {
    ext_buffer_free(side->whole);
    side->whole = NULL;
    ext_buffers_clear(&side->out);
    ext_buffers_clear(&side->added);
    go_ahead_fini(&side->ahead);
    side->lent = 0;
}

void go_side_fini(struct go_side *side) {
    side->over = true;
    if (!side->error)
        side->error = -ECANCELED;
    drop_body(side);
}

/* The side is over after a reply. */
int go_side_end(struct go_side *side, enum go_state state) {
    ext_side_release(stream_of(side), side->direction, NULL);
    drop_body(side);
    side->over = true;
    set_state(side, state);
    return -ECANCELED;
}

static int fail(struct go_side *side, unsigned status, struct span details) {
    go_filter_fail(side->filter, status, details);
    return go_side_end(side, GO_DONE);
}

static int too_large(struct go_side *side) {
    return side->direction == EXT_REQUEST ? fail(side, 413, SPAN_LIT("request_payload_too_large"))
                                          : fail(side, 500, SPAN_LIT("response_payload_too_large"));
}

/* ---- one call ---- */

bool go_status_fits(enum ext_phase phase, uint64_t status) {
    switch (status) {
    case GO_CONTINUE:
        return true;
    case GO_STOP_AND_BUFFER:
    case GO_STOP_AND_BUFFER_WATERMARK:
        return phase != EXT_TRAILERS;
    case GO_STOP_NO_BUFFER:
        return phase == EXT_BODY;
    default:
        return false;
    }
}

/* From the returned status to one that fits the phase; waits for Continue if it has to. A status that
 * does not fit leaves the side in Go, as on Envoy. 0: a reply was posted. *async: by Continue. -ETIME: it took too long. */
static int await_status(struct go_side *side, enum ext_phase phase, uint64_t returned,
                        int64_t deadline_ns, bool *async) {
    if (go_status_fits(phase, returned))
        return (int)returned;
    if (returned != GO_RUNNING && returned != GO_LOCAL_REPLY)
        LOG(log_golang, LOG_ERROR, "plugin %.*s: status %d does not fit its phase; still waiting",
            (int)side->filter->config->plugin_name.len, side->filter->config->plugin_name.ptr,
            (int)returned);
    int posted, what;
    bool prompt;
    while ((what = ext_side_await(stream_of(side), side->filter->x, side->direction, deadline_ns,
                                  &posted, &prompt)) == -ETIMEDOUT &&
           go_phase_is_excused(side->filter))
        deadline_ns = go_phase_deadline(side->filter);
    if (what < 0)
        return what == -ETIMEDOUT ? -ETIME : what;
    if (what == 2)
        return 0;
    *async = !prompt;
    return posted; /* fits: checked where it was posted, for what is ahead too */
}

static enum go_state state_of(enum ext_phase phase) {
    return phase == EXT_HEADERS ? GO_PROCESSING_HEADER
           : phase == EXT_BODY  ? GO_PROCESSING_DATA
                                : GO_PROCESSING_TRAILER;
}

static void apply(struct go_side *side, const struct ext_taken *taken, bool headers_here,
                  bool trailers_here) {
    struct message *message = side->message;
    if (ext_edits_apply(taken->edits, side->direction, headers_here ? &message->headers : NULL,
                        trailers_here ? &message->trailers : NULL) != 0)
        LOG(log_golang, LOG_ERROR, "plugin %.*s: no memory for its header changes",
            (int)side->filter->config->plugin_name.len, side->filter->config->plugin_name.ptr);
    /* Once the headers went on, the router has chosen. */
    if (taken->clear_route && headers_here) {
        exchange_clear_route(side->filter->x);
        if (taken->refresh_route)
            (void)exchange_route(side->filter->x);
    }
}

/* The exchange goes on as if the filter had said nothing. buffer, which may be NULL, is transferred. */
static int bypass(struct go_side *side, struct ext_buffer *buffer) {
    ext_side_release(stream_of(side), side->direction, &side->out); /* what came before it */
    if (buffer)
        ext_buffers_push(&side->out, buffer);
    return GO_CONTINUE;
}

/* Its host is, while it had the side: what was changed until then is void. */
static int lost(struct go_side *side, int err) {
    struct ext_taken taken;
    ext_side_take_back(stream_of(side), side->direction, &taken);
    ext_taken_fini(&taken);
    go_ahead_take_back(side);
    if (go_filter_is_bypassed(side->filter, err))
        return GO_CONTINUE;
    go_filter_fail_begin(side->filter, err);
    return go_side_end(side, GO_DONE);
}

/* From now on the exchange goes on without the filter, whatever that does. */
static int cut(struct go_side *side) {
    go_filter_cut(side->filter);
    drop_body(side);
    side->over = true;
    return -ECANCELED;
}

/* As await_status; also an error of go_remote_begin: its host was lost, or cannot be reached. One that has not heard of the
 * exchange when it is lost leaves it to the next. */
static int call_remotely(struct go_side *side, const struct go_phase_call *call, bool *async) {
    struct go_filter *filter = side->filter;
    const struct remote_exchange *remote = filter->remote;
    for (;;) {
        int err = go_remote_show(filter, side->direction, side->state, call->end);
        int status = err ? err
                         : await_status(side, call->phase, GO_RUNNING,
                                        go_phase_deadline(side->filter), async);
        if (!err && (status < 0 || !remote->undecided[side->direction]))
            return status;
        if (!remote->party.unheard)
            return err ? err : -EPIPE;
        err = go_remote_begin(filter, true);
        if (err)
            return err;
    }
}

int go_side_answer(struct go_side *side, const struct ext_reply *reply) {
    go_filter_reply(side->filter, reply);
    return go_side_end(side, side->direction == EXT_REQUEST ? GO_WAITING_HEADER : GO_DONE);
}

static int call_go_as_filter(struct go_side *side, enum ext_phase phase, bool end,
                             struct ext_buffer *buffer, bool *async) {
    struct go_filter *filter = side->filter;
    struct message *message = side->message;
    side->looked_at = false;
    int err = go_filter_begin(filter);
    if (go_filter_is_bypassed(filter, err))
        return bypass(side, buffer);
    if (err) {
        ext_buffer_free(buffer);
        go_filter_fail_begin(filter, err);
        return go_side_end(side, GO_DONE);
    }
    bool headers_here = phase == EXT_HEADERS || side->headers_held;
    bool trailers_here = phase == EXT_TRAILERS;
    struct ext_loan loan = {
        .phase = phase,
        .headers = headers_here ? &message->headers : NULL,
        .trailers = trailers_here ? &message->trailers : NULL,
        .buffer = buffer,
    };
    struct go_phase_call call = {
        .fn = &filter->block->library->fn,
        .state = &filter->block->lent->states[side->direction],
        .phase = phase,
        .end = end,
    };
    if (phase == EXT_BODY)
        call.bytes = buffer->len;
    set_state(side, state_of(phase));
    err = ext_side_lend(stream_of(side), filter->x, side->direction, &loan, &call.handle);
    if (err) {
        go_filter_end(filter);
        ext_buffer_free(buffer);
        return fail(side, 500, SPAN_LIT("golang_out_of_memory"));
    }
    if (phase != EXT_BODY) {
        const struct ext_side *lent = &stream_of(side)->sides[side->direction];
        const struct ext_room *told = trailers_here ? &lent->trailer_room : &lent->header_room;
        call.count = told->count;
        call.bytes = told->bytes;
    }
    int status;
    if (filter->remote) {
        if (phase == EXT_HEADERS)
            go_ahead_offer(side);
        status = call_remotely(side, &call, async);
    } else {
        const int64_t deadline_ns = go_phase_deadline(side->filter);
        status = go_phase_call(filter, &call, deadline_ns);
        if (status == 0)
            status = await_status(side, phase, call.status, deadline_ns, async);
    }
    if (status == -ETIME)
        return cut(side);
    if (status < 0 && status != -ECANCELED)
        return lost(side, status);
    if (status < 0) {
        ext_side_abandon(stream_of(side), side->direction);
        drop_body(side);
        side->over = true;
        return status;
    }
    struct ext_taken taken;
    ext_side_take_back(stream_of(side), side->direction, &taken);
    apply(side, &taken, headers_here, trailers_here);
    side->looked_at = taken.looked_at;
    ext_buffers_move(&side->added, &taken.added);
    if (filter->remote && phase == EXT_HEADERS)
        status = go_ahead_settle(side, status, async, &taken);
    if (taken.reply)
        status = go_side_answer(side, taken.reply);
    else if (!exchange_alive(filter->x))
        status = go_side_end(side, GO_DONE);
    ext_taken_fini(&taken);
    return status;
}

/* Shows one thing to Go and waits until it decided. buffer is transferred. Returns the status (2 to 5)
 * with edits applied and added data in side->added, or -ECANCELED when the side is over. */
static int call_go(struct go_side *side, enum ext_phase phase, bool end, struct ext_buffer *buffer,
                   bool *async) {
    struct doing *doing = exchange_doing(side->filter->x); /* who pulls the body is in other code */
    const struct doing_labels *puller = doing_swap_filter(doing, &side->filter->factory->labels);
    int status = call_go_as_filter(side, phase, end, buffer, async);
    doing_filter(doing, puller);
    return status;
}

/* ---- phases: 0, or -errno when the side is over ---- */

/* Everything shown goes out, and held headers with it. */
static void let_go(struct go_side *side) {
    ext_side_release(stream_of(side), side->direction, &side->out);
    if (!side->headers_held)
        return;
    side->headers_held = false;
    if (side->state != GO_DONE)
        ext_side_freeze(stream_of(side), side->direction, &side->message->headers);
}

static void guess(_Atomic bool *guessed, bool now) {
    if (atomic_load_explicit(guessed, memory_order_relaxed) != now)
        atomic_store_explicit(guessed, now, memory_order_relaxed);
}

static int show_headers(struct go_side *side) {
    bool end = !message_has_body(side->message), async = false;
    if (!end && go_ahead_pull(side) != 0)
        return fail(side, 500, SPAN_LIT("golang_out_of_memory"));
    int status = call_go(side, EXT_HEADERS, end, NULL, &async);
    if (status < 0)
        return status;
    if (!end)
        guess(&side->filter->config->body_is_gathered[side->direction],
              status == GO_STOP_AND_BUFFER);
    ext_buffers_move(&side->out, &side->added);
    if (status == GO_CONTINUE) {
        set_state(side, end ? GO_DONE : GO_WAITING_DATA);
        /* After a continue from elsewhere plugins often look at their headers once more. */
        if (async && !end)
            ext_side_freeze(stream_of(side), side->direction, &side->message->headers);
        return 0;
    }
    if (end)
        return fail(side, 500, SPAN_LIT("golang_waits_for_absent_body"));
    side->headers_held = true;
    set_state(side, status == GO_STOP_AND_BUFFER ? GO_WAITING_ALL_DATA : GO_WAITING_DATA);
    return 0;
}

/* Go has been called with a piece, and this came of it. */
int go_side_data_shown(struct go_side *side, int status, bool async, bool end) {
    guess(&side->filter->config->body_is_slow, async);
    enum go_state next = side->body_ended ? GO_WAITING_TRAILER : GO_WAITING_DATA;
    bool passes = status == GO_CONTINUE;
    if (!end)
        guess(&side->filter->config->body_is_touched[side->direction], !passes || side->looked_at);
    if (passes) {
        set_state(side, end ? GO_DONE : next);
        let_go(side);
        return 0;
    }
    if (end)
        return fail(side, 500, SPAN_LIT("golang_kept_end_of_stream"));
    if (status == GO_STOP_NO_BUFFER) {
        ext_side_drop_newest(stream_of(side), side->direction);
    } else {
        size_t held = 0;
        if (ext_side_keep_newest(stream_of(side), side->direction, &held) != 0)
            return fail(side, 500, SPAN_LIT("golang_out_of_memory"));
        if (held > GO_HELD_BYTES_MAX)
            return too_large(side);
    }
    if (status == GO_STOP_AND_BUFFER && !side->body_ended)
        next = GO_WAITING_ALL_DATA;
    set_state(side, next);
    return 0;
}

int go_side_show_data(struct go_side *side, struct ext_buffer *buffer, bool end) {
    bool async = false;
    int status = call_go(side, EXT_BODY, end, buffer, &async);
    return status < 0 ? status : go_side_data_shown(side, status, async, end);
}

static int show_trailers(struct go_side *side) {
    bool async = false;
    int status = call_go(side, EXT_TRAILERS, true, NULL, &async);
    if (status < 0)
        return status;
    set_state(side, GO_DONE);
    let_go(side);
    ext_buffers_move(&side->out, &side->added);
    return 0;
}

/* The buffer doubles. */
int go_side_charge(struct go_side *side, size_t bytes) {
    int err = exchange_charge(side->filter->x, 2 * bytes);
    return err == -ENOMEM ? fail(side, 503, SPAN_LIT(EXCHANGE_MEMORY_LIMIT_DETAILS)) : err;
}

int go_side_gather(struct go_side *side, struct span chunk) {
    if (!side->whole && !(side->whole = ext_buffer_new(span_make("", 0))))
        return fail(side, 500, SPAN_LIT("golang_out_of_memory"));
    if (side->whole->len + chunk.len > exchange_buffer_limit(side->filter->x))
        return too_large(side);
    int err = go_side_charge(side, chunk.len);
    if (err)
        return err;
    err = ext_buffer_append(side->whole, chunk);
    return err ? fail(side, 500, SPAN_LIT("golang_out_of_memory")) : 0;
}

/* Pulls one chunk, or sees the end, and shows what the state asks for. */
static int step(struct go_side *side) {
    if (go_ahead_holds(&side->ahead))
        return go_ahead_step(side);
    if (!side->body_ended) {
        struct span chunk;
        ssize_t n = reader_next(side->inner, GO_CHUNK_MAX, &chunk);
        if (n < 0)
            return (int)n;
        if (n > 0 && side->state == GO_WAITING_ALL_DATA)
            return go_side_gather(side, chunk);
        if (n > 0) {
            struct ext_buffer *buffer = ext_buffer_new(chunk);
            return buffer ? go_side_show_data(side, buffer, false)
                          : fail(side, 500, SPAN_LIT("golang_out_of_memory"));
        }
        side->body_ended = true;
    }
    bool has_trailers = side->message->trailers.count > 0;
    if (has_trailers && !side->whole)
        return show_trailers(side);
    struct ext_buffer *buffer = side->whole ? side->whole : ext_buffer_new(span_make("", 0));
    side->whole = NULL;
    return buffer ? go_side_show_data(side, buffer, !has_trailers)
                  : fail(side, 500, SPAN_LIT("golang_out_of_memory"));
}

/* ---- the body that the next filter sees ---- */

static void take_lent(struct go_side *side) {
    if (side->lent) {
        ext_buffer_drain(side->out.head, side->lent);
        side->lent = 0;
    }
}

static ssize_t body_next(void *data, size_t max, struct span *out) {
    struct go_side *side = data;
    if (side->error)
        return side->error;
    take_lent(side);
    for (;;) {
        struct ext_buffer *head = side->out.head;
        if (head && head->len > 0) {
            side->lent = head->len < max ? head->len : max;
            *out = span_make(head->data, side->lent);
            return (ssize_t)side->lent;
        }
        if (head) {
            ext_buffer_free(ext_buffers_pop(&side->out));
            continue;
        }
        int err = side->over ? -ECANCELED : 0;
        if (!err && side->state == GO_DONE) {
            *out = span_make("", 0);
            return 0;
        }
        if (!err)
            err = step(side);
        if (err) {
            side->error = err;
            return err;
        }
    }
}

/* There may be more than one kept chunk, or none: who keeps them touches them. */
static uint64_t body_unread(void *data) {
    const struct go_side *side = data;
    const struct go_config *config = side->filter->config;
    const struct ext_buffer *head = side->out.head;
    bool holds = side->state != GO_WAITING_DATA ||
                 stream_of(side)->sides[side->direction].shown.head ||
                 (head && (head->len > side->lent || head->next));
    if (side->error || side->over || side->body_ended || holds || go_ahead_holds(&side->ahead) ||
        atomic_load_explicit(&config->body_is_touched[side->direction], memory_order_relaxed) ||
        atomic_load_explicit(&config->body_is_slow, memory_order_relaxed))
        return 0;
    return reader_unread(side->inner);
}

/* Shows what was spliced. 1: it goes on as it is; 0: what is to go on is in `out`; or -errno. */
static int show_spliced(struct go_side *side, const struct splice *splice) {
    struct ext_buffer *buffer = splice->memory
                                    ? ext_buffer_new(splice_in_memory(splice))
                                    : ext_buffer_new_in_pipe(splice->pipe.from, splice->held);
    if (!buffer)
        return fail(side, 500, SPAN_LIT("golang_out_of_memory"));
    int err = go_side_show_data(side, buffer, false);
    if (err || side->out.head != buffer)
        return err; /* kept, and owned; or dropped */
    if (!buffer->next && !buffer->own && buffer->len == splice->held) {
        ext_buffer_free(ext_buffers_pop(&side->out));
        return 1;
    }
    return ext_buffer_own(buffer) == 0 ? 0 : fail(side, 500, SPAN_LIT("golang_out_of_memory"));
}

static ssize_t body_splice(void *data, struct splice *splice, size_t max) {
    struct go_side *side = data;
    if (side->error)
        return side->error;
    take_lent(side);
    while (side->out.head) {
        ASSERT(side->out.head->len == 0); /* or body_unread would not have told to come */
        ext_buffer_free(ext_buffers_pop(&side->out));
    }
    ssize_t n = reader_splice(side->inner, splice, max);
    if (n == -ENOBUFS)
        return n;
    if (n == 0) { /* body_next shows the end */
        side->body_ended = true;
        return -ENOBUFS;
    }
    int rc = n < 0 ? (int)n : show_spliced(side, splice);
    if (rc < 0)
        side->error = rc;
    return rc < 0 ? rc : rc > 0 ? n : -ENOBUFS;
}

static void body_close(void *data) {
    struct go_side *side = data;
    /* Borrowed chunks point into inner: they go first, also those that Go may be looking at. */
    if (side->filter->block)
        ext_side_release(stream_of(side), side->direction, NULL);
    drop_body(side);
    side->over = true;
    if (!side->error)
        side->error = -ECANCELED;
    reader_close(side->inner);
    side->inner = (struct reader){0};
}

/* A writer asks whether to wait with a head for the body. A callback that decides at once, which most
 * do, is no reason to send it alone; the plugin's latest one is the guess for the next. */
static enum reader_peek body_peek(void *data) {
    struct go_side *side = data;
    const struct ext_buffer *head = side->out.head;
    if (side->error || side->over)
        return READER_READY;
    if ((head && (head->len > side->lent || head->next)) || go_ahead_holds(&side->ahead))
        return READER_READY;
    if (side->state == GO_DONE)
        return READER_END;
    bool slow = atomic_load_explicit(&side->filter->config->body_is_slow, memory_order_relaxed);
    return slow                                          ? READER_MAY_PARK
           : reader_peek(side->inner) == READER_MAY_PARK ? READER_MAY_PARK
                                                         : READER_READY;
}

static const struct reader_itab body_itab = {.next = body_next,
                                             .close = body_close,
                                             .peek = body_peek,
                                             .unread = body_unread,
                                             .splice = body_splice};

/* A body that cannot be read while Go holds the headers: nobody else is there to answer. */
static void body_failed(struct go_side *side, int err) {
    struct exchange *x = side->filter->x;
    if (!exchange_alive(x))
        return;
    bool request = side->direction == EXT_REQUEST;
    if (request && err == -EMSGSIZE)
        go_filter_fail(side->filter, 413, SPAN_LIT("request_payload_too_large"));
    else if (request && err == -EPROTO)
        go_filter_fail(side->filter, 400, SPAN_LIT("http1.codec_error"));
    else if (request && err == -ETIMEDOUT)
        go_filter_fail(side->filter, 408, SPAN_LIT("request_overall_timeout"));
    else if (request)
        exchange_reset(x, SPAN_LIT("downstream_remote_disconnect"));
    else
        go_filter_fail(side->filter, 502, SPAN_LIT("upstream_reset_after_response_started"));
}

void go_side_run(struct go_side *side) {
    struct message *message = side->message;
    side->inner = message->body;
    if (show_headers(side) < 0)
        return;
    if (message_has_body(message) || side->out.head) {
        message->body = (struct reader){.itab = &body_itab, .data = side};
        side->wrapped = true;
    }
    while (side->headers_held) {
        int err = step(side);
        if (err < 0) {
            side->error = err;
            if (!side->over)
                body_failed(side, err);
            return;
        }
    }
}
