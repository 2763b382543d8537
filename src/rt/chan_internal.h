/* chan_internal: what chan.c and select.c share. How it works: the head comment of chan.c.
 *
 * Threads  A struct chan belongs to whoever holds its lock, but for refs, elem_size_bytes and
 *          capacity. A struct chan_wait: see W1 to W4 in chan.c. */
#pragma once
#include <assert.h>
#include <errno.h>
#include <stdalign.h>
#include <stdatomic.h>

#include "base/list.h"
#include "rt/chan.h"
#include "rt/spin.h"

/* One coroutine's wait, on its stack: for one operation, or for the first of several. */
struct chan_wait {
    struct g *g;
    bool is_select; /* stands in several queues: who serves it must win it first */
    bool closed;    /* written by its server before released: the channel was closed */
    _Atomic bool released;
    _Atomic(struct chan_waiter *) served; /* by which operation; NULL: not yet */
};

/* Stands in one queue of one channel, guarded by that channel's lock. */
struct chan_waiter {
    struct list node;
    struct chan_wait *wait;
    union {
        const void *from; /* in senders */
        void *into;       /* in receivers; NULL: the element is dropped */
    };
};

struct chan {
    alignas(64) struct spin lock;
    _Atomic uint32_t refs;
    uint32_t elem_size_bytes, capacity;
    uint32_t head, count; /* of the ring: where the oldest element is, and how many there are */
    bool closed;
    struct list senders, receivers;
    char ring[];
};
static_assert(offsetof(struct chan, ring) == 64, "an operation on an empty ring takes one line");

/* One attempt with the lock held: 0, -EPIPE, or -EAGAIN when the caller would have to wait. *peer is
 * set to the wait that this served, if any: to be released once the lock is free. */
MUST_CHECK int chan_send_locked(struct chan *ch, const void *elem, struct chan_wait **peer);
MUST_CHECK int chan_recv_locked(struct chan *ch, void *elem, struct chan_wait **peer);

/* The server's last touch: wakes the coroutine and lets it go. */
void chan_release(struct chan_wait *wait);
/* Parks until the wait is served: 0 once it is released, else -ETIMEDOUT or -ECANCELED. After an error
 * the server may still be on its way: the caller has to settle who wins. */
MUST_CHECK int chan_await(struct chan_wait *wait, const char *reason, int64_t deadline_ns);
/* The wait is served; returns when it is released. */
void chan_await_release(struct chan_wait *wait);
