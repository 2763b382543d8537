#include "io/stream_concat.h"

void concat_reader_init(struct concat_reader *concat, const struct reader *readers,
                        unsigned count) {
    *concat = (struct concat_reader){.readers = readers, .count = count};
}

static inline ssize_t pull(struct concat_reader *concat, size_t max, struct span *out,
                           reader_step step) {
    *out = span_make("", 0);
    for (; concat->at < concat->count; reader_close(concat->readers[concat->at++])) {
        ssize_t n = step(concat->readers[concat->at], max, out);
        if (n != 0)
            return n;
    }
    return 0;
}

static ssize_t next(void *data, size_t max, struct span *out) {
    return pull(data, max, out, reader_next);
}

static ssize_t try_next(void *data, size_t max, struct span *out) {
    return pull(data, max, out, reader_try_next);
}

/* The first that is not at its end; none is closed, as what was lent last may be of the one before. */
static unsigned whose_turn(const struct concat_reader *concat) {
    unsigned at = concat->at;
    while (at < concat->count && reader_peek(concat->readers[at]) == READER_END)
        at++;
    return at;
}

static enum reader_peek peek(void *data) {
    const struct concat_reader *concat = data;
    unsigned at = whose_turn(concat);
    return at < concat->count ? reader_peek(concat->readers[at]) : READER_END;
}

static uint64_t unread(void *data) {
    const struct concat_reader *concat = data;
    unsigned at = whose_turn(concat);
    return at < concat->count ? reader_unread(concat->readers[at]) : 0;
}

static inline ssize_t move(struct concat_reader *concat, struct splice *splice, size_t max,
                           reader_splice_step step) {
    unsigned at = whose_turn(concat);
    while (concat->at < at)
        reader_close(concat->readers[concat->at++]);
    ssize_t n = step(concat->readers[at], splice, max);
    return n == 0 ? -ENOBUFS : n; /* the end of one, which next() sees, too */
}

static ssize_t splice_in(void *data, struct splice *splice, size_t max) {
    return move(data, splice, max, reader_splice);
}

static ssize_t try_splice_in(void *data, struct splice *splice, size_t max) {
    return move(data, splice, max, reader_try_splice);
}

static void close_reader(void *data) {
    struct concat_reader *concat = data;
    if (concat->closed)
        return;
    concat->closed = true;
    while (concat->at < concat->count)
        reader_close(concat->readers[concat->at++]);
}

struct reader concat_reader(struct concat_reader *concat) {
    static const struct reader_itab itab = {.next = next,
                                            .close = close_reader,
                                            .peek = peek,
                                            .unread = unread,
                                            .splice = splice_in,
                                            .try_next = try_next,
                                            .try_splice = try_splice_in};
    return (struct reader){&itab, concat};
}
