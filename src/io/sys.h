/* sys: system calls on sockets that return a count or -errno.
 *
 * A coroutine may wake on another thread, and compilers keep the address of errno over a call that
 * parks. So code that parks never mentions errno: it calls these, which do not park and are not
 * inlined. EINTR is retried here. Any thread. */
#pragma once
#include <netinet/in.h>
#include <stddef.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "base/check.h"

MUST_CHECK ssize_t sys_recv(int fd, void *into, size_t size, int flags);
MUST_CHECK ssize_t sys_send(int fd, const void *from, size_t size);
/* size: of all pieces, of which there are SYS_PIECES_MAX at most. */
MUST_CHECK ssize_t sys_sendv(int fd, const struct iovec *iov, int count, size_t size);
enum {
    SYS_PIECES_MAX = 1024, /* IOV_MAX */
    SYS_GATHER_MAX = 1024, /* pieces that come to no more are copied into one */
};
MUST_CHECK int sys_accept(int fd, struct sockaddr *peer, socklen_t *peer_len);
/* Non-blocking, close-on-exec stream socket. */
MUST_CHECK int sys_stream_socket(int family);
MUST_CHECK int sys_connect(int fd, const struct sockaddr *to, socklen_t to_len);
MUST_CHECK int sys_shutdown(int fd, int how);
/* SO_ERROR of the socket: 0 or -errno. */
MUST_CHECK int sys_socket_error(int fd);
/* TCP_NODELAY; failure does not matter on sockets that are not TCP. */
void sys_set_nodelay(int fd);
