/* io_counts: what the system calls on descriptors of a P were, and what they moved.
 *
 * Threads  The P's M adds, without locks, to cache lines that no other P writes. Any thread reads.
 * Layout   What a request of a proxy adds to is in the first line. */
#pragma once
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "rt/rt.h"

enum io_count {
    IO_RECV_CALLS, /* of sockets, datagrams too */
    IO_RECV_BYTES,
    IO_SEND_CALLS,
    IO_SEND_BYTES,
    IO_WAIT_CALLS, /* of the poller, with or without events */
    IO_RING_CALLS, /* that made many receives and sends, which count above as calls all the same */
    IO_COPIED_BYTES,      /* from memory to memory, on the way from one socket to another */
    IO_HEAD_COPIED_BYTES, /* of those: into message heads */
    IO_SPLICE_CALLS,      /* into a pipe and out of it */
    IO_SPLICE_BYTES,      /* out of one */

    IO_RECV_AGAIN, /* of the calls: there was nothing; and so on */
    IO_SEND_AGAIN,
    IO_SEND_PARTIAL, /* of the calls: a part was taken */
    IO_SPLICE_AGAIN,
    IO_SPLICE_NO_PIPE, /* times that bytes were copied for want of a pipe */
    IO_PIPE_CALLS,     /* pipes made */
    IO_ACCEPT_CALLS,
    IO_ACCEPT_AGAIN,
    IO_CONNECT_CALLS,
    IO_WATCH_CALLS, /* descriptors given to the poller and taken from it */
    IO_CLOSE_CALLS,
    IO_SHUTDOWN_CALLS,
    IO_ERRORS,      /* of the calls above: failed otherwise */
    IO_SOFT_ERRORS, /* of the calls above: what became of some message before (datagram.h) */

    /* Of io/stream_copy.h, by the way that the bytes took; and how many steps that were. */
    IO_STREAM_SPLICES,
    IO_STREAM_SPLICE_BYTES, /* through a pipe */
    IO_STREAM_LENDS,
    IO_STREAM_LEND_BYTES, /* written from where the reader had them */
    IO_STREAM_COPIES,
    IO_STREAM_COPY_BYTES, /* gathered, because they were little */
    IO_COUNTS,
};

struct io_counts {
    _Alignas(64) _Atomic uint64_t of[IO_COUNTS];
};

/* On the P whose counts these are. */
static inline void io_counts_add(struct io_counts *counts, enum io_count what, uint64_t n) {
    uint64_t before = atomic_load_explicit(&counts->of[what], memory_order_relaxed);
    atomic_store_explicit(&counts->of[what], before + n, memory_order_relaxed);
}

/* Private: by the P's index, constant while rt_run runs. */
extern struct io_counts *io_counts_by_p[RT_P_MAX];
/* Of a descriptor's P (poll_fd.p_index), on it. */
static inline struct io_counts *io_counts_of(unsigned p_index) {
    return io_counts_by_p[p_index];
}
/* Of the P that the caller runs on; not over a park. */
struct io_counts *io_counts_here(void);
/* Of one P, any thread. */
void io_counts_read(unsigned p_index, uint64_t out[IO_COUNTS]);
