/* socket: stream sockets for coroutines: straight-line reads and writes that park when they must.
 *
 * Ownership  The struct lives inside its owner; it owns the descriptor until socket_close.
 * Threads    The P that opened it.
 * Parks      read, write and connect. Deadlines are absolute.
 * Errors     -ECONNRESET and the like from the kernel, -ETIMEDOUT, -ECANCELED. */
#pragma once
#include <sys/types.h>
#include <sys/uio.h>

#include "io/address.h"
#include "rt/poll.h"

struct socket {
    struct poll_fd pd;
    uint64_t rx_bytes, tx_bytes;
};

/* Takes over fd (non-blocking) on success. */
MUST_CHECK int socket_open(struct socket *socket, int fd, poll_event_fn on_event);
void socket_close(struct socket *socket);

/* Connects a new socket. 0 or -errno; after an error the struct holds nothing. */
MUST_CHECK int socket_connect(struct socket *socket, const struct address *to, int64_t deadline_ns);

/* Up to size bytes: > 0, 0 at the end of the stream, -errno. */
MUST_CHECK ssize_t socket_read(struct socket *socket, void *into, size_t size, const char *reason,
                               int64_t deadline_ns);
/* As socket_read, but -EAGAIN instead of parking. */
MUST_CHECK ssize_t socket_try_read(struct socket *socket, void *into, size_t size);

/* Writes everything or fails. The iov array is used up. The deadline is for progress: each partial
 * write starts stall_ns anew; RT_FOREVER waits without limit. */
MUST_CHECK int socket_writev(struct socket *socket, struct iovec *iov, int count,
                             const char *reason, int64_t stall_ns);
