#include "io/stream_prefix.h"

#include <string.h>

/* ---- Reading ---- */

void prefix_reader_init(struct prefix_reader *prefix, struct reader inner,
                        struct stream_text text) {
    *prefix = (struct prefix_reader){.layer.inner = inner, .text = text};
}

static inline ssize_t pull(struct prefix_reader *prefix, size_t max, struct span *out,
                           reader_step step) {
    *out = span_make("", 0);
    int rc = stream_text_begin(&prefix->text);
    if (rc != 0)
        return rc;
    return prefix->text.rest.len ? stream_text_lend(&prefix->text, max, out)
                                 : step(prefix->layer.inner, max, out);
}

static ssize_t next(void *data, size_t max, struct span *out) {
    return pull(data, max, out, reader_next);
}

static ssize_t try_next(void *data, size_t max, struct span *out) {
    return pull(data, max, out, reader_try_next);
}

static enum reader_peek peek(void *data) {
    struct prefix_reader *prefix = data;
    return stream_text_begin(&prefix->text) != 0 || prefix->text.rest.len
               ? READER_READY
               : reader_peek(prefix->layer.inner);
}

static uint64_t unread(void *data) {
    const struct prefix_reader *prefix = data;
    return !prefix->text.begun || prefix->text.error || prefix->text.rest.len
               ? 0
               : reader_unread(prefix->layer.inner);
}

struct reader prefix_reader(struct prefix_reader *prefix) {
    static const struct reader_itab itab = {.next = next,
                                            .close = reader_layer_close,
                                            .peek = peek,
                                            .unread = unread,
                                            .splice = reader_layer_splice,
                                            .try_next = try_next,
                                            .try_splice = reader_layer_try_splice};
    return (struct reader){&itab, prefix};
}

/* ---- Writing ---- */

enum { TOGETHER = 15 }; /* pieces that go out with the text by one call */

void prefix_writer_init(struct prefix_writer *prefix, struct writer inner,
                        struct stream_text text) {
    *prefix = (struct prefix_writer){.layer.inner = inner, .text = text};
}

static struct iovec piece_of(struct span bytes) {
    return (struct iovec){(void *)(uintptr_t)bytes.ptr, bytes.len};
}

/* The text alone, all of it: 0 or -errno. */
static int write_text(struct prefix_writer *prefix) {
    int rc = stream_text_begin(&prefix->text);
    struct span text = prefix->text.rest;
    prefix->text.rest = span_none();
    return rc == 0 && text.len ? writer_write_span(prefix->layer.inner, text) : rc;
}

static int write_pieces(void *data, struct iovec *pieces, int count) {
    struct prefix_writer *prefix = data;
    int rc = stream_text_begin(&prefix->text);
    if (rc != 0)
        return rc;
    if (prefix->text.rest.len && count <= TOGETHER) {
        struct iovec all[1 + TOGETHER] = {piece_of(prefix->text.rest)};
        memcpy(all + 1, pieces, (size_t)count * sizeof *pieces);
        prefix->text.rest = span_none();
        return writer_write(prefix->layer.inner, all, 1 + count);
    }
    rc = write_text(prefix);
    return rc != 0 ? rc : writer_write(prefix->layer.inner, pieces, count);
}

/* 0: the text is out; or as try_write. */
static ssize_t try_text(struct prefix_writer *prefix) {
    int rc = stream_text_begin(&prefix->text);
    if (rc != 0)
        return rc;
    while (prefix->text.rest.len) {
        struct iovec text = piece_of(prefix->text.rest);
        ssize_t n = writer_try_write(prefix->layer.inner, &text, 1);
        if (n < 0)
            return n;
        prefix->text.rest = span_from(prefix->text.rest, (size_t)n);
    }
    return 0;
}

static ssize_t try_write(void *data, const struct iovec *pieces, int count) {
    struct prefix_writer *prefix = data;
    ssize_t rc = try_text(prefix);
    return rc != 0 ? rc : writer_try_write(prefix->layer.inner, pieces, count);
}

static ssize_t splice_out(void *data, struct splice *splice) {
    struct prefix_writer *prefix = data;
    int rc = write_text(prefix);
    return rc != 0 ? rc : writer_splice(prefix->layer.inner, splice);
}

static ssize_t try_splice_out(void *data, struct splice *splice) {
    struct prefix_writer *prefix = data;
    ssize_t rc = try_text(prefix);
    return rc != 0 ? rc : writer_try_splice(prefix->layer.inner, splice);
}

static int finish(void *data) {
    struct prefix_writer *prefix = data;
    int rc = write_text(prefix);
    return rc != 0 ? rc : writer_finish(prefix->layer.inner);
}

struct writer prefix_writer(struct prefix_writer *prefix) {
    static const struct writer_itab itab = {.write = write_pieces,
                                            .try_write = try_write,
                                            .can_splice = writer_layer_can_splice,
                                            .splice = splice_out,
                                            .try_splice = try_splice_out,
                                            .finish = finish,
                                            .abort = writer_layer_abort,
                                            .close = writer_layer_close};
    return (struct writer){&itab, prefix};
}
