/* stream_deadline: a stream that is to be over by some time: -ETIMEDOUT after that, also where the reader inside
 * waits, however it does: it is interrupted as by rt_cancel. A cancellation by anybody else stays one.
 *
 * It does not look at the bytes, so they may be spliced.
 *
 * Borrows  It lends what the reader inside lends, and for as long.
 * Threads  As a reader, and all calls on one P: there is a timer, from init to close.
 * Memory   None but the struct, which its owner keeps until it was closed. */
#pragma once
#include "io/reader.h"
#include "rt/timer.h"

struct g;

struct deadline_reader {
    struct reader inner;
    struct timer timer;
    struct g *inside; /* the coroutine that is in the reader inside; NULL: none */
    int error;
    bool interrupted, over, closed;
};

/* deadline_ns: on the monotonic clock; RT_FOREVER: no limit. */
void deadline_reader_init(struct deadline_reader *deadline,
                          struct reader inner BORROWED_BY(deadline), int64_t deadline_ns);
/* Another one, of what is not over yet. */
void deadline_reader_move(struct deadline_reader *deadline, int64_t deadline_ns);
struct reader deadline_reader(struct deadline_reader *deadline BORROWED_BY(result));
