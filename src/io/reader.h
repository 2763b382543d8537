/* reader: an interface value as Go's io.Reader has it, {itab, data}, passed by value. It lends
 * bytes where they lie instead of copying them out.
 *
 * Ownership  The span that next() lends is borrowed until the next call of next() or close() on
 *            the same reader. A decorator owns the reader it wraps and closes it.
 * Threads    The P of the exchange. One coroutine at a time.
 * Parks      next() may. */
#pragma once
#include <sys/types.h>

#include "base/check.h"
#include "base/span.h"

struct reader_itab {
    /* Lends up to max bytes (more than 0) in *out and returns how many; 0 at the end of the
     * stream, and from then on; -errno: -ECONNRESET (the peer is gone), -ETIMEDOUT, -ECANCELED,
     * -EPROTO (malformed framing), -EMSGSIZE (a limit). Errors are sticky. */
    ssize_t (*next)(void *data, size_t max, struct span *out);
    /* Releases what the reader holds; idempotent. The bytes not read are dropped. May be NULL. */
    void (*close)(void *data);
};

struct reader {
    const struct reader_itab *itab; /* NULL: no body at all, at its end from the start */
    void *data;
};

static inline ssize_t reader_next(struct reader reader, size_t max, struct span *out)
{
    if (!reader.itab) {
        *out = span_make("", 0);
        return 0;
    }
    return reader.itab->next(reader.data, max, out);
}

static inline void reader_close(struct reader reader)
{
    if (reader.itab && reader.itab->close)
        reader.itab->close(reader.data);
}
