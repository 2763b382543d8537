/* stream_deadline: see the header. The timer runs on the same P as the coroutine that it interrupts, so neither
 * sees the other at work: when it fires, that coroutine is inside and parked, inside and ready to run, or not
 * inside. In each of the first two it finds `interrupted` when it comes out, and takes back the one
 * cancellation that was the timer's. */
#include "io/stream_deadline.h"

#include "rt/rt.h"

static void is_over(struct timer *timer) {
    struct deadline_reader *deadline = container_of(timer, struct deadline_reader, timer);
    deadline->over = true;
    if (deadline->inside && !deadline->interrupted) {
        deadline->interrupted = true;
        rt_cancel(deadline->inside);
    }
}

void deadline_reader_init(struct deadline_reader *deadline, struct reader inner,
                          int64_t deadline_ns) {
    *deadline = (struct deadline_reader){.inner = inner};
    timer_init(&deadline->timer, is_over);
    timer_arm(&deadline->timer, deadline_ns);
}

void deadline_reader_move(struct deadline_reader *deadline, int64_t deadline_ns) {
    if (!deadline->over)
        timer_arm(&deadline->timer, deadline_ns);
}

/* What comes of it is the reader's, unless that was interrupted: bytes that came all the same are lent. */
static ssize_t came(struct deadline_reader *deadline, ssize_t n) {
    deadline->inside = NULL;
    if (deadline->interrupted) {
        deadline->interrupted = false;
        rt_cancel_undo();
        if (n == -ECANCELED && !rt_cancelled())
            n = -ETIMEDOUT;
    }
    if (reader_is_over(n)) {
        timer_disarm(&deadline->timer);
        deadline->error = (int)n;
    }
    return n;
}

/* 0, or the sticky error. */
static int enter(struct deadline_reader *deadline) {
    if (deadline->error == 0 && deadline->over)
        deadline->error = -ETIMEDOUT;
    if (deadline->error == 0)
        deadline->inside = rt_self();
    return deadline->error;
}

static ssize_t next(void *data, size_t max, struct span *out) {
    struct deadline_reader *deadline = data;
    *out = span_make("", 0);
    int rc = enter(deadline);
    return rc != 0 ? rc : came(deadline, reader_next(deadline->inner, max, out));
}

static ssize_t try_next(void *data, size_t max, struct span *out) {
    struct deadline_reader *deadline = data;
    *out = span_make("", 0);
    int rc = enter(deadline);
    return rc != 0 ? rc : came(deadline, reader_try_next(deadline->inner, max, out));
}

static ssize_t splice_in(void *data, struct splice *splice, size_t max) {
    struct deadline_reader *deadline = data;
    int rc = enter(deadline);
    return rc != 0 ? rc : came(deadline, reader_splice(deadline->inner, splice, max));
}

static ssize_t try_splice_in(void *data, struct splice *splice, size_t max) {
    struct deadline_reader *deadline = data;
    int rc = enter(deadline);
    return rc != 0 ? rc : came(deadline, reader_try_splice(deadline->inner, splice, max));
}

static enum reader_peek peek(void *data) {
    const struct deadline_reader *deadline = data;
    return deadline->error || deadline->over ? READER_READY : reader_peek(deadline->inner);
}

static uint64_t unread(void *data) {
    const struct deadline_reader *deadline = data;
    return deadline->error || deadline->over ? 0 : reader_unread(deadline->inner);
}

static void close_reader(void *data) {
    struct deadline_reader *deadline = data;
    if (deadline->closed)
        return;
    deadline->closed = true;
    timer_disarm(&deadline->timer);
    reader_close(deadline->inner);
}

struct reader deadline_reader(struct deadline_reader *deadline) {
    static const struct reader_itab itab = {.next = next,
                                            .close = close_reader,
                                            .peek = peek,
                                            .unread = unread,
                                            .splice = splice_in,
                                            .try_next = try_next,
                                            .try_splice = try_splice_in};
    return (struct reader){&itab, deadline};
}
