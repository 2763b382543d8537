/* downstream_send: what a response gets before it goes to the client, and how its body is framed. */
#include <errno.h>

#include "base/clock.h"
#include "proxy/body_out.h"
#include "proxy/downstream_internal.h"
#include "proxy/exchange_log.h"

int downstream_continue(struct serving *s) {
    static const char line[] = "HTTP/1.1 100 Continue\r\n\r\n";
    struct iovec iov = {(void *)(uintptr_t)line, sizeof line - 1};
    struct exchange *x = s->exchange;
    if (x->state == EXCHANGE_HEADERS_SENT)
        return 0; /* it would stand in the middle of the response */
    s->inviting = true;
    int rc = socket_send(&s->downstream->socket, &iov, 1, "100 continue", RT_FOREVER);
    s->inviting = false;
    if (x->state == EXCHANGE_HEADERS_SENT)
        rt_ready(x->main); /* await_invitation */
    return rc;
}

/* The pump may be in the middle of writing 100 Continue, to a client that does not read. */
static COLD int await_invitation(struct serving *s) {
    int rc = 0;
    while (s->inviting && rc == 0)
        rc = rt_park("end of 100 continue", RT_FOREVER);
    return rc;
}

static unsigned status_of(const struct header_map *headers) {
    uint64_t status = 0;
    return span_to_u64(header_get(headers, HDR_STATUS), &status) && status >= 100 && status < 1000
               ? (unsigned)status
               : 0;
}

/* 101, and the filters left it at that. */
static bool is_tunnel(const struct exchange *x, unsigned status) {
    return x->upgrade == UPGRADE_AGREED && status == 101;
}

static int set_base_headers(struct serving *s, struct exchange *x, unsigned status) {
    struct header_map *headers = &x->response.headers;
    const struct cfg_hcm *cfg = x->hcm->config;
    int rc = 0;
    struct span upgrade = is_tunnel(x, status) ? header_get(headers, HDR_UPGRADE) : span_none();
    http1_strip_hop_by_hop(headers);
    if (!span_is_none(upgrade))
        rc = header_set_id(headers, HDR_UPGRADE, upgrade);
    if (rc != 0)
        return rc;
    if (!header_has(headers, HDR_DATE))
        rc = header_set_id(headers, HDR_DATE,
                           http_date_get(&s->worker->date, worker_wall_ns(s->worker, rt_now_ns())));
    bool absent = !header_has(headers, HDR_SERVER);
    int transformation = cfg->server_header_transformation;
    if (rc == 0 && (transformation == 0 || (transformation == 1 && absent)))
        rc = header_set_id(headers, HDR_SERVER, x->hcm->server_name);
    if (rc == 0)
        rc = hcm_append_via(x->hcm, headers);
    if (rc == 0 && cfg->always_set_request_id_in_response &&
        header_has(&x->request.headers, HDR_X_REQUEST_ID))
        rc = header_set_id(headers, HDR_X_REQUEST_ID,
                           header_get(&x->request.headers, HDR_X_REQUEST_ID));
    return rc;
}

/* How the body goes out, in the terms of Envoy's HTTP/1 encoder. */
static int choose_transfer(struct serving *s, struct exchange *x, unsigned status,
                           enum http1_transfer *out) {
    struct header_map *headers = &x->response.headers;
    bool has_body = message_has_body(&x->response);
    if (is_tunnel(x, status)) {
        *out = HTTP1_SEND_CLOSE;
    } else if (status == 204 || status == 304 || status < 200) {
        if (status != 304)
            header_remove_id(headers, HDR_CONTENT_LENGTH);
        *out = HTTP1_SEND_NONE;
    } else if (header_has(headers, HDR_CONTENT_LENGTH)) {
        *out = HTTP1_SEND_LENGTH;
    } else if (!has_body && !x->is_head) {
        *out = HTTP1_SEND_LENGTH;
        return header_set_id(headers, HDR_CONTENT_LENGTH, SPAN_LIT("0"));
    } else if (s->downstream->minor_version == 0) {
        *out = HTTP1_SEND_CLOSE;
        x->close_after = !x->is_head || x->close_after;
    } else {
        *out = HTTP1_SEND_CHUNKED;
    }
    return 0;
}

static struct span connection_value(struct serving *s, struct exchange *x, unsigned status) {
    const struct hcm *hcm = s->hcm;
    if (is_tunnel(x, status))
        return SPAN_LIT("upgrade");
    /* What has arrived of an unread body is dropped; what has not ends the connection. */
    if (!x->request_complete && s->body && (x->pump_started || !wire_body_skip_rest(s->body))) {
        stat_inc(hcm->stats.rq_response_before_rq_complete, x->shard);
        x->close_after = true;
    }
    if (!hcm->bypass_overload && !s->worker->draining && !s->worker->leaving &&
        worker_overload(s->worker, OVERLOAD_DISABLE_KEEPALIVE)) { /* both are counted on Envoy */
        stat_inc(hcm->stats.cx_overload_disable_keepalive, x->shard);
        stat_inc(hcm->stats.cx_drain_close, x->shard);
        x->close_after = true;
    }
    if (hcm->max_requests_per_connection &&
        s->downstream->requests >= hcm->max_requests_per_connection) {
        stat_inc(hcm->stats.cx_max_requests_reached, x->shard);
        x->close_after = true;
    }
    if ((s->worker->draining || s->worker->leaving ||
         (listener_is_superseded(s->downstream->info->listener) &&
          downstream_cannot_follow(s->downstream))) &&
        !x->close_after) {
        stat_inc(hcm->stats.cx_drain_close, x->shard);
        x->close_after = true;
    }
    if (hcm->max_connection_duration_ns &&
        rt_now_ns() >= s->downstream->opened_ns + hcm->max_connection_duration_ns)
        x->close_after = true;
    if (x->close_after)
        return SPAN_LIT("close");
    return s->downstream->minor_version == 0 ? SPAN_LIT("keep-alive") : span_none();
}

/* The head leaves with the first bytes of the body if there are any at hand; else the client need not
 * wait for it. */
static int send_message(struct body_out *out) {
    int rc = body_out_send(out, false);
    if (rc == 0)
        rc = body_out_flush(out);
    if (rc == 0)
        rc = body_out_send(out, true);
    return rc < 0 ? rc : 0;
}

int downstream_send(struct serving *s, struct exchange *x) {
    struct header_map *headers = &x->response.headers;
    struct body_out out;
    enum http1_transfer transfer;
    unsigned status = status_of(headers);
    if (status == 0) /* a filter removed or broke it */
        return -EINVAL;
    int rc = set_base_headers(s, x, status);
    if (rc == 0)
        rc = choose_transfer(s, x, status, &transfer);
    if (rc == 0)
        rc = body_out_init(&out, x, &s->downstream->socket, &x->response, transfer,
                           connection_value(s, x, status));
    if (rc != 0)
        return rc;
    out.reason = "response";
    out.body_allowed = !x->is_head && transfer != HTTP1_SEND_NONE;
    out.send_trailers = x->hcm->enable_trailers;
    x->state = EXCHANGE_HEADERS_SENT;
    x->info.response_code = (uint16_t)status;
    if (__builtin_expect(x->hcm->logs_tunnel, false) && is_tunnel(x, status))
        exchange_log_lines(x, FORMAT_EVENT_TUNNEL_ESTABLISHED);
    x->info.downstream_tx_first_ns = rt_now_ns();
    x->sending = &out;
    if (s->inviting)
        rc = await_invitation(s);
    if (rc == 0)
        rc = send_message(&out);
    x->sending = NULL;
    x->info.header_bytes_sent = out.head_bytes;
    x->info.bytes_sent = out.body_bytes;
    if (out.write_failed) {
        s->downstream->closed_by_peer = true;
        exchange_client_gone(x);
    }
    if (rc != 0 && !x->client_gone) /* a reset in mid-response */
        exchange_reset(x, out.head_failed       ? SPAN_LIT("response_headers_failed")
                          : out.length_is_wrong ? SPAN_LIT("body_length_mismatch")
                                                : span_none());
    return 0;
}
