/* downstream: accepting, idling, reading heads, closing. Sending responses: downstream_send.c. What comes before
 * HTTP, or instead of it: downstream_pending.c, downstream_open.c. */
#include "proxy/downstream.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "proxy/descriptors.h"
#include "proxy/downstream_internal.h"
#include "proxy/downstream_wait.h"
#include "proxy/request_prepare.h"

extern struct log_component log_http;

enum {
    SERVINGS_KEPT = 128,           /* for each P, 40 KiB of them */
    ARENA_LIMIT = 4 * 1024 * 1024, /* of one exchange: heads, edits, local replies */
    LINGER_BYTES = 1024 * 1024,    /* read and dropped at most while closing */
    CLOSE_SAMPLE = 256,            /* see downstream_close_idle */
    CLOSE_MAX = 16,
};

static void serve(void *arg);

/* ---- what serves ---- */

static struct serving *serving_new(void) {
    struct serving *s = aligned_alloc(64, (sizeof *s + 63) / 64 * 64);
    if (!s)
        return NULL;
    timer_init(&s->timer, exchange_timer_fired);
    downstream_payer_init(s);
    return s;
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
    const struct hcm *hcm = d->info->chain->hcm;
    struct quota *quota = d->info->listener->quota;
    s->downstream = d;
    s->worker = worker;
    s->hcm = hcm;
    s->exchange = NULL;
    s->body = NULL;
    inbuf_init(&s->in, worker->blocks);
    s->purse = quota ? &quota->purses[d->p_index] : NULL;
    s->inviting = false;
    s->head = head;
    doing_init(&s->doing, &hcm->labels);
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

/* ---- accepting, idling, closing ---- */

static const struct hcm *hcm_of(const struct downstream *d) {
    return d->info->chain->hcm;
}

static void count_bytes(struct downstream *d) {
    const struct hcm_request_slots *slots = &hcm_of(d)->slots;
    uint64_t *cells = stats_cells(d->p_index);
    stats_bump(cells, slots->cx_rx_bytes, d->socket.rx_bytes);
    stats_bump(cells, slots->cx_tx_bytes, d->socket.tx_bytes);
    d->socket.rx_bytes = d->socket.tx_bytes = 0;
}

void downstream_begin(struct downstream *d) {
    const struct hcm *hcm = hcm_of(d);
    const struct listener_stats *of_listener = &d->info->listener->stats;
    unsigned shard = d->p_index;
    stat_inc(of_listener->cx_total, shard);
    stat_inc(of_listener->cx_active, shard);
    if (!hcm)
        return;
    stat_inc(hcm->stats.cx_total, shard);
    stat_inc(hcm->stats.cx_active, shard);
    stat_inc(hcm->stats.cx_http1_total, shard);
    stat_inc(hcm->stats.cx_http1_active, shard);
}

static void count_end(struct downstream *d) {
    const struct hcm *hcm = hcm_of(d);
    const struct listener_stats *of_listener = &d->info->listener->stats;
    unsigned shard = d->p_index;
    uint64_t length_us = (uint64_t)(rt_now_ns() - d->opened_ns) / 1000;
    stat_inc(of_listener->cx_destroy, shard);
    stat_dec(of_listener->cx_active, shard);
    stat_record_us(of_listener->cx_length_ms, shard, length_us);
    if (!hcm) {
        downstream_release_stream(d);
        return;
    }
    const struct hcm_stats *s = &hcm->stats;
    count_bytes(d);
    stat_inc(s->cx_destroy, shard);
    stat_inc(d->closed_by_peer ? s->cx_destroy_remote : s->cx_destroy_local, shard);
    stat_dec(s->cx_active, shard);
    stat_dec(s->cx_http1_active, shard);
    stat_record_us(s->cx_length_ms, shard, length_us);
}

void downstream_destroy(struct downstream *d) {
    const struct connection_info *info = d->info;
    const struct listener *listener = info->listener;
    struct worker *worker = worker_at(d->p_index);
    struct snapshot *snapshot = listener->snapshot;
    downstream_wait_leave(d);
    if ((d->state == DOWNSTREAM_HEAD || d->state == DOWNSTREAM_PENDING) && d->head)
        downstream_head_free(d->head);
    if (listener->config->log_count)
        downstream_log(d);
    if (info->stream)
        downstream_stream_close(d);
    if (info->chain)
        count_end(d);
    else
        stat_dec(listener->stats.pre_cx_active, d->p_index);
    timer_disarm(&d->idle_timer);
    list_remove(&d->node);
    worker->downstream_count--;
    socket_close(&d->socket);
    descriptors_freed();
    if (!info->shared)
        connection_info_free((struct connection_info *)(uintptr_t)info);
    listener_leave(listener);
    if (snapshot)
        snapshot_unref(snapshot);
    pool_put(&worker->downstream_pool, d);
}

void downstream_drop(struct downstream *d) {
    LOG(log_http, LOG_ERROR, "out of memory: a connection is dropped");
    stat_inc(d->info->listener->stats.cx_overload_reject, d->p_index);
    downstream_destroy(d);
}

static void start_serving(struct downstream *d, bool has_come) {
    /* The idle timer stays armed and is moved on when it is over. */
    struct serving *s = serving_get(d, d->state == DOWNSTREAM_HEAD ? d->head : NULL);
    /* The admin, whose connections have no snapshot, must answer while everybody else is too much. */
    struct go_options options = {
        .name = "downstream",
        .place = RT_HERE,
        .priority = d->info->listener->snapshot ? RT_NORMAL : RT_HIGH,
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

static void on_event(struct socket *socket, unsigned events) {
    struct downstream *d = container_of(socket, struct downstream, socket);
    bool gone = (events & SOCKET_HUNG_UP) != 0;
    if (d->state == DOWNSTREAM_SERVING) {
        if (gone && d->serving->exchange) {
            d->closed_by_peer = true;
            exchange_client_gone(d->serving->exchange);
        }
        return;
    }
    if (d->state >= DOWNSTREAM_PENDING) {
        if (d->state == DOWNSTREAM_PENDING)
            downstream_pending_event(d, events);
        else if (d->state == DOWNSTREAM_STREAM)
            downstream_stream_event(d, events);
        return;
    }
    if (d->state == DOWNSTREAM_HEAD) {
        bool look = downstream_head_receive(d);
        count_bytes(d);
        if (look)
            downstream_start_serving(d);
        return;
    }
    bool waiting = d->state == DOWNSTREAM_WAITING;
    if (waiting && !gone)
        return;
    if ((events & SOCKET_INPUT) && !waiting) { /* a FIN may come with a last request */
        start_serving(d, true);
    } else if (gone) {
        d->closed_by_peer = true;
        downstream_destroy(d);
    }
}

static void idle_expired(struct timer *timer) {
    struct downstream *d = container_of(timer, struct downstream, idle_timer);
    if (d->state == DOWNSTREAM_SERVING || d->state > DOWNSTREAM_PENDING)
        return;
    if (d->state == DOWNSTREAM_PENDING) {
        downstream_pending_expired(d);
        return;
    }
    if (d->state == DOWNSTREAM_WAITING) {
        downstream_wait_over(d);
        return;
    }
    if (d->state == DOWNSTREAM_HEAD) {
        d->head->verdict = HEAD_IS_LATE;
        downstream_start_serving(d);
        return;
    }
    stat_inc(hcm_of(d)->stats.cx_idle_timeout, d->p_index);
    downstream_destroy(d);
}

static int64_t idle_deadline(const struct downstream *d) {
    const struct hcm *hcm = hcm_of(d);
    int64_t deadline_ns = hcm->idle_timeout_ns ? rt_now_ns() + hcm->idle_timeout_ns : RT_FOREVER;
    if (hcm->max_connection_duration_ns &&
        d->opened_ns + hcm->max_connection_duration_ns < deadline_ns)
        deadline_ns = d->opened_ns + hcm->max_connection_duration_ns;
    return deadline_ns;
}

void downstream_accept(struct worker *worker, int fd, const struct address *peer,
                       const struct listener *listener) {
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
    if (listener->snapshot)
        snapshot_ref(listener->snapshot);
    d->info = listener->first;
    d->p_index = (uint8_t)worker->index;
    d->opened_ns = rt_now_ns();
    d->id = worker_next_id(worker);
    address_pack(peer, &d->peer);
    d->minor_version = 1;
    timer_init(&d->idle_timer, idle_expired);
    list_push_back(&worker->downstreams, &d->node);
    worker->downstream_count++;
    if (!listener->is_plain) {
        downstream_pending_begin(d);
        return;
    }
    downstream_begin(d);
    /* The first request is nearly always there already: try it, rather than wait for an edge. */
    downstream_start_serving(d);
}

/* The admin, whose connections have no snapshot, answers to the end: that is how one watches it. */
static bool is_draining(const struct downstream *d) {
    return worker_at(d->p_index)->draining && d->info->listener->snapshot;
}

void downstream_drain_all(struct worker *worker) {
    worker->draining = true;
    struct list *next;
    for (struct list *at = worker->downstreams.next; at != &worker->downstreams; at = next) {
        next = at->next;
        struct downstream *d = container_of(at, struct downstream, node);
        if (!is_draining(d))
            continue;
        if (d->state == DOWNSTREAM_IDLE) {
            stat_inc(hcm_of(d)->stats.cx_drain_close, worker->index);
            downstream_destroy(d);
        } else if (d->state == DOWNSTREAM_PENDING && !d->head) {
            downstream_destroy(d); /* it has said nothing yet */
        }
    }
}

/* ---- when descriptors are short ---- */

/* By the timer that ends it; without an idle timeout, since it was opened. One that is near its
 * max_connection_duration seems to idle for longer than it does: it is ending anyway. */
static int64_t idle_since(const struct downstream *d) {
    if (d->state == DOWNSTREAM_PENDING)
        return d->opened_ns;
    int64_t timeout_ns = hcm_of(d)->idle_timeout_ns;
    return timeout_ns ? d->idle_timer.deadline_ns - timeout_ns : d->opened_ns;
}

/* Whoever is between two requests, or has sent nothing yet. A stream of which we know nothing is no such thing, even
 * if nothing flows: its client could not know that it may try again. */
static bool gives_way(const struct downstream *d, int64_t idle_since_ns) {
    bool idles = d->state == DOWNSTREAM_IDLE || (d->state == DOWNSTREAM_PENDING && !d->head);
    return idles && !d->info->listener->is_admin && idle_since(d) <= idle_since_ns;
}

/* A list in order of idling would cost each request two other connections' cache lines. So the next
 * CLOSE_SAMPLE of all are looked at, which come to the end of the list for the next time, and those of them
 * that have idled longest give way: near enough to the oldest of all, and in bounded time. */
unsigned downstream_close_idle(struct worker *worker, unsigned max, int64_t idle_since_ns) {
    struct downstream *oldest[CLOSE_MAX]; /* the longest idle first */
    unsigned count = 0, looked = 0;
    const struct list *last = worker->downstreams.prev;
    max = max < CLOSE_MAX ? max : CLOSE_MAX;
    for (struct list *node = NULL; node != last && looked < CLOSE_SAMPLE; looked++) {
        node = list_pop_front(&worker->downstreams);
        if (!node)
            break;
        struct downstream *d = container_of(node, struct downstream, node);
        list_push_back(&worker->downstreams, node);
        if (!gives_way(d, idle_since_ns))
            continue;
        unsigned at = count;
        while (at > 0 && idle_since(d) < idle_since(oldest[at - 1]))
            at--;
        if (at == max)
            continue;
        count += count < max;
        for (unsigned j = count - 1; j > at; j--)
            oldest[j] = oldest[j - 1];
        oldest[at] = d;
    }
    for (unsigned i = 0; i < count; i++) {
        stat_inc(oldest[i]->info->listener->stats.cx_descriptor_close, worker->index);
        downstream_destroy(oldest[i]);
    }
    return count;
}

/* ---- serving ---- */

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

static void exchange_init(struct exchange *x, struct serving *s) {
    memset(x, 0, offsetof(struct exchange, arena)); /* what is behind it is set before it is read */
    x->downstream = s->downstream;
    x->serving = s;
    x->snapshot = s->downstream->info->listener->snapshot;
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

static void attach_body(struct exchange *x, struct serving *s, struct request_body *body,
                        const struct http1_head *head) {
    static const struct reader_itab itab = {.next = request_body_next,
                                            .close = request_body_close,
                                            .peek = request_body_peek,
                                            .unread = request_body_unread,
                                            .splice = request_body_splice};
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
        x->request.body = (struct reader){&itab, body};
    }
}

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
    bool reusable = exchange_run(&x);
    s->exchange = NULL;
    s->body = NULL;
    enum serve_result next = after_exchange(s, &x, &body, reusable);
    if (result != HEAD_READ && next == SERVE_CLOSE && !x.client_gone)
        next = SERVE_LINGER;
    if (next != SERVE_NEXT)
        inbuf_drop(&s->in); /* the arena may own that memory */
    arena_fini(&x.arena);
    doing_route(&s->doing, NULL);
    return next;
}

/* With the charge that it has. */
static COLD void await_head(struct serving *s) {
    struct downstream *d = s->downstream;
    struct partial_head *head = s->head;
    count_bytes(d);
    s->head = NULL;
    downstream_serving_free(s);
    d->state = DOWNSTREAM_HEAD;
    d->head = head;
    timer_arm(&d->idle_timer, head->deadline_ns);
    downstream_head_waits(head);
}

void downstream_serve(struct serving *s) {
    struct downstream *d = s->downstream;
    enum serve_result result;
    do {
        if (!has_input(s)) {
            result = SERVE_IDLE;
            break;
        }
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
    count_bytes(d);
    if (result == SERVE_LINGER)
        linger(s);
    downstream_serving_free(s);
    if (result != SERVE_IDLE || is_draining(d)) {
        downstream_destroy(d);
        return;
    }
    d->state = DOWNSTREAM_IDLE;
    timer_arm(&d->idle_timer, idle_deadline(d));
}

static void serve(void *arg) {
    downstream_serve(arg);
}
