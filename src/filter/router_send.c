/* router_send: the request on its way to the upstream.
 *
 * What of the body has arrived goes out with the head. A rest that has to be waited for is sent by the
 * pump, a coroutine of its own on the same P, while the exchange's waits for the response: an early
 * response, or one that comes while the body still goes out, falls out of that. */
#include <errno.h>

#include "filter/router_internal.h"

static void request_is_sent(struct router *r) {
    r->request_sent = true;
    r->x->info.upstream_tx_last_ns = rt_now_ns();
    if (!r->head_seen)
        router_start_timeout(r);
}
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

/* The client's bytes, once the upstream has agreed. Their end is the end of one direction only. */
static void tunnel(struct exchange *x, void *arg) {
    struct router *r = arg;
    if (body_out_send(r->out, true) != 1)
        return; /* a broken upstream ends the response too, and a broken client has ended everything */
    r->x->info.upstream_tx_last_ns = rt_now_ns();
    int rc = socket_shutdown(&r->upstream->socket);
    r->request_sent = rc == 0; /* else nobody is left to hear of it */
}

int router_open_tunnel(struct router *r) {
    r->out->body_allowed = true;
    return exchange_pump_start(r->x, tunnel, r);
}

/* Head and body out; the rest of a body that has to be waited for is left to the pump. */
int router_send_request(struct router *r) {
    struct exchange *x = r->x;
    struct body_out *out = arena_alloc(&x->arena, sizeof *out);
    enum http1_transfer transfer;
    if (!out)
        return -ENOMEM;
    int rc = 0;
    struct span connection = span_none();
    if (x->upgrade) { /* unless a filter has taken that back */
        transfer = HTTP1_SEND_CLOSE;
        r->upgrades = header_has(&x->request.headers, HDR_UPGRADE);
        connection = r->upgrades ? SPAN_LIT("upgrade") : connection;
    } else {
        rc = choose_transfer(x, &transfer);
    }
    if (rc == 0)
        rc = body_out_init(out, x, &r->upstream->socket, &x->request, transfer, connection);
    if (rc != 0)
        return rc;
    r->out = out;
    out->reason = "upstream request";
    out->send_trailers = r->cluster->enable_trailers;
    x->info.upstream_tx_first_ns = rt_now_ns();
    if (x->upgrade) { /* what is behind the head has to wait for the answer to it */
        rc = body_out_flush(out);
        router_start_timeout(r);
        return rc;
    }
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
