/* reader: an interface value as Go's io.Reader has it, {itab, data}, passed by value. It lends
 * bytes where they lie instead of copying them out.
 *
 * Ownership  The span that next() lends is borrowed until the next call of next(), splice(), of one of their try_
 *            forms or of close() on the same reader; peek() and unread() leave it alone. What a decorator
 *            lends it says in its header: mostly what the reader inside lent, and so for as long. A
 *            decorator owns the reader that it wraps, which nobody else calls any more, and closes it.
 *            Closing is for those who own a reader: once is enough, twice does no harm, and after an
 *            error or the end it is as necessary as before.
 * Threads    The P of the exchange. One coroutine at a time.
 * Parks      next() and splice() may. The others never. */
#pragma once
#include <errno.h>
#include <stdbool.h>
#include <sys/types.h>

#include "base/check.h"
#include "base/span.h"

/* What the next call of next() would do, told without parking. */
enum reader_peek {
    READER_MAY_PARK, /* or nobody knows */
    READER_READY,    /* it lends bytes, or an error, at once */
    READER_END,      /* it returns 0 at once, and the span lent before stays valid until then */
};

struct splice;

struct reader_itab {
    /* Lends up to max bytes (more than 0) in *out and returns how many; 0 at the end of the
     * stream, and from then on; -errno: -ECONNRESET (the peer is gone), -ETIMEDOUT, -ECANCELED,
     * -EPROTO (malformed framing), -EMSGSIZE (a limit). Errors are sticky. */
    ssize_t (*next)(void *data, size_t max, struct span *out);
    /* Releases what the reader holds; idempotent. The bytes not read are dropped. May be NULL. */
    void (*close)(void *data);
    /* May be NULL: READER_MAY_PARK. Lets a writer send a head and a body in one system call. */
    enum reader_peek (*peek)(void *data);
    /* Both or neither. A reader has them whose bytes nobody has to look at on their way from the socket: one
     * that does look at them leaves them out, and so does not wrap those of the reader inside.
     *
     * How many bytes come next that are known to be body and are not in memory yet, the span lent before
     * apart, which is done with. 0: none, or nobody knows; UINT64_MAX: all until the end of the stream.
     * Never parks. */
    uint64_t (*unread)(void *data);
    /* Instead of next(), when unread() is not 0: moves up to max of those bytes into the pipe (io/splice.h),
     * which is empty. Returns as next() does, or -ENOBUFS: nothing was moved, call next(). */
    ssize_t (*splice)(void *data, struct splice *splice, size_t max);
    /* May be NULL: -EOPNOTSUPP. The same without parking. Neither of these is an end, nor do they stick:
     * -EAGAIN: nothing is there; an event of what is read from will tell.
     * -EOPNOTSUPP: only a coroutine could find out, by next(). Of try_splice(): by try_next(). */
    ssize_t (*try_next)(void *data, size_t max, struct span *out);
    ssize_t (*try_splice)(void *data, struct splice *splice, size_t max);
};

/* By value; whoever holds one borrows what is behind it, its owner apart. */
struct reader {
    const struct reader_itab *itab; /* NULL: no body at all, at its end from the start */
    void *data;
};

static inline ssize_t reader_next(struct reader reader, size_t max, struct span *out) {
    if (!reader.itab) {
        *out = span_make("", 0);
        return 0;
    }
    return reader.itab->next(reader.data, max, out);
}

static inline enum reader_peek reader_peek(struct reader reader) {
    if (!reader.itab)
        return READER_END;
    return reader.itab->peek ? reader.itab->peek(reader.data) : READER_MAY_PARK;
}

static inline void reader_close(struct reader reader) {
    if (reader.itab && reader.itab->close)
        reader.itab->close(reader.data);
}

static inline uint64_t reader_unread(struct reader reader) {
    return reader.itab && reader.itab->unread ? reader.itab->unread(reader.data) : 0;
}

static inline ssize_t reader_splice(struct reader reader, struct splice *splice, size_t max) {
    ASSERT(reader.itab);
    ASSERT(reader.itab->splice);
    return reader.itab->splice(reader.data, splice, max);
}

static inline ssize_t reader_try_next(struct reader reader, size_t max, struct span *out) {
    if (!reader.itab) {
        *out = span_make("", 0);
        return 0;
    }
    return reader.itab->try_next ? reader.itab->try_next(reader.data, max, out) : -EOPNOTSUPP;
}

static inline ssize_t reader_try_splice(struct reader reader, struct splice *splice, size_t max) {
    ASSERT(reader.itab);
    return reader.itab->try_splice ? reader.itab->try_splice(reader.data, splice, max)
                                   : -EOPNOTSUPP;
}

/* For decorators, whose next() and try_next() differ in what they ask of the reader inside, and in nothing else. */
typedef ssize_t (*reader_step)(struct reader reader, size_t max, struct span *out);
typedef ssize_t (*reader_splice_step)(struct reader reader, struct splice *splice, size_t max);

/* Of what a step returned: there is nothing more to be had, for good. */
static inline bool reader_is_over(ssize_t n) {
    return n <= 0 && n != -EAGAIN && n != -EOPNOTSUPP && n != -ENOBUFS;
}
