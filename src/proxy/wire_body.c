#include "proxy/wire_body.h"

#include <errno.h>

#include "io/splice.h"
#include "rt/rt.h"

void wire_body_init(struct wire_body *body, struct socket *socket, struct inbuf *in,
                    const struct http1_head *head, const struct http1_limits *limits) {
    memset(body, 0, offsetof(struct wire_body, chunked));
    body->socket = socket;
    body->in = in;
    body->framing = head->framing;
    body->left = head->content_length;
    body->reason = "body";
    if (head->framing == HTTP1_BODY_CHUNKED)
        http1_chunked_init(&body->chunked, limits);
    body->done = head->framing == HTTP1_BODY_NONE ||
                 (head->framing == HTTP1_BODY_LENGTH && head->content_length == 0);
}

/* Nothing has come so far: whether it comes to waiting only a read could tell. 0, or the sticky error. */
static int about_to_wait(struct wire_body *body) {
    int (*before_wait)(void *) = body->before_wait;
    body->before_wait = NULL;
    return before_wait ? (body->error = before_wait(body->before_wait_arg)) : 0;
}

/* There is nothing more to be had from the socket: 0, when that ends the body, or the sticky error. */
static int ended(struct wire_body *body, ssize_t rc) {
    /* RFC 9112, section 9.8: where nothing but the end says that it is all, the end must have been said. */
    bool truncated = body->socket->transport && body->socket->transport->truncated;
    if (rc == 0 && body->framing == HTTP1_BODY_UNTIL_CLOSE && !truncated) {
        body->done = true;
        return 0;
    }
    if (rc == -EMSGSIZE)
        return body->error = -EPROTO; /* a chunk line longer than a block */
    return body->error = rc == 0 ? -ECONNRESET : (int)rc;
}

/* More bytes behind those in memory. 0, or the sticky error. */
static int fill(struct wire_body *body) {
    /* A large head moved the buffer into the arena, whose bytes the next request cannot keep: what
     * is read from now on, pipelined requests among it, goes to a block again. */
    if (!body->in->block && inbuf_len(body->in) < BLOCK_DATA_SIZE) {
        int rc = inbuf_leave_arena(body->in);
        if (rc != 0)
            return body->error = rc;
    }
    ssize_t n = -EAGAIN;
    if (body->before_wait) {
        n = socket_try_receive(body->socket, body->in);
        if (n == -EAGAIN && about_to_wait(body) != 0)
            return body->error;
    }
    if (n == -EAGAIN)
        n = socket_receive(body->socket, body->in, body->reason, RT_FOREVER);
    return n > 0 ? 0 : ended(body, n);
}

static size_t clamp(size_t n, size_t max) {
    return n < max ? n : max;
}

static void use_up_lent(struct wire_body *body) {
    if (body->lent) {
        inbuf_consume(body->in, body->lent);
        body->lent = 0;
    }
}

static ssize_t lend(struct wire_body *body, size_t n, struct span *out) {
    *out = span_make(body->in->data + body->in->start, n);
    body->lent = n;
    body->bytes += n;
    return (ssize_t)n;
}

/* Trailers stay where they were read, so the arena must keep that block. */
static int finish_chunked(struct wire_body *body) {
    body->done = true;
    if (body->trailers && body->trailers->count && body->arena)
        return body->error = inbuf_hold(body->in, body->arena);
    return 0;
}

static ssize_t next_chunked(struct wire_body *body, size_t max, struct span *out) {
    while (body->run == 0) {
        size_t consumed = 0;
        struct span data = span_none();
        enum http1_verdict verdict = HTTP1_MORE;
        if (inbuf_len(body->in))
            verdict = http1_chunked_next(&body->chunked, body->in->data + body->in->start,
                                         inbuf_len(body->in), &consumed, &data, body->trailers);
        if (verdict == HTTP1_BAD)
            return body->error = -EPROTO;
        inbuf_consume(body->in, consumed);
        if (verdict == HTTP1_DONE)
            return finish_chunked(body);
        body->run = data.len;
        if (body->run == 0) {
            int rc = fill(body);
            if (rc != 0)
                return rc;
        }
    }
    size_t n = clamp(body->run, max);
    body->run -= n;
    return lend(body, n, out);
}

static ssize_t wire_next(void *data, size_t max, struct span *out) {
    struct wire_body *body = data;
    *out = span_make("", 0);
    if (body->error)
        return body->error;
    use_up_lent(body);
    if (body->framing == HTTP1_BODY_LENGTH && body->left == 0)
        body->done = true;
    while (!body->done) {
        if (body->framing == HTTP1_BODY_CHUNKED)
            return next_chunked(body, max, out);
        if (inbuf_len(body->in)) {
            size_t n = clamp(inbuf_len(body->in), max);
            if (body->framing == HTTP1_BODY_LENGTH) {
                n = clamp(n, body->left);
                body->left -= n;
            }
            return lend(body, n, out);
        }
        int rc = fill(body);
        if (rc != 0)
            return rc;
    }
    return 0;
}

static enum reader_peek wire_peek(void *data) {
    struct wire_body *body = data;
    if (body->error)
        return READER_READY;
    if (body->done || (body->framing == HTTP1_BODY_LENGTH && body->left == 0))
        return READER_END;
    /* A chunk line may be incomplete, so only its data is certain. */
    if (body->framing == HTTP1_BODY_CHUNKED ? body->run > 0 : inbuf_len(body->in) > body->lent)
        return READER_READY;
    return READER_MAY_PARK;
}

static uint64_t wire_unread(void *data) {
    const struct wire_body *body = data;
    if (body->error || body->done || inbuf_len(body->in) > body->lent)
        return 0;
    switch (body->framing) {
    case HTTP1_BODY_LENGTH:
        return body->left;
    case HTTP1_BODY_CHUNKED:
        return http1_chunked_data_ahead(&body->chunked);
    case HTTP1_BODY_UNTIL_CLOSE:
        return UINT64_MAX;
    case HTTP1_BODY_NONE:
        break;
    }
    return 0;
}

static ssize_t wire_splice(void *data, struct splice *splice, size_t max) {
    struct wire_body *body = data;
    use_up_lent(body);
    if (body->error)
        return body->error;
    uint64_t unread = wire_unread(body);
    ASSERT(unread > 0);
    if (max > unread)
        max = (size_t)unread;
    inbuf_idle(body->in); /* it may be long before it is needed again */
    ssize_t n = splice_try_receive(splice, body->socket, max);
    if (n == -EAGAIN) {
        if (about_to_wait(body) != 0)
            return body->error;
        n = splice_receive(splice, body->socket, max, body->reason, RT_FOREVER);
    }
    if (n == -ENOBUFS)
        return n;
    if (n <= 0)
        return ended(body, n);
    body->bytes += (uint64_t)n;
    if (body->framing == HTTP1_BODY_LENGTH)
        body->left -= (uint64_t)n;
    else if (body->framing == HTTP1_BODY_CHUNKED)
        http1_chunked_pass(&body->chunked, (uint64_t)n);
    return n;
}

static void wire_close(void *data) {
    struct wire_body *body = data;
    use_up_lent(body);
    if (!body->done && !body->error)
        body->error = -ECANCELED;
}

struct reader wire_body_reader(struct wire_body *body) {
    static const struct reader_itab itab = {.next = wire_next,
                                            .close = wire_close,
                                            .peek = wire_peek,
                                            .unread = wire_unread,
                                            .splice = wire_splice};
    if (body->done)
        return (struct reader){0};
    return (struct reader){&itab, body};
}

bool wire_body_is_here(const struct wire_body *body) {
    return body->done || (body->framing == HTTP1_BODY_LENGTH && !body->error &&
                          inbuf_len(body->in) - body->lent >= body->left);
}

bool wire_body_skip_rest(struct wire_body *body) {
    use_up_lent(body);
    if (body->framing == HTTP1_BODY_LENGTH && !body->error) {
        size_t n = clamp(inbuf_len(body->in), body->left);
        inbuf_consume(body->in, n);
        body->left -= n;
        body->done = body->left == 0;
    }
    return body->done;
}
