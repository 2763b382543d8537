/* datagram: as socket.c, but that no message says anything about how many there are behind it: only EAGAIN
 * ends what an edge began.
 *
 * Soft errors  Linux keeps an ICMP answer as the socket's pending error, and hands it to whichever call comes
 *              next; a send that gets it has sent nothing. It is not the sender's of this message, so that
 *              tries again, SOFT_MAX times in case it is about this very message. What it learned goes to the
 *              receiver only as a count: messages may get lost anyway. */
#include "io/datagram.h"

#include <unistd.h>

#include "io/sys.h"
#include "rt/io_counts.h"
#include "rt/rt.h"

enum { SOFT_MAX = 2 };

static void count(const struct datagram *datagram, enum io_count what) {
    io_counts_add(io_counts_of(datagram->pd.p_index), what, 1);
}

static void count_failure(const struct datagram *datagram, ssize_t error, enum io_count again) {
    ASSERT(!sys_is_our_mistake(error));
    count(datagram, error == -EAGAIN          ? again
                    : datagram_is_soft(error) ? IO_SOFT_ERRORS
                                              : IO_ERRORS);
}

int datagram_open(struct datagram *datagram, const struct address *local) {
    int fd = sys_datagram_socket(local->sa.any.sa_family);
    if (fd < 0)
        return fd;
    int rc = sys_bind(fd, &local->sa.any, local->len);
    if (rc == 0)
        rc = poll_open(&datagram->pd, fd, NULL);
    if (rc != 0)
        (void)close(fd);
    return rc;
}

int datagram_connect(struct datagram *datagram, const struct address *peer) {
    count(datagram, IO_CONNECT_CALLS);
    int rc = sys_connect(datagram->pd.fd, &peer->sa.any, peer->len);
    if (rc != 0)
        count(datagram, IO_ERRORS);
    return rc;
}

void datagram_close(struct datagram *datagram) {
    poll_close(&datagram->pd);
}

void datagram_local_address(const struct datagram *datagram, struct address *out) {
    address_of_socket(datagram->pd.fd, out);
}

ssize_t datagram_try_receive(struct datagram *datagram, void *into, size_t size,
                             struct address *from) {
    struct poll_fd *pd = &datagram->pd;
    if (!(pd->ready & (POLL_EVENT_IN | POLL_EVENT_ERR)))
        return -EAGAIN;
    struct address sender = {.len = sizeof sender.sa};
    ssize_t n = sys_recv_from(pd->fd, into, size, &sender.sa.any, &sender.len);
    count(datagram, IO_RECV_CALLS);
    if (n >= 0) {
        io_counts_add(io_counts_of(pd->p_index), IO_RECV_BYTES, (uint64_t)n);
        if (from)
            *from = sender;
        return n;
    }
    if (n == -EAGAIN) {
        poll_not_readable(pd);
        poll_not_failed(pd);
    }
    count_failure(datagram, n, IO_RECV_AGAIN);
    return n;
}

ssize_t datagram_receive(struct datagram *datagram, void *into, size_t size, struct address *from,
                         const char *reason, int64_t deadline_ns) {
    for (;;) {
        ssize_t n = datagram_try_receive(datagram, into, size, from);
        if (n != -EAGAIN)
            return n;
        int rc = poll_wait_readable(&datagram->pd, reason, deadline_ns);
        if (rc != 0)
            return rc;
    }
}

int datagram_send(struct datagram *datagram, const struct iovec *pieces, int piece_count,
                  const struct address *to, const char *reason, int64_t deadline_ns) {
    struct poll_fd *pd = &datagram->pd;
    ASSERT(piece_count <= SYS_PIECES_MAX);
    for (unsigned soft = 0;;) {
        ssize_t n =
            sys_send_to(pd->fd, pieces, piece_count, to ? &to->sa.any : NULL, to ? to->len : 0);
        count(datagram, IO_SEND_CALLS);
        if (n >= 0) {
            io_counts_add(io_counts_of(pd->p_index), IO_SEND_BYTES, (uint64_t)n);
            return 0;
        }
        count_failure(datagram, n, IO_SEND_AGAIN);
        if (datagram_is_soft(n) && soft++ < SOFT_MAX)
            continue;
        if (n != -EAGAIN)
            return (int)n;
        poll_not_writable(pd);
        poll_not_failed(pd);
        int rc = poll_wait_writable(pd, reason, deadline_ns);
        if (rc != 0)
            return rc;
    }
}
