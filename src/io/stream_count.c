#include "io/stream_count.h"

/* ---- Reading ---- */

void count_reader_init(struct count_reader *count, struct reader inner) {
    *count = (struct count_reader){.layer.inner = inner};
}

static ssize_t note(struct count_reader *count, ssize_t n) {
    if (n > 0)
        count->bytes += (uint64_t)n;
    return n;
}

static ssize_t next(void *data, size_t max, struct span *out) {
    struct count_reader *count = data;
    return note(count, reader_next(count->layer.inner, max, out));
}

static ssize_t try_next(void *data, size_t max, struct span *out) {
    struct count_reader *count = data;
    return note(count, reader_try_next(count->layer.inner, max, out));
}

static ssize_t splice_in(void *data, struct splice *splice, size_t max) {
    struct count_reader *count = data;
    return note(count, reader_splice(count->layer.inner, splice, max));
}

static ssize_t try_splice_in(void *data, struct splice *splice, size_t max) {
    struct count_reader *count = data;
    return note(count, reader_try_splice(count->layer.inner, splice, max));
}

struct reader count_reader(struct count_reader *count) {
    static const struct reader_itab itab = {.next = next,
                                            .close = reader_layer_close,
                                            .peek = reader_layer_peek,
                                            .unread = reader_layer_unread,
                                            .splice = splice_in,
                                            .try_next = try_next,
                                            .try_splice = try_splice_in};
    return (struct reader){&itab, count};
}

/* ---- Writing ---- */

void count_writer_init(struct count_writer *count, struct writer inner) {
    *count = (struct count_writer){.layer.inner = inner};
}

static ssize_t note_written(struct count_writer *count, ssize_t n) {
    if (n > 0)
        count->bytes += (uint64_t)n;
    return n;
}

static int write_pieces(void *data, struct iovec *pieces, int n_pieces) {
    struct count_writer *count = data;
    size_t size = pieces_size(pieces, n_pieces);
    int rc = writer_write(count->layer.inner, pieces, n_pieces);
    if (rc == 0)
        count->bytes += size;
    return rc;
}

static ssize_t try_write(void *data, const struct iovec *pieces, int n_pieces) {
    struct count_writer *count = data;
    return note_written(count, writer_try_write(count->layer.inner, pieces, n_pieces));
}

static ssize_t splice_out(void *data, struct splice *splice) {
    struct count_writer *count = data;
    return note_written(count, writer_splice(count->layer.inner, splice));
}

static ssize_t try_splice_out(void *data, struct splice *splice) {
    struct count_writer *count = data;
    return note_written(count, writer_try_splice(count->layer.inner, splice));
}

struct writer count_writer(struct count_writer *count) {
    static const struct writer_itab itab = {.write = write_pieces,
                                            .try_write = try_write,
                                            .can_splice = writer_layer_can_splice,
                                            .splice = splice_out,
                                            .try_splice = try_splice_out,
                                            .finish = writer_layer_finish,
                                            .abort = writer_layer_abort,
                                            .close = writer_layer_close};
    return (struct writer){&itab, count};
}
