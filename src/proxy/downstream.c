/* downstream: accepting, idling, reading heads, closing. Sending responses: downstream_send.c. */
#include "proxy/downstream.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "proxy/downstream_wait.h"
#include "proxy/listener.h"
#include "proxy/request_prepare.h"

extern struct log_component log_http;

enum {
    ARENA_LIMIT = 4 * 1024 * 1024, /* of one exchange: heads, edits, local replies */
    LINGER_BYTES = 1024 * 1024,    /* read and dropped at most while closing */
};

static void serve(void *arg);

static void count_bytes(struct downstream *d) {
    const struct hcm_stats *s = &d->hcm->stats;
    stat_add(s->cx_rx_bytes, d->worker->index, (int64_t)(d->socket.rx_bytes - d->rx_counted));
    stat_add(s->cx_tx_bytes, d->worker->index, (int64_t)(d->socket.tx_bytes - d->tx_counted));
    d->rx_counted = d->socket.rx_bytes;
    d->tx_counted = d->socket.tx_bytes;
}

static void destroy(struct downstream *d) {
    const struct hcm_stats *s = &d->hcm->stats;
    unsigned shard = d->worker->index;
    uint64_t length_us = (uint64_t)(rt_now_ns() - d->opened_ns) / 1000;
    count_bytes(d);
    stat_inc(s->cx_destroy, shard);
    stat_inc(d->closed_by_peer ? s->cx_destroy_remote : s->cx_destroy_local, shard);
    stat_dec(s->cx_active, shard);
    stat_dec(s->cx_http1_active, shard);
    stat_record_us(s->cx_length_ms, shard, length_us);
    stat_inc(d->listener->stats.cx_destroy, shard);
    stat_dec(d->listener->stats.cx_active, shard);
    stat_record_us(d->listener->stats.cx_length_ms, shard, length_us);
    downstream_wait_leave(d);
    timer_disarm(&d->idle_timer);
    timer_disarm(&d->exchange_timer);
    list_remove(&d->node);
    d->worker->downstream_count--;
    socket_close(&d->socket);
    listener_leave(d->listener);
    inbuf_drop(&d->in);
    snapshot_unref(d->snapshot);
    pool_put(&d->worker->downstream_pool, d);
}

void downstream_start_serving(struct downstream *d) {
    d->serving = true; /* the idle timer stays armed and is moved on when this is over */
    /* The admin, whose connections have no snapshot, must answer while everybody else is too much. */
    const struct go_options options = {
        .name = "downstream",
        .place = RT_HERE,
        .priority = d->snapshot ? RT_NORMAL : RT_HIGH,
        .describer = &d->doing.describer,
    };
    if (go_with(&options, serve, d) != 0) {
        LOG(log_http, LOG_ERROR, "out of memory: a connection is dropped");
        stat_inc(d->listener->stats.cx_overload_reject, d->worker->index);
        destroy(d);
    }
}

static void on_event(struct socket *socket, unsigned events) {
    struct downstream *d = container_of(socket, struct downstream, socket);
    bool gone = (events & SOCKET_HUNG_UP) != 0;
    if (d->serving) {
        if (gone && d->exchange) {
            d->closed_by_peer = true;
            exchange_client_gone(d->exchange);
        }
        return;
    }
    if (d->waiting && !gone)
        return;
    if ((events & SOCKET_INPUT) && !d->waiting) { /* a FIN may come with a last request */
        downstream_start_serving(d);
    } else if (gone) {
        d->closed_by_peer = true;
        destroy(d);
    }
}

static void idle_expired(struct timer *timer) {
    struct downstream *d = container_of(timer, struct downstream, idle_timer);
    if (d->serving)
        return;
    if (d->waiting) {
        downstream_wait_over(d);
        return;
    }
    stat_inc(d->hcm->stats.cx_idle_timeout, d->worker->index);
    destroy(d);
}

static int64_t idle_deadline(const struct downstream *d) {
    const struct hcm *hcm = d->hcm;
    int64_t deadline_ns = hcm->idle_timeout_ns ? rt_now_ns() + hcm->idle_timeout_ns : RT_FOREVER;
    if (hcm->max_connection_duration_ns &&
        d->opened_ns + hcm->max_connection_duration_ns < deadline_ns)
        deadline_ns = d->opened_ns + hcm->max_connection_duration_ns;
    return deadline_ns;
}

void downstream_accept(struct worker *worker, int fd, const struct address *peer,
                       const struct listener *listener) {
    const struct hcm *hcm = listener->hcm;
    struct downstream *d = pool_get(&worker->downstream_pool);
    if (d)
        memset(d, 0, sizeof *d);
    if (!d || socket_open(&d->socket, fd, on_event) != 0) {
        if (d)
            pool_put(&worker->downstream_pool, d);
        close(fd);
        listener_leave(listener);
        stat_inc(listener->stats.cx_overload_reject, worker->index);
        return;
    }
    d->worker = worker;
    d->snapshot = listener->snapshot ? snapshot_ref(listener->snapshot) : NULL;
    d->hcm = hcm;
    d->listener = listener;
    d->purse = listener->quota ? &listener->quota->purses[worker->index] : NULL;
    downstream_payer_init(d);
    d->opened_ns = rt_now_ns();
    d->id = worker_next_id(worker);
    d->peer = *peer;
    d->minor_version = 1;
    doing_init(&d->doing, &hcm->labels);
    inbuf_init(&d->in, worker->blocks);
    timer_init(&d->idle_timer, idle_expired);
    timer_init(&d->exchange_timer, exchange_timer_fired);
    struct address local;
    socket_local_address(&d->socket, &local);
    d->local = span_make(d->local_text, address_text(&local, d->local_text));
    d->remote = span_make(d->remote_text, address_text(peer, d->remote_text));
    list_push_back(&worker->downstreams, &d->node);
    worker->downstream_count++;
    stat_inc(hcm->stats.cx_total, worker->index);
    stat_inc(hcm->stats.cx_active, worker->index);
    stat_inc(hcm->stats.cx_http1_total, worker->index);
    stat_inc(hcm->stats.cx_http1_active, worker->index);
    stat_inc(listener->stats.cx_total, worker->index);
    stat_inc(listener->stats.cx_active, worker->index);
    /* The first request is nearly always there already: try it, rather than wait for an edge. */
    downstream_start_serving(d);
}

/* The admin, whose connections have no snapshot, answers to the end: that is how one watches it. */
static bool is_draining(const struct downstream *d) {
    return d->worker->draining && d->snapshot;
}

void downstream_drain_all(struct worker *worker) {
    worker->draining = true;
    struct list *next;
    for (struct list *at = worker->downstreams.next; at != &worker->downstreams; at = next) {
        next = at->next;
        struct downstream *d = container_of(at, struct downstream, node);
        if (!d->serving && !d->waiting && is_draining(d)) {
            stat_inc(d->hcm->stats.cx_drain_close, worker->index);
            destroy(d);
        }
    }
}

/* ---- serving ---- */

enum head_result {
    HEAD_READ,
    HEAD_BAD,
    HEAD_TIMEOUT,
    HEAD_NOTHING_YET,
    HEAD_CLOSED,
    HEAD_UNREAD,    /* there is a beginning, and no memory to wait for its end */
    HEAD_NO_MEMORY, /* to read it into */
};

static ssize_t read_more_of_head(struct downstream *d, int64_t deadline_ns) {
    ssize_t n = socket_try_receive(&d->socket, &d->in);
    if (n != -EAGAIN || inbuf_len(&d->in) == 0 || d->refuse)
        return n;
    downstream_head_waits(d, rt_self());
    return socket_receive(&d->socket, &d->in, "request head", deadline_ns);
}

static enum head_result read_head(struct downstream *d, struct exchange *x,
                                  struct http1_parser *parser, struct http1_head *head) {
    int64_t limit_ns = d->hcm->request_headers_timeout_ns ? d->hcm->request_headers_timeout_ns
                                                          : d->hcm->stream_idle_timeout_ns;
    int64_t deadline_ns = RT_FOREVER;
    for (;;) {
        if (inbuf_len(&d->in)) {
            enum http1_verdict verdict =
                http1_parse_request(parser, d->in.data + d->in.start, inbuf_len(&d->in), head);
            if (verdict == HTTP1_DONE)
                return HEAD_READ;
            if (verdict == HTTP1_BAD)
                return parser->error == HTTP1_NO_MEMORY ? HEAD_NO_MEMORY : HEAD_BAD;
            if (deadline_ns == RT_FOREVER && limit_ns)
                deadline_ns = rt_now_ns() + limit_ns;
        }
        if (!inbuf_head_room(&d->in, &x->arena, d->hcm->limits.head_bytes))
            return HEAD_NO_MEMORY;
        ssize_t n = read_more_of_head(d, deadline_ns);
        if (n == -EAGAIN)
            return inbuf_len(&d->in) ? HEAD_UNREAD : HEAD_NOTHING_YET;
        if (n == -ECANCELED)
            return HEAD_UNREAD; /* it gives way */
        if (n == -ETIMEDOUT)
            return HEAD_TIMEOUT;
        if (n == -ENOMEM)
            return HEAD_NO_MEMORY;
        if (n <= 0) {
            d->closed_by_peer = true;
            return HEAD_CLOSED;
        }
    }
}

static void exchange_init(struct exchange *x, struct downstream *d) {
    memset(x, 0, offsetof(struct exchange, reply)); /* what is behind it is set before it is read */
    x->downstream = d;
    x->snapshot = d->snapshot;
    x->hcm = d->hcm;
    x->main = rt_self();
    x->shard = d->worker->index;
    x->worker = d->worker;
    x->doing = &d->doing;
    x->request_deadline_ns = x->filter_deadline_ns = x->duration_deadline_ns = RT_FOREVER;
    arena_init(&x->arena, d->worker->blocks, ARENA_LIMIT);
    if (d->purse && !d->refuse)
        x->arena.payer = &d->payer;
    header_map_init(&x->request.headers, &x->arena);
    header_map_init(&x->request.trailers, &x->arena);
    header_map_init(&x->response.headers, &x->arena);
    header_map_init(&x->response.trailers, &x->arena);
}

static void note_start(struct exchange *x, struct downstream *d, const struct http1_head *head) {
    struct stream_info *info = &x->info;
    info->start_wall_ns = clock_wall_ns();
    info->start_ns = rt_now_ns();
    info->protocol = head->minor_version;
    info->downstream_local = d->local;
    info->downstream_remote = info->downstream_direct_remote = d->remote;
    info->connection_id = d->id;
    info->stream_id = x->random = worker_random(d->worker);
    info->filter_chain = d->hcm->filter_chain_name;
    info->listener_name = d->hcm->listener_name;
    info->header_bytes_received = head->head_bytes;
}

static void refuse_head(struct exchange *x, struct downstream *d, unsigned status,
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
    stat_inc(timed_out ? d->hcm->stats.rq_header_timeout : d->hcm->stats.cx_protocol_error,
             x->shard);
    x->request_complete = true; /* nothing behind it can be trusted to be a body */
    header_map_init(&x->request.headers,
                    &x->arena); /* nor what came of it to be logged or routed */
    exchange_reply(x, &reply);
}

/* There is no memory for this one. whole: its head was read. */
static void refuse_for_memory(struct exchange *x, struct downstream *d, enum refuse why,
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
        stat_inc(d->hcm->stats.rq_overload_close, x->shard);
    else if (!x->arena.refused) /* that has counted already */
        stat_inc(d->listener->stats.rq_memory_limit, x->shard);
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
static enum refuse must_refuse(struct downstream *d) {
    if (d->refuse)
        return d->refuse;
    return !d->hcm->bypass_overload && worker_overload(d->worker, OVERLOAD_STOP_REQUESTS)
               ? REFUSE_OVERLOAD
               : REFUSE_NOT;
}

static int say_continue(void *arg) {
    return downstream_continue(arg);
}

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

static void attach_body(struct exchange *x, struct downstream *d, struct request_body *body,
                        const struct http1_head *head) {
    static const struct reader_itab itab = {.next = request_body_next,
                                            .close = request_body_close,
                                            .peek = request_body_peek,
                                            .unread = request_body_unread,
                                            .splice = request_body_splice};
    wire_body_init(&body->wire, &d->socket, &d->in, head, &d->hcm->limits);
    body->x = x;
    d->body = &body->wire;
    body->wire.reason = "request body";
    body->wire.arena = &x->arena;
    if (d->hcm->enable_trailers)
        body->wire.trailers = &x->request.trailers;
    if (head->expect_continue) {
        body->wire.before_wait = say_continue;
        body->wire.before_wait_arg = d;
    }
    if (body->wire.done)
        exchange_request_read(x);
    else
        x->request.body = (struct reader){&itab, body};
}

/* Lets the peer read the response before the kernel answers its unread bytes with a reset. */
static void linger(struct downstream *d) {
    if (d->hcm->delayed_close_ns == 0 || socket_shutdown(&d->socket) != 0)
        return;
    int64_t deadline_ns = rt_now_ns() + d->hcm->delayed_close_ns;
    if (socket_discard(&d->socket, LINGER_BYTES, "delayed close", deadline_ns) == -ETIMEDOUT)
        stat_inc(d->hcm->stats.cx_delayed_close_timeout, d->worker->index);
}

enum serve_result { SERVE_NEXT, SERVE_IDLE, SERVE_CLOSE, SERVE_LINGER };

static enum serve_result after_exchange(struct downstream *d, struct exchange *x,
                                        struct request_body *body, bool reusable) {
    bool whole = body->wire.socket == NULL || wire_body_skip_rest(&body->wire);
    if (!reusable)
        return x->client_gone || whole ? SERVE_CLOSE : SERVE_LINGER;
    if (!whole || inbuf_leave_arena(&d->in) != 0)
        return SERVE_LINGER;
    return SERVE_NEXT;
}

static bool has_input(const struct downstream *d) {
    return inbuf_len(&d->in) != 0 || socket_has_input(&d->socket);
}

static enum serve_result serve_one(struct downstream *d) {
    struct exchange x;
    struct request_body body; /* too large to clear for every request: attach_body fills it */
    body.wire.socket = NULL;
    struct http1_parser parser;
    struct http1_head head = {.headers = &x.request.headers};
    exchange_init(&x, d);
    http1_parser_init(&parser, &d->hcm->limits);
    enum head_result result = read_head(d, &x, &parser, &head);
    bool gave_way = d->evicted;
    downstream_head_over(d);
    if (result == HEAD_NOTHING_YET || result == HEAD_CLOSED) {
        arena_fini(&x.arena);
        return result == HEAD_CLOSED ? SERVE_CLOSE : SERVE_IDLE;
    }
    note_start(&x, d, &head);
    d->exchange = &x;
    if (result == HEAD_READ && inbuf_hold(&d->in, &x.arena) == 0) {
        inbuf_consume(&d->in, head.head_bytes);
        d->minor_version = d->hcm->accept_http_10 ? head.minor_version : 1;
        d->requests++;
        x.is_head = span_eq(header_get(&x.request.headers, HDR_METHOD), SPAN_LIT("HEAD"));
        x.close_after = !head.keep_alive;
        attach_body(&x, d, &body, &head);
        enum refuse why = must_refuse(d);
        if (why == REFUSE_NOT)
            request_prepare(&x, d, &head);
        else
            refuse_for_memory(&x, d, why, true);
    } else if (result == HEAD_UNREAD) {
        if (gave_way)
            stat_inc(d->listener->stats.rq_memory_evicted, x.shard);
        refuse_for_memory(&x, d, gave_way ? REFUSE_QUOTA : d->refuse, false);
    } else if (result == HEAD_TIMEOUT) {
        refuse_head(&x, d, 408, SPAN_LIT("request_header_timeout"), true);
    } else if (result == HEAD_READ || result == HEAD_NO_MEMORY) { /* or none to keep it in */
        refuse_for_memory(&x, d, x.arena.refused ? REFUSE_QUOTA : REFUSE_OVERLOAD, false);
    } else {
        refuse_head(&x, d, (unsigned)parser.status, span_of(parser.details), false);
    }
    bool reusable = exchange_run(&x);
    d->exchange = NULL;
    d->body = NULL;
    enum serve_result next = after_exchange(d, &x, &body, reusable);
    if (result != HEAD_READ && next == SERVE_CLOSE && !x.client_gone)
        next = SERVE_LINGER;
    if (next != SERVE_NEXT)
        inbuf_drop(&d->in); /* the arena may own that memory */
    arena_fini(&x.arena);
    doing_route(&d->doing, NULL);
    return next;
}

static void serve(void *arg) {
    struct downstream *d = arg;
    enum serve_result result;
    do {
        if (!has_input(d)) {
            result = SERVE_IDLE;
            break;
        }
        if (!downstream_admit(d))
            return;
        result = serve_one(d);
        if (inbuf_len(&d->in))
            rt_yield(); /* a client that pipelines without end is not the only one */
        else
            downstream_release(d);
    } while (result == SERVE_NEXT);
    downstream_release(d);
    count_bytes(d);
    if (result == SERVE_LINGER)
        linger(d);
    if (result != SERVE_IDLE || is_draining(d)) {
        labels_describe_by(NULL);
        destroy(d);
        return;
    }
    inbuf_idle(&d->in);
    d->serving = false;
    timer_arm(&d->idle_timer, idle_deadline(d));
}
