/* sys: the system calls of these examples, each returning -errno for an error.
 *
 * A coroutine may wake on another thread, and compilers keep the address of errno over a call. So a
 * function that parks never mentions errno; it calls functions such as these, which do not park and
 * are not inlined. A program of several files would have them in one .c. */
#pragma once
#include <errno.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/check.h"

static NOINLINE __attribute__((unused)) int sys_listen_loopback(struct sockaddr_in *address) {
    *address =
        (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof *address;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    if (bind(fd, (struct sockaddr *)address, len) < 0 || listen(fd, SOMAXCONN) < 0 ||
        getsockname(fd, (struct sockaddr *)address, &len) < 0) {
        int err = -errno;
        (void)close(fd); /* the first error is the one that matters */
        return err;
    }
    return fd;
}

static NOINLINE __attribute__((unused)) int sys_accept(int fd) {
    int got = accept4(fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    return got < 0 ? -errno : got;
}

static NOINLINE __attribute__((unused)) ssize_t sys_read(int fd, void *out, size_t size) {
    ssize_t got = read(fd, out, size);
    return got < 0 ? -errno : got;
}

static NOINLINE __attribute__((unused)) ssize_t sys_send(int fd, const void *bytes, size_t size) {
    ssize_t sent = send(fd, bytes, size, MSG_NOSIGNAL);
    return sent < 0 ? -errno : sent;
}

static NOINLINE __attribute__((unused)) ssize_t sys_write(int fd, const void *bytes, size_t size) {
    ssize_t written = write(fd, bytes, size);
    return written < 0 ? -errno : written;
}
