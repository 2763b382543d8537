/* downstream_send: a response on its way to the client.
 *
 * The head and the first bytes of the body leave in one system call when the body has bytes at
 * hand; the last chunk takes the end marker along when the body says that it ends there. */
#include <errno.h>

#include "base/clock.h"
#include "proxy/downstream.h"

enum { BODY_STEP = 64 * 1024 }; /* asked of the body at a time: bounds a turn of one connection */

int downstream_continue(struct downstream *d) {
    static const char line[] = "HTTP/1.1 100 Continue\r\n\r\n";
    struct iovec iov = {(void *)(uintptr_t)line, sizeof line - 1};
    return socket_writev(&d->socket, &iov, 1, "100 continue", RT_FOREVER);
}

static unsigned status_of(const struct header_map *headers) {
    uint64_t status = 0;
    return span_to_u64(header_get(headers, HDR_STATUS), &status) && status >= 100 && status < 600
               ? (unsigned)status
               : 0;
}

static int set_base_headers(struct downstream *d, struct exchange *x) {
    struct header_map *headers = &x->response.headers;
    const struct cfg_hcm *cfg = x->hcm->config;
    int rc = 0;
    http1_strip_hop_by_hop(headers);
    if (!header_has(headers, HDR_DATE))
        rc = header_set_id(headers, HDR_DATE, http_date_get(&d->worker->date, clock_wall_ns()));
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
static int choose_transfer(struct downstream *d, struct exchange *x, unsigned status,
                           enum http1_transfer *out) {
    struct header_map *headers = &x->response.headers;
    bool has_body = message_has_body(&x->response);
    if (status == 204 || status == 304 || status < 200) {
        if (status != 304)
            header_remove_id(headers, HDR_CONTENT_LENGTH);
        *out = HTTP1_SEND_NONE;
    } else if (header_has(headers, HDR_CONTENT_LENGTH)) {
        *out = HTTP1_SEND_LENGTH;
    } else if (!has_body && !x->is_head) {
        *out = HTTP1_SEND_LENGTH;
        return header_set_id(headers, HDR_CONTENT_LENGTH, SPAN_LIT("0"));
    } else if (d->minor_version == 0) {
        *out = HTTP1_SEND_CLOSE;
        x->close_after = !x->is_head || x->close_after;
    } else {
        *out = HTTP1_SEND_CHUNKED;
    }
    return 0;
}

static struct span connection_value(struct downstream *d, struct exchange *x) {
    const struct hcm *hcm = d->hcm;
    /* What has arrived of an unread body is dropped; what has not ends the connection. */
    if (!x->request_complete && d->body && (x->pump_started || !wire_body_skip_rest(d->body))) {
        stat_inc(hcm->stats.rq_response_before_rq_complete, x->shard);
        x->close_after = true;
    }
    if (hcm->max_requests_per_connection && d->requests >= hcm->max_requests_per_connection) {
        stat_inc(hcm->stats.cx_max_requests_reached, x->shard);
        x->close_after = true;
    }
    if (d->worker->draining && !x->close_after) {
        stat_inc(hcm->stats.cx_drain_close, x->shard);
        x->close_after = true;
    }
    if (hcm->max_connection_duration_ns &&
        rt_now_ns() >= d->opened_ns + hcm->max_connection_duration_ns)
        x->close_after = true;
    if (x->close_after)
        return SPAN_LIT("close");
    return d->minor_version == 0 ? SPAN_LIT("keep-alive") : span_none();
}

static int write_all(struct downstream *d, struct exchange *x, struct iovec *iov, int count) {
    int rc = socket_writev(&d->socket, iov, count, "response", RT_FOREVER);
    exchange_touch(x);
    if (rc != 0 && rc != -ECANCELED) {
        d->closed_by_peer = true;
        exchange_client_gone(x);
    }
    return rc;
}

struct sending {
    struct downstream *d;
    struct exchange *x;
    enum http1_transfer transfer;
    uint64_t length_left; /* of content-length */
    bool body_allowed;
    bool length_is_wrong; /* the body is not as long as content-length says */
};

/* One run of body bytes with its framing, behind `head` pieces that wait to be sent (may be none).
 * is_last adds the end marker of a chunked body without trailers. */
static int send_run(struct sending *s, struct iovec *iov, int count, struct span run,
                    bool is_last) {
    char chunk[24];
    static const char crlf[] = "\r\n";
    static const char end[] = "\r\n0\r\n\r\n";
    bool chunked = s->transfer == HTTP1_SEND_CHUNKED;
    if (chunked && run.len) {
        size_t n = http1_chunk_head(chunk, run.len);
        iov[count++] = (struct iovec){chunk, n};
    }
    if (run.len)
        iov[count++] = (struct iovec){(void *)(uintptr_t)run.ptr, run.len};
    if (chunked && run.len && is_last)
        iov[count++] = (struct iovec){(void *)(uintptr_t)end, sizeof end - 1};
    else if (chunked && run.len)
        iov[count++] = (struct iovec){(void *)(uintptr_t)crlf, sizeof crlf - 1};
    s->x->info.bytes_sent += run.len;
    return write_all(s->d, s->x, iov, count);
}

/* A filter that changed a body without its content-length must not corrupt the framing: what is too
 * much ends the connection, and so does what is missing. */
static int check_length(struct sending *s, size_t n) {
    if (s->transfer != HTTP1_SEND_LENGTH)
        return 0;
    if (n > s->length_left) {
        s->length_is_wrong = true;
        return -EPROTO;
    }
    s->length_left -= n;
    return 0;
}

static int send_trailers(struct sending *s) {
    struct exchange *x = s->x;
    static const char end[] = "0\r\n\r\n";
    if (x->hcm->enable_trailers && x->response.trailers.count) {
        struct http1_writer writer;
        int rc = http1_write_trailers(&writer, &x->arena, &x->response.trailers);
        return rc ? rc : write_all(s->d, x, writer.iov, writer.iov_count);
    }
    struct iovec iov = {(void *)(uintptr_t)end, sizeof end - 1};
    return write_all(s->d, x, &iov, 1);
}

/* Everything of the body. `writer` holds the head until something can go with it. */
static int send_body(struct sending *s, struct http1_writer *writer) {
    struct exchange *x = s->x;
    struct reader body = s->body_allowed ? x->response.body : (struct reader){0};
    struct iovec iov[HTTP1_IOV_MAX + 4];
    int count = writer->iov_count;
    memcpy(iov, writer->iov, (size_t)count * sizeof iov[0]);
    if (reader_peek(body) == READER_MAY_PARK) { /* the client need not wait for the head */
        int rc = write_all(s->d, x, iov, count);
        if (rc != 0)
            return rc;
        count = 0;
    }
    for (;;) {
        struct span run;
        ssize_t n = reader_next(body, BODY_STEP, &run);
        if (!exchange_alive(x))
            return -ECANCELED;
        if (n < 0)
            return (int)n;
        if (n == 0)
            break;
        bool is_last = s->transfer == HTTP1_SEND_CHUNKED && reader_peek(body) == READER_END &&
                       x->response.trailers.count == 0;
        int rc = check_length(s, (size_t)n);
        if (rc == 0)
            rc = send_run(s, iov, count, run, is_last);
        if (rc != 0 || is_last) {
            if (is_last)
                (void)reader_next(body, BODY_STEP, &run); /* lets it end */
            return rc;
        }
        count = 0;
    }
    if (s->transfer == HTTP1_SEND_LENGTH && s->body_allowed && s->length_left) {
        s->length_is_wrong = true;
        return -EPROTO;
    }
    if (count) {
        int rc = write_all(s->d, x, iov, count);
        if (rc != 0)
            return rc;
    }
    return s->transfer == HTTP1_SEND_CHUNKED && s->body_allowed ? send_trailers(s) : 0;
}

int downstream_send(struct downstream *d, struct exchange *x) {
    struct header_map *headers = &x->response.headers;
    struct sending s = {.d = d, .x = x};
    struct http1_writer writer;
    unsigned status = status_of(headers);
    if (status == 0) /* a filter removed or broke it */
        return -EINVAL;
    int rc = set_base_headers(d, x);
    if (rc == 0)
        rc = choose_transfer(d, x, status, &s.transfer);
    if (rc == 0)
        rc = http1_write_response(&writer, &x->arena, headers, d->minor_version, s.transfer,
                                  connection_value(d, x));
    if (rc != 0)
        return rc;
    s.body_allowed = !x->is_head && s.transfer != HTTP1_SEND_NONE;
    if (s.transfer == HTTP1_SEND_LENGTH &&
        !span_to_u64(header_get(headers, HDR_CONTENT_LENGTH), &s.length_left))
        return -EINVAL;
    x->state = EXCHANGE_HEADERS_SENT;
    x->info.response_code = (uint16_t)status;
    x->info.header_bytes_sent = writer.bytes;
    x->info.downstream_tx_first_ns = rt_now_ns();
    rc = send_body(&s, &writer);
    if (rc != 0 && !x->client_gone) /* a reset in mid-response, unless the socket itself failed */
        exchange_reset(x, s.length_is_wrong ? SPAN_LIT("body_length_mismatch") : span_none());
    return 0;
}
