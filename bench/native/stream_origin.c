/* stream_origin: what stands behind a TCP proxy that is measured. It speaks to stream_load.c, on as many
 * ports as it is told, and the first byte of a request says what is wanted:
 *
 *     'G' and eight bytes, big-endian: how many bytes to send. Another request may follow them.
 *     'E' a message of MESSAGE_BYTES: the same comes back. Another request may follow.
 *     'C' or a TLS record, however long: one byte, 'a' for the first port, 'b' for the second ..., and the end.
 *
 * The bytes of 'G' are those of stream_pattern.h, so that whoever receives them can tell whether they are the right
 * ones. One thread. A connection whose receiver is slow waits for it; an unknown request is the end of it.
 *
 * usage: stream_origin PORT... */
#include <arpa/inet.h>
#include <endian.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "stream_pattern.h"

enum {
    BATCH = 256,
    BACKLOG = 4096,
    INPUT_BYTES = 4096,
    SEND_BYTES = 256 << 10,
    PORTS_MAX = 26,
    TLS_RECORD = 0x16
};

struct connection {
    int fd;
    int port; /* its place among the ports; -1 of one that listens */
    bool is_listener, wants_room;
    uint32_t have;       /* of the request */
    uint64_t left, sent; /* of an answer to 'G' */
    char input[MESSAGE_BYTES];
};

static int epoll_fd;
static char pattern[SEND_BYTES + PATTERN_PERIOD];

static _Noreturn void fail(const char *what) {
    perror(what);
    exit(1);
}

static void watch(struct connection *connection, int how, bool wants_room) {
    struct epoll_event event = {.events = wants_room ? EPOLLOUT : EPOLLIN, .data.ptr = connection};
    connection->wants_room = wants_room;
    if (epoll_ctl(epoll_fd, how, connection->fd, &event) != 0)
        fail("stream_origin: epoll_ctl");
}

static struct connection *new_connection(int fd, int port, bool is_listener) {
    struct connection *connection = calloc(1, sizeof *connection);
    if (!connection)
        fail("stream_origin: memory");
    connection->fd = fd;
    connection->port = port;
    connection->is_listener = is_listener;
    watch(connection, EPOLL_CTL_ADD, false);
    return connection;
}

static void drop(struct connection *connection) {
    close(connection->fd);
    free(connection);
}

/* What is asked for, until the receiver is full. False when it is gone. */
static bool send_bytes(struct connection *connection) {
    while (connection->left > 0) {
        size_t many = connection->left < SEND_BYTES ? (size_t)connection->left : SEND_BYTES;
        ssize_t n = send(connection->fd, pattern + connection->sent % PATTERN_PERIOD, many,
                         MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0) {
            if (errno != EAGAIN)
                return false;
            if (!connection->wants_room)
                watch(connection, EPOLL_CTL_MOD, true);
            return true;
        }
        connection->sent += (uint64_t)n;
        connection->left -= (uint64_t)n;
    }
    if (connection->wants_room)
        watch(connection, EPOLL_CTL_MOD, false);
    return true;
}

static bool say_which(struct connection *connection) {
    char which = (char)('a' + connection->port);
    return send(connection->fd, &which, 1, MSG_NOSIGNAL) == 1 &&
           shutdown(connection->fd, SHUT_WR) == 0;
}

/* False when the connection has come to its end. */
static bool answer(struct connection *connection, bool is_first) {
    switch (connection->input[0]) {
    case 'G':
        if (connection->have < 1 + sizeof connection->left)
            return true;
        memcpy(&connection->left, connection->input + 1, sizeof connection->left);
        connection->left = be64toh(connection->left);
        connection->sent = 0;
        connection->have = 0;
        return send_bytes(connection);
    case 'E':
        if (connection->have < MESSAGE_BYTES)
            return true;
        connection->have = 0;
        return send(connection->fd, connection->input, MESSAGE_BYTES, MSG_NOSIGNAL) ==
               MESSAGE_BYTES;
    case 'C':
    case TLS_RECORD:
        return !is_first || say_which(connection); /* the rest of it is left out */
    default:
        return false;
    }
}

/* Nobody sends a request before the last one was answered, so what does not fit belongs to a hello. */
static bool take_bytes(struct connection *connection) {
    static char input[INPUT_BYTES];
    ssize_t n = recv(connection->fd, input, sizeof input, MSG_DONTWAIT);
    if (n <= 0)
        return n < 0 && errno == EAGAIN;
    size_t room = MESSAGE_BYTES - connection->have;
    size_t taken = (size_t)n < room ? (size_t)n : room;
    bool is_first = connection->have == 0;
    memcpy(connection->input + connection->have, input, taken);
    connection->have += (uint32_t)taken;
    return answer(connection, is_first);
}

static void serve(struct connection *connection) {
    if (!connection->is_listener) {
        if (!(connection->wants_room ? send_bytes(connection) : take_bytes(connection)))
            drop(connection);
        return;
    }
    int on = 1;
    for (int fd; (fd = accept4(connection->fd, NULL, NULL, SOCK_CLOEXEC)) >= 0;) {
        (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        (void)new_connection(fd, connection->port, false);
    }
}

static void listen_on(const char *port, int place) {
    struct sockaddr_in here = {.sin_family = AF_INET,
                               .sin_port = htons((uint16_t)atoi(port)),
                               .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int on = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(fd, (void *)&here, sizeof here) != 0 || listen(fd, BACKLOG) != 0)
        fail("stream_origin: listen");
    (void)new_connection(fd, place, true);
}

int main(int argc, char **argv) {
    if (argc < 2 || argc - 1 > PORTS_MAX) {
        fprintf(stderr, "usage: stream_origin PORT..., at most %d\n", PORTS_MAX);
        return 2;
    }
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    fill_pattern(pattern, sizeof pattern);
    for (int i = 1; i < argc; i++)
        listen_on(argv[i], i - 1);
    for (;;) {
        struct epoll_event batch[BATCH];
        int count = epoll_wait(epoll_fd, batch, BATCH, -1);
        for (int i = 0; i < count; i++)
            serve(batch[i].data.ptr);
    }
}
