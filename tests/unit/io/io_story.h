/* io_story: pairs of connected sockets, what the other end of one does, and what was counted. None of it is
 * inlined into coroutines that park: errno. */
#pragma once
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "../rt/rt_story.h"
#include "io/socket.h"
#include "rt/io_counts.h"

#define UNUSED __attribute__((unused)) /* by one program or another */

static inline uint64_t counted(enum io_count what) {
    uint64_t counts[IO_COUNTS];
    io_counts_read(rt_p_index(), counts);
    return counts[what];
}

static NOINLINE UNUSED void unix_pair(int fds[2]) {
    CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) == 0);
}

/* Listens on a port of the kernel's choice, on all loopback addresses; *at is 127.0.0.1's. */
static NOINLINE UNUSED int listening(struct address *at, int backlog) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    CHECK(fd >= 0);
    CHECK(address_parse(SPAN_LIT("0.0.0.0"), 0, at));
    CHECK(bind(fd, &at->sa.any, at->len) == 0);
    CHECK(listen(fd, backlog) == 0);
    address_of_socket(fd, at);
    at->sa.v4.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return fd;
}

static NOINLINE UNUSED void tcp_pair(int fds[2]) {
    struct address at;
    int server = listening(&at, 1);
    fds[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK(connect(fds[0], &at.sa.any, at.len) == 0);
    struct sockaddr_in peer;
    socklen_t len = sizeof peer;
    do
        fds[1] = accept4(server, (struct sockaddr *)&peer, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);
    while (fds[1] < 0 && errno == EAGAIN);
    CHECK(fds[1] >= 0);
    int on = 1;
    for (int i = 0; i < 2; i++)
        CHECK(setsockopt(fds[i], IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) == 0);
    CHECK(ioctl(fds[0], FIONBIO, &on) == 0);
    CHECK(close(server) == 0);
}

static NOINLINE UNUSED void peer_sends(int fd, const void *bytes, size_t size) {
    CHECK(send(fd, bytes, size, MSG_NOSIGNAL) == (ssize_t)size);
}

/* What there is, -EAGAIN included. */
static NOINLINE UNUSED ssize_t peer_receives(int fd, void *into, size_t size) {
    ssize_t n = recv(fd, into, size, 0);
    return n < 0 ? -errno : n;
}

static NOINLINE UNUSED void peer_ends(int fd) {
    CHECK(shutdown(fd, SHUT_WR) == 0);
}

static NOINLINE UNUSED void peer_closes(int fd) {
    CHECK(close(fd) == 0);
}

/* TCP: with a RST. */
static NOINLINE UNUSED void peer_resets(int fd) {
    struct linger linger = {.l_onoff = 1};
    CHECK(setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger) == 0);
    CHECK(close(fd) == 0);
}

static NOINLINE UNUSED unsigned open_descriptors(void) {
    unsigned count = 0;
    DIR *dir = opendir("/proc/self/fd");
    CHECK(dir);
    for (struct dirent *entry; (entry = readdir(dir));)
        count += entry->d_name[0] != '.';
    closedir(dir);
    return count;
}

static inline uint64_t blocks_in_use(void) {
    uint64_t count = 0;
    for (unsigned p = 0; p < rt_p_count(); p++) {
        struct rt_p_stats stats;
        rt_p_stats(p, &stats);
        count += stats.blocks_in_use;
    }
    return count;
}

static inline bool holds(const struct inbuf *in, const char *text) {
    return span_eq(inbuf_bytes(in), span_of(text));
}

/* Fills what is on the way to a peer that does not read. */
static inline void fill_up(struct socket *socket) {
    static char bytes[1 << 16];
    int rc;
    do {
        struct iovec piece = {bytes, sizeof bytes};
        rc = socket_send(socket, &piece, 1, "fills", NS_PER_MS);
    } while (rc == 0);
    CHECK(rc == -ETIMEDOUT);
}

static inline struct iovec piece_of(const char *text) {
    return (struct iovec){(void *)(uintptr_t)text, strlen(text)};
}
