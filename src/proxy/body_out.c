/* body_out: pulls from the message's body and sends.
 *
 * Which way      io/splice_pace.h says when a body is spliced and how much at a time. With a limit of the
 *                listener or under overload a step is never more than the block that copying would hold.
 * Chunked        Framing stays ours. The size of a piece is known once it is in the pipe: each is a chunk. */
#include "proxy/body_out.h"

#include <errno.h>

#include "io/pieces.h"
#include "io/pieces.h"
#include "io/splice.h"
#include "io/sys.h"
#include "proxy/downstream.h"
#include "rt/io_counts.h"

static struct iovec piece(const char *bytes, size_t len) {
    return (struct iovec){(void *)(uintptr_t)bytes, len};
}

int body_out_init(struct body_out *out, struct exchange *x, struct socket *socket,
                  const struct message *message, enum http1_transfer transfer,
                  struct span connection) {
    out->x = x;
    out->socket = socket;
    out->reason = "write";
    out->message = message;
    out->transfer = transfer;
    out->length_left = out->body_bytes = 0;
    splice_pace_init(&out->pace);
    out->body_allowed = true;
    out->send_trailers = out->length_is_wrong = out->write_failed = false;
    out->connection = connection;
    out->head_waits = true;
    out->head_failed = false;
    out->head_bytes = 0;
    out->count = 0;
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

/* ---- the head ---- */

static void note_head(struct body_out *out, size_t bytes, size_t copied) {
    struct io_counts *counts = io_counts_here();
    io_counts_add(counts, IO_COPIED_BYTES, copied);
    io_counts_add(counts, IO_HEAD_COPIED_BYTES, copied);
    out->head_waits = false;
    out->head_bytes = (uint32_t)bytes;
}

/* A large head's pieces, and those that wait behind it. */
static NOINLINE int send_large_head(struct body_out *out, int count) {
    struct exchange *x = out->x;
    struct http1_writer writer;
    int rc =
        out->message == &x->request
            ? http1_write_request(&writer, &x->arena, &out->message->headers, out->transfer,
                                  out->connection)
            : http1_write_response(&writer, &x->arena, &out->message->headers,
                                   x->downstream->minor_version, out->transfer, out->connection);
    out->head_failed = rc != 0;
    if (rc != 0)
        return rc;
    note_head(out, writer.bytes, writer.copied);
    struct iovec iov[HTTP1_IOV_MAX + BODY_OUT_PIECES];
    memcpy(iov, writer.iov, (size_t)writer.iov_count * sizeof iov[0]);
    memcpy(iov + writer.iov_count, out->iov, (size_t)count * sizeof iov[0]);
    return write_pieces(out, iov, writer.iov_count + count);
}

/* The kernel did not take all at once. What is left in the P's room is somebody else's with the first
 * park. */
static NOINLINE int send_rest(struct body_out *out, struct iovec *iov, int count, size_t sent) {
    pieces_advance(&iov, &count, sent);
    const char *room = out->x->worker->head_room, *at = iov->iov_base;
    if (at >= room && at < room + HTTP1_SMALL_ROOM) {
        struct span copy = arena_copy(&out->x->arena, span_make(at, iov->iov_len));
        if (span_is_none(copy))
            return -ENOMEM;
        iov->iov_base = (void *)(uintptr_t)copy.ptr;
    }
    return write_pieces(out, iov, count);
}

/* A small head and small pieces behind it are one piece: see sys_sendv, which would copy both again. */
static int send_head(struct body_out *out, int count) {
    struct exchange *x = out->x;
    char *room = x->worker->head_room;
    ssize_t head =
        out->message == &x->request
            ? http1_render_request(room, &out->message->headers, out->transfer, out->connection)
            : http1_render_response(room, &out->message->headers, x->downstream->minor_version,
                                    out->transfer, out->connection);
    if (head == -E2BIG)
        return send_large_head(out, count);
    out->head_failed = head < 0;
    if (head < 0)
        return (int)head;
    note_head(out, (size_t)head, (size_t)head);
    struct iovec iov[1 + BODY_OUT_PIECES] = {piece(room, (size_t)head)};
    size_t size = (size_t)head;
    for (int i = 0; i < count; i++)
        size += out->iov[i].iov_len;
    if (size <= SYS_GATHER_MAX) {
        for (int i = 0; i < count; i++) {
            memcpy(room + iov[0].iov_len, out->iov[i].iov_base, out->iov[i].iov_len);
            iov[0].iov_len += out->iov[i].iov_len;
        }
        io_counts_add(io_counts_here(), IO_COPIED_BYTES, size - (size_t)head);
        count = 0;
    }
    memcpy(iov + 1, out->iov, (size_t)count * sizeof iov[0]);
    ssize_t n = socket_try_send(out->socket, iov, 1 + count);
    exchange_touch(x);
    if (n == (ssize_t)size)
        return 0;
    if (n >= 0 || n == -EAGAIN)
        return send_rest(out, iov, 1 + count, n < 0 ? 0 : (size_t)n);
    out->write_failed = true;
    return (int)n;
}

int body_out_flush(struct body_out *out) {
    int count = out->count;
    out->count = 0;
    if (out->head_waits)
        return send_head(out, count);
    return count ? write_pieces(out, out->iov, count) : 0;
}

enum { CHUNK_HEAD_MAX = 24 };

/* A run with its framing waits to be sent; `chunk` is room for that. */
static inline int add_run(struct body_out *out, struct span run, bool is_last, char *chunk) {
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
    return 0;
}

static int send_run(struct body_out *out, struct span run, bool is_last) {
    char chunk[CHUNK_HEAD_MAX];
    int rc = add_run(out, run, is_last, chunk);
    return rc ? rc : body_out_flush(out);
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

/* ---- splicing ---- */

static size_t most_at_once(const struct exchange *x) {
    if (x->serving->purse || x->worker->overload.active)
        return SPLICE_PACE_STEP_LEAST;
    size_t limit = exchange_buffer_limit(x);
    return limit < SPLICE_PACE_STEP_LEAST ? SPLICE_PACE_STEP_LEAST
           : limit < SPLICE_MAX           ? limit
                                          : SPLICE_MAX;
}

/* How much to splice now; 0: the next bytes are copied. */
static size_t splice_size(struct body_out *out, struct reader body) {
    uint64_t unread = reader_unread(body);
    size_t most = unread ? most_at_once(out->x) : 0;
    size_t size = unread ? splice_pace_size(&out->pace, unread, most) : 0;
    if (out->transfer == HTTP1_SEND_LENGTH && size > out->length_left)
        size = (size_t)out->length_left; /* if it is too short, the byte behind it will tell */
    bool through_memory = !socket_can_splice(out->socket);
    return size && splice_can_begin(&out->x->worker->pipes, through_memory, most) ? size : 0;
}

/* What is in memory, framing and all by one call, if the peer takes as much. 0 or -errno. */
static int send_memory(struct body_out *out, struct span held) {
    char chunk[CHUNK_HEAD_MAX];
    int rc = add_run(out, held, false, chunk);
    if (rc != 0)
        return rc;
    int count = out->count;
    out->count = 0;
    ssize_t n = socket_try_send(out->socket, out->iov, count);
    if (n < 0 && n != -EAGAIN) {
        out->write_failed = true;
        return (int)n;
    }
    size_t sent = n < 0 ? 0 : (size_t)n;
    bool blocked = sent < pieces_size(out->iov, count);
    struct iovec *rest = out->iov;
    pieces_advance(&rest, &count, sent);
    rc = blocked ? write_pieces(out, rest, count) : 0;
    exchange_touch(out->x);
    if (rc == 0)
        splice_pace_spliced(&out->pace, held.len, blocked);
    return rc;
}

/* What is in the pipe, or in memory. 0 or -errno. */
static int send_spliced(struct body_out *out, struct splice *splice) {
    if (splice->memory)
        return send_memory(out, splice_in_memory(splice));
    size_t size = splice->held;
    bool chunked = out->transfer == HTTP1_SEND_CHUNKED;
    bool blocked = false;
    int rc = 0;
    if (chunked) {
        char head[24];
        size_t len = http1_chunk_head(head, size);
        rc = splice_send_ahead(out->socket, span_make(head, len), out->reason, RT_FOREVER);
    }
    while (rc == 0 && splice->held) {
        ssize_t n = splice_send(splice, out->socket, chunked, out->reason, RT_FOREVER);
        exchange_touch(out->x);
        if (n < 0) {
            rc = (int)n;
            break;
        }
        out->body_bytes += (uint64_t)n;
        if (out->transfer == HTTP1_SEND_LENGTH)
            out->length_left -= (uint64_t)n;
        blocked = blocked || splice->held;
    }
    if (rc != 0) {
        out->write_failed = out->write_failed || rc != -ECANCELED;
        return rc;
    }
    splice_pace_spliced(&out->pace, size, blocked);
    if (!chunked)
        return 0;
    static const char crlf[] = "\r\n";
    out->iov[out->count++] = piece(crlf, sizeof crlf - 1);
    return body_out_flush(out);
}

/* > 0: how much, which is also added to the cost; 0: that was the end of the body; -ENOBUFS: nothing was moved;
 * -errno. */
static ssize_t splice_some(struct body_out *out, struct reader body, size_t max, size_t *cost) {
    ASSERT(!out->head_waits); /* who lets us park has seen to that */
    ASSERT(out->count == 0);
    struct splice splice = splice_begin(&out->x->worker->pipes);
    splice.through_memory = !socket_can_splice(out->socket);
    ssize_t n = reader_splice(body, &splice, max);
    splice_pace_took(&out->pace, n > 0 ? (size_t)n : 0);
    if (n > 0) {
        *cost += splice_pace_cost(splice.memory != NULL, (size_t)n);
        int rc = exchange_alive(out->x) ? send_spliced(out, &splice) : -ECANCELED;
        if (rc != 0)
            n = rc;
    }
    splice_end(&splice);
    return n;
}

/* ---- the message ---- */

/* 1 or -errno. */
static int whole(int rc) {
    return rc ? rc : 1;
}

/* Sends the next run of the body by copying: 0; 1: that was the rest; -errno. */
static int copy_some(struct body_out *out, struct reader body, size_t *copied) {
    struct span run;
    ssize_t n = reader_next(body, SPLICE_PACE_ASK, &run);
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
        (void)reader_next(body, SPLICE_PACE_ASK, &run); /* lets it end */
        return 1;
    }
    splice_pace_copied(&out->pace, run.len);
    *copied = run.len;
    return 0;
}

int body_out_send(struct body_out *out, bool may_park) {
    struct reader body = out->message->body;
    size_t cost = 0;
    if (!out->body_allowed)
        return whole(body_out_flush(out));
    for (;;) {
        if (!may_park && reader_peek(body) == READER_MAY_PARK)
            return 0;
        size_t size = may_park ? splice_size(out, body) : 0;
        ssize_t n = size ? splice_some(out, body, size, &cost) : -ENOBUFS;
        if (n == -ENOBUFS) {
            size_t copied = 0;
            int rc = copy_some(out, body, &copied);
            if (rc != 0)
                return rc;
            cost += copied;
        } else if (n <= 0) {
            return n < 0 ? (int)n : whole(finish(out));
        }
        /* Not behind the last byte: the answer to a request might pass us by, and find it not read whole. */
        if (may_park && cost >= SPLICE_PACE_TURN_COST && reader_peek(body) != READER_END) {
            cost = 0;
            rt_yield_to_events();
        }
    }
}
