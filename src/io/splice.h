/* splice: bytes from one socket to another that nobody looks at, through a pipe of the kernel's: pages
 * change hands and are not copied.
 *
 *     from ──splice_receive──► pipe ──splice_send──► to
 *
 * A pipe is held from the moment that bytes are in it until they are out again, so a stream that waits for
 * its sender has none, and one whose receiver is slow pins what is in the pipe and no more.
 *
 * Ownership  A struct splice borrows its pool, and owns a pipe while it holds bytes. splice_end gives it
 *            back; one with bytes still in it is closed.
 * Threads    One P: a pool serves the coroutines of its P.
 * Errors     As those of socket.h. -ENOBUFS: there is no pipe to be had, or this kernel does not splice
 *            such a socket, or it has a transport (socket_can_splice): nothing was moved, receive the bytes
 *            instead. To a socket with a transport what is in the pipe is copied.
 * Signals    A send to a peer that is gone would raise SIGPIPE, which the process ignores (rt/signals.h). */
#pragma once
#include "io/socket.h"
#include "rt/timer.h"

enum {
    /* At a time, and what a pipe is made for: as large as a process without privileges gets one
     * (pipe-max-size). What moving costs is less the bytes than that others are woken by each move: 64 KiB at a
     * time took 610 ms of CPU per GB, 256 KiB 440, 1 MiB 370 (./dev bench streams, bare). */
    SPLICE_MAX = 1024 * 1024,
    SPLICE_PIPE_LEAST = 64 * 1024, /* a smaller one is none */
    SPLICE_PIPES_MAX = 128,        /* of a P, in use; of a smaller limit of descriptors a share */
    SPLICE_PIPES_KEPT = 16,        /* of a P, empty, until nobody needed them for a second */
};

struct splice_pipe {
    int from, to; /* read from, written to */
};

struct splice_pool { /* private */
    unsigned in_use, most_in_use, kept;
    unsigned idle;    /* of those kept, how many nobody needed since timer was armed */
    int64_t retry_ns; /* the kernel gave none: do not ask before */
    struct splice_pipe pipes[SPLICE_PIPES_KEPT];
    struct timer timer; /* armed while pipes are kept */
};

/* Any thread, before the P uses it. splice_pool_shrink before its memory is used anew. */
void splice_pool_init(struct splice_pool *pool);
/* Whether a pipe is likely to be had: if not, do not begin. Counts it when not. */
bool splice_pool_has_pipe(const struct splice_pool *pool);
/* Memory or descriptors are short: closes those that nobody uses. How many descriptors that were. */
unsigned splice_pool_shrink(struct splice_pool *pool);

struct splice {
    struct splice_pool *pool;
    struct splice_pipe pipe; /* while has_pipe */
    bool has_pipe;
    size_t held; /* bytes in the pipe */
};

static inline struct splice splice_begin(struct splice_pool *pool) {
    return (struct splice){.pool = pool};
}
void splice_end(struct splice *splice);

/* Moves up to max bytes (1..SPLICE_MAX) into the pipe, which must be empty. As socket_receive: > 0 how much,
 * 0 at the end of the stream. No pipe is held during the wait. */
MUST_CHECK ssize_t splice_receive(struct splice *splice, struct socket *from, size_t max,
                                  const char *reason, int64_t deadline_ns);
MUST_CHECK ssize_t splice_try_receive(struct splice *splice, struct socket *from, size_t max);

/* Sends what of the pipe the peer takes, at least a byte, and returns how much; splice->held is the rest. more:
 * other bytes follow at once. The deadline as in socket_send. */
MUST_CHECK ssize_t splice_send(struct splice *splice, struct socket *to, bool more,
                               const char *reason, int64_t stall_ns);
/* The same without waiting: -EAGAIN: it takes nothing now. -EOPNOTSUPP: only splice_send can do it. */
MUST_CHECK ssize_t splice_try_send(struct splice *splice, struct socket *to, bool more);
/* As socket_send, of a few bytes (framing) that splice_send follows at once. */
MUST_CHECK int splice_send_ahead(struct socket *to, struct span bytes, const char *reason,
                                 int64_t stall_ns);
