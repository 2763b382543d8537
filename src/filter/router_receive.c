/* router_receive: the response on its way from the upstream.
 *
 * The body is lent from the connection's buffer, or spliced; at its end the connection goes back to its pool, or
 * is closed when the request was not sent whole. */
#include <errno.h>

#include "base/clock.h"
#include "filter/router_internal.h"
#include "proxy/upgrade.h"

/* Envoy's defaults for an HTTP/1 upstream. */
static const struct http1_limits response_limits = {.head_bytes = 80 * 1024, .header_count = 100};

/* Of 1xx heads before a response: enough for hints and signs of life, and an end of an upstream that
 * sends nothing else. */
enum { INTERIM_BYTES_MAX = 1024 * 1024 };

/* An interim response is not ours. Its map serves the next head. When it was so large that the buffer
 * moved to the arena, the next one starts in a block again: not more than fits has been read of it. */
static int drop_interim(struct upstream *u, struct header_map *map) {
    header_map_clear(map);
    return inbuf_leave_arena(&u->in);
}

/* 0 with head filled; -EPROTO for bytes that are no response, else what the socket said. */
int router_read_head(struct router *r, struct http1_head *head) {
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
                bool agrees = head->status == 101 && head->upgrade && r->upgrades;
                bool is_final = head->status >= 200 || agrees;
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
        if (!inbuf_head_room(&u->in, &x->arena, response_limits.head_bytes))
            return -ENOMEM;
        ssize_t n = socket_receive(&u->socket, &u->in, "upstream response", RT_FOREVER);
        if (n == -ECANCELED || n == -ENOMEM)
            return (int)n;
        if (n <= 0) /* half a head is no response, none at all is a lost connection: as on Envoy */
            return inbuf_len(&u->in) ? -EPROTO : -ECONNRESET;
        exchange_touch(x);
        if (x->info.upstream_rx_first_ns == 0)
            x->info.upstream_rx_first_ns = x->active_ns;
    }
}

void router_release_slowly(struct router *r, bool reusable) {
    struct upstream *u = r->upstream;
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

/* rc: 0 or -errno, as the connection's reader gave it; returned as it is. */
static ssize_t response_body_ended(struct router *r, ssize_t rc) {
    struct exchange *x = r->x;
    if (rc == 0) {
        x->info.upstream_rx_last_ns = x->active_ns; /* it was touched just now */
        exchange_set_deadline(x, RT_FOREVER, NULL, NULL);
        router_release(r, r->body.done);
        return 0;
    }
    if (exchange_alive(x)) {
        if (x->upgrade == UPGRADE_AGREED) { /* these bytes are nobody's protocol here */
            x->info.flags |= FLAG_UPSTREAM_CONNECTION_TERMINATION;
            x->info.response_code_details =
                SPAN_LIT("upstream_reset_after_response_started{connection_termination}");
        } else { /* a body cut short is a protocol error too, as on Envoy */
            x->info.flags |= FLAG_UPSTREAM_PROTOCOL_ERROR;
            x->info.response_code_details =
                SPAN_LIT("upstream_reset_after_response_started{protocol_error}");
            stat_inc(r->cluster->stats.cx_protocol_error, x->shard);
        }
        stat_inc(r->cluster->stats.rq_rx_reset, x->shard);
    }
    router_release(r, false);
    return rc;
}

static ssize_t response_body_next(void *data, size_t max, struct span *out) {
    struct router *r = data;
    if (!r->upstream) { /* the end was seen, or an error */
        *out = span_make("", 0);
        return r->body.error ? r->body.error : 0;
    }
    ssize_t n = reader_next(wire_body_reader(&r->body), max, out);
    exchange_touch(r->x);
    return n > 0 ? n : response_body_ended(r, n);
}

static uint64_t response_body_unread(void *data) {
    struct router *r = data;
    return r->upstream ? reader_unread(wire_body_reader(&r->body)) : 0;
}

static ssize_t response_body_splice(void *data, struct splice *splice, size_t max) {
    struct router *r = data;
    ssize_t n = reader_splice(wire_body_reader(&r->body), splice, max);
    exchange_touch(r->x);
    return n > 0 || n == -ENOBUFS ? n : response_body_ended(r, n);
}

static enum reader_peek response_body_peek(void *data) {
    struct router *r = data;
    return r->upstream ? reader_peek(wire_body_reader(&r->body)) : READER_END;
}

static void response_body_close(void *data) {
    struct router *r = data;
    router_release(r, false);
}

/* As on Envoy it begins when the request has been sent whole: an answer before that, and one to an upgrade,
 * says nothing of it. */
static int service_time(struct router *r, struct exchange *x, int64_t now_ns) {
    if ((r->config && r->config->suppress_envoy_headers) || x->info.upstream_tx_last_ns == 0)
        return 0;
    static const char digits[] = "0123456789";
    uint64_t ms = (uint64_t)(now_ns - x->info.upstream_tx_last_ns) / NS_PER_MS;
    struct span text = ms < 10 ? span_make(&digits[ms], 1) : arena_decimal(&x->arena, ms);
    return span_is_none(text)
               ? -ENOMEM
               : header_set_id(&x->response.headers, HDR_X_ENVOY_UPSTREAM_SERVICE_TIME, text);
}

/* 101: the connection is no longer HTTP's, and this exchange the last one of both. */
static int switch_protocols(struct router *r, struct span protocol) {
    struct exchange *x = r->x;
    x->upgrade = UPGRADE_AGREED;
    x->request_deadline_ns = RT_FOREVER;
    exchange_set_deadline(x, RT_FOREVER, NULL, NULL); /* the route's timeout was for the answer */
    header_remove_id(&x->response.headers, HDR_CONTENT_LENGTH);
    int rc = upgrade_mark(&x->response.headers, protocol);
    return rc ? rc : router_open_tunnel(r);
}

/* What Envoy says of an upstream that gives a WebSocket client something else than it asked for. */
static COLD struct span refusal_details(const struct router *r, unsigned status) {
    bool is_websocket =
        r->upgrades &&
        span_eq_nocase(header_get(&r->x->request.headers, HDR_UPGRADE), SPAN_LIT("websocket"));
    return is_websocket && status < 400 ? SPAN_LIT("websocket_handshake_unsuccessful")
                                        : SPAN_LIT("via_upstream");
}

void router_take_response(struct router *r, const struct http1_head *head) {
    static const struct reader_itab itab = {.next = response_body_next,
                                            .close = response_body_close,
                                            .peek = response_body_peek,
                                            .unread = response_body_unread,
                                            .splice = response_body_splice};
    struct exchange *x = r->x;
    struct upstream *u = r->upstream;
    unsigned status = head->status;
    int64_t now_ns = rt_now_ns();
    r->head_seen = true;
    x->info.response_code = (uint16_t)status;
    bool switches = status == 101; /* read_head lets no other one through */
    r->keep_alive = head->keep_alive && head->framing != HTTP1_BODY_UNTIL_CLOSE && !x->upgrade;
    x->info.response_code_details =
        x->upgrade && !switches ? refusal_details(r, status) : SPAN_LIT("via_upstream");
    router_count_response(r, status);
    uint64_t took_us = (uint64_t)(now_ns - x->info.upstream_tx_first_ns) / 1000;
    stats_cell_record_us_on_p(r->cluster->cells.rq_time, x->shard, took_us);
    if (__builtin_expect(r->virtual_cluster != NULL, false))
        stat_record_us(r->virtual_cluster->rq_time, x->shard, took_us);
    struct host_counters *counters = router_host_counters(r);
    router_bump(status >= 500 ? &counters->rq_error : &counters->rq_success, 1);
    wire_body_init(&r->body, &u->socket, &u->in, head, &response_limits);
    if (switches) {
        r->body.framing = HTTP1_BODY_UNTIL_CLOSE;
        r->body.done = false;
    }
    r->body.reason = "upstream body";
    r->body.arena = &x->arena;
    if (r->cluster->enable_trailers)
        r->body.trailers = &x->response.trailers;
    struct span protocol = switches ? header_get(&x->response.headers, HDR_UPGRADE) : span_none();
    http1_strip_hop_by_hop(&x->response.headers);
    if (r->body.done) {
        x->info.upstream_rx_last_ns = now_ns;
        exchange_set_deadline(x, RT_FOREVER, NULL, NULL);
        if (r->request_sent)
            router_release(r, true);
    } else {
        x->response.body = (struct reader){&itab, r};
    }
    int rc = service_time(r, x, now_ns);
    if (rc == 0 && switches)
        rc = switch_protocols(r, protocol);
    const struct route_entry *route = x->route;
    if (rc == 0 && route)
        rc = route_mutate_response(route, x);
    if (rc != 0)
        router_reply_simple(r, 500, span_none(), SPAN_LIT("response_headers_failed"), 0);
}
