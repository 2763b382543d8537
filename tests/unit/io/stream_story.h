/* stream_story: readers and writers that do as a test says, and notice what a caller does wrong.
 *
 * A told reader lends the bytes of a text in runs of given lengths. It pretends that some of them have not come yet,
 * fails where it is told to, and overwrites what it lent as soon as that is no longer borrowed, so whoever
 * keeps a span too long sees '#'. A told writer collects what it is given, takes only as much of it at a time as it is
 * told, and fails where it is told to. Both count how often they were closed and assert that nobody calls
 * them after that. */
#pragma once
#include <string.h>

#include "../rt/rt_story.h"
#include "io/reader.h"
#include "io/writer.h"

enum { TOLD_RUNS_MAX = 64, TOLD_BYTES_MAX = 1 << 17 };

struct told_reader {
    struct span text;
    size_t at; /* lent so far */
    size_t runs
        [TOLD_RUNS_MAX]; /* their lengths, again and again; 0 among them: it has to be waited for */
    size_t run_count, run;
    size_t run_left;
    size_t fails_at; /* SIZE_MAX: never */
    int error;
    bool waits; /* the next bytes have not come; next() may wait for them */
    bool cannot_try;
    unsigned nexts, closes;
    unsigned waited; /* times that next() had to wait */
    char lent[4096];
    size_t lent_size;
};

static inline void told_reader_init(struct told_reader *told, struct span text) {
    *told = (struct told_reader){.text = text, .fails_at = SIZE_MAX, .error = -ECONNRESET};
}

static inline void told_forget(struct told_reader *told) {
    memset(told->lent, '#', told->lent_size);
    told->lent_size = 0;
}

/* The next run begins, unless one goes on. */
static inline void told_advance(struct told_reader *told) {
    while (told->run_left == 0) {
        if (told->run_count == 0) {
            told->run_left = sizeof told->lent;
            return;
        }
        told->run_left = told->runs[told->run++ % told->run_count];
        if (told->run_left == 0)
            told->waits = true;
    }
}

static inline ssize_t told_lend(struct told_reader *told, size_t max, struct span *out) {
    CHECK(told->closes == 0);
    CHECK(max > 0);
    told->nexts++;
    *out = span_make("", 0);
    if (told->at == told->fails_at)
        return told->error;
    size_t n = told->text.len - told->at;
    if (n > told->fails_at - told->at)
        n = told->fails_at - told->at;
    if (n > told->run_left)
        n = told->run_left;
    if (n > max)
        n = max;
    if (n > sizeof told->lent)
        n = sizeof told->lent;
    memcpy(told->lent, told->text.ptr + told->at, n);
    told->lent_size = n;
    told->at += n;
    told->run_left -= n;
    *out = span_make(told->lent, n);
    return (ssize_t)n;
}

static inline ssize_t told_next(void *data, size_t max, struct span *out) {
    struct told_reader *told = data;
    told_forget(told);
    told_advance(told);
    told->waited += told->waits;
    told->waits = false;
    return told_lend(told, max, out);
}

static inline ssize_t told_try_next(void *data, size_t max, struct span *out) {
    struct told_reader *told = data;
    told_forget(told);
    if (told->cannot_try)
        return -EOPNOTSUPP;
    told_advance(told);
    if (told->waits) {
        told->waits = false; /* it will have come by the next time */
        return -EAGAIN;
    }
    return told_lend(told, max, out);
}

static inline enum reader_peek told_peek(void *data) {
    struct told_reader *told = data;
    told_advance(told);
    if (told->waits)
        return READER_MAY_PARK;
    if (told->at == told->fails_at || told->at < told->text.len)
        return READER_READY;
    return READER_END;
}

static inline void told_reader_close(void *data) {
    struct told_reader *told = data;
    told_forget(told);
    told->closes++;
}

static inline struct reader told_reader(struct told_reader *told) {
    static const struct reader_itab itab = {.next = told_next,
                                            .close = told_reader_close,
                                            .peek = told_peek,
                                            .try_next = told_try_next};
    return (struct reader){&itab, told};
}

struct told_writer {
    char *got; /* TOLD_BYTES_MAX */
    size_t size;
    size_t takes[TOLD_RUNS_MAX]; /* at most, of each try; 0: nothing now */
    size_t take_count, take;
    size_t fails_at; /* a write that goes beyond takes so much and fails; SIZE_MAX: never */
    int error, broken;
    unsigned writes, finishes, aborts, closes;
};

static inline void told_writer_init(struct told_writer *told, char *got) {
    *told = (struct told_writer){.got = got, .fails_at = SIZE_MAX, .error = -EPIPE};
}

static inline ssize_t told_take(struct told_writer *told, const struct iovec *pieces, int count,
                                size_t most) {
    CHECK(told->closes == 0);
    CHECK(told->finishes == 0);
    told->writes++;
    if (told->broken)
        return told->broken;
    size_t taken = 0;
    for (int i = 0; i < count; i++) {
        for (size_t j = 0; j < pieces[i].iov_len; j++) {
            if (taken == most)
                return (ssize_t)taken;
            if (told->size == told->fails_at)
                return taken ? (ssize_t)taken : (told->broken = told->error);
            CHECK(told->size < TOLD_BYTES_MAX);
            told->got[told->size++] = ((const char *)pieces[i].iov_base)[j];
            taken++;
        }
    }
    return (ssize_t)taken;
}

static inline int told_write(void *data, struct iovec *pieces, int count) {
    struct told_writer *told = data;
    size_t size = pieces_size(pieces, count);
    ssize_t n = told_take(told, pieces, count, size);
    memset(pieces, 0, (size_t)count * sizeof *pieces); /* used up */
    if (n < 0)
        return (int)n;
    return (size_t)n == size ? 0 : (told->broken = told->error);
}

static inline ssize_t told_try_write(void *data, const struct iovec *pieces, int count) {
    struct told_writer *told = data;
    size_t most = told->take_count ? told->takes[told->take++ % told->take_count] : SIZE_MAX;
    return most ? told_take(told, pieces, count, most) : -EAGAIN;
}

static inline int told_finish(void *data) {
    struct told_writer *told = data;
    CHECK(told->closes == 0);
    told->finishes++;
    return told->broken;
}

static inline void told_abort(void *data) {
    struct told_writer *told = data;
    CHECK(told->closes == 0);
    told->aborts++;
}

static inline void told_writer_close(void *data) {
    struct told_writer *told = data;
    told->closes++;
}

static inline struct writer told_writer(struct told_writer *told) {
    static const struct writer_itab itab = {.write = told_write,
                                            .try_write = told_try_write,
                                            .finish = told_finish,
                                            .abort = told_abort,
                                            .close = told_writer_close};
    return (struct writer){&itab, told};
}

/* Bytes that tell where in a stream they are. */
static inline char told_byte(uint64_t at) {
    return (char)('A' + (at * 7 + at / 251) % 26);
}
