#include "proxy/body_out.h"

#include <errno.h>

enum {
    BODY_STEP = 64 * 1024, /* asked of the body at a time */
    TURN_BYTES =
        32 * 1024, /* then others get their turn, though both peers are fast enough for us to
                               go on without ever waiting; the poller gets one every 64 turns */
};

static struct iovec piece(const char *bytes, size_t len) {
    return (struct iovec){(void *)(uintptr_t)bytes, len};
}

int body_out_init(struct body_out *out, struct exchange *x, struct socket *socket,
                  const struct message *message, enum http1_transfer transfer,
                  const struct http1_writer *head) {
    out->x = x;
    out->socket = socket;
    out->reason = "write";
    out->message = message;
    out->transfer = transfer;
    out->length_left = out->body_bytes = 0;
    out->body_allowed = true;
    out->send_trailers = out->length_is_wrong = out->write_failed = false;
    out->count = head->iov_count;
    memcpy(out->iov, head->iov, (size_t)head->iov_count * sizeof head->iov[0]);
    if (transfer == HTTP1_SEND_LENGTH &&
        !span_to_u64(header_get(&message->headers, HDR_CONTENT_LENGTH), &out->length_left))
        return -EINVAL;
    return 0;
}

static int write_pieces(struct body_out *out, struct iovec *iov, int count) {
    int rc = socket_send(out->socket, iov, count, out->reason, RT_FOREVER);
    exchange_touch(out->x);
    if (rc != 0 && rc != -ECANCELED)
        out->write_failed = true;
    return rc;
}

int body_out_flush(struct body_out *out) {
    int count = out->count;
    out->count = 0;
    return count ? write_pieces(out, out->iov, count) : 0;
}

static int send_run(struct body_out *out, struct span run, bool is_last) {
    char chunk[24];
    static const char crlf[] = "\r\n";
    static const char end[] = "\r\n0\r\n\r\n";
    bool chunked = out->transfer == HTTP1_SEND_CHUNKED;
    if (out->transfer == HTTP1_SEND_LENGTH) {
        if (run.len > out->length_left) {
            out->length_is_wrong = true;
            return -EPROTO;
        }
        out->length_left -= run.len;
    }
    if (chunked)
        out->iov[out->count++] = piece(chunk, http1_chunk_head(chunk, run.len));
    out->iov[out->count++] = piece(run.ptr, run.len);
    if (chunked)
        out->iov[out->count++] =
            is_last ? piece(end, sizeof end - 1) : piece(crlf, sizeof crlf - 1);
    out->body_bytes += run.len;
    return body_out_flush(out);
}

static int finish(struct body_out *out) {
    static const char end[] = "0\r\n\r\n";
    if (out->transfer == HTTP1_SEND_LENGTH && out->length_left) {
        out->length_is_wrong = true;
        return -EPROTO;
    }
    if (out->transfer != HTTP1_SEND_CHUNKED)
        return body_out_flush(out);
    if (out->send_trailers && out->message->trailers.count) {
        struct http1_writer writer;
        int rc = http1_write_trailers(&writer, &out->x->arena, &out->message->trailers);
        if (rc == 0)
            rc = body_out_flush(out);
        return rc ? rc : write_pieces(out, writer.iov, writer.iov_count);
    }
    out->iov[out->count++] = piece(end, sizeof end - 1);
    return body_out_flush(out);
}

/* 1 or -errno. */
static int whole(int rc) {
    return rc ? rc : 1;
}

int body_out_send(struct body_out *out, bool may_park) {
    struct reader body = out->message->body;
    size_t turn_bytes = 0;
    if (!out->body_allowed)
        return whole(body_out_flush(out));
    for (;;) {
        struct span run;
        if (!may_park && reader_peek(body) == READER_MAY_PARK)
            return 0;
        ssize_t n = reader_next(body, BODY_STEP, &run);
        if (n < 0)
            return (int)n;
        if (!exchange_alive(out->x))
            return -ECANCELED;
        if (n == 0)
            return whole(finish(out));
        bool is_last = out->transfer == HTTP1_SEND_CHUNKED && reader_peek(body) == READER_END &&
                       !(out->send_trailers && out->message->trailers.count);
        int rc = send_run(out, run, is_last);
        if (rc != 0)
            return rc;
        if (is_last) {
            (void)reader_next(body, BODY_STEP, &run); /* lets it end */
            return 1;
        }
        turn_bytes += run.len;
        if (may_park && turn_bytes >= TURN_BYTES) {
            turn_bytes = 0;
            rt_yield();
        }
    }
}
