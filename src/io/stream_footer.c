#include "io/stream_footer.h"

/* ---- Reading ---- */

void footer_reader_init(struct footer_reader *footer, struct reader inner,
                        struct stream_text text) {
    *footer = (struct footer_reader){.inner = inner, .text = text};
}

/* 0, or the sticky error. */
static int take_text(struct footer_reader *footer) {
    if (!footer->taken) {
        footer->taken = true;
        footer->rest = stream_text_take(&footer->text);
        if (span_is_none(footer->rest))
            footer->error = -ENOMEM;
    }
    return footer->error;
}

static inline ssize_t pull(struct footer_reader *footer, size_t max, struct span *out,
                           reader_step step) {
    if (!footer->ended) {
        ssize_t n = step(footer->inner, max, out);
        if (n != 0)
            return n;
        footer->ended = true;
    }
    *out = span_make("", 0);
    int rc = take_text(footer);
    if (rc != 0)
        return rc;
    size_t n = footer->rest.len < max ? footer->rest.len : max;
    *out = span_make(footer->rest.ptr, n);
    footer->rest = span_from(footer->rest, n);
    return (ssize_t)n;
}

static ssize_t next(void *data, size_t max, struct span *out) {
    return pull(data, max, out, reader_next);
}

static ssize_t try_next(void *data, size_t max, struct span *out) {
    return pull(data, max, out, reader_try_next);
}

static enum reader_peek peek(void *data) {
    struct footer_reader *footer = data;
    enum reader_peek inner = footer->ended ? READER_END : reader_peek(footer->inner);
    if (inner != READER_END)
        return inner;
    return take_text(footer) != 0 || footer->rest.len ? READER_READY : READER_END;
}

static uint64_t unread(void *data) {
    const struct footer_reader *footer = data;
    return footer->ended ? 0 : reader_unread(footer->inner);
}

/* The end of the bytes that can be spliced is not that of the stream. */
static ssize_t not_yet(struct footer_reader *footer, ssize_t n) {
    if (n != 0)
        return n;
    footer->ended = true;
    return -ENOBUFS;
}

static ssize_t splice_in(void *data, struct splice *splice, size_t max) {
    struct footer_reader *footer = data;
    return not_yet(footer, reader_splice(footer->inner, splice, max));
}

static ssize_t try_splice_in(void *data, struct splice *splice, size_t max) {
    struct footer_reader *footer = data;
    return not_yet(footer, reader_try_splice(footer->inner, splice, max));
}

static void close_reader(void *data) {
    struct footer_reader *footer = data;
    if (footer->closed)
        return;
    footer->closed = true;
    reader_close(footer->inner);
}

struct reader footer_reader(struct footer_reader *footer) {
    static const struct reader_itab itab = {.next = next,
                                            .close = close_reader,
                                            .peek = peek,
                                            .unread = unread,
                                            .splice = splice_in,
                                            .try_next = try_next,
                                            .try_splice = try_splice_in};
    return (struct reader){&itab, footer};
}

/* ---- Writing ---- */

void footer_writer_init(struct footer_writer *footer, struct writer inner,
                        struct stream_text text) {
    *footer = (struct footer_writer){.inner = inner, .text = text};
}

static int write_pieces(void *data, struct iovec *pieces, int count) {
    const struct footer_writer *footer = data;
    return writer_write(footer->inner, pieces, count);
}

static ssize_t try_write(void *data, const struct iovec *pieces, int count) {
    const struct footer_writer *footer = data;
    return writer_try_write(footer->inner, pieces, count);
}

static bool can_splice(void *data) {
    const struct footer_writer *footer = data;
    return writer_can_splice(footer->inner);
}

static ssize_t splice_out(void *data, struct splice *splice) {
    const struct footer_writer *footer = data;
    return writer_splice(footer->inner, splice);
}

static ssize_t try_splice_out(void *data, struct splice *splice) {
    const struct footer_writer *footer = data;
    return writer_try_splice(footer->inner, splice);
}

static int finish(void *data) {
    struct footer_writer *footer = data;
    struct span text = stream_text_take(&footer->text);
    int rc = span_is_none(text) ? -ENOMEM : 0;
    if (rc == 0 && text.len)
        rc = writer_write_span(footer->inner, text);
    return rc != 0 ? rc : writer_finish(footer->inner);
}

static void abort_writer(void *data) {
    const struct footer_writer *footer = data;
    writer_abort(footer->inner);
}

static void close_writer(void *data) {
    struct footer_writer *footer = data;
    if (footer->closed)
        return;
    footer->closed = true;
    writer_close(footer->inner);
}

struct writer footer_writer(struct footer_writer *footer) {
    static const struct writer_itab itab = {.write = write_pieces,
                                            .try_write = try_write,
                                            .can_splice = can_splice,
                                            .splice = splice_out,
                                            .try_splice = try_splice_out,
                                            .finish = finish,
                                            .abort = abort_writer,
                                            .close = close_writer};
    return (struct writer){&itab, footer};
}
