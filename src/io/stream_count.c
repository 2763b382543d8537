#include "io/stream_count.h"

/* ---- Reading ---- */

void count_reader_init(struct count_reader *count, struct reader inner) {
    *count = (struct count_reader){.inner = inner};
}

static ssize_t note(struct count_reader *count, ssize_t n) {
    if (n > 0)
        count->bytes += (uint64_t)n;
    return n;
}

static ssize_t next(void *data, size_t max, struct span *out) {
    struct count_reader *count = data;
    return note(count, reader_next(count->inner, max, out));
}

static ssize_t try_next(void *data, size_t max, struct span *out) {
    struct count_reader *count = data;
    return note(count, reader_try_next(count->inner, max, out));
}

static ssize_t splice_in(void *data, struct splice *splice, size_t max) {
    struct count_reader *count = data;
    return note(count, reader_splice(count->inner, splice, max));
}

static ssize_t try_splice_in(void *data, struct splice *splice, size_t max) {
    struct count_reader *count = data;
    return note(count, reader_try_splice(count->inner, splice, max));
}

static enum reader_peek peek(void *data) {
    const struct count_reader *count = data;
    return reader_peek(count->inner);
}

static uint64_t unread(void *data) {
    const struct count_reader *count = data;
    return reader_unread(count->inner);
}

static void close_reader(void *data) {
    struct count_reader *count = data;
    if (count->closed)
        return;
    count->closed = true;
    reader_close(count->inner);
}

struct reader count_reader(struct count_reader *count) {
    static const struct reader_itab itab = {.next = next,
                                            .close = close_reader,
                                            .peek = peek,
                                            .unread = unread,
                                            .splice = splice_in,
                                            .try_next = try_next,
                                            .try_splice = try_splice_in};
    return (struct reader){&itab, count};
}

/* ---- Writing ---- */

void count_writer_init(struct count_writer *count, struct writer inner) {
    *count = (struct count_writer){.inner = inner};
}

static ssize_t note_written(struct count_writer *count, ssize_t n) {
    if (n > 0)
        count->bytes += (uint64_t)n;
    return n;
}

static int write_pieces(void *data, struct iovec *pieces, int n_pieces) {
    struct count_writer *count = data;
    size_t size = pieces_size(pieces, n_pieces);
    int rc = writer_write(count->inner, pieces, n_pieces);
    if (rc == 0)
        count->bytes += size;
    return rc;
}

static ssize_t try_write(void *data, const struct iovec *pieces, int n_pieces) {
    struct count_writer *count = data;
    return note_written(count, writer_try_write(count->inner, pieces, n_pieces));
}

static bool can_splice(void *data) {
    const struct count_writer *count = data;
    return writer_can_splice(count->inner);
}

static ssize_t splice_out(void *data, struct splice *splice) {
    struct count_writer *count = data;
    return note_written(count, writer_splice(count->inner, splice));
}

static ssize_t try_splice_out(void *data, struct splice *splice) {
    struct count_writer *count = data;
    return note_written(count, writer_try_splice(count->inner, splice));
}

static int finish(void *data) {
    const struct count_writer *count = data;
    return writer_finish(count->inner);
}

static void abort_writer(void *data) {
    const struct count_writer *count = data;
    writer_abort(count->inner);
}

static void close_writer(void *data) {
    struct count_writer *count = data;
    if (count->closed)
        return;
    count->closed = true;
    writer_close(count->inner);
}

struct writer count_writer(struct count_writer *count) {
    static const struct writer_itab itab = {.write = write_pieces,
                                            .try_write = try_write,
                                            .can_splice = can_splice,
                                            .splice = splice_out,
                                            .try_splice = try_splice_out,
                                            .finish = finish,
                                            .abort = abort_writer,
                                            .close = close_writer};
    return (struct writer){&itab, count};
}
