/* writer: an interface value as Go's io.Writer has it, {itab, data}, passed by value. It takes bytes where
 * they lie.
 *
 * Ownership  What is written is borrowed until the call returns. A decorator owns the writer that it wraps,
 *            which nobody else calls any more, and closes it. Closing is for those who own a writer:
 *            once is enough, twice does no harm, and after an error it is as necessary as before.
 * Threads    One P, one coroutine at a time.
 * Parks      write(), splice() and finish() may. The others never.
 * Errors     -errno of whatever is below: -EPIPE, -ECONNRESET (the peer is gone), -ETIMEDOUT (it takes
 *            nothing), -ECANCELED, -EMSGSIZE (a limit). Sticky; how far a failed write came is not known. */
#pragma once
#include <errno.h>
#include <stdbool.h>
#include <sys/types.h>

#include "base/check.h"
#include "base/span.h"
#include "io/pieces.h"

struct splice;

/* Through what bytes are to be spliced to a writer (io/splice.h). */
enum writer_splices { WRITER_SPLICES_NOT, WRITER_SPLICES_PIPE, WRITER_SPLICES_MEMORY };

enum { WRITER_PIECES_MAX = 1024 }; /* of a call: IOV_MAX */

struct writer_itab {
    /* Writes all of the pieces, some of which may be empty, or fails. Uses up the array. 0 or -errno. Not
     * after finish(). */
    int (*write)(void *data, struct iovec *pieces, int count);
    /* May be NULL: -EOPNOTSUPP. Without parking: how many of the bytes it took, -EAGAIN when it is none now.
     * -EOPNOTSUPP, which does not stick: only a coroutine could, by write(). Leaves the array alone. */
    ssize_t (*try_write)(void *data, const struct iovec *pieces, int count);
    /* All three or none. A writer has them that need not look at the bytes.
     * Whether splice() may be called, and with what; asked once, before anything is written. */
    enum writer_splices (*can_splice)(void *data);
    /* Writes what of the pipe or memory (io/splice.h), which is not empty, is taken; at least a byte. Returns how
     * much; the rest is where it was. */
    ssize_t (*splice)(void *data, struct splice *splice);
    /* Without parking, as try_write(). */
    ssize_t (*try_splice)(void *data, struct splice *splice);
    /* Nothing more is written, once: what was written arrives, and then an end that can be told from a
     * failure. May be NULL: the end is somebody else's to tell. */
    int (*finish)(void *data);
    /* Instead of finish(), or later: what was written may be lost, and whoever reads sees a broken stream
     * and no end. May be NULL. */
    void (*abort)(void *data);
    /* Releases what the writer holds; idempotent. May be NULL. */
    void (*close)(void *data);
};

/* By value; whoever holds one borrows what is behind it, its owner apart. */
struct writer {
    const struct writer_itab *itab; /* never NULL */
    void *data;
};

MUST_CHECK static inline int writer_write(struct writer writer, struct iovec *pieces, int count) {
    return writer.itab->write(writer.data, pieces, count);
}

MUST_CHECK static inline int writer_write_span(struct writer writer, struct span bytes) {
    struct iovec piece = {(void *)(uintptr_t)bytes.ptr, bytes.len};
    return writer.itab->write(writer.data, &piece, 1);
}

MUST_CHECK static inline ssize_t writer_try_write(struct writer writer, const struct iovec *pieces,
                                                  int count) {
    return writer.itab->try_write ? writer.itab->try_write(writer.data, pieces, count)
                                  : -EOPNOTSUPP;
}

static inline enum writer_splices writer_can_splice(struct writer writer) {
    return writer.itab->can_splice ? writer.itab->can_splice(writer.data) : WRITER_SPLICES_NOT;
}

MUST_CHECK static inline ssize_t writer_splice(struct writer writer, struct splice *splice) {
    return writer.itab->splice(writer.data, splice);
}

MUST_CHECK static inline ssize_t writer_try_splice(struct writer writer, struct splice *splice) {
    return writer.itab->try_splice(writer.data, splice);
}

MUST_CHECK static inline int writer_finish(struct writer writer) {
    return writer.itab->finish ? writer.itab->finish(writer.data) : 0;
}

static inline void writer_abort(struct writer writer) {
    if (writer.itab->abort)
        writer.itab->abort(writer.data);
}

static inline void writer_close(struct writer writer) {
    if (writer.itab->close)
        writer.itab->close(writer.data);
}
