/* splice: bytes from one socket to another that nobody looks at, in large pieces. Through a pipe of the
 * kernel's: pages change hands and are not copied. Where a socket has a transport (TLS), which has to see
 * them, through memory of the P's in the place of the pipe: a piece is one system call on each side all the
 * same, however many records it is.
 *
 *     from ──splice_receive──► pipe or memory ──splice_send──► to
 *
 * Either is held from the moment that bytes are in it until they are out again, so a stream that waits for
 * its sender has none, and one whose receiver is slow pins one and no more.
 *
 * Ownership  A struct splice borrows its pool, and owns a pipe or memory while it holds bytes. splice_end gives
 *            it back; a pipe with bytes still in it is closed.
 * Threads    One P: a pool serves the coroutines of its P.
 * Errors     As those of socket.h. -ENOBUFS: there is no pipe or no memory to be had, or this kernel does not
 *            splice such a socket: nothing was moved, receive the bytes instead. Of a pipe that goes to a
 *            socket with a transport all the same the bytes are copied.
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
    /* Eight records of TLS. With one at a time an HTTPS proxy took 1.1 of HAProxy's CPU time per GB, with four 0.72,
     * with eight 0.64; and more would leave an L2 cache of 512 KiB between the kernel's copy and the cipher. */
    SPLICE_MEMORY_SIZE = 128 * 1024,
    SPLICE_MEMORIES_MAX = 32, /* of a P, in use */
    SPLICE_MEMORIES_KEPT = 2, /* of a P, as SPLICE_PIPES_KEPT */
};

struct splice_pipe {
    int from, to; /* read from, written to */
};

struct splice_pool { /* private */
    unsigned in_use, most_in_use, kept;
    unsigned idle;    /* of those kept, how many nobody needed since timer was armed */
    int64_t retry_ns; /* the kernel gave none: do not ask before */
    struct splice_pipe pipes[SPLICE_PIPES_KEPT];
    unsigned memories_in_use, memories_kept, memories_idle; /* likewise */
    char *memories[SPLICE_MEMORIES_KEPT];
    struct timer timer; /* armed while something is kept */
};

/* Any thread, before the P uses it. splice_pool_shrink before its memory is used anew. */
void splice_pool_init(struct splice_pool *pool);
/* Private. */
bool splice_pool_has_pipe(const struct splice_pool *pool);
static inline bool splice_pool_has_memory(const struct splice_pool *pool) {
    return pool->memories_in_use < SPLICE_MEMORIES_MAX;
}
/* Memory or descriptors are short: closes and frees those that nobody uses. How many descriptors that were. */
unsigned splice_pool_shrink(struct splice_pool *pool);

/* Whether it is likely to find a pipe or memory, when so many bytes may be held of the stream at a time: if not, do
 * not begin. Counts it when not. */
static inline bool splice_can_begin(const struct splice_pool *pool, bool through_memory,
                                    size_t most) {
    if (!through_memory)
        return splice_pool_has_pipe(pool);
    return most > BLOCK_DATA_SIZE && splice_pool_has_memory(pool);
}

struct splice {
    struct splice_pool *pool;
    struct splice_pipe pipe; /* while has_pipe */
    char *memory;            /* NULL: has_pipe, or nothing is held */
    bool has_pipe;
    bool through_memory; /* public: `to` has a transport. If `from` has one that need not be said */
    size_t at;           /* the first byte held, of memory */
    size_t held;         /* bytes in the pipe or the memory */
};

static inline struct splice splice_begin(struct splice_pool *pool) {
    return (struct splice){.pool = pool};
}
void splice_end(struct splice *splice);
/* The bytes held, if they are in memory, else absent. Borrowed until the next call on the splice. */
static inline struct span splice_in_memory(const struct splice *splice) {
    return splice->memory ? span_make(splice->memory + splice->at, splice->held) : span_none();
}

/* Moves up to max bytes (1..SPLICE_MAX) into the pipe or memory, which must be empty. As socket_receive: > 0 how
 * much, 0 at the end of the stream. Neither is held during the wait. */
MUST_CHECK ssize_t splice_receive(struct splice *splice, struct socket *from, size_t max,
                                  const char *reason, int64_t deadline_ns);
MUST_CHECK ssize_t splice_try_receive(struct splice *splice, struct socket *from, size_t max);

/* Sends what of it the peer takes, at least a byte, and returns how much; splice->held is the rest. more:
 * other bytes follow at once. The deadline as in socket_send. */
MUST_CHECK ssize_t splice_send(struct splice *splice, struct socket *to, bool more,
                               const char *reason, int64_t stall_ns);
/* The same without waiting: -EAGAIN: it takes nothing now. -EOPNOTSUPP: only splice_send can do it. */
MUST_CHECK ssize_t splice_try_send(struct splice *splice, struct socket *to, bool more);
/* As socket_send, of a few bytes (framing) that splice_send of a pipe follows at once. */
MUST_CHECK int splice_send_ahead(struct socket *to, struct span bytes, const char *reason,
                                 int64_t stall_ns);
