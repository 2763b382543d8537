/* poll: readiness of file descriptors, edge-triggered epoll per P.
 *
 * Ownership  A poll_fd lives inside its owner and owns fd from poll_open to poll_close (which
 *            closes it) or poll_detach (which hands it back).
 * Threads    The P that opened it, always.
 * Parks      poll_wait_* park the calling coroutine; one reader and one writer at a time.
 * Idle       With no reader parked, an edge with IN, HUP or ERR runs on_event as a scheduler
 *            callback: an idle connection owns no coroutine. on_event must not park; it may close
 *            this or any other poll_fd of the P: events already fetched for it are dropped.
 * Hang-up    HUP: the peer will send no more (readers wake, for good). ERR: both directions are over
 *            (writers wake too). A half-closed peer is thus no reason for a writer to spin.
 * What       Whatever epoll takes: sockets, pipes, eventfds, timerfds, terminals; a file is -EPERM.
 * Use        Try the system call first and wait only on EAGAIN. After a short read nothing more is
 *            there until the next edge, so mark it with poll_not_readable and save the call that
 *            would say EAGAIN. That is safe unless POLL_EVENT_HUP was seen: then read to the end. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/check.h"

struct g;
struct poll_fd;

enum poll_event { POLL_EVENT_IN = 1, POLL_EVENT_OUT = 2, POLL_EVENT_HUP = 4, POLL_EVENT_ERR = 8 };
typedef void (*poll_event_fn)(struct poll_fd *pd, unsigned events);

struct poll_fd {
    int fd;
    uint8_t ready;          /* enum poll_event bits seen and not yet used up; HUP and ERR stay */
    uint8_t ring, tx_error; /* poll_ring's */
    uint8_t p_index;        /* of its P: io_counts.h */
    struct g *reader, *writer;
    struct poll_rx *rx; /* of a reader that wants bytes and not only to know of them: poll_ring.h */
    poll_event_fn on_event; /* NULL: edges with nobody waiting are only remembered in ready */
};

/* Registers fd (non-blocking) with the current P. pd starts as readable and writable unknown, that
 * is, as ready for both. 0 or -errno; on error fd is still the caller's. A TCP socket that is neither
 * connecting nor listening counts as hung up: call connect before the next park. */
MUST_CHECK int poll_open(struct poll_fd *pd, int fd, poll_event_fn on_event);
void poll_close(struct poll_fd *pd);
/* Deregisters and hands the descriptor back. */
int poll_detach(struct poll_fd *pd);

/* Return at once when ready says so. 0, -ETIMEDOUT or -ECANCELED. */
MUST_CHECK int poll_wait_readable(struct poll_fd *pd, const char *reason, int64_t deadline_ns);
MUST_CHECK int poll_wait_writable(struct poll_fd *pd, const char *reason, int64_t deadline_ns);

static inline bool poll_hung_up(const struct poll_fd *pd) {
    return (pd->ready & (POLL_EVENT_HUP | POLL_EVENT_ERR)) != 0;
}
/* After EAGAIN, or after a short read with no hang-up seen. */
static inline void poll_not_readable(struct poll_fd *pd) {
    pd->ready &= (uint8_t)~POLL_EVENT_IN;
}
static inline void poll_not_writable(struct poll_fd *pd) {
    pd->ready &= (uint8_t)~POLL_EVENT_OUT;
}
/* For what lives on after an error, as sockets of messages do: a call has had it, and has said EAGAIN. */
static inline void poll_not_failed(struct poll_fd *pd) {
    pd->ready &= (uint8_t)~POLL_EVENT_ERR;
}
