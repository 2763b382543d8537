/* router: the request side ends here.
 *
 *   route ─┬ direct_response, redirect: a local reply
 *          └ cluster ─ connection ─ head (and what of the body is at hand) out ─ response head in
 *                                    └ rest of the body: the pump coroutine
 *
 * The response body is lent from the upstream connection's buffer; at its end the connection goes
 * back to its pool, or is closed when the request was not sent whole.
 *
 * Timeouts  The route's timeout runs from the end of the request to the end of the response, and bounds
 *           the wait for a connection, during which nobody reads the request's body. Its timer
 *           replies in the exchange's name: 504 before the head, a reset after. */
#include "filter/router.h"

#include <errno.h>
#include <stdio.h>

#include "base/clock.h"
#include "base/log.h"
#include "proxy/body_out.h"
#include "proxy/downstream.h"
#include "proxy/route.h"
#include "proxy/upstream.h"

LOG_COMPONENT(router, "router");

/* Envoy's defaults for an HTTP/1 upstream. */
static const struct http1_limits response_limits = {.head_bytes = 80 * 1024, .header_count = 100};

struct router {
    struct exchange *x;
    const struct cfg_router *config; /* NULL: all defaults */
    struct cluster *cluster;         /* borrowed from the snapshot */
    struct host *host;               /* leased */
    struct upstream *upstream;       /* owned while not NULL */
    struct body_out *out;            /* the request on its way; in the arena */
    int64_t timeout_ns;
    bool counted_active, head_seen;
    bool replied;      /* the local reply, if there is one, is the router's */
    bool request_sent; /* whole */
    bool timeout_runs;
    bool keep_alive;       /* the upstream's wish */
    struct wire_body body; /* once head_seen */
};

static void *router_create(struct exchange *x, const struct filter_factory *factory) {
    struct router *r = arena_alloc(&x->arena, sizeof *r);
    if (r) {
        memset(r, 0, offsetof(struct router, body));
        r->x = x;
        r->config = factory->config;
    }
    return r;
}

/* A reply of the router's own: it gets the route's response fields, as on Envoy. */
static void reply(struct router *r, const struct local_reply *reply) {
    r->replied |= exchange_alive(r->x); /* the first reply wins */
    exchange_reply(r->x, reply);
}

static void reply_simple(struct router *r, unsigned status, struct span body, struct span details,
                         uint32_t flags) {
    struct local_reply simple = {.status = status,
                                 .body = body,
                                 .details = details,
                                 .grpc_status = GRPC_STATUS_UNSET,
                                 .flags = flags};
    reply(r, &simple);
}

static struct host_counters *host_counters(struct router *r) {
    return &r->host->pools[r->x->shard].counters;
}

static void bump(_Atomic uint64_t *counter, int64_t n) {
    atomic_store_explicit(counter,
                          atomic_load_explicit(counter, memory_order_relaxed) + (uint64_t)n,
                          memory_order_relaxed);
}

/* ---- routes that answer by themselves ---- */

static void redirect(struct router *r, const struct route_entry *route) {
    struct exchange *x = r->x;
    struct span location = route_redirect_location(route, x);
    struct header field = {
        .name = header_name_of(HDR_LOCATION), .value = location, .id = HDR_LOCATION};
    struct local_reply made = {.status = route_status(route),
                               .headers = &field,
                               .header_count = 1,
                               .details = SPAN_LIT("direct_response"),
                               .grpc_status = GRPC_STATUS_UNSET};
    stat_inc(x->hcm->stats.rq_redirect, x->shard);
    reply(r, &made);
}

/* A 201 or 3xx says where: at what was asked for (RFC 9110 15.3.2). */
static struct span own_location(struct exchange *x) {
    const struct header_map *headers = &x->request.headers;
    struct span parts[] = {header_get(headers, HDR_SCHEME), SPAN_LIT("://"),
                           header_get(headers, HDR_AUTHORITY), header_get(headers, HDR_PATH)};
    return arena_concat(&x->arena, parts, 4);
}

static void direct_response(struct router *r, const struct route_entry *route) {
    struct exchange *x = r->x;
    unsigned status = route_status(route);
    bool located = status == 201 || status / 100 == 3;
    struct header field = {.name = header_name_of(HDR_LOCATION),
                           .value = located ? own_location(x) : span_none(),
                           .id = HDR_LOCATION};
    struct local_reply made = {.status = status,
                               .body = route->direct_body,
                               .headers = &field,
                               .header_count = located ? 1 : 0,
                               .details = SPAN_LIT("direct_response"),
                               .grpc_status = GRPC_STATUS_UNSET};
    stat_inc(x->hcm->stats.rq_direct_response, x->shard);
    reply(r, &made);
}

/* ---- failures of the upstream, in Envoy's words ---- */

#define RESET_TEXT "upstream connect error or disconnect/reset before headers. reset reason: "

/* Envoy's details have no blanks: they stand in one column of the access log. */
static struct span underscored(struct arena *arena, struct span text) {
    struct span copy = arena_copy(arena, text);
    for (size_t i = 0; i < copy.len; i++)
        if (copy.ptr[i] == ' ')
            ((char *)(uintptr_t)copy.ptr)[i] = '_';
    return copy;
}

static void upstream_reset(struct router *r, unsigned status, const char *reason,
                           struct span transport, uint32_t flags) {
    struct exchange *x = r->x;
    /* The transport's words are for the log: the client has no business with our upstreams. */
    struct span body = arena_printf(&x->arena, RESET_TEXT "%s", reason);
    struct span details;
    if (transport.len) {
        x->info.upstream_transport_failure = arena_copy(&x->arena, transport);
        details = arena_printf(&x->arena, "upstream_reset_before_response_started{%s|%.*s}", reason,
                               (int)transport.len, transport.ptr);
    } else {
        details = arena_printf(&x->arena, "upstream_reset_before_response_started{%s}", reason);
    }
    cluster_count_response(r->cluster, x->shard, status);
    reply_simple(r, status, body, underscored(&x->arena, details), flags);
}

static void connect_failure(struct router *r, enum upstream_failure failure, int rc) {
    struct exchange *x = r->x;
    switch (failure) {
    case UPSTREAM_NO_HOST:
        cluster_count_response(r->cluster, x->shard, 503);
        reply_simple(r, 503, SPAN_LIT("no healthy upstream"), SPAN_LIT("no_healthy_upstream"),
                     FLAG_NO_HEALTHY_UPSTREAM);
        break;
    case UPSTREAM_OVERFLOW: {
        struct header overloaded = {.name = SPAN_LIT("x-envoy-overloaded"),
                                    .value = SPAN_LIT("true")};
        struct local_reply made = {
            .status = 503,
            .body = SPAN_LIT(RESET_TEXT "overflow"),
            .headers = &overloaded,
            .header_count = r->config && r->config->suppress_envoy_headers ? 0 : 1,
            .details = SPAN_LIT("upstream_reset_before_response_started{overflow}"),
            .grpc_status = GRPC_STATUS_UNSET,
            .flags = FLAG_UPSTREAM_OVERFLOW};
        cluster_count_response(r->cluster, x->shard, 503);
        reply(r, &made);
        break;
    }
    case UPSTREAM_CONNECT_TIMEOUT:
        upstream_reset(r, 503, "connection timeout", span_none(), FLAG_UPSTREAM_CONNECTION_FAILURE);
        break;
    case UPSTREAM_CONNECT_FAILED: {
        struct span why =
            arena_printf(&x->arena, "delayed connect error: %s", strerrordesc_np(-rc));
        upstream_reset(r, 503, "remote connection failure", why, FLAG_UPSTREAM_CONNECTION_FAILURE);
        break;
    }
    default: /* cancelled: whoever cancelled has said why */
        break;
    }
}

/* ---- timeout ---- */

static void timed_out(struct exchange *x, void *self) {
    struct router *r = self;
    stat_inc(r->cluster->stats.rq_timeout, x->shard);
    if (r->host)
        bump(&host_counters(r)->rq_timeout, 1);
    cluster_count_response(r->cluster, x->shard, 504);
    reply_simple(r, 504, SPAN_LIT("upstream request timeout"), SPAN_LIT("response_timeout"),
                 FLAG_UPSTREAM_REQUEST_TIMEOUT);
}

static void start_timeout(struct router *r) {
    if (r->timeout_ns && !r->timeout_runs)
        exchange_set_deadline(r->x, rt_now_ns() + r->timeout_ns, timed_out, r);
    r->timeout_runs = true;
}

static void stop_timeout(struct router *r) {
    exchange_set_deadline(r->x, RT_FOREVER, timed_out, r);
    r->timeout_runs = false;
}

static bool is_here_whole(const struct exchange *x) {
    return x->request_complete || (x->downstream->body && wire_body_is_here(x->downstream->body));
}

static void request_is_sent(struct router *r) {
    r->request_sent = true;
    r->x->info.upstream_tx_last_ns = rt_now_ns();
    if (!r->head_seen)
        start_timeout(r);
}

/* ---- request out ---- */

static bool method_has_no_body(struct span method) {
    return span_eq(method, SPAN_LIT("GET")) || span_eq(method, SPAN_LIT("HEAD")) ||
           span_eq(method, SPAN_LIT("DELETE")) || span_eq(method, SPAN_LIT("TRACE")) ||
           span_eq(method, SPAN_LIT("CONNECT"));
}

static int choose_transfer(struct exchange *x, enum http1_transfer *out) {
    struct header_map *headers = &x->request.headers;
    if (header_has(headers, HDR_CONTENT_LENGTH)) {
        *out = HTTP1_SEND_LENGTH;
    } else if (message_has_body(&x->request)) {
        *out = HTTP1_SEND_CHUNKED;
    } else if (method_has_no_body(header_get(headers, HDR_METHOD))) {
        *out = HTTP1_SEND_NONE;
    } else {
        *out = HTTP1_SEND_LENGTH;
        return header_set_id(headers, HDR_CONTENT_LENGTH, SPAN_LIT("0"));
    }
    return 0;
}

static void pump(struct exchange *x, void *arg) {
    struct router *r = arg;
    int rc = body_out_send(r->out, true);
    if (rc == 1) {
        request_is_sent(r);
        return;
    }
    if (!exchange_alive(x) || x->state != EXCHANGE_REQUEST)
        return;
    /* An error of the socket is left to the main coroutine: a response may be there already. */
    if (rc == -EPROTO) {
        stat_inc(x->hcm->stats.cx_protocol_error, x->shard);
        struct local_reply reply = {.status = 400,
                                    .body = SPAN_LIT("Bad Request"),
                                    .details = SPAN_LIT("http1.codec_error"),
                                    .grpc_status = GRPC_STATUS_UNSET,
                                    .flags = FLAG_DOWNSTREAM_PROTOCOL_ERROR,
                                    .close_connection = true};
        exchange_reply(x, &reply);
    }
}

/* Head and body out; the rest of a body that has to be waited for is left to the pump. */
static int send_request(struct router *r) {
    struct exchange *x = r->x;
    struct body_out *out = arena_alloc(&x->arena, sizeof *out);
    struct http1_writer *writer = arena_alloc(&x->arena, sizeof *writer);
    enum http1_transfer transfer;
    if (!out || !writer)
        return -ENOMEM;
    int rc = choose_transfer(x, &transfer);
    if (rc == 0)
        rc = http1_write_request(writer, &x->arena, &x->request.headers, transfer, span_none(),
                                 span_none());
    if (rc == 0)
        rc = body_out_init(out, x, &r->upstream->socket, &x->request, transfer, writer);
    if (rc != 0)
        return rc;
    r->out = out;
    out->reason = "upstream request";
    out->send_trailers = r->cluster->enable_trailers;
    x->info.upstream_tx_first_ns = rt_now_ns();
    rc = body_out_send(out, false);
    if (rc < 0)
        return rc;
    if (rc == 0) {
        rc = body_out_flush(out);
        return rc ? rc : exchange_pump_start(x, pump, r);
    }
    request_is_sent(r);
    return 0;
}

/* ---- response in ---- */

/* Of 1xx heads before a response: enough for hints and signs of life, and an end of an upstream that
 * sends nothing else. */
enum { INTERIM_BYTES_MAX = 1024 * 1024 };

/* An interim response is not ours. Its map serves the next head. When it was so large that the buffer
 * moved to the arena, the next one starts in a block again: not more than fits has been read of it. */
static int drop_interim(struct upstream *u, struct header_map *map) {
    map->count = 0;
    map->known = 0;
    map->bytes = 0;
    return inbuf_leave_arena(&u->in);
}

/* 0 with head filled; -EPROTO for bytes that are no response, else what the socket said. */
static int read_response_head(struct router *r, struct http1_head *head) {
    struct exchange *x = r->x;
    struct upstream *u = r->upstream;
    struct http1_parser parser;
    struct span method = header_get(&x->request.headers, HDR_METHOD);
    size_t interim_bytes = 0;
    http1_parser_init(&parser, &response_limits);
    for (;;) {
        if (inbuf_len(&u->in)) {
            enum http1_verdict verdict = http1_parse_response(&parser, u->in.data + u->in.start,
                                                              inbuf_len(&u->in), method, head);
            if (verdict == HTTP1_BAD)
                return -EPROTO;
            if (verdict == HTTP1_DONE) {
                bool is_final = head->status >= 200;
                int rc = is_final ? inbuf_hold(&u->in, &x->arena) : 0;
                if (rc != 0)
                    return rc;
                inbuf_consume(&u->in, head->head_bytes);
                if (is_final)
                    return 0;
                interim_bytes += head->head_bytes;
                if (head->status == 101 || interim_bytes > INTERIM_BYTES_MAX)
                    return -EPROTO; /* nobody asked for the one, nobody waits for the other */
                rc = drop_interim(u, head->headers);
                if (rc != 0)
                    return rc;
                http1_parser_init(&parser, &response_limits);
                continue;
            }
        }
        size_t room = inbuf_head_room(&u->in, &x->arena, response_limits.head_bytes);
        if (room == 0)
            return -ENOMEM;
        ssize_t n =
            socket_read(&u->socket, u->in.data + u->in.end, room, "upstream response", RT_FOREVER);
        if (n == -ECANCELED)
            return -ECANCELED;
        if (n <= 0) /* half a head is no response, none at all is a lost connection: as on Envoy */
            return inbuf_len(&u->in) ? -EPROTO : -ECONNRESET;
        if (x->info.upstream_rx_first_ns == 0)
            x->info.upstream_rx_first_ns = rt_now_ns();
        exchange_touch(x);
        u->in.end += (uint32_t)n;
    }
}

/* Lets go of the connection: to the pool when both messages went through it whole. */
static void release(struct router *r, bool reusable) {
    struct upstream *u = r->upstream;
    if (!u)
        return;
    if (!r->request_sent)
        exchange_pump_stop(r->x); /* it may be writing to this connection */
    r->upstream = NULL;
    if (reusable && r->request_sent && r->keep_alive && inbuf_leave_arena(&u->in) == 0) {
        upstream_put(u);
        return;
    }
    inbuf_drop(&u->in); /* the arena may own that memory */
    upstream_close(u, true);
}

static ssize_t response_body_next(void *data, size_t max, struct span *out) {
    struct router *r = data;
    struct exchange *x = r->x;
    if (!r->upstream) { /* the end was seen, or an error */
        *out = span_make("", 0);
        return r->body.error ? r->body.error : 0;
    }
    ssize_t n = reader_next(wire_body_reader(&r->body), max, out);
    exchange_touch(x);
    if (n > 0)
        return n;
    if (n == 0) {
        x->info.upstream_rx_last_ns = rt_now_ns();
        exchange_set_deadline(x, RT_FOREVER, NULL, NULL);
        release(r, r->body.done);
        return 0;
    }
    if (exchange_alive(x)) { /* a body cut short is a protocol error too, as on Envoy */
        x->info.flags |= FLAG_UPSTREAM_PROTOCOL_ERROR;
        x->info.response_code_details =
            SPAN_LIT("upstream_reset_after_response_started{protocol_error}");
        stat_inc(r->cluster->stats.cx_protocol_error, x->shard);
        stat_inc(r->cluster->stats.rq_rx_reset, x->shard);
    }
    release(r, false);
    return n;
}

static enum reader_peek response_body_peek(void *data) {
    struct router *r = data;
    return r->upstream ? reader_peek(wire_body_reader(&r->body)) : READER_END;
}

static void response_body_close(void *data) {
    struct router *r = data;
    release(r, false);
}

static int service_time(struct router *r, struct exchange *x) {
    if (r->config && r->config->suppress_envoy_headers)
        return 0;
    int64_t from_ns =
        x->info.upstream_tx_last_ns ? x->info.upstream_tx_last_ns : x->info.upstream_rx_first_ns;
    struct span text = arena_decimal(&x->arena, (uint64_t)(rt_now_ns() - from_ns) / NS_PER_MS);
    return span_is_none(text)
               ? -ENOMEM
               : header_set_id(&x->response.headers, HDR_X_ENVOY_UPSTREAM_SERVICE_TIME, text);
}

static void take_response(struct router *r, const struct http1_head *head) {
    static const struct reader_itab itab = {
        .next = response_body_next, .close = response_body_close, .peek = response_body_peek};
    struct exchange *x = r->x;
    struct upstream *u = r->upstream;
    unsigned status = head->status;
    r->head_seen = true;
    x->info.response_code = (uint16_t)status;
    r->keep_alive = head->keep_alive && head->framing != HTTP1_BODY_UNTIL_CLOSE;
    x->info.response_code_details = SPAN_LIT("via_upstream");
    cluster_count_response(r->cluster, x->shard, status);
    stat_record_us(r->cluster->stats.rq_time, x->shard,
                   (uint64_t)(rt_now_ns() - x->info.upstream_tx_first_ns) / 1000);
    bump(status >= 500 ? &host_counters(r)->rq_error : &host_counters(r)->rq_success, 1);
    wire_body_init(&r->body, &u->socket, &u->in, head, &response_limits);
    r->body.reason = "upstream body";
    r->body.arena = &x->arena;
    if (r->cluster->enable_trailers)
        r->body.trailers = &x->response.trailers;
    http1_strip_hop_by_hop(&x->response.headers);
    if (r->body.done) {
        x->info.upstream_rx_last_ns = rt_now_ns();
        exchange_set_deadline(x, RT_FOREVER, NULL, NULL);
        if (r->request_sent)
            release(r, true);
    } else {
        x->response.body = (struct reader){&itab, r};
    }
    int rc = service_time(r, x);
    const struct route_entry *route = x->route;
    if (rc == 0 && route)
        rc = route_mutate_response(route, x);
    if (rc != 0)
        reply_simple(r, 500, span_none(), SPAN_LIT("response_headers_failed"), 0);
}

/* ---- the request side ---- */

static struct cluster *find_cluster(struct router *r, const struct route_entry *route) {
    struct exchange *x = r->x;
    struct span name = route_cluster_name(route, &x->request.headers, x->random);
    struct cluster *cluster =
        span_is_none(name) || !x->snapshot ? NULL : snapshot_cluster(x->snapshot, name);
    if (cluster)
        return cluster;
    static const unsigned statuses[] = {503, 404, 500};
    int code = route->config->route->cluster_not_found_response_code;
    stat_inc(x->hcm->stats.no_cluster, x->shard);
    reply_simple(r, statuses[code >= 0 && code < 3 ? code : 0], span_none(),
                 SPAN_LIT("cluster_not_found"), FLAG_NO_CLUSTER_FOUND);
    return NULL;
}

static int prepare_request(struct router *r, const struct route_entry *route) {
    struct exchange *x = r->x;
    struct header_map *headers = &x->request.headers;
    bool envoy_headers = !(r->config && r->config->suppress_envoy_headers);
    int rc = 0;
    r->timeout_ns = route->timeout_ns;
    if (r->timeout_ns && envoy_headers) {
        struct span text = arena_decimal(&x->arena, (uint64_t)r->timeout_ns / NS_PER_MS);
        rc = span_is_none(text) ? -ENOMEM
                                : header_set_id(headers, HDR_X_ENVOY_EXPECTED_RQ_TIMEOUT_MS, text);
    }
    if (rc == 0 && route->virtual_host && route->virtual_host->include_request_attempt_count)
        rc = header_set_id(headers, HDR_X_ENVOY_ATTEMPT_COUNT, SPAN_LIT("1"));
    if (rc == 0)
        rc = route_mutate_request(route, x);
    bool had_path = header_has(headers, HDR_X_ENVOY_ORIGINAL_PATH);
    if (rc == 0)
        rc = route_rewrite_request(route, x);
    if (!envoy_headers && !had_path)
        header_remove_id(headers, HDR_X_ENVOY_ORIGINAL_PATH);
    return rc;
}

/* host_rewrite auto: only the endpoint knows its name. */
static int rewrite_host(struct router *r, const struct cfg_route_action *action) {
    struct exchange *x = r->x;
    bool automatic = action->host_rewrite_specifier_case == CFG_HOST_REWRITE_AUTO &&
                     action->auto_host_rewrite.value;
    if (!automatic || !r->host->hostname.len)
        return 0;
    int rc = 0;
    if (action->append_x_forwarded_host)
        rc = header_append(&x->request.headers, HDR_X_FORWARDED_HOST, SPAN_LIT("x-forwarded-host"),
                           header_get(&x->request.headers, HDR_AUTHORITY));
    struct span name = arena_copy(&x->arena, r->host->hostname);
    return rc ? rc : header_set_id(&x->request.headers, HDR_AUTHORITY, name);
}

static void note_upstream(struct router *r) {
    struct exchange *x = r->x;
    x->info.upstream_attempts = 1;
    if (r->host) {
        x->info.upstream_remote = r->host->text;
        x->info.upstream_host_name = r->host->hostname.len ? r->host->hostname : r->host->text;
    }
    if (r->upstream)
        x->info.upstream_local = arena_copy(&x->arena, span_of(r->upstream->local_text));
}

static bool admit(struct router *r) {
    struct cluster *cluster = r->cluster;
    uint32_t active = atomic_fetch_add_explicit(&cluster->requests, 1, memory_order_relaxed);
    r->counted_active = true;
    stat_inc(cluster->stats.rq_active, r->x->shard);
    if (active < cluster->max_requests)
        return true;
    stat_inc(cluster->stats.rq_pending_overflow, r->x->shard);
    connect_failure(r, UPSTREAM_OVERFLOW, 0);
    return false;
}

static void response_failure(struct router *r, int rc) {
    struct exchange *x = r->x;
    if (!exchange_alive(x)) {
        stat_inc(r->cluster->stats.rq_tx_reset, x->shard);
        return;
    }
    bump(&host_counters(r)->rq_error, 1);
    if (rc == -EPROTO) {
        stat_inc(r->cluster->stats.cx_protocol_error, x->shard);
        upstream_reset(r, 502, "protocol error", span_none(), FLAG_UPSTREAM_PROTOCOL_ERROR);
    } else if (rc == -ENOMEM || rc == -EINVAL) {
        reply_simple(r, 500, span_none(), SPAN_LIT("request_failed"), 0);
    } else {
        stat_inc(r->cluster->stats.rq_rx_reset, x->shard);
        upstream_reset(r, 503, "connection termination", span_none(),
                       FLAG_UPSTREAM_CONNECTION_TERMINATION);
    }
}

static void forward(struct router *r, const struct route_entry *route) {
    struct exchange *x = r->x;
    int rc = 0;
    start_timeout(r); /* nobody waits for a connection for ever */
    enum upstream_failure failure =
        upstream_get(r->cluster, RT_FOREVER, &r->host, &r->upstream, &rc);
    if (!is_here_whole(x))
        stop_timeout(r); /* its time begins when it is */
    note_upstream(r);
    if (failure != UPSTREAM_OK) {
        connect_failure(r, failure, rc);
        return;
    }
    if (!exchange_alive(x)) { /* it ended while a place in the pool was handed to it */
        upstream_put(r->upstream);
        r->upstream = NULL;
        return;
    }
    r->upstream->requests++;
    stat_inc(r->cluster->stats.rq_total, x->shard);
    bump(&host_counters(r)->rq_total, 1);
    bump(&host_counters(r)->rq_active, 1);
    rc = rewrite_host(r, route->config->route);
    if (rc == 0)
        rc = send_request(r);
    struct http1_head head = {.headers = &x->response.headers};
    bool local_failure = rc == -ENOMEM || rc == -EINVAL || rc == -EPROTO;
    if (!local_failure && rc != -ECANCELED) {
        /* A failed write may hide an early response: look before giving up. */
        int read_rc = read_response_head(r, &head);
        rc = read_rc;
    } else if (rc == -EPROTO) {
        rc = -EINVAL; /* our request, not the upstream's answer */
    }
    bump(&host_counters(r)->rq_active, -1);
    if (rc == 0 && exchange_alive(x)) {
        take_response(r, &head);
    } else {
        header_map_init(&x->response.headers, &x->arena);
        response_failure(r, rc);
    }
}

static void router_request(struct exchange *x, void *self) {
    struct router *r = self;
    const struct route_entry *route = exchange_route(x);
    stat_inc(x->hcm->stats.router_rq_total, x->shard);
    if (!route) {
        stat_inc(x->hcm->stats.no_route, x->shard);
        reply_simple(r, 404, span_none(), SPAN_LIT("route_not_found"), FLAG_NO_ROUTE_FOUND);
        return;
    }
    if (route->config->action_case == CFG_ACTION_REDIRECT) {
        redirect(r, route);
        return;
    }
    if (route->config->action_case == CFG_ACTION_DIRECT_RESPONSE) {
        direct_response(r, route);
        return;
    }
    r->cluster = find_cluster(r, route);
    if (!r->cluster)
        return;
    x->info.upstream_cluster = r->cluster->name;
    if (prepare_request(r, route) != 0) {
        reply_simple(r, 500, span_none(), SPAN_LIT("request_headers_failed"), 0);
        return;
    }
    if (admit(r))
        forward(r, route);
}

/* A response from upstream has been given the route's fields already. */
static void router_response(struct exchange *x, void *self) {
    const struct router *r = self;
    if (x->local && r->replied && x->route && route_mutate_response(x->route, x) != 0)
        exchange_reset(x, SPAN_LIT("response_headers_failed"));
}

static void router_destroy(struct exchange *x, void *self) {
    struct router *r = self;
    release(r, r->head_seen && r->body.done);
    host_unref(r->host);
    if (r->counted_active) {
        atomic_fetch_sub_explicit(&r->cluster->requests, 1, memory_order_relaxed);
        stat_dec(r->cluster->stats.rq_active, x->shard);
    }
}

static int router_build(const struct cfg_any *typed_config, struct cfg_problems *problems,
                        void **config) {
    *config = (void *)(uintptr_t)typed_config->message;
    return 0;
}

static const struct filter_itab router_itab = {
    .name = "envoy.filters.http.router",
    .create = router_create,
    .request = router_request,
    .response = router_response,
    .destroy = router_destroy,
};

const struct filter_kind filter_kind_router = {
    .itab = &router_itab,
    .schema = &cfg_schema_router,
    .terminal = true,
    .build = router_build,
};
