/* rt_net: echoes over TCP on loopback. The cases are explained in rt_main.c.
 *
 * A descriptor belongs to the P that opened it. Both ends of a connection are dealt out, the clients in
 * turn and their servers in pairs: half of the messages go to the other P, as they would from strangers.
 *
 *     client i on P i % 2  ---- connection i ----  its server on P i / 2 % 2 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "rt/foreign.h"
#include "rt/poll.h"
#include "rt/waitgroup.h"
#include "rt_bench.h"

enum {
    CONNECTIONS = 64,
    MESSAGE_BYTES = 64,
    BUFFER_BYTES = 4096,
    BACKLOG = 128,
    BLOCK_US = 1000000
};

/* System calls of coroutines, kept out of functions that park: see rt.h, "errno". */
static NOINLINE ssize_t sys_recv(int fd, void *buffer, size_t size) {
    ssize_t n = recv(fd, buffer, size, 0);
    return n < 0 ? -errno : n;
}

static NOINLINE ssize_t sys_send(int fd, const void *bytes, size_t size) {
    ssize_t n = send(fd, bytes, size, MSG_NOSIGNAL);
    return n < 0 ? -errno : n;
}

static NOINLINE int sys_accept(int fd) {
    int taken = accept4(fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    return taken < 0 ? -errno : taken;
}

/* Returns while the handshake may still be under way. */
static NOINLINE int sys_connect(uint16_t port) {
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    if (connect(fd, (const void *)&address, sizeof address) < 0 && errno != EINPROGRESS)
        return -errno;
    return fd;
}

static NOINLINE int sys_listen(uint16_t *port) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0 || bind(fd, (const void *)&address, size) < 0 || listen(fd, BACKLOG) < 0 ||
        getsockname(fd, (void *)&address, &size) < 0)
        return -errno;
    *port = ntohs(address.sin_port);
    return fd;
}

static NOINLINE void set_nodelay(int fd) {
    int on = 1;
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on,
                     sizeof on); /* slower without, and no more */
}

/* How much came, 0 at the end. A short read has emptied the socket unless the peer has closed it. */
static ssize_t receive(struct poll_fd *pd, void *buffer, size_t size) {
    for (;;) {
        ssize_t n = sys_recv(pd->fd, buffer, size);
        if (n != -EAGAIN) {
            if (n > 0 && (size_t)n < size && !poll_hung_up(pd))
                poll_not_readable(pd);
            return n;
        }
        poll_not_readable(pd);
        bench_check("poll_wait_readable", poll_wait_readable(pd, "bench: receive", RT_FOREVER));
    }
}

static ssize_t receive_next(struct poll_fd *pd, void *buffer, size_t size) {
    bench_check("poll_wait_readable", poll_wait_readable(pd, "bench: next", RT_FOREVER));
    return receive(pd, buffer, size);
}

static int send_whole(struct poll_fd *pd, const char *bytes, size_t size) {
    while (size > 0) {
        ssize_t n = sys_send(pd->fd, bytes, size);
        if (n == -EAGAIN) {
            poll_not_writable(pd);
            bench_check("poll_wait_writable", poll_wait_writable(pd, "bench: send", RT_FOREVER));
            continue;
        }
        if (n < 0)
            return (int)n;
        bytes += n;
        size -= (size_t)n;
    }
    return 0;
}

static void echo(void *arg) {
    char buffer[BUFFER_BYTES];
    struct poll_fd pd;
    ssize_t n;
    bench_check("poll_open", poll_open(&pd, (int)(intptr_t)arg, NULL));
    while ((n = receive_next(&pd, buffer, sizeof buffer)) > 0)
        if (send_whole(&pd, buffer, (size_t)n) < 0)
            break;
    poll_close(&pd);
}

/* On P 0. */
static void accept_all(void *arg) {
    struct poll_fd pd;
    bench_check("poll_open", poll_open(&pd, (int)(intptr_t)arg, NULL));
    for (unsigned i = 0;;) {
        int fd = sys_accept(pd.fd);
        if (fd == -EAGAIN) {
            poll_not_readable(&pd);
            bench_check("poll_wait_readable", poll_wait_readable(&pd, "bench: accept", RT_FOREVER));
            continue;
        }
        bench_check("accept", fd);
        set_nodelay(fd);
        bench_go(RT_ON_P, i++ / 2 % rt_p_count(), "echoes", echo, (void *)(intptr_t)fd);
    }
}

/* The port. */
static uint16_t start_server(void) {
    uint16_t port = 0;
    int fd = sys_listen(&port);
    bench_check("listen", fd);
    bench_go(RT_ON_P, 0, "accepts", accept_all, (void *)(intptr_t)fd);
    return port;
}

struct client {
    struct poll_fd pd;
    uint64_t n;
};
static struct client clients[CONNECTIONS];
static uint16_t server_port;
static struct waitgroup wg;

static void open_client(void *arg) {
    struct client *client = arg;
    int fd = sys_connect(server_port);
    bench_check("connect", fd);
    set_nodelay(fd);
    bench_check("poll_open", poll_open(&client->pd, fd, NULL));
    poll_not_readable(&client->pd);
    poll_not_writable(&client->pd);
    bench_check("poll_wait_writable",
                poll_wait_writable(&client->pd, "bench: connect", RT_FOREVER));
    waitgroup_done(&wg);
}

static void ask(void *arg) {
    struct client *client = arg;
    char message[MESSAGE_BYTES], buffer[BUFFER_BYTES];
    memset(message, 'x', sizeof message);
    for (uint64_t i = 0; i < client->n; i++) {
        bench_check("send", send_whole(&client->pd, message, sizeof message));
        for (size_t got = 0; got < sizeof message;) {
            ssize_t n = receive_next(&client->pd, buffer, sizeof buffer);
            bench_check("recv", n > 0 ? 0 : -ECONNRESET);
            got += (size_t)n;
        }
    }
    waitgroup_done(&wg);
}

static void run_clients(rt_fn fn) {
    waitgroup_init(&wg);
    waitgroup_add(&wg, CONNECTIONS);
    for (unsigned i = 0; i < CONNECTIONS; i++)
        bench_go(RT_ON_P, i % rt_p_count(), "asks", fn, &clients[i]);
    bench_check("waitgroup_wait", waitgroup_wait(&wg, RT_FOREVER));
}

static void run_echo64(uint64_t n) {
    if (!server_port) {
        server_port = start_server();
        run_clients(open_client);
    }
    for (unsigned i = 0; i < CONNECTIONS; i++)
        clients[i].n = bench_share(n, CONNECTIONS, i);
    run_clients(ask);
}

static void sleep_outside(void *arg) {
    (void)usleep(BLOCK_US); /* woken early it sleeps again soon */
}

static void block(void *arg) {
    for (;;)
        foreign_call(sleep_outside, NULL);
}

void bench_serve_blocked(unsigned blocked_per_p) {
    uint16_t port = start_server();
    for (unsigned p = 0; p < rt_p_count(); p++)
        for (unsigned i = 0; i < blocked_per_p; i++)
            bench_go(RT_ON_P, p, "blocks", block, NULL);
    printf("%u\n", port);
    fflush(stdout);
}

const struct bench_case bench_net_cases[] = {
    {"echo64", 2, run_echo64, false},
    {0},
};
