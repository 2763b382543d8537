/* sys: system calls on sockets that return a count or -errno.
 *
 * A coroutine may wake on another thread, and compilers keep the address of errno over a call that
 * parks. So code that parks never mentions errno: it calls these, which do not park and are not
 * inlined. EINTR is retried here. Any thread. */
#pragma once
#include <errno.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "base/check.h"

MUST_CHECK ssize_t sys_recv(int fd, void *into, size_t size, int flags);
MUST_CHECK ssize_t sys_send(int fd, const void *from, size_t size);
/* The same, and others follow at once: the kernel may keep these back for them (MSG_MORE). */
MUST_CHECK ssize_t sys_send_ahead(int fd, const void *from, size_t size);
/* size: of all pieces, of which there are SYS_PIECES_MAX at most. */
MUST_CHECK ssize_t sys_sendv(int fd, const struct iovec *iov, int count, size_t size);
enum {
    SYS_PIECES_MAX = 1024, /* IOV_MAX */
    SYS_GATHER_MAX = 1024, /* pieces that come to no more are copied into one */
};
/* One message, of any size: what it returns may be more than `size`. */
MUST_CHECK ssize_t sys_recv_from(int fd, void *into, size_t size, struct sockaddr *from,
                                 socklen_t *from_len);
MUST_CHECK ssize_t sys_send_to(int fd, const struct iovec *iov, int count,
                               const struct sockaddr *to, socklen_t to_len);
MUST_CHECK int sys_accept(int fd, struct sockaddr *peer, socklen_t *peer_len);
/* Non-blocking, close-on-exec. */
MUST_CHECK int sys_stream_socket(int family);
MUST_CHECK int sys_datagram_socket(int family);
MUST_CHECK int sys_bind(int fd, const struct sockaddr *to, socklen_t to_len);
MUST_CHECK int sys_connect(int fd, const struct sockaddr *to, socklen_t to_len);
MUST_CHECK int sys_shutdown(int fd, int how);
/* SO_ERROR of the socket: 0 or -errno. */
MUST_CHECK int sys_socket_error(int fd);
/* Of a call on a descriptor that we think is an open socket: no peer and no shortage brings these about. */
static inline bool sys_is_our_mistake(ssize_t error) {
    return error == -EBADF || error == -ENOTSOCK || error == -EFAULT;
}
/* TCP_NODELAY; failure does not matter on sockets that are not TCP. */
void sys_set_nodelay(int fd);
/* SO_LINGER of 0 s; failure does not matter on sockets that are not TCP. */
void sys_set_reset_on_close(int fd);
/* A pipe, non-blocking and close-on-exec: ends[0] is read from. Its capacity is `capacity` where the kernel
 * allows that, else what of a half of it, a quarter and so on it does, or what it is by itself; -ENOSPC if that is
 * below `least` (pipe-max-size, pipe-user-pages-soft). */
MUST_CHECK int sys_pipe(int ends[2], int capacity, int least);
/* Moves up to max bytes; one of the two is a pipe. more: others follow at once, see MSG_MORE. */
MUST_CHECK ssize_t sys_splice(int from, int to, size_t max, bool more);
MUST_CHECK ssize_t sys_read(int fd, void *into, size_t size);
