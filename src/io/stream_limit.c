#include "io/stream_limit.h"

#include "io/splice.h"

/* ---- Reading ---- */

void limit_reader_init(struct limit_reader *limit, struct reader inner, uint64_t max,
                       enum limit_then then) {
    *limit = (struct limit_reader){.layer.inner = inner, .left = max, .then = then};
}

static size_t at_most(const struct limit_reader *limit, size_t max) {
    return max < limit->left ? max : (size_t)limit->left;
}

static ssize_t take(struct limit_reader *limit, ssize_t n) {
    if (n > 0)
        limit->left -= (uint64_t)n;
    return n;
}

static inline ssize_t pull(struct limit_reader *limit, size_t max, struct span *out,
                           reader_step step) {
    *out = span_make("", 0);
    if (limit->error || (limit->left == 0 && limit->then == LIMIT_ENDS))
        return limit->error;
    if (limit->left)
        return take(limit, step(limit->layer.inner, at_most(limit, max), out));
    ssize_t n = step(limit->layer.inner, 1, out); /* is there one more? */
    if (n > 0) {
        *out = span_make("", 0);
        n = limit->error = -EMSGSIZE;
    }
    return n;
}

static ssize_t next(void *data, size_t max, struct span *out) {
    return pull(data, max, out, reader_next);
}

static ssize_t try_next(void *data, size_t max, struct span *out) {
    return pull(data, max, out, reader_try_next);
}

static enum reader_peek peek(void *data) {
    const struct limit_reader *limit = data;
    if (limit->error)
        return READER_READY;
    if (limit->left == 0 && limit->then == LIMIT_ENDS)
        return READER_END;
    return reader_peek(limit->layer.inner);
}

static uint64_t unread(void *data) {
    const struct limit_reader *limit = data;
    uint64_t inner = limit->error || limit->left == 0 ? 0 : reader_unread(limit->layer.inner);
    return inner < limit->left ? inner : limit->left;
}

static ssize_t splice_in(void *data, struct splice *splice, size_t max) {
    struct limit_reader *limit = data;
    return take(limit, reader_splice(limit->layer.inner, splice, at_most(limit, max)));
}

static ssize_t try_splice_in(void *data, struct splice *splice, size_t max) {
    struct limit_reader *limit = data;
    return take(limit, reader_try_splice(limit->layer.inner, splice, at_most(limit, max)));
}

struct reader limit_reader(struct limit_reader *limit) {
    static const struct reader_itab itab = {.next = next,
                                            .close = reader_layer_close,
                                            .peek = peek,
                                            .unread = unread,
                                            .splice = splice_in,
                                            .try_next = try_next,
                                            .try_splice = try_splice_in};
    return (struct reader){&itab, limit};
}

/* ---- Writing ---- */

void limit_writer_init(struct limit_writer *limit, struct writer inner, uint64_t max) {
    *limit = (struct limit_writer){.layer.inner = inner, .left = max};
}

/* 0, or the sticky error: it is more than may be written. */
static int fits(struct limit_writer *limit, size_t size) {
    if (size > limit->left)
        limit->error = -EMSGSIZE;
    return limit->error;
}

static ssize_t took(struct limit_writer *limit, ssize_t n) {
    if (n > 0)
        limit->left -= (uint64_t)n;
    return n;
}

static int write_pieces(void *data, struct iovec *pieces, int count) {
    struct limit_writer *limit = data;
    size_t size = pieces_size(pieces, count);
    int rc = fits(limit, size);
    if (rc == 0)
        rc = writer_write(limit->layer.inner, pieces, count);
    if (rc == 0)
        limit->left -= size;
    return rc;
}

static ssize_t try_write(void *data, const struct iovec *pieces, int count) {
    struct limit_writer *limit = data;
    int rc = fits(limit, pieces_size(pieces, count));
    return rc != 0 ? rc : took(limit, writer_try_write(limit->layer.inner, pieces, count));
}

static ssize_t splice_out(void *data, struct splice *splice) {
    struct limit_writer *limit = data;
    int rc = fits(limit, splice->held);
    return rc != 0 ? rc : took(limit, writer_splice(limit->layer.inner, splice));
}

static ssize_t try_splice_out(void *data, struct splice *splice) {
    struct limit_writer *limit = data;
    int rc = fits(limit, splice->held);
    return rc != 0 ? rc : took(limit, writer_try_splice(limit->layer.inner, splice));
}

/* What was too much was not written, so this is no whole stream. */
static int finish(void *data) {
    const struct limit_writer *limit = data;
    return limit->error ? limit->error : writer_finish(limit->layer.inner);
}

struct writer limit_writer(struct limit_writer *limit) {
    static const struct writer_itab itab = {.write = write_pieces,
                                            .try_write = try_write,
                                            .can_splice = writer_layer_can_splice,
                                            .splice = splice_out,
                                            .try_splice = try_splice_out,
                                            .finish = finish,
                                            .abort = writer_layer_abort,
                                            .close = writer_layer_close};
    return (struct writer){&itab, limit};
}
