#include "io/stream_prefix.h"

#include <string.h>

/* 0, or the sticky error. */
static int take(struct stream_text *text, struct span *rest, bool *taken, int *error) {
    if (!*taken) {
        *taken = true;
        *rest = stream_text_take(text);
        if (span_is_none(*rest))
            *error = -ENOMEM;
    }
    return *error;
}

/* ---- Reading ---- */

void prefix_reader_init(struct prefix_reader *prefix, struct reader inner,
                        struct stream_text text) {
    *prefix = (struct prefix_reader){.inner = inner, .text = text};
}

static int take_text(struct prefix_reader *prefix) {
    return take(&prefix->text, &prefix->rest, &prefix->taken, &prefix->error);
}

static inline ssize_t pull(struct prefix_reader *prefix, size_t max, struct span *out,
                           reader_step step) {
    *out = span_make("", 0);
    int rc = take_text(prefix);
    if (rc != 0)
        return rc;
    if (!prefix->rest.len)
        return step(prefix->inner, max, out);
    size_t n = prefix->rest.len < max ? prefix->rest.len : max;
    *out = span_make(prefix->rest.ptr, n);
    prefix->rest = span_from(prefix->rest, n);
    return (ssize_t)n;
}

static ssize_t next(void *data, size_t max, struct span *out) {
    return pull(data, max, out, reader_next);
}

static ssize_t try_next(void *data, size_t max, struct span *out) {
    return pull(data, max, out, reader_try_next);
}

static enum reader_peek peek(void *data) {
    struct prefix_reader *prefix = data;
    return take_text(prefix) != 0 || prefix->rest.len ? READER_READY : reader_peek(prefix->inner);
}

static uint64_t unread(void *data) {
    const struct prefix_reader *prefix = data;
    return !prefix->taken || prefix->error || prefix->rest.len ? 0 : reader_unread(prefix->inner);
}

static ssize_t splice_in(void *data, struct splice *splice, size_t max) {
    struct prefix_reader *prefix = data;
    return reader_splice(prefix->inner, splice, max);
}

static ssize_t try_splice_in(void *data, struct splice *splice, size_t max) {
    struct prefix_reader *prefix = data;
    return reader_try_splice(prefix->inner, splice, max);
}

static void close_reader(void *data) {
    struct prefix_reader *prefix = data;
    if (prefix->closed)
        return;
    prefix->closed = true;
    reader_close(prefix->inner);
}

struct reader prefix_reader(struct prefix_reader *prefix) {
    static const struct reader_itab itab = {.next = next,
                                            .close = close_reader,
                                            .peek = peek,
                                            .unread = unread,
                                            .splice = splice_in,
                                            .try_next = try_next,
                                            .try_splice = try_splice_in};
    return (struct reader){&itab, prefix};
}

/* ---- Writing ---- */

enum { TOGETHER = 15 }; /* pieces that go out with the text by one call */

void prefix_writer_init(struct prefix_writer *prefix, struct writer inner,
                        struct stream_text text) {
    *prefix = (struct prefix_writer){.inner = inner, .text = text};
}

static int take_text_of(struct prefix_writer *prefix) {
    return take(&prefix->text, &prefix->rest, &prefix->taken, &prefix->error);
}

static struct iovec piece_of(struct span bytes) {
    return (struct iovec){(void *)(uintptr_t)bytes.ptr, bytes.len};
}

/* The text alone, all of it: 0 or -errno. */
static int write_text(struct prefix_writer *prefix) {
    int rc = take_text_of(prefix);
    struct span text = prefix->rest;
    prefix->rest = span_none();
    return rc == 0 && text.len ? writer_write_span(prefix->inner, text) : rc;
}

static int write_pieces(void *data, struct iovec *pieces, int count) {
    struct prefix_writer *prefix = data;
    int rc = take_text_of(prefix);
    if (rc != 0)
        return rc;
    if (prefix->rest.len && count <= TOGETHER) {
        struct iovec all[1 + TOGETHER] = {piece_of(prefix->rest)};
        memcpy(all + 1, pieces, (size_t)count * sizeof *pieces);
        prefix->rest = span_none();
        return writer_write(prefix->inner, all, 1 + count);
    }
    rc = write_text(prefix);
    return rc != 0 ? rc : writer_write(prefix->inner, pieces, count);
}

/* 0: the text is out; or as try_write. */
static ssize_t try_text(struct prefix_writer *prefix) {
    int rc = take_text_of(prefix);
    if (rc != 0)
        return rc;
    while (prefix->rest.len) {
        struct iovec text = piece_of(prefix->rest);
        ssize_t n = writer_try_write(prefix->inner, &text, 1);
        if (n < 0)
            return n;
        prefix->rest = span_from(prefix->rest, (size_t)n);
    }
    return 0;
}

static ssize_t try_write(void *data, const struct iovec *pieces, int count) {
    struct prefix_writer *prefix = data;
    ssize_t rc = try_text(prefix);
    return rc != 0 ? rc : writer_try_write(prefix->inner, pieces, count);
}

static bool can_splice(void *data) {
    const struct prefix_writer *prefix = data;
    return writer_can_splice(prefix->inner);
}

static ssize_t splice_out(void *data, struct splice *splice) {
    struct prefix_writer *prefix = data;
    int rc = write_text(prefix);
    return rc != 0 ? rc : writer_splice(prefix->inner, splice);
}

static ssize_t try_splice_out(void *data, struct splice *splice) {
    struct prefix_writer *prefix = data;
    ssize_t rc = try_text(prefix);
    return rc != 0 ? rc : writer_try_splice(prefix->inner, splice);
}

static int finish(void *data) {
    struct prefix_writer *prefix = data;
    int rc = write_text(prefix);
    return rc != 0 ? rc : writer_finish(prefix->inner);
}

static void abort_writer(void *data) {
    const struct prefix_writer *prefix = data;
    writer_abort(prefix->inner);
}

static void close_writer(void *data) {
    struct prefix_writer *prefix = data;
    if (prefix->closed)
        return;
    prefix->closed = true;
    writer_close(prefix->inner);
}

struct writer prefix_writer(struct prefix_writer *prefix) {
    static const struct writer_itab itab = {.write = write_pieces,
                                            .try_write = try_write,
                                            .can_splice = can_splice,
                                            .splice = splice_out,
                                            .try_splice = try_splice_out,
                                            .finish = finish,
                                            .abort = abort_writer,
                                            .close = close_writer};
    return (struct writer){&itab, prefix};
}
