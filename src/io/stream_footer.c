#include "io/stream_footer.h"

/* ---- Reading ---- */

void footer_reader_init(struct footer_reader *footer, struct reader inner,
                        struct stream_text text) {
    *footer = (struct footer_reader){.layer.inner = inner, .text = text};
}

static inline ssize_t pull(struct footer_reader *footer, size_t max, struct span *out,
                           reader_step step) {
    if (!footer->ended) {
        ssize_t n = step(footer->layer.inner, max, out);
        if (n != 0)
            return n;
        footer->ended = true;
    }
    *out = span_make("", 0);
    int rc = stream_text_begin(&footer->text);
    return rc != 0 ? rc : stream_text_lend(&footer->text, max, out);
}

static ssize_t next(void *data, size_t max, struct span *out) {
    return pull(data, max, out, reader_next);
}

static ssize_t try_next(void *data, size_t max, struct span *out) {
    return pull(data, max, out, reader_try_next);
}

static enum reader_peek peek(void *data) {
    struct footer_reader *footer = data;
    enum reader_peek inner = footer->ended ? READER_END : reader_peek(footer->layer.inner);
    if (inner != READER_END)
        return inner;
    return stream_text_begin(&footer->text) != 0 || footer->text.rest.len ? READER_READY
                                                                          : READER_END;
}

static uint64_t unread(void *data) {
    const struct footer_reader *footer = data;
    return footer->ended ? 0 : reader_unread(footer->layer.inner);
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
    return not_yet(footer, reader_splice(footer->layer.inner, splice, max));
}

static ssize_t try_splice_in(void *data, struct splice *splice, size_t max) {
    struct footer_reader *footer = data;
    return not_yet(footer, reader_try_splice(footer->layer.inner, splice, max));
}

struct reader footer_reader(struct footer_reader *footer) {
    static const struct reader_itab itab = {.next = next,
                                            .close = reader_layer_close,
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
    *footer = (struct footer_writer){.layer.inner = inner, .text = text};
}

static int finish(void *data) {
    struct footer_writer *footer = data;
    int rc = stream_text_begin(&footer->text);
    if (rc == 0 && footer->text.rest.len)
        rc = writer_write_span(footer->layer.inner, footer->text.rest);
    return rc != 0 ? rc : writer_finish(footer->layer.inner);
}

struct writer footer_writer(struct footer_writer *footer) {
    static const struct writer_itab itab = {.write = writer_layer_write,
                                            .try_write = writer_layer_try_write,
                                            .can_splice = writer_layer_can_splice,
                                            .splice = writer_layer_splice,
                                            .try_splice = writer_layer_try_splice,
                                            .finish = finish,
                                            .abort = writer_layer_abort,
                                            .close = writer_layer_close};
    return (struct writer){&itab, footer};
}
