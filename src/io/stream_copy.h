/* stream_copy: a reader's bytes to a writer, on the cheapest way that these two can take together, as Go's
 * io.Copy asks for WriterTo and ReaderFrom.
 *
 *     splice   through a pipe of the kernel: neither side looks at the bytes, and they come in large pieces
 *     lend     written from where the reader has them
 *     copy     little runs that are all there already are gathered, and written at once
 *
 * It may be interrupted, where the reader or the writer would have to wait, and resumed: what was taken of the
 * reader and not written yet waits with it. So a connection on which nothing happens needs no coroutine:
 * its event handler runs a copy with STREAM_TRY, and starts a coroutine only for what that leaves over.
 *
 * Ownership  Borrows the reader, the writer and the pool until stream_copy_end, and closes neither: who owns them does,
 *            after stream_copy_end. Between runs it may hold a pipe, or a span that the reader lent, so
 *            nobody else reads or writes meanwhile.
 * Threads    One P, one coroutine or scheduler callback at a time.
 * Parks      As the mode says; then in the reader and in the writer, and to let others run. */
#pragma once
#include "io/reader.h"
#include "io/splice_pace.h"
#include "io/writer.h"
#include "mem/block.h"

enum stream_mode {
    STREAM_WAIT, /* for input and for room */
    /* For room only. The reader's side is for an event to tell. */
    STREAM_WAIT_FOR_ROOM,
    STREAM_TRY, /* never parks: for scheduler callbacks */
};

enum stream_result {
    STREAM_END, /* of the reader, or of `limit`: all of it is written */
    STREAM_READ_WAITS, /* not with STREAM_WAIT: all that was there is written. There is nothing to read now. */
    /* Not with STREAM_WAIT: all that was there is written, and only a coroutine finds out whether there is more
     * (STREAM_WAIT), as the reader cannot be tried. */
    STREAM_READ_UNKNOWN,
    STREAM_WRITE_WAITS, /* STREAM_TRY: only a coroutine can wait for room (STREAM_WAIT_FOR_ROOM) */
    STREAM_TURN, /* STREAM_TRY: others are to run before more is copied: by a coroutine, or later */
    STREAM_READ_FAILED, /* error says how; what came before is written */
    STREAM_WRITE_FAILED,
};

struct stream_copy {
    uint64_t bytes;    /* public: written so far */
    uint64_t limit;    /* public: of these; UINT64_MAX at first */
    uint32_t step_max; /* public: to be held of a stream at a time; SPLICE_MAX at first */
    int error;         /* public: of STREAM_READ_FAILED and STREAM_WRITE_FAILED, else 0 */
    /* Public: NULL, or called with each portion that was written: for idle timers and counters. Must not park. */
    void (*moved)(struct stream_copy *copy, size_t bytes);
    /* Private. */
    struct reader from;
    struct writer to;
    struct splice splice;
    struct span lent;    /* the rest of what the reader lent last, to be written */
    struct block *block; /* gathered bytes, from `start` to `end`; written before what is lent */
    uint16_t start, end;
    uint32_t spliced; /* bytes that the pipe got at first */
    uint32_t cost;    /* of this turn */
    struct splice_pace pace;
    uint8_t splices; /* enum writer_splices */
    bool blocked;
};

/* pipes: this P's; NULL: it never splices. */
void stream_copy_init(struct stream_copy *copy, struct reader from BORROWED_BY(copy),
                      struct writer to BORROWED_BY(copy),
                      struct splice_pool *pipes BORROWED_BY(copy));
/* Until there is a reason to return. After the end or a failure it is run no more. A coroutine that was
 * cancelled sees -ECANCELED, of the side that it waits for or would take from next. */
MUST_CHECK enum stream_result stream_copy_run(struct stream_copy *copy, enum stream_mode mode);
/* Idempotent. Bytes that were taken and not written are dropped. */
void stream_copy_end(struct stream_copy *copy);

/* Bytes that were taken of the reader and not written. */
static inline size_t stream_copy_held(const struct stream_copy *copy) {
    return copy->splice.held + copy->lent.len + (size_t)(copy->end - copy->start);
}

/* What a copy has learnt of how its bytes come: for whoever ends one and begins another of the same stream. */
static inline struct splice_pace stream_copy_pace(const struct stream_copy *copy) {
    return copy->pace;
}
static inline void stream_copy_set_pace(struct stream_copy *copy, struct splice_pace pace) {
    copy->pace = pace;
}
