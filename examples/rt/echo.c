/* echo: a TCP server with a coroutine for each connection, on all processors.
 *
 * The main coroutine accepts and deals connections out to the processors in turn. A connection stays
 * on its processor: its poll_fd, its buffer and its deadline are touched by one thread at a time, and
 * nothing takes a lock. Reading and writing look as if they blocked.
 *
 *     ./echo            says where it listens, then serves until SIGTERM or SIGINT */
#define _GNU_SOURCE /* accept4 */
#include <signal.h>
#include <stdio.h>

#include "base/clock.h"
#include "rt/poll.h"
#include "rt/rt.h"
#include "rt/signals.h"
#include "rt/sync.h"
#include "sys.h"

enum { IDLE_MAX_S = 60 };

static int64_t soon(void) {
    return rt_now_ns() + IDLE_MAX_S * NS_PER_S;
}

/* Try first, wait when there is nothing: the poller reports changes only. */
static ssize_t receive(struct poll_fd *pd, void *out, size_t size) {
    for (;;) {
        ssize_t got = sys_read(pd->fd, out, size);
        if (got != -EAGAIN)
            return got;
        poll_not_readable(pd);
        int err = poll_wait_readable(pd, "echo: read", soon());
        if (err < 0)
            return err;
    }
}

static int send_all(struct poll_fd *pd, const char *bytes, size_t size) {
    while (size > 0) {
        ssize_t sent = sys_send(pd->fd, bytes, size);
        if (sent == -EAGAIN) {
            poll_not_writable(pd);
            sent = poll_wait_writable(pd, "echo: write", soon());
        }
        if (sent < 0)
            return (int)sent;
        bytes += sent;
        size -= (size_t)sent;
    }
    return 0;
}

static void serve(void *arg) {
    int fd = (int)(intptr_t)arg;
    struct poll_fd pd;
    if (poll_open(&pd, fd, NULL) < 0) {
        (void)close(fd); /* it was never used */
        return;
    }
    char bytes[4096]; /* the stack has 64 KiB */
    for (ssize_t got; (got = receive(&pd, bytes, sizeof bytes)) > 0;)
        if (send_all(&pd, bytes, (size_t)got) < 0)
            break;
    poll_close(&pd);
}

static void stop(void *arg) {
    (void)arg;
    rt_stop(0);
}

static void echo(void *arg) {
    (void)arg;
    struct sockaddr_in address;
    struct poll_fd listener;
    int fd = sys_listen_loopback(&address);
    if (fd < 0 || poll_open(&listener, fd, NULL) < 0 ||
        signals_on(SIGTERM, "stop", stop, NULL) < 0 || signals_on(SIGINT, "stop", stop, NULL) < 0) {
        fprintf(stderr, "echo: cannot listen\n");
        rt_stop(1);
        return;
    }
    printf("listening on 127.0.0.1:%u\n", ntohs(address.sin_port));
    fflush(stdout);

    for (unsigned next_p = 0;; next_p = (next_p + 1) % rt_p_count()) {
        int client = sys_accept(listener.fd);
        if (client >= 0) {
            if (go_on(next_p, "connection", serve, (void *)(intptr_t)client) < 0)
                (void)close(client); /* short of memory: this client loses, the others go on */
        } else if (client == -EAGAIN) {
            poll_not_readable(&listener);
            if (poll_wait_readable(&listener, "echo: accept", RT_FOREVER) < 0)
                return;
        } else if (rt_sleep_until(rt_now_ns() + 10 * NS_PER_MS) < 0) {
            return; /* out of descriptors, most likely: some will be closed */
        }
    }
}

int main(void) {
    struct rt_options options = {.p_count = 0}; /* as many as there are cores for us */
    return rt_run(&options, echo, NULL) == 0 ? 0 : 1;
}
