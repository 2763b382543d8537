/* bare: the floor under a proxy. It forwards bytes between pairs of keep-alive connections and does
 * nothing else: no parsing, no headers, no logs, no limits, no timers. Per request that is what no
 * proxy on sockets and epoll can go below: two reads, two writes and a share of an epoll_wait. What a
 * real proxy costs above it is the price of its work.
 *
 *     client ──► pair.side[0] ──► the other side's descriptor ──► origin
 *
 * Each client connection has an origin connection of its own. Edge-triggered and, as in Sluice, a
 * read that came back short is not followed by one that would say EAGAIN. A full socket buffer is
 * waited for with poll(2): the bodies of the benchmark's floor fit, so it does not happen there.
 *
 * usage: bare LISTEN-PORT ORIGIN-PORT [WORKERS], both on 127.0.0.1. Each worker is a process with a socket of
 * its own that listens there, so that they share nothing. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

enum { BATCH = 256, BUFFER_BYTES = 16384, BACKLOG = 1024 };

struct pair;
struct side {
    struct pair *pair;
    int fd;
};
struct pair {
    struct side side[2];
    struct pair *next_dead;
};

static char buffer[BUFFER_BYTES];
static struct pair *dead; /* freed after the batch: a further event in it may point there */

static struct sockaddr_in loopback(const char *port) {
    return (struct sockaddr_in){.sin_family = AF_INET,
                                .sin_port = htons((uint16_t)atoi(port)),
                                .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
}

static void watch(int epoll_fd, int fd, void *ptr) {
    struct epoll_event event = {.events = EPOLLIN | EPOLLRDHUP | EPOLLET, .data.ptr = ptr};
    if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event) != 0)
        exit(1);
}

static void set_nodelay(int fd) {
    int on = 1;
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

static void take_client(int epoll_fd, int fd, const struct sockaddr_in *origin) {
    struct pair *pair = calloc(1, sizeof *pair);
    int up = socket(AF_INET, SOCK_STREAM, 0);
    if (!pair || up < 0 || connect(up, (const void *)origin, sizeof *origin) != 0)
        exit(1);
    set_nodelay(fd);
    set_nodelay(up);
    pair->side[0] = (struct side){pair, fd};
    pair->side[1] = (struct side){pair, up};
    watch(epoll_fd, fd, &pair->side[0]);
    watch(epoll_fd, up, &pair->side[1]);
}

static void end(struct pair *pair) {
    if (pair->side[0].fd < 0)
        return;
    for (int i = 0; i < 2; i++) {
        close(pair->side[i].fd);
        pair->side[i].fd = -1;
    }
    pair->next_dead = dead;
    dead = pair;
}

static int send_all(int fd, const char *from, size_t left) {
    while (left > 0) {
        ssize_t n = send(fd, from, left, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0 && errno != EAGAIN)
            return -1;
        if (n < 0) {
            struct pollfd writable = {.fd = fd, .events = POLLOUT};
            (void)poll(&writable, 1, -1);
            continue;
        }
        from += n;
        left -= (size_t)n;
    }
    return 0;
}

static void forward(struct side *side) {
    struct pair *pair = side->pair;
    struct side *other = side == &pair->side[0] ? &pair->side[1] : &pair->side[0];
    ssize_t n = BUFFER_BYTES;
    while (side->fd >= 0 && n == BUFFER_BYTES) {
        n = recv(side->fd, buffer, sizeof buffer, MSG_DONTWAIT);
        if (n == 0 || (n < 0 && errno != EAGAIN) ||
            (n > 0 && send_all(other->fd, buffer, (size_t)n) != 0))
            end(pair);
    }
}

static int listen_on(const char *port) {
    struct sockaddr_in here = loopback(port);
    int on = 1, listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    (void)setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    (void)setsockopt(listener, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on);
    if (bind(listener, (void *)&here, sizeof here) != 0 || listen(listener, BACKLOG) != 0) {
        perror("bare");
        exit(1);
    }
    return listener;
}

/* All but this one are children, which end with it. */
static void spawn_workers(int count) {
    while (--count > 0) {
        pid_t pid = fork();
        if (pid < 0) {
            perror("bare: fork");
            exit(1);
        }
        if (pid == 0) {
            (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
            return;
        }
    }
}

int main(int argc, char **argv) {
    if (argc != 3 && argc != 4)
        return 2;
    struct sockaddr_in origin = loopback(argv[2]);
    spawn_workers(argc == 4 ? atoi(argv[3]) : 1);
    int listener = listen_on(argv[1]);
    int epoll_fd = epoll_create1(0);
    watch(epoll_fd, listener, NULL);
    for (;;) {
        struct epoll_event batch[BATCH];
        int count = epoll_wait(epoll_fd, batch, BATCH, -1);
        for (int i = 0; i < count; i++) {
            if (batch[i].data.ptr) {
                if ((batch[i].events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) &&
                    !(batch[i].events & EPOLLIN))
                    end(((struct side *)batch[i].data.ptr)->pair);
                else
                    forward(batch[i].data.ptr);
                continue;
            }
            for (int fd; (fd = accept(listener, NULL, NULL)) >= 0;)
                take_client(epoll_fd, fd, &origin);
        }
        while (dead) {
            struct pair *next = dead->next_dead;
            free(dead);
            dead = next;
        }
    }
}
