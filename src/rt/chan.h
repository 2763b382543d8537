/* chan: a queue of fixed-size elements between coroutines, with Go's semantics.
 *
 * Ownership  Elements are copied; a pointer sent as an element transfers its target. References are
 *            counted: chan_new returns one owned reference, chan_unref gives one back. What a channel
 *            still holds when it goes is dropped: closing and draining is the owners' business.
 * Threads    Any coroutine on any P; all calls but chan_send and chan_recv from any thread, and from
 *            scheduler callbacks. Whoever calls holds a reference until the return.
 * Parks      chan_send while the buffer is full, chan_recv while it is empty. The try_ calls never.
 * Deadlines  are absolute; RT_FOREVER waits without limit. What can go on at once does, even when the
 *            deadline is over or the coroutine cancelled. What another side has completed is never
 *            reported as an error, however close the deadline was.
 * Order      First in, first out, elements and waiters alike. A send happens before its receive ends;
 *            with capacity 0 the receive also happens before the send ends.
 * NULL       is Go's nil channel: nothing is ever ready on it. chan_close(NULL) asserts.
 * Limits     capacity <= CHAN_CAPACITY_MAX, elem_size_bytes <= CHAN_ELEM_MAX. With elements of 0
 *            bytes, which only count, elem may be NULL everywhere.
 * Source     the Go specification, "Channel types", "Send statements", "Receive operator", "Close";
 *            where Go panics (send on a closed channel) the caller gets -EPIPE. */
#pragma once
#include "rt/rt.h"

struct chan;
enum {
    CHAN_CAPACITY_MAX = 1 << 16, /* a longer queue hides overload instead of pushing back */
    CHAN_ELEM_MAX = 1 << 10,     /* larger things are sent by pointer */
};

/* One owned reference; NULL when memory is short. Sizes outside the limits assert. */
struct chan *chan_new(size_t elem_size_bytes, uint32_t capacity);
struct chan *chan_ref(struct chan *ch);
void chan_unref(struct chan *ch);

/* Borrows elem. 0, -EPIPE (closed), -ETIMEDOUT or -ECANCELED. After an error nothing was sent: what
 * *elem points to is still the caller's. */
MUST_CHECK int chan_send(struct chan *ch, const void *elem, int64_t deadline_ns);
MUST_CHECK int chan_try_send(struct chan *ch, const void *elem); /* -EAGAIN when full */

/* 0 and an element in *elem, else -EPIPE (closed, and all that was sent has been received),
 * -ETIMEDOUT or -ECANCELED with *elem untouched. elem NULL: the element is dropped. */
MUST_CHECK int chan_recv(struct chan *ch, void *elem, int64_t deadline_ns);
MUST_CHECK int chan_try_recv(struct chan *ch, void *elem); /* -EAGAIN when empty */

/* All who wait, and all who come later, get -EPIPE; receivers first get what was buffered. Idempotent:
 * both ends close during teardown and neither can know who is first. */
void chan_close(struct chan *ch);

/* As of some moment during the call. */
uint32_t chan_len(struct chan *ch);
uint32_t chan_capacity(const struct chan *ch);
