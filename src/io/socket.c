/* socket: every call tries the system call first and waits only on EAGAIN. After a short read the
 * kernel's queue is empty, so the next read waits for the edge without asking, which saves a call
 * that would say EAGAIN; unless the peer has hung up, whose FIN no further edge announces. */
#include "io/socket.h"

#include <errno.h>
#include <unistd.h>

#include "io/sys.h"
#include "rt/rt.h"

int socket_open(struct socket *socket, int fd, poll_event_fn on_event) {
    socket->rx_bytes = socket->tx_bytes = 0;
    return poll_open(&socket->pd, fd, on_event);
}

void socket_close(struct socket *socket) {
    poll_close(&socket->pd);
}

int socket_connect(struct socket *socket, const struct address *to, int64_t deadline_ns) {
    int fd = sys_stream_socket(to->sa.any.sa_family);
    if (fd < 0)
        return fd;
    sys_set_nodelay(fd);
    int rc = sys_connect(fd, &to->sa.any, to->len);
    if (rc != 0 && rc != -EINPROGRESS) {
        close(fd);
        return rc;
    }
    bool connected = rc == 0;
    rc = socket_open(socket, fd, NULL);
    if (rc != 0) {
        close(fd);
        return rc;
    }
    if (connected)
        return 0;
    poll_not_writable(&socket->pd);
    poll_not_readable(&socket->pd);
    rc = poll_wait_writable(&socket->pd, "connect", deadline_ns);
    if (rc == 0)
        rc = sys_socket_error(fd);
    if (rc != 0)
        socket_close(socket);
    return rc;
}

ssize_t socket_try_read(struct socket *socket, void *into, size_t size) {
    if (!(socket->pd.ready & POLL_EVENT_IN) && !poll_hung_up(&socket->pd))
        return -EAGAIN;
    ssize_t n = sys_recv(socket->pd.fd, into, size);
    if (n == -EAGAIN || (n > 0 && (size_t)n < size && !poll_hung_up(&socket->pd)))
        poll_not_readable(&socket->pd);
    if (n > 0)
        socket->rx_bytes += (uint64_t)n;
    return n;
}

ssize_t socket_read(struct socket *socket, void *into, size_t size, const char *reason,
                    int64_t deadline_ns) {
    for (;;) {
        ssize_t n = socket_try_read(socket, into, size);
        if (n != -EAGAIN)
            return n;
        int rc = poll_wait_readable(&socket->pd, reason, deadline_ns);
        if (rc != 0)
            return rc;
    }
}

static void advance(struct iovec **iov, int *count, size_t sent) {
    while (*count > 0 && sent >= (*iov)->iov_len) {
        sent -= (*iov)->iov_len;
        ++*iov;
        --*count;
    }
    if (*count > 0) {
        (*iov)->iov_base = (char *)(*iov)->iov_base + sent;
        (*iov)->iov_len -= sent;
    }
}

int socket_writev(struct socket *socket, struct iovec *iov, int count, const char *reason,
                  int64_t stall_ns) {
    advance(&iov, &count, 0); /* skip empty leading pieces */
    while (count > 0) {
        ssize_t n = count == 1 ? sys_send(socket->pd.fd, iov->iov_base, iov->iov_len)
                               : sys_sendv(socket->pd.fd, iov, count);
        if (n >= 0) {
            socket->tx_bytes += (uint64_t)n;
            advance(&iov, &count, (size_t)n);
            continue;
        }
        if (n != -EAGAIN)
            return (int)n;
        poll_not_writable(&socket->pd);
        int64_t deadline_ns = stall_ns == RT_FOREVER ? RT_FOREVER : rt_now_ns() + stall_ns;
        int rc = poll_wait_writable(&socket->pd, reason, deadline_ns);
        if (rc != 0)
            return rc;
    }
    return 0;
}
