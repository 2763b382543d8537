/* socket: on edge-triggered epoll. Every call tries the system call first and waits only on EAGAIN.
 *
 * Short   After a short receive the kernel's queue is empty, so the next one waits for the edge without
 *         asking, which saves a call that would say EAGAIN; unless the peer has hung up, whose FIN no
 *         further edge announces: that bit stays, and who sees it asks. An edge that came between the
 *         system call and our noting that it was short is not lost: it is in the epoll set, and sets the
 *         bit again. Only urgent data, which the protocols here have none of, makes a receive end early:
 *         who sends such a thing may wait for an answer until he sends more. After a short send we do ask
 *         once more: that is rare, once for each time that a buffer of megabytes fills, and there the
 *         kernel promises less.
 * Memory  inbuf_room is asked only when there is something to receive. What turns out to be nothing gives
 *         the block back before the coroutine waits.
 * Through What a transport does is done in the place of the two system calls, recv and send, and of nothing else:
 *         the loops around them and the waiting are the same. So a plain socket pays a predictable branch
 *         for each. */
#include "io/socket.h"

#include <assert.h>
#include <errno.h>
#include <unistd.h>

#include "io/pieces.h"
#include "io/socket_raw.h"
#include "io/sys.h"
#include "rt/io_counts.h"
#include "rt/poll_ring.h"
#include "rt/rt.h"

static_assert((int)SOCKET_PIECES_MAX == (int)SYS_PIECES_MAX, "the kernel's");

static inline bool has_transport(const struct socket *socket) {
    return __builtin_expect(socket->transport != NULL, false);
}

static void count(const struct socket *socket, enum io_count what) {
    io_counts_add(io_counts_of(socket->pd.p_index), what, 1);
}

/* One that failed for want of something there, or otherwise. */
static void count_failure(const struct socket *socket, ssize_t error, enum io_count again) {
    ASSERT(!sys_is_our_mistake(error));
    count(socket, error == -EAGAIN ? again : IO_ERRORS);
}

/* ---- Beginning and end ---- */

static void event(struct poll_fd *pd, unsigned events) {
    struct socket *socket = container_of(pd, struct socket, pd);
    events &= SOCKET_INPUT | SOCKET_HUNG_UP;
    if (has_transport(socket))
        events = socket->transport->itab->event(socket, events);
    if (!has_transport(socket) || events)
        socket->on_event(socket, events);
}

int socket_open(struct socket *socket, int fd, socket_event_fn on_event) {
    socket->on_event = on_event;
    socket->rx_bytes = socket->tx_bytes = 0;
    socket->transport = NULL;
    return poll_open(&socket->pd, fd, on_event ? event : NULL);
}

int socket_listen(struct socket *socket, int fd, socket_event_fn on_event) {
    return socket_open(socket, fd, on_event);
}

void socket_set_transport(struct socket *socket, struct transport *transport) {
    ASSERT(!socket->transport);
    socket->transport = transport;
}

void socket_close(struct socket *socket) {
    if (socket->transport) {
        socket->transport->itab->close(socket);
        socket->transport = NULL;
    }
    poll_close(&socket->pd);
}

void socket_reset_on_close(struct socket *socket) {
    sys_set_reset_on_close(socket->pd.fd);
}

int socket_shutdown(struct socket *socket) {
    int rc = socket->transport ? socket->transport->itab->shutdown(socket) : 0;
    if (rc == 0)
        rc = poll_shutdown(&socket->pd);
    count(socket, IO_SHUTDOWN_CALLS);
    if (rc != 0)
        count(socket, IO_ERRORS);
    return rc;
}

void socket_cut(struct socket *socket) {
    count(socket, IO_SHUTDOWN_CALLS);
    if (sys_shutdown(socket->pd.fd, SHUT_RDWR) != 0) /* it was over already */
        count(socket, IO_ERRORS);
}

int socket_take_fd(struct socket *socket, struct inbuf *in) {
    (void)in; /* nothing is read that nobody asked for */
    if (socket->transport)
        return -EOPNOTSUPP;
    return poll_detach(&socket->pd);
}

void socket_local_address(const struct socket *socket, struct address *out) {
    address_of_socket(socket->pd.fd, out);
}

void socket_address_before_nat(const struct socket *socket, struct address *out) {
    struct address local;
    address_of_socket(socket->pd.fd, &local);
    address_before_nat(socket->pd.fd, local.sa.any.sa_family, out);
    if (address_eq(&local, out))
        out->len = 0;
}

void socket_remote_address(const struct socket *socket, struct address *out) {
    address_of_peer(socket->pd.fd, out);
}

int socket_connect(struct socket *socket, const struct address *to, socket_event_fn on_event,
                   int64_t deadline_ns) {
    int fd = sys_stream_socket(to->sa.any.sa_family);
    if (fd < 0)
        return fd;
    sys_set_nodelay(fd);
    int rc = sys_connect(fd, &to->sa.any, to->len);
    bool connected = rc == 0;
    if (connected || rc == -EINPROGRESS)
        rc = socket_open(socket, fd, on_event);
    struct io_counts *counts = io_counts_here();
    io_counts_add(counts, IO_CONNECT_CALLS, 1);
    if (rc != 0) {
        io_counts_add(counts, IO_ERRORS, 1);
        io_counts_add(counts, IO_CLOSE_CALLS, 1);
        (void)close(fd);
        return rc;
    }
    if (connected)
        return 0;
    poll_not_writable(&socket->pd);
    poll_not_readable(&socket->pd);
    rc = poll_wait_writable(&socket->pd, "connect", deadline_ns);
    if (rc == 0) {
        rc = sys_socket_error(fd);
        if (rc != 0)
            count(socket, IO_ERRORS);
    }
    if (rc != 0)
        socket_close(socket);
    return rc;
}

int socket_try_accept(struct socket *socket, struct address *peer) {
    if (!socket_has_input(socket))
        return -EAGAIN;
    struct address from = {.len = sizeof from.sa};
    int fd = sys_accept(socket->pd.fd, &from.sa.any, &from.len);
    count(socket, IO_ACCEPT_CALLS);
    if (fd >= 0) {
        *peer = from;
        return fd;
    }
    if (fd == -EAGAIN)
        poll_not_readable(&socket->pd);
    count_failure(socket, fd, IO_ACCEPT_AGAIN);
    return fd;
}

int socket_accept(struct socket *socket, struct address *peer, const char *reason,
                  int64_t deadline_ns) {
    for (;;) {
        int fd = socket_try_accept(socket, peer);
        if (fd != -EAGAIN)
            return fd;
        int rc = poll_wait_readable(&socket->pd, reason, deadline_ns);
        if (rc != 0)
            return rc;
    }
}

/* ---- Receiving ---- */

/* What a receive into size bytes came to, whoever made it. */
static inline void note_received(struct socket *socket, size_t size, ssize_t n) {
    struct poll_fd *pd = &socket->pd;
    count(socket, IO_RECV_CALLS);
    if (n > 0) {
        socket->rx_bytes += (uint64_t)n;
        io_counts_add(io_counts_of(pd->p_index), IO_RECV_BYTES, (uint64_t)n);
        if ((size_t)n < size)
            poll_not_readable(pd);
    } else if (n < 0) {
        if (n == -EAGAIN)
            poll_not_readable(pd);
        count_failure(socket, n, IO_RECV_AGAIN);
    }
}

static NOINLINE ssize_t receive_through(struct socket *socket, void *into, size_t size) {
    ssize_t n = socket->transport->itab->try_receive(socket, into, size);
    if (n > 0)
        socket->rx_bytes += (uint64_t)n;
    return n;
}

static inline ssize_t receive_into(struct socket *socket, void *into, size_t size) {
    if (has_transport(socket))
        return receive_through(socket, into, size);
    ssize_t n = sys_recv(socket->pd.fd, into, size, 0);
    note_received(socket, size, n);
    return n;
}

ssize_t socket_raw_try_receive(struct socket *socket, void *into, size_t size) {
    if (!(socket->pd.ready & (SOCKET_INPUT | SOCKET_HUNG_UP)))
        return -EAGAIN;
    uint64_t before = socket->rx_bytes;
    ssize_t n = sys_recv(socket->pd.fd, into, size, 0);
    note_received(socket, size, n);
    socket->rx_bytes = before;
    return n;
}

static size_t memory(void *to, void **into) {
    struct inbuf *in = to;
    int room = inbuf_room(in);
    *into = in->data + in->end;
    return room > 0 ? (size_t)room : 0;
}

static void received(struct poll_fd *pd, void *to, size_t size, int result) {
    struct inbuf *in = to;
    note_received(container_of(pd, struct socket, pd), size, result);
    if (result > 0)
        in->end += (uint32_t)result;
    else
        inbuf_idle(in);
}

static const struct poll_receiver receiver = {memory, received};

void socket_receive_ahead(struct socket *socket, struct inbuf *in,
                          const struct labels_describer *of) {
    if (!has_transport(socket))
        poll_receive_ahead(&socket->pd, &receiver, in, of);
}

FLATTEN ssize_t socket_try_receive(struct socket *socket, struct inbuf *in) {
    if (!socket_has_input(socket))
        return -EAGAIN;
    int room = inbuf_room(in);
    if (room < 0)
        return room;
    ssize_t n = receive_into(socket, in->data + in->end, (size_t)room);
    if (n > 0)
        in->end += (uint32_t)n;
    return n;
}

ssize_t socket_try_receive_into(struct socket *socket, void *into, size_t size) {
    return socket_has_input(socket) ? receive_into(socket, into, size) : -EAGAIN;
}

ssize_t socket_receive(struct socket *socket, struct inbuf *in, const char *reason,
                       int64_t deadline_ns) {
    for (;;) {
        ssize_t n = socket_try_receive(socket, in);
        if (n != -EAGAIN)
            return n;
        inbuf_idle(in);
        struct poll_rx rx = {.by = &receiver, .to = in};
        int rc = poll_ring_is_on() && !socket->transport
                     ? poll_wait_received(&socket->pd, &rx, reason, deadline_ns)
                     : poll_wait_readable(&socket->pd, reason, deadline_ns);
        if (rx.done)
            return rx.result;
        if (rc != 0)
            return rc;
    }
}

int socket_discard(struct socket *socket, size_t max, const char *reason, int64_t deadline_ns) {
    char sink[2048];
    size_t dropped = 0;
    for (;;) {
        ssize_t n = socket_has_input(socket) ? receive_into(socket, sink, sizeof sink) : -EAGAIN;
        if (n == -EAGAIN)
            n = poll_wait_readable(&socket->pd, reason, deadline_ns);
        else if (n == 0)
            return 0;
        if (n < 0)
            return (int)n;
        dropped += (size_t)n;
        if (dropped > max)
            return -EMSGSIZE;
    }
}

bool socket_has_unread(struct socket *socket) {
    if (!socket_has_input(socket))
        return false;
    if (has_transport(socket))
        return socket->transport->itab->has_unread(socket);
    char byte;
    ssize_t n = sys_recv(socket->pd.fd, &byte, 1, MSG_PEEK);
    count(socket, IO_RECV_CALLS);
    if (n < 0)
        count_failure(socket, n, IO_RECV_AGAIN);
    if (n != -EAGAIN)
        return true;
    poll_not_readable(&socket->pd);
    return false;
}

/* ---- Sending ---- */

static NOINLINE ssize_t send_through(struct socket *socket, const struct iovec *pieces,
                                     int piece_count, size_t size) {
    ssize_t n = socket->transport->itab->try_send(socket, pieces, piece_count, size);
    if (n > 0)
        socket->tx_bytes += (uint64_t)n;
    return n;
}

/* A send that was given up: the next one has other bytes. */
static inline void forget_owed(struct socket *socket) {
    if (socket->transport)
        socket->transport->owed = 0;
}

static inline ssize_t try_some_raw(struct socket *socket, const struct iovec *pieces,
                                   int piece_count, size_t size) {
    struct poll_fd *pd = &socket->pd;
    struct io_counts *counts = io_counts_of(pd->p_index);
    ssize_t n;
    if (!(pd->ready & (POLL_EVENT_OUT | POLL_EVENT_ERR)))
        return -EAGAIN;
    if (piece_count == 1) {
        n = sys_send(pd->fd, pieces->iov_base, size);
    } else {
        n = sys_sendv(pd->fd, pieces, piece_count, size);
        if (size <= SYS_GATHER_MAX)
            io_counts_add(counts, IO_COPIED_BYTES, size);
    }
    count(socket, IO_SEND_CALLS);
    if (n < 0) {
        count_failure(socket, n, IO_SEND_AGAIN);
        if (n == -EAGAIN)
            poll_not_writable(pd);
        return n;
    }
    socket->tx_bytes += (uint64_t)n;
    io_counts_add(counts, IO_SEND_BYTES, (uint64_t)n);
    if ((size_t)n < size)
        count(socket, IO_SEND_PARTIAL);
    return n;
}

/* Sends as much as goes without waiting; -EAGAIN: nothing. size: of all pieces, not 0. */
static inline ssize_t try_some(struct socket *socket, const struct iovec *pieces, int piece_count,
                               size_t size) {
    if (has_transport(socket))
        return send_through(socket, pieces, piece_count, size);
    return try_some_raw(socket, pieces, piece_count, size);
}

static inline bool put_off(struct socket *socket, const struct iovec *pieces, int count,
                           size_t size) {
    if (!poll_send(&socket->pd, pieces, count, size))
        return false;
    struct io_counts *counts = io_counts_of(socket->pd.p_index);
    socket->tx_bytes += size;
    io_counts_add(counts, IO_SEND_CALLS, 1);
    io_counts_add(counts, IO_SEND_BYTES, size);
    io_counts_add(counts, IO_COPIED_BYTES, size);
    return true;
}

ssize_t socket_try_send(struct socket *socket, const struct iovec *pieces, int count) {
    ASSERT(count <= SYS_PIECES_MAX);
    size_t size = pieces_size(pieces, count);
    if (size == 0)
        return 0;
    if (!has_transport(socket) && put_off(socket, pieces, count, size))
        return (ssize_t)size;
    int owed = poll_owes(&socket->pd) ? poll_send_now(&socket->pd) : 0;
    return owed != 0 ? owed : try_some(socket, pieces, count, size);
}

ssize_t socket_raw_try_send(struct socket *socket, const struct iovec *pieces, int count,
                            size_t size) {
    uint64_t before = socket->tx_bytes;
    ssize_t n = (ssize_t)size;
    if (!put_off(socket, pieces, count, size)) {
        int owed = poll_owes(&socket->pd) ? poll_send_now(&socket->pd) : 0;
        n = owed != 0 ? owed : try_some_raw(socket, pieces, count, size);
    }
    socket->tx_bytes = before;
    return n;
}

int socket_wait_for_room(struct socket *socket, const char *reason, int64_t stall_ns) {
    int64_t deadline_ns = stall_ns == RT_FOREVER ? RT_FOREVER : rt_now_ns() + stall_ns;
    return poll_wait_writable(&socket->pd, reason, deadline_ns);
}

int socket_settle(struct socket *socket, const char *reason, int64_t stall_ns) {
    if (!poll_owes(&socket->pd))
        return 0;
    int rc;
    while ((rc = poll_send_now(&socket->pd)) == -EAGAIN) {
        rc = socket_wait_for_room(socket, reason, stall_ns);
        if (rc != 0)
            break;
    }
    return rc;
}

/* Sends as much as goes without waiting, but at least a byte. */
static inline ssize_t send_some(struct socket *socket, const struct iovec *pieces, int piece_count,
                                size_t size, const char *reason, int64_t stall_ns) {
    int owed = socket_settle(socket, reason, stall_ns);
    if (owed != 0)
        return owed;
    for (;;) {
        ssize_t n = try_some(socket, pieces, piece_count, size);
        if (n != -EAGAIN)
            return n;
        int rc = socket_wait_for_room(socket, reason, stall_ns);
        if (rc != 0)
            return rc;
    }
}

ssize_t socket_send_some(struct socket *socket, const struct iovec *pieces, int count,
                         const char *reason, int64_t stall_ns) {
    ASSERT(count <= SOCKET_PIECES_MAX);
    ssize_t n = send_some(socket, pieces, count, pieces_size(pieces, count), reason, stall_ns);
    if (n < 0)
        forget_owed(socket);
    return n;
}

int socket_send(struct socket *socket, struct iovec *pieces, int count, const char *reason,
                int64_t stall_ns) {
    ASSERT(count <= SOCKET_PIECES_MAX);
    size_t left = pieces_size(pieces, count);
    if (left && !has_transport(socket) && put_off(socket, pieces, count, left))
        return 0;
    while (left) {
        ssize_t n = send_some(socket, pieces, count, left, reason, stall_ns);
        if (n < 0) {
            forget_owed(socket);
            return (int)n;
        }
        left -= (size_t)n;
        if (left)
            pieces_advance(&pieces, &count, (size_t)n);
    }
    return 0;
}

static void give_back(struct block_cache *cache, const struct slice *slice) {
    if (slice->block)
        block_put(cache, slice->block);
}

int socket_send_slices(struct socket *socket, struct slice *slices, int count, const char *reason,
                       int64_t stall_ns) {
    enum { AT_ONCE = 32 };
    struct block_cache *cache = rt_blocks();
    ssize_t n = 0;
    while (count > 0) {
        struct iovec pieces[AT_ONCE];
        int piece_count = count < AT_ONCE ? count : AT_ONCE;
        for (int i = 0; i < piece_count; i++)
            pieces[i] = (struct iovec){(void *)(uintptr_t)slices[i].bytes.ptr, slices[i].bytes.len};
        size_t size = pieces_size(pieces, piece_count);
        n = size ? send_some(socket, pieces, piece_count, size, reason, stall_ns) : 0;
        if (n < 0)
            break;
        size_t sent = (size_t)n;
        for (; count > 0 && sent >= slices->bytes.len; slices++, count--) {
            sent -= slices->bytes.len;
            give_back(cache, slices);
        }
        if (count > 0)
            slices->bytes = span_from(slices->bytes, sent);
    }
    for (; count > 0; slices++, count--)
        give_back(cache, slices);
    if (n < 0)
        forget_owed(socket);
    return n < 0 ? (int)n : 0;
}
