/* downstream_serve: HTTP on a client's connection. A coroutine reads a head, runs its exchange, and so on for as long as
 * there is something to read; then the connection has none, and waits for an edge.
 *
 *     start ─► read_head ─► exchange_run ─► the rest of the body is read
 *                ▲ │   │                        │        │
 *                │ │   └─ not all of it yet     │        └─ cannot be read, or must not: lingers, closed
 *                │ │      or nothing: idle      │
 *                └─┼──────── more has come ─────┴─ nothing has: idle
 *                  └─ bad, late, no memory: an exchange all the same, whose reply refuses it
 *
 * A part of a head is kept without a coroutine or a block (downstream_head.h), and goes on here when the rest has come.
 * Whoever is admitted while memory is short: downstream_wait.h. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "proxy/downstream_internal.h"
#include "proxy/downstream_wait.h"
#include "proxy/request_prepare.h"

enum {
    SERVINGS_KEPT = 128,           /* for each P, 40 KiB of them */
    ARENA_LIMIT = 4 * 1024 * 1024, /* of one exchange: heads, edits, local replies */
    LINGER_BYTES = 1024 * 1024,    /* read and dropped at most while closing */
};

/* ---- what serves ---- */

static struct serving *serving_new(void) {
    struct serving *s = aligned_alloc(64, (sizeof *s + 63) / 64 * 64);
    if (!s)
        return NULL;
    timer_init(&s->timer, exchange_timer_fired);
    downstream_payer_init(s);
    return s;
}

/* What its filter chain and its listener have for it. */
static inline void set_manager(struct serving *s, const struct downstream *d) {
    const struct hcm *hcm = d->info->chain->hcm;
    struct quota *quota = d->info->listener->quota;
    s->hcm = hcm;
    s->purse = quota ? &quota->purses[d->p_index] : NULL;
    doing_init(&s->doing, hcm->labels);
    doing_connection(&s->doing, d->id);
}

/* NULL when memory is short. */
static inline struct serving *serving_get(struct downstream *d, struct partial_head *head) {
    struct worker *worker = worker_at(d->p_index);
    struct serving *s = worker->servings;
    if (s) {
        worker->servings = s->next;
        worker->serving_count--;
    } else {
        s = serving_new();
        if (!s)
            return NULL;
    }
    s->downstream = d;
    s->worker = worker;
    set_manager(s, d);
    s->exchange = NULL;
    s->body = NULL;
    inbuf_init(&s->in, worker->blocks);
    s->inviting = false;
    s->head = head;
    d->serving = s;
    d->state = DOWNSTREAM_SERVING;
    return s;
}

struct serving *downstream_serving_new(struct downstream *d, struct partial_head *head) {
    return serving_get(d, head);
}

/* By its coroutine, or when there is none. The connection may have another one by now. The timer stays
 * armed, for whoever has it next. */
void downstream_serving_free(struct serving *s) {
    struct worker *worker = s->worker;
    inbuf_drop(&s->in);
    if (s->head)
        downstream_head_free(s->head);
    if (worker->serving_count == SERVINGS_KEPT) {
        if (rt_self())
            labels_describe_by(NULL);
        timer_disarm(&s->timer);
        free(s);
        return;
    }
    s->next = worker->servings;
    worker->servings = s;
    worker->serving_count++;
}

/* ---- a head ---- */

enum head_result {
    HEAD_READ,
    HEAD_BAD,
    HEAD_TIMEOUT,
    HEAD_NOTHING_YET,
    HEAD_PARTIAL, /* s->head has it */
    HEAD_CLOSED,
    HEAD_UNREAD,    /* there is a beginning, and no memory to wait for its end */
    HEAD_NO_MEMORY, /* to read it into */
};

int64_t downstream_head_deadline(const struct hcm *hcm) {
    int64_t limit_ns = hcm->request_headers_timeout_ns ? hcm->request_headers_timeout_ns
                                                       : hcm->stream_idle_timeout_ns;
    return limit_ns ? rt_now_ns() + limit_ns : RT_FOREVER;
}

/* There is a part of a head, and nothing more for now. */
static COLD enum head_result keep_head(struct serving *s) {
    const struct hcm *hcm = s->hcm;
    enum head_verdict verdict = s->head ? s->head->verdict : HEAD_MAY_COME;
    if (s->downstream->refuse || verdict == HEAD_GIVES_WAY)
        return HEAD_UNREAD;
    if (verdict == HEAD_IS_LATE)
        return HEAD_TIMEOUT;
    if (verdict == HEAD_IS_LOST || downstream_head_keep(s, downstream_head_deadline(hcm)) != 0)
        return HEAD_NO_MEMORY;
    return HEAD_PARTIAL;
}

static enum head_result read_head(struct serving *s, struct exchange *x,
                                  struct http1_parser *parser, struct http1_head *head) {
    if (s->head && downstream_head_resume(s, &x->arena) != 0)
        return HEAD_NO_MEMORY;
    for (;;) {
        if (inbuf_len(&s->in)) {
            enum http1_verdict verdict =
                http1_parse_request(parser, s->in.data + s->in.start, inbuf_len(&s->in), head);
            if (verdict == HTTP1_DONE)
                return HEAD_READ;
            if (verdict == HTTP1_BAD)
                return parser->error == HTTP1_NO_MEMORY ? HEAD_NO_MEMORY : HEAD_BAD;
        }
        if (!inbuf_head_room(&s->in, &x->arena, s->hcm->limits.head_bytes))
            return HEAD_NO_MEMORY;
        ssize_t n = socket_try_receive(&s->downstream->socket, &s->in);
        if (n == -EAGAIN)
            return inbuf_len(&s->in) ? keep_head(s) : HEAD_NOTHING_YET;
        if (n == -ENOMEM)
            return HEAD_NO_MEMORY;
        if (n <= 0) {
            s->downstream->closed_by_peer = true;
            return HEAD_CLOSED;
        }
    }
}

/* ---- an exchange ---- */

static void exchange_init(struct exchange *x, struct serving *s) {
    memset(x, 0, offsetof(struct exchange, arena)); /* what is behind it is set before it is read */
    x->downstream = s->downstream;
    x->serving = s;
    x->hcm = s->hcm;
    x->main = rt_self();
    x->shard = s->worker->index;
    x->worker = s->worker;
    x->doing = &s->doing;
    x->request_deadline_ns = x->filter_deadline_ns = x->duration_deadline_ns = RT_FOREVER;
    arena_init(&x->arena, s->worker->blocks, ARENA_LIMIT);
    if (s->purse && !s->downstream->refuse)
        x->arena.payer = &s->payer;
    message_init(&x->request, &x->arena);
    message_init(&x->response, &x->arena);
}

static void note_start(struct exchange *x, struct serving *s, const struct http1_head *head) {
    struct stream_info *info = &x->info;
    info->start_ns = rt_now_ns();
    info->start_wall_ns = worker_wall_ns(s->worker, info->start_ns);
    info->protocol = head->minor_version;
    info->stream_id = x->random = worker_random(s->worker);
    info->filter_chain = s->hcm->filter_chain_name;
    info->listener_name = s->hcm->listener_name;
    info->header_bytes_received = head->head_bytes;
}

static COLD void refuse_head(struct exchange *x, struct serving *s, unsigned status,
                             struct span details, bool timed_out) {
    /* Envoy's codec says "Bad Request"; its connection manager, which sees these two, nothing. */
    bool by_manager = span_eq(details, SPAN_LIT("path_normalization_failed")) ||
                      span_eq(details, SPAN_LIT("missing_host_header"));
    struct local_reply reply = {.status = status,
                                .body = timed_out    ? SPAN_LIT("request timeout")
                                        : by_manager ? span_none()
                                                     : http1_reason(status),
                                .details = details,
                                .grpc_status = GRPC_STATUS_UNSET,
                                .flags = by_manager ? 0 : FLAG_DOWNSTREAM_PROTOCOL_ERROR,
                                .close_connection = true};
    stat_inc(timed_out ? s->hcm->stats.rq_header_timeout : s->hcm->stats.cx_protocol_error,
             x->shard);
    x->request_complete = true; /* nothing behind it can be trusted to be a body */
    header_map_init(&x->request.headers,
                    &x->arena); /* nor what came of it to be logged or routed */
    exchange_reply(x, &reply);
}

/* There is no memory for this one. whole: its head was read. */
static COLD void refuse_for_memory(struct exchange *x, struct serving *s, enum refuse why,
                                   bool whole) {
    struct local_reply reply = {
        .status = 503,
        .body = why == REFUSE_OVERLOAD ? SPAN_LIT("envoy overloaded")
                                       : SPAN_LIT(EXCHANGE_MEMORY_LIMIT_TEXT),
        .details =
            why == REFUSE_OVERLOAD ? SPAN_LIT("overload") : SPAN_LIT(EXCHANGE_MEMORY_LIMIT_DETAILS),
        .grpc_status = GRPC_STATUS_UNSET,
        .close_connection = !whole};
    if (why == REFUSE_OVERLOAD)
        stat_inc(s->hcm->stats.rq_overload_close, x->shard);
    else if (!x->arena.refused) /* that has counted already */
        stat_inc(s->downstream->info->listener->stats.rq_memory_limit, x->shard);
    x->refused = true;
    if (whole) {
        x->is_grpc = request_is_grpc(x);
    } else {
        x->request_complete = true; /* what is still to come is not known */
        header_map_init(&x->request.headers, &x->arena);
    }
    exchange_reply(x, &reply);
}

/* Envoy's place for it: before the request is looked at any further. */
static enum refuse must_refuse(struct serving *s) {
    if (s->downstream->refuse)
        return s->downstream->refuse;
    return !s->hcm->bypass_overload && worker_overload(s->worker, OVERLOAD_STOP_REQUESTS)
               ? REFUSE_OVERLOAD
               : REFUSE_NOT;
}

/* From here on a crash is one of this request, until serve_one takes it back. */
static void name_request(struct exchange *x) {
    const struct header_map *headers = &x->request.headers;
    x->asked = (struct doing_request){.method = header_get(headers, HDR_METHOD),
                                      .path = header_get(headers, HDR_PATH),
                                      .id = header_get(headers, HDR_X_REQUEST_ID),
                                      .start_wall_ns = x->info.start_wall_ns};
    doing_request(x->doing, &x->asked);
}

static int say_continue(void *arg) {
    return downstream_continue(arg);
}

/* ---- its body ---- */

/* The body's bytes pass here so that the exchange knows what came and when it ended. */
struct request_body {
    struct wire_body wire;
    struct exchange *x;
};

static ssize_t request_body_came(struct request_body *body, ssize_t n) {
    exchange_touch(body->x);
    if (n > 0)
        body->x->info.bytes_received += (uint64_t)n;
    else if (n == 0)
        exchange_request_read(body->x);
    else if (n == -ECONNRESET)
        exchange_client_gone(body->x);
    return n;
}

static ssize_t request_body_next(void *data, size_t max, struct span *out) {
    struct request_body *body = data;
    return request_body_came(body, reader_next(wire_body_reader(&body->wire), max, out));
}

static uint64_t request_body_unread(void *data) {
    struct request_body *body = data;
    return reader_unread(wire_body_reader(&body->wire));
}

static ssize_t request_body_splice(void *data, struct splice *splice, size_t max) {
    struct request_body *body = data;
    return request_body_came(body, reader_splice(wire_body_reader(&body->wire), splice, max));
}

static void request_body_close(void *data) {
    struct request_body *body = data;
    reader_close(wire_body_reader(&body->wire));
}

static enum reader_peek request_body_peek(void *data) {
    struct request_body *body = data;
    return reader_peek(wire_body_reader(&body->wire));
}

static const struct reader_itab request_body_itab = {.next = request_body_next,
                                                     .close = request_body_close,
                                                     .peek = request_body_peek,
                                                     .unread = request_body_unread,
                                                     .splice = request_body_splice};

static void attach_body(struct exchange *x, struct serving *s, struct request_body *body,
                        const struct http1_head *head) {
    wire_body_init(&body->wire, &s->downstream->socket, &s->in, head, &s->hcm->limits);
    body->x = x;
    s->body = &body->wire;
    body->wire.reason = "request body";
    body->wire.arena = &x->arena;
    if (s->hcm->enable_trailers)
        body->wire.trailers = &x->request.trailers;
    if (head->expect_continue) {
        body->wire.before_wait = say_continue;
        body->wire.before_wait_arg = s;
    }
    if (body->wire.done) {
        x->request_complete = true;
        x->info.request_received_ns = x->info.start_ns;
    } else {
        x->request.body = (struct reader){&request_body_itab, body};
    }
}

void downstream_open_body(struct serving *s) {
    struct request_body *body = container_of(s->body, struct request_body, wire);
    struct exchange *x = body->x;
    body->wire.framing = HTTP1_BODY_UNTIL_CLOSE;
    body->wire.done = false;
    body->wire.before_wait = NULL;
    body->wire.reason = "upgraded connection";
    x->request_complete = false;
    x->info.request_received_ns = 0;
    x->request.body = (struct reader){&request_body_itab, body};
}

/* ---- one after the other ---- */

/* Lets the peer read the response before the kernel answers its unread bytes with a reset. */
static COLD void linger(struct serving *s) {
    if (s->hcm->delayed_close_ns == 0 || socket_shutdown(&s->downstream->socket) != 0)
        return;
    int64_t deadline_ns = rt_now_ns() + s->hcm->delayed_close_ns;
    if (socket_discard(&s->downstream->socket, LINGER_BYTES, "delayed close", deadline_ns) ==
        -ETIMEDOUT)
        stat_inc(s->hcm->stats.cx_delayed_close_timeout, s->worker->index);
}

enum serve_result { SERVE_NEXT, SERVE_IDLE, SERVE_HEAD, SERVE_CLOSE, SERVE_LINGER };

static enum serve_result after_exchange(struct serving *s, struct exchange *x,
                                        struct request_body *body, bool reusable) {
    bool whole = body->wire.socket == NULL || wire_body_skip_rest(&body->wire);
    if (!reusable)
        return x->client_gone || whole ? SERVE_CLOSE : SERVE_LINGER;
    if (!whole || inbuf_leave_arena(&s->in) != 0)
        return SERVE_LINGER;
    return SERVE_NEXT;
}

static bool has_input(const struct serving *s) {
    return inbuf_len(&s->in) != 0 || socket_has_input(&s->downstream->socket) || s->head;
}

static enum serve_result serve_one(struct serving *s) {
    struct exchange x;
    struct request_body body; /* too large to clear for every request: attach_body fills it */
    body.wire.socket = NULL;
    struct http1_parser parser;
    struct http1_head head = {.headers = &x.request.headers};
    exchange_init(&x, s);
    http1_parser_init(&parser, &s->hcm->limits);
    enum head_result result = read_head(s, &x, &parser, &head);
    if (result == HEAD_NOTHING_YET || result == HEAD_CLOSED || result == HEAD_PARTIAL) {
        arena_fini(&x.arena);
        return result == HEAD_CLOSED    ? SERVE_CLOSE
               : result == HEAD_PARTIAL ? SERVE_HEAD
                                        : SERVE_IDLE;
    }
    bool gave_way = s->head && s->head->verdict == HEAD_GIVES_WAY;
    if (s->head) {
        downstream_head_free(s->head);
        s->head = NULL;
    }
    note_start(&x, s, &head);
    s->exchange = &x;
    if (result == HEAD_READ && inbuf_hold(&s->in, &x.arena) == 0) {
        inbuf_consume(&s->in, head.head_bytes);
        s->downstream->minor_version = s->hcm->accept_http_10 ? head.minor_version : 1;
        s->downstream->requests++;
        x.is_head = span_eq(header_get(&x.request.headers, HDR_METHOD), SPAN_LIT("HEAD"));
        x.close_after = !head.keep_alive;
        attach_body(&x, s, &body, &head);
        enum refuse why = must_refuse(s);
        if (why == REFUSE_NOT)
            request_prepare(&x, &head);
        else
            refuse_for_memory(&x, s, why, true);
    } else if (result == HEAD_UNREAD) {
        if (gave_way)
            stat_inc(s->downstream->info->listener->stats.rq_memory_evicted, x.shard);
        refuse_for_memory(&x, s, gave_way ? REFUSE_QUOTA : s->downstream->refuse, false);
    } else if (result == HEAD_TIMEOUT) {
        refuse_head(&x, s, 408, SPAN_LIT("request_header_timeout"), true);
    } else if (result == HEAD_READ || result == HEAD_NO_MEMORY) { /* or none to keep it in */
        refuse_for_memory(&x, s, x.arena.refused ? REFUSE_QUOTA : REFUSE_OVERLOAD, false);
    } else {
        refuse_head(&x, s, (unsigned)parser.status, span_of(parser.details), false);
    }
    name_request(&x);
    bool reusable = exchange_run(&x);
    s->exchange = NULL;
    s->body = NULL;
    enum serve_result next = after_exchange(s, &x, &body, reusable);
    if (result != HEAD_READ && next == SERVE_CLOSE && !x.client_gone)
        next = SERVE_LINGER;
    if (next != SERVE_NEXT)
        inbuf_drop(&s->in); /* the arena may own that memory */
    doing_request(&s->doing, NULL);
    arena_fini(&x.arena);
    doing_route(&s->doing, NULL);
    return next;
}

/* With the charge that it has. */
static COLD void await_head(struct serving *s) {
    struct downstream *d = s->downstream;
    struct partial_head *head = s->head;
    downstream_count_bytes(d);
    s->head = NULL;
    downstream_serving_free(s);
    d->state = DOWNSTREAM_HEAD;
    d->head = head;
    timer_arm(&d->idle_timer, head->deadline_ns);
    downstream_head_waits(head);
}

static int64_t idle_deadline(const struct downstream *d) {
    const struct hcm *hcm = downstream_hcm(d);
    int64_t deadline_ns = hcm->idle_timeout_ns ? rt_now_ns() + hcm->idle_timeout_ns : RT_FOREVER;
    if (hcm->max_connection_duration_ns &&
        d->opened_ns + hcm->max_connection_duration_ns < deadline_ns)
        deadline_ns = d->opened_ns + hcm->max_connection_duration_ns;
    return deadline_ns;
}

static COLD void follow_now(struct serving *s) {
    struct downstream *d = s->downstream;
    downstream_follow_now(d);
    set_manager(s, d);
}

/* What was charged, or read in part, ends as it began. */
static inline void follow(struct serving *s) {
    const struct downstream *d = s->downstream;
    if (__builtin_expect(listener_is_superseded(d->info->listener), false) && !d->charged &&
        !s->head)
        follow_now(s);
}

void downstream_serve(struct serving *s) {
    struct downstream *d = s->downstream;
    enum serve_result result;
    do {
        if (!has_input(s)) {
            result = SERVE_IDLE;
            break;
        }
        follow(s);
        if (!downstream_admit(s)) {
            downstream_serving_free(s);
            return;
        }
        result = serve_one(s);
        if (result == SERVE_HEAD) {
            await_head(s);
            return;
        }
        if (inbuf_len(&s->in))
            rt_yield(); /* a client that pipelines without end is not the only one */
        else
            downstream_release(s);
    } while (result == SERVE_NEXT);
    downstream_release(s);
    downstream_count_bytes(d);
    if (result == SERVE_LINGER)
        linger(s);
    downstream_serving_free(s);
    if (result != SERVE_IDLE || downstream_is_draining(d)) {
        downstream_destroy(d);
        return;
    }
    d->state = DOWNSTREAM_IDLE;
    timer_arm(&d->idle_timer, idle_deadline(d));
}

static void serve(void *arg) {
    downstream_serve(arg);
}

static void start_serving(struct downstream *d, bool has_come) {
    if (__builtin_expect(listener_is_superseded(d->info->listener), false) &&
        d->state == DOWNSTREAM_IDLE && !d->charged)
        downstream_follow_now(d);
    /* The idle timer stays armed and is moved on when it is over. */
    struct serving *s = serving_get(d, d->state == DOWNSTREAM_HEAD ? d->head : NULL);
    /* The admin must answer while everybody else is too much. */
    struct go_options options = {
        .name = "downstream",
        .place = RT_HERE,
        .priority = d->info->listener->is_admin ? RT_HIGH : RT_NORMAL,
    };
    if (s)
        options.describer = &s->doing.describer;
    if (s && go_with(&options, serve, s) == 0) {
        if (has_come && !s->head && !s->purse && !worker_at(d->p_index)->overload.active)
            socket_receive_ahead(&d->socket, &s->in,
                                 &s->doing.describer); /* else it is admitted first */
        return;
    }
    if (s)
        downstream_serving_free(s);
    downstream_drop(d);
}

void downstream_start_serving(struct downstream *d) {
    start_serving(d, false);
}

void downstream_serve_input(struct downstream *d) {
    start_serving(d, true);
}
