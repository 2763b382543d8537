#include "io/stream_tee.h"

#include <string.h>

static struct tee_side side_of(struct writer writer, enum tee_policy policy) {
    return (struct tee_side){.writer = writer, .policy = policy};
}

/* What an error of the side is to the stream. */
static int side_failed(struct tee_side *side, int error) {
    side->error = error;
    side->over = true;
    writer_abort(side->writer);
    return side->policy == TEE_FAILS ? error : 0;
}

/* Uses up the pieces. */
static int side_write(struct tee_side *side, struct iovec *pieces, int count) {
    int rc = side->over ? 0 : writer_write(side->writer, pieces, count);
    return rc != 0 ? side_failed(side, rc) : 0;
}

static int side_finish(struct tee_side *side) {
    if (side->over)
        return 0;
    int rc = writer_finish(side->writer);
    if (rc != 0)
        return side_failed(side, rc);
    side->over = true;
    return 0;
}

static void side_abort(struct tee_side *side) {
    if (!side->over)
        writer_abort(side->writer);
    side->over = true;
}

static void side_close(struct tee_side *side) {
    side_abort(side);
    writer_close(side->writer);
    side->closed = true;
}

/* ---- Reading ---- */

void tee_reader_init(struct tee_reader *tee, struct reader inner, struct writer side,
                     enum tee_policy policy) {
    *tee = (struct tee_reader){.inner = inner, .side = side_of(side, policy)};
}

static ssize_t next(void *data, size_t max, struct span *out) {
    struct tee_reader *tee = data;
    *out = span_make("", 0);
    if (tee->error)
        return tee->error;
    ssize_t n = reader_next(tee->inner, max, out);
    if (n > 0) {
        struct iovec piece = {(void *)(uintptr_t)out->ptr, out->len};
        tee->error = side_write(&tee->side, &piece, 1);
    } else if (n == 0) {
        tee->error = side_finish(&tee->side);
    } else {
        side_abort(&tee->side);
    }
    if (tee->error) {
        *out = span_make("", 0);
        return tee->error;
    }
    return n;
}

/* Even where the reader inside is ready, the side may have to be waited for. */
static enum reader_peek peek(void *data) {
    const struct tee_reader *tee = data;
    if (tee->error)
        return READER_READY;
    enum reader_peek inner = reader_peek(tee->inner);
    if (inner == READER_END && tee->side.over)
        return READER_END;
    return READER_MAY_PARK;
}

static void close_reader(void *data) {
    struct tee_reader *tee = data;
    if (tee->side.closed)
        return;
    side_close(&tee->side);
    reader_close(tee->inner);
}

struct reader tee_reader(struct tee_reader *tee) {
    static const struct reader_itab itab = {.next = next, .close = close_reader, .peek = peek};
    return (struct reader){&itab, tee};
}

/* ---- Writing ---- */

enum { AT_ONCE = 16 };

void tee_writer_init(struct tee_writer *tee, struct writer inner, struct writer side,
                     enum tee_policy policy) {
    *tee = (struct tee_writer){.inner = inner, .side = side_of(side, policy)};
}

/* A call uses its array up, so the side gets one of its own. */
static int write_pieces(void *data, struct iovec *pieces, int count) {
    struct tee_writer *tee = data;
    while (count > 0 && tee->error == 0) {
        struct iovec again[AT_ONCE];
        int n = count < AT_ONCE ? count : AT_ONCE;
        memcpy(again, pieces, (size_t)n * sizeof *again);
        tee->error = writer_write(tee->inner, pieces, n);
        if (tee->error != 0)
            side_abort(&tee->side);
        else
            tee->error = side_write(&tee->side, again, n);
        pieces += n;
        count -= n;
    }
    return tee->error;
}

static int finish(void *data) {
    struct tee_writer *tee = data;
    if (tee->error == 0)
        tee->error = writer_finish(tee->inner);
    if (tee->error != 0)
        side_abort(&tee->side);
    else
        tee->error = side_finish(&tee->side);
    return tee->error;
}

static void abort_writer(void *data) {
    struct tee_writer *tee = data;
    side_abort(&tee->side);
    writer_abort(tee->inner);
}

static void close_writer(void *data) {
    struct tee_writer *tee = data;
    if (tee->side.closed)
        return;
    side_close(&tee->side);
    writer_close(tee->inner);
}

struct writer tee_writer(struct tee_writer *tee) {
    static const struct writer_itab itab = {
        .write = write_pieces, .finish = finish, .abort = abort_writer, .close = close_writer};
    return (struct writer){&itab, tee};
}
