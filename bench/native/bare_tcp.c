/* bare_tcp: the floor under a TCP proxy. It takes a connection, makes one to the origin, and moves what comes
 * from either to the other by splice(2), so that no byte is copied. Nothing else: no limits, no timers, no
 * logs, no counters, no choice of a backend. What a real proxy costs above it is the price of its work.
 *
 *     client ──splice──► pipe ──splice──► origin         one pipe for all, since it is empty again
 *     client ◄──splice── pipe ◄──splice── origin         before the next one needs it
 *
 * Only a direction whose receiver is full keeps the pipe, with what is in it, and the others take another.
 * Edge-triggered: a direction goes on until its sender has nothing. A splice of so few bytes that they cannot
 * have filled the pipe has emptied the sender and is not followed by one that would say EAGAIN, unless the end
 * of the stream is known to be there. Connecting
 * is not waited for: what is sent before is told to try again, and the edge tells when.
 *
 * An end of the stream is passed on by shutdown(2); the pair is closed when both have ended, or on an error.
 *
 * usage: bare_tcp LISTEN-PORT ORIGIN-PORT, both on 127.0.0.1 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    BATCH = 256,
    BACKLOG = 4096,
    PIPES_KEPT = 16,
    PIPE_BYTES = 1 << 20, /* what an unprivileged process may have; its slots are a page each */
    PIPE_SLOTS = PIPE_BYTES / 4096,
};

struct pipe {
    int from, to; /* read from, written to */
};

struct pair;
struct side {
    struct pair *pair;
    int fd;
    bool is_ending;   /* its last bytes are here */
    bool has_ended;   /* and were taken */
    size_t held;      /* of what came from it, what its pipe has for the other side */
    struct pipe pipe; /* while held */
};
struct pair {
    struct side side[2];
    struct pair *next_dead;
};

static struct pipe pipes[PIPES_KEPT];
static int pipes_kept;
static struct pair *dead; /* freed after the batch: a further event in it may point there */

static _Noreturn void fail(const char *what) {
    perror(what);
    exit(1);
}

static struct pipe pipe_get(void) {
    if (pipes_kept > 0)
        return pipes[--pipes_kept];
    int fds[2];
    if (pipe2(fds, O_NONBLOCK | O_CLOEXEC) != 0)
        fail("bare_tcp: pipe2");
    (void)fcntl(fds[1], F_SETPIPE_SZ, PIPE_BYTES); /* a smaller one does as well */
    return (struct pipe){fds[0], fds[1]};
}

static void pipe_close(struct pipe pipe) {
    close(pipe.from);
    close(pipe.to);
}

static void pipe_put(struct pipe pipe) {
    if (pipes_kept < PIPES_KEPT)
        pipes[pipes_kept++] = pipe;
    else
        pipe_close(pipe);
}

static void end(struct pair *pair) {
    for (int i = 0; i < 2; i++) {
        struct side *side = &pair->side[i];
        if (side->held > 0)
            pipe_close(side->pipe); /* with what is in it */
        close(side->fd);
        side->fd = -1;
    }
    pair->next_dead = dead;
    dead = pair;
}

/* Into the other side's socket, what the pipe holds. False when that is full or gone. */
static bool drain(struct side *side, struct side *other) {
    while (side->held > 0) {
        ssize_t n = splice(side->pipe.from, NULL, other->fd, NULL, side->held, SPLICE_F_MOVE);
        if (n <= 0) {
            if (n == 0 || errno != EAGAIN)
                end(side->pair);
            return false;
        }
        side->held -= (size_t)n;
    }
    pipe_put(side->pipe);
    return true;
}

static void forward(struct side *side) {
    struct pair *pair = side->pair;
    struct side *other = side == &pair->side[0] ? &pair->side[1] : &pair->side[0];
    if (side->held > 0 && !drain(side, other))
        return;
    while (!side->has_ended) {
        side->pipe = pipe_get();
        ssize_t n = splice(side->fd, NULL, side->pipe.to, NULL, PIPE_BYTES, SPLICE_F_MOVE);
        if (n <= 0) {
            bool is_waiting = n < 0 && errno == EAGAIN;
            pipe_put(side->pipe);
            if (is_waiting)
                return;
            side->has_ended = n == 0;
            if (n < 0 || other->has_ended)
                end(pair);
            else
                (void)shutdown(other->fd, SHUT_WR); /* one that is gone says so itself */
            return;
        }
        side->held = (size_t)n;
        if (!drain(side, other) || (n < PIPE_SLOTS && !side->is_ending))
            return;
    }
}

static void watch(int epoll_fd, int fd, void *ptr) {
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET,
                                .data.ptr = ptr};
    if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event) != 0)
        fail("bare_tcp: epoll_ctl");
}

static void set_nodelay(int fd) {
    int on = 1;
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

static void take_client(int epoll_fd, int fd, const struct sockaddr_in *origin) {
    struct pair *pair = calloc(1, sizeof *pair);
    int up = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (!pair || up < 0 ||
        (connect(up, (const void *)origin, sizeof *origin) != 0 && errno != EINPROGRESS))
        fail("bare_tcp: connect");
    set_nodelay(fd);
    set_nodelay(up);
    pair->side[0] = (struct side){.pair = pair, .fd = fd};
    pair->side[1] = (struct side){.pair = pair, .fd = up};
    watch(epoll_fd, fd, &pair->side[0]);
    watch(epoll_fd, up, &pair->side[1]);
}

static void serve(struct side *side, uint32_t events) {
    struct pair *pair = side->pair;
    struct side *other = side == &pair->side[0] ? &pair->side[1] : &pair->side[0];
    if (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR))
        side->is_ending = true;
    if (side->fd >= 0 && (events & EPOLLOUT) && other->held > 0)
        forward(other);
    if (side->fd >= 0 && (events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)))
        forward(side);
}

static int listen_on(const char *port) {
    struct sockaddr_in here = {.sin_family = AF_INET,
                               .sin_port = htons((uint16_t)atoi(port)),
                               .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int on = 1, listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    (void)setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(listener, (void *)&here, sizeof here) != 0 || listen(listener, BACKLOG) != 0)
        fail("bare_tcp: listen");
    return listener;
}

int main(int argc, char **argv) {
    if (argc != 3) {
        fputs("usage: bare_tcp LISTEN-PORT ORIGIN-PORT\n", stderr);
        return 2;
    }
    struct sockaddr_in origin = {.sin_family = AF_INET,
                                 .sin_port = htons((uint16_t)atoi(argv[2])),
                                 .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    (void)signal(SIGPIPE, SIG_IGN); /* splice(2) knows no MSG_NOSIGNAL */
    int listener = listen_on(argv[1]);
    int epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    watch(epoll_fd, listener, NULL);
    for (;;) {
        struct epoll_event batch[BATCH];
        int count = epoll_wait(epoll_fd, batch, BATCH, -1);
        for (int i = 0; i < count; i++) {
            if (batch[i].data.ptr) {
                serve(batch[i].data.ptr, batch[i].events);
                continue;
            }
            for (int fd; (fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0;)
                take_client(epoll_fd, fd, &origin);
        }
        while (dead) {
            struct pair *next = dead->next_dead;
            free(dead);
            dead = next;
        }
    }
}
