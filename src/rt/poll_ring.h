/* poll_ring: an io_uring of a P by which the receives and the sends of a scheduling round are each one
 * system call. Readiness stays with epoll.
 *
 *     epoll_wait ─► events ─► a receive per reader that waits ─┐
 *         ▲                                            one io_uring_enter
 *         │                                                   ▼
 *     one io_uring_enter ◄─ small sends ◄─ coroutines run, their bytes are there
 *
 * Ownership  What poll_send takes is copied. Memory to receive into: struct poll_receiver.
 * Threads    The P's M, whichever that is: see poll_ring.c.
 * Parks      poll_wait_received.
 * Errors     Of a send that was put off: at the next poll_send_now. */
#pragma once
#include <stddef.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "rt/poll.h"

struct labels_describer;
struct p;

enum { POLL_SEND_MAX = 1024 }; /* more is worth a system call of its own, and not a copy */

/* poll_fd.ring */
enum { POLL_RING_RECEIVES = 1, POLL_RING_SENDS = 2, POLL_RING_LATE = 4, POLL_RING_SHUT = 8 };

/* How the poller receives for somebody: scheduler callbacks that must not close, ready or post. */
struct poll_receiver {
    /* Memory for what is there now, borrowed until `received`. 0: none; then the reader wakes and finds out
     * by himself. */
    size_t (*memory)(void *to, void **into);
    /* result: as recv(2) returns, with -errno. Of -EAGAIN nobody hears who waits. */
    void (*received)(struct poll_fd *pd, void *to, size_t size, int result);
};

/* On the stack of who waits. */
struct poll_rx {
    const struct poll_receiver *by;
    void *to;
    int result;
    bool done;
};

/* 0, or -errno: this kernel, or who guards it, allows none. */
MUST_CHECK int poll_ring_init(struct p *p);
void poll_ring_fini(struct p *p);
bool poll_ring_is_on(void);

/* As poll_wait_readable, and the poller may receive: then rx->done and 0, even if the wait ended
 * otherwise: no byte is lost. */
MUST_CHECK int poll_wait_received(struct poll_fd *pd, struct poll_rx *rx, const char *reason,
                                  int64_t deadline_ns);
/* From on_event with POLL_EVENT_IN: receives at the end of this batch of events, before any coroutine runs.
 * `by` hears of the result, and nobody else. of: what the memory is for, if a profile asks (borrowed until it
 * returns); NULL: nobody knows. */
void poll_receive_ahead(struct poll_fd *pd, const struct poll_receiver *by, void *to,
                        const struct labels_describer *of);

/* All of it (size, of all) at the end of the round, and true; false when it is to be sent the ordinary way,
 * once poll_send_now says 0. */
MUST_CHECK bool poll_send(struct poll_fd *pd, const struct iovec *iov, int count, size_t size);
/* There is, or was, something that poll_send_now is to be asked about. */
static inline bool poll_owes(const struct poll_fd *pd) {
    return (pd->ring & (POLL_RING_SENDS | POLL_RING_LATE)) || pd->tx_error;
}
/* 0: nothing of pd is put off any more; -EAGAIN: the kernel takes no more now, and an edge will tell; an
 * error of an earlier send, once. */
MUST_CHECK int poll_send_now(struct poll_fd *pd);
/* shutdown(2) for writing, behind what was put off. 0 or -errno. */
MUST_CHECK int poll_shutdown(struct poll_fd *pd);

/* Private to rt. */
bool poll_ring_receive(struct p *p, struct poll_fd *pd); /* false: the reader is to wake */
void poll_ring_flush(struct p *p);
void poll_ring_before_call(struct p *p);                   /* of foreign code */
void poll_ring_send_late(struct p *p, struct poll_fd *pd); /* it became writable */
void poll_ring_detach(struct p *p, struct poll_fd *pd);
