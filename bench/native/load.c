/* load: requests of HTTP/1.1 over keep-alive connections to one server, each answer checked for its status
 * and its length. One thread, no coroutines: the same for every server that is measured.
 *
 *     load port=N [path=/] [post=BYTES] [body=BYTES] [connections=64] [rate=PER-SECOND] [ms=N] [requests=N] [idle=1]
 *
 * post makes it a POST with a body of so many bytes, body says how many an answer must have.
 * Built with -DLOAD_TLS, and tls_client.c, it speaks TLS: tls=1.2|1.3 [cipher=NAME].
 *
 * It opens its connections and has a request answered on each, prints "ready" and waits for a line, so
 * that whoever measures can look at the server's clocks before and after, with nothing of the opening
 * between. The line of JSON that it prints at the end is of what came after, and the connections stay open until
 * its input ends.
 *
 *   rate=0     closed loop: a connection's next request goes out when its last was answered. Ends after
 *              so many ms or requests, whichever comes first; what is under way is waited for.
 *   rate=R     open loop: request k is due at k/R seconds whatever has become of those before it, and goes
 *              out by the connection that has been idle longest. A latency counts from when the request
 *              was due: while a server stands still requests fall due, and it is charged for them all,
 *              where a closed loop would politely have stopped asking (coordinated omission). When all
 *              connections are busy it waits here, on the server's account. The first tenth is not told.
 *   idle=1     one request on each connection and no more; at the end it says how many are still open.
 *
 *       due        a connection is idle       sent                answered
 *     ───┼───────────────────┼──────────────────┼─────────────────────┼────►
 *        │                   │◄── late: ours ──►│                     │
 *        │◄──────────────────────── latency ──────────────────────────►│
 *
 * late_p99_us is how long after they were due requests went out although a connection was idle: the driver's
 * own fault, since the machine let it sleep. Latencies below it say nothing about the server. told is of how many
 * requests the latencies are.
 *
 * A connection whose answer says that it is the last one on it is opened anew before it is used again. Nothing is asked
 * twice.
 *
 * Limits  OPENING connections are opened at once, or the server's queue of them overflows and the kernel
 *         tries again after a second. */
#include <errno.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>

#include "driver.h"
#include "histogram.h"
#include "measure.h"
#ifdef LOAD_TLS
#include "wire_tls.h"
#else
#include "wire_plain.h"
#endif

enum {
    OPENING = 64,
    REQUEST_HEAD_MAX = 1024,
    HEAD_MAX = 2048,
    POST_MAX = 128 << 10,
    BATCH = 256,
    CONNECTIONS_MAX = 1 << 20
};
static const uint64_t ns_per_s = 1000000000, ns_per_ms = 1000000;
static const uint64_t patience_ns = 20 * 1000000000ULL; /* for answers that are due */

struct connection {
    struct wire wire;
    enum { IDLE, HEAD, BODY } state;
    bool is_another; /* than the one that was opened first */
    bool is_bad;     /* its answer had the wrong status or length */
    bool is_last;    /* its answer said that the server closes it */
    uint32_t head_bytes;
    uint64_t body_left;
    uint64_t due_ns;
    char head[HEAD_MAX];
};

static struct {
    uint64_t port, post, body, connections, rate, ms, requests, idle;
    const char *path;
} options = {.path = "/", .connections = 64, .body = UINT64_MAX};

static struct connection *connections;
static struct connection **idle; /* a ring of the idle ones, longest first */
static uint64_t idle_first, idle_count;
static struct sockaddr_in server;
static char *request;
static size_t request_bytes;
static int epoll_fd;

static struct histogram latency, late;
static uint64_t sent, answered, warm_up; /* of the run */
static uint64_t bad_status, bad_length, broken;

static _Noreturn void fail(const char *what) {
    driver_fail("load", what);
}

static uint64_t now_ns(void) {
    return clock_ns(CLOCK_MONOTONIC);
}

/* ---- connections ---- */

static void push_idle(struct connection *connection) {
    connection->state = IDLE;
    idle[(idle_first + idle_count++) % options.connections] = connection;
}

static struct connection *pop_idle(void) {
    struct connection *connection = idle[idle_first];
    idle_first = (idle_first + 1) % options.connections;
    idle_count--;
    return connection;
}

static void open_one(struct connection *connection) {
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = connection};
    int fd = driver_connect(&server, (uint64_t)(connection - connections));
    if (fd < 0 || epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event) != 0)
        fail("connect");
    int room = (int)request_bytes; /* the kernel takes twice of it, for what it needs itself */
    if (options.post && setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &room, sizeof room) != 0)
        fail("SO_SNDBUF");
    wire_open(&connection->wire, fd);
}

static void send_on(struct connection *connection, uint64_t due_ns) {
    connection->due_ns = due_ns;
    connection->state = HEAD;
    connection->head_bytes = 0;
    connection->is_bad = false;
    connection->is_last = false;
    /* A request fits the buffer of a connection that has none under way. A connection that the server has
     * closed says so when it is read. */
    ssize_t n = wire_send(&connection->wire, request, request_bytes);
    if (n >= 0 && (size_t)n != request_bytes)
        fail("send");
}

/* ---- answers ---- */

static void finish(struct connection *connection) {
    if (!connection->is_bad && answered >= warm_up)
        histogram_add(&latency, now_ns() - connection->due_ns);
    answered++;
    push_idle(connection);
}

static void open_another(struct connection *connection) {
    wire_close(&connection->wire);
    open_one(connection);
    connection->is_another = true;
}

/* The server closed it, or said what cannot be understood or nobody asked for: a request that was under way is lost,
 * and the connection is another one from now on. A server may close one that is idle. */
static void replace(struct connection *connection, bool has_spoken) {
    bool is_lost = connection->state != IDLE;
    broken += is_lost || has_spoken;
    open_another(connection);
    if (!is_lost)
        return;
    answered++;
    push_idle(connection);
}

/* The head is whole: how long is the body? False when it does not say. */
static bool read_head(struct connection *connection, size_t bytes) {
    static const char length[] = "content-length:", last[] = "connection: close\r";
    const char *at = connection->head, *end = at + bytes;
    bool has_length = false;
    if (memcmp(at, "HTTP/1.1 200", 12) != 0 && !connection->is_bad) {
        bad_status++;
        connection->is_bad = true;
    }
    while ((at = memchr(at, '\n', (size_t)(end - at))) && ++at < end) {
        if (strncasecmp(at, last, sizeof last - 1) == 0)
            connection->is_last = true;
        if (strncasecmp(at, length, sizeof length - 1) != 0)
            continue;
        has_length = true;
        connection->body_left = strtoull(at + sizeof length - 1, NULL, 10);
        if (connection->body_left != options.body && options.body != UINT64_MAX &&
            !connection->is_bad) {
            bad_length++;
            connection->is_bad = true;
        }
    }
    return has_length;
}

/* How many of these bytes belong to the head; -1 when it is none. */
static ssize_t take_head(struct connection *connection, const char *bytes, size_t count) {
    uint32_t before = connection->head_bytes;
    size_t room = HEAD_MAX - 1 - before;
    size_t taken = count < room ? count : room;
    memcpy(connection->head + before, bytes, taken);
    connection->head_bytes += (uint32_t)taken;
    connection->head[connection->head_bytes] = 0;
    const char *end = memmem(connection->head, connection->head_bytes, "\r\n\r\n", 4);
    if (!end)
        return connection->head_bytes < HEAD_MAX - 1 ? (ssize_t)taken : -1;
    size_t head = (size_t)(end - connection->head) + 4;
    if (!read_head(connection, head))
        return -1;
    connection->state = BODY;
    return (ssize_t)(head - before);
}

static bool take_bytes(struct connection *connection, const char *bytes, size_t count) {
    while (count > 0) {
        if (connection->state == IDLE)
            return false; /* nobody asked */
        if (connection->state == HEAD) {
            ssize_t head = take_head(connection, bytes, count);
            if (head < 0)
                return false;
            bytes += head;
            count -= (size_t)head;
        }
        if (connection->state == BODY) {
            size_t body = count < connection->body_left ? count : connection->body_left;
            connection->body_left -= body;
            bytes += body;
            count -= body;
            if (connection->body_left == 0)
                finish(connection);
        }
    }
    return true;
}

/* Waits until something is readable or so long, and takes what is there. */
static void take_answers(uint64_t wait_ns) {
    static char buffer[256 << 10];
    struct epoll_event batch[BATCH];
    struct timespec wait = {.tv_sec = (time_t)(wait_ns / ns_per_s),
                            .tv_nsec = (long)(wait_ns % ns_per_s)};
    int count = epoll_pwait2(epoll_fd, batch, BATCH, &wait, NULL);
    if (count < 0 && errno != EINTR)
        fail("epoll_pwait2");
    for (int i = 0; i < count; i++) {
        struct connection *connection = batch[i].data.ptr;
        ssize_t n = wire_receive(&connection->wire, buffer, sizeof buffer);
        if (n < 0 && errno == EAGAIN)
            continue;
        if (n <= 0 || !take_bytes(connection, buffer, (size_t)n))
            replace(connection, n > 0);
        else if (connection->state == IDLE && connection->is_last)
            open_another(connection);
    }
}

/* Until at most so many are busy. */
static void settle(uint64_t busy) {
    uint64_t give_up_ns = now_ns() + patience_ns;
    while (sent - answered > busy) {
        take_answers(ns_per_s);
        if (now_ns() > give_up_ns) {
            fprintf(stderr, "load: %llu requests got no answer\n",
                    (unsigned long long)(sent - answered));
            exit(1);
        }
    }
}

static void open_all(void) {
    for (uint64_t i = 0; i < options.connections; i++, sent++) {
        settle(OPENING - 1);
        open_one(&connections[i]);
        send_on(&connections[i], now_ns());
    }
    settle(0);
}

/* All at once, so that the server has as many connections to its origin as it is going to need. */
static void burst(void) {
    for (; idle_count > 0; sent++)
        send_on(pop_idle(), now_ns());
    settle(0);
}

/* ---- the run ---- */

static void run_closed(uint64_t start_ns) {
    uint64_t end_ns = options.ms ? start_ns + options.ms * ns_per_ms : UINT64_MAX;
    uint64_t most = options.requests ? options.requests : UINT64_MAX;
    for (uint64_t now = start_ns; now < end_ns && sent < most; now = now_ns()) {
        for (; idle_count > 0 && sent < most; sent++)
            send_on(pop_idle(), now);
        take_answers(end_ns - now < ns_per_s ? end_ns - now : ns_per_s);
        if (now_ns() > start_ns + patience_ns && answered == 0)
            break; /* settle says so */
    }
    settle(0);
}

static void run_open(uint64_t start_ns) {
    uint64_t total = options.rate * options.ms / 1000;
    if (options.requests && options.requests < total)
        total = options.requests;
    uint64_t give_up_ns = start_ns + total * ns_per_s / options.rate + patience_ns;
    uint64_t idle_since_ns = start_ns; /* for the driver's own lateness */
    warm_up = total / 10;
    while (sent < total) {
        uint64_t now = now_ns(), due = start_ns + sent * ns_per_s / options.rate;
        if (now > give_up_ns)
            break;
        if (idle_count > 0 && due <= now) {
            send_on(pop_idle(), due);
            histogram_add(&late, now - (due > idle_since_ns ? due : idle_since_ns));
            sent++;
            continue;
        }
        bool was_busy = idle_count == 0;
        take_answers(was_busy ? ns_per_s : due - now);
        if (was_busy && idle_count > 0)
            idle_since_ns = now_ns();
    }
    settle(0);
}

static uint64_t still_open(void) {
    uint64_t count = 0;
    for (uint64_t i = 0; i < options.connections; i++) {
        char byte;
        ssize_t n = recv(connections[i].wire.fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
        count += n < 0 && errno == EAGAIN && !connections[i].is_another;
    }
    return count;
}

static void report(uint64_t took_ns, uint64_t cpu_ns) {
    printf("{\"requests\": %llu, \"seconds\": %.6f, \"bad_status\": %llu, \"bad_length\": %llu, "
           "\"broken\": %llu, \"driver_busy\": %.3f, \"p50_us\": %.2f, \"p99_us\": %.2f, "
           "\"p999_us\": %.2f, \"max_us\": %.2f, \"mean_us\": %.2f, \"late_p99_us\": %.2f, "
           "\"late_p999_us\": %.2f, \"told\": %llu, \"still_open\": %llu}\n",
           (unsigned long long)answered, (double)took_ns / 1e9, (unsigned long long)bad_status,
           (unsigned long long)bad_length, (unsigned long long)broken,
           took_ns ? (double)cpu_ns / (double)took_ns : 0, histogram_at(&latency, 0.5) / 1e3,
           histogram_at(&latency, 0.99) / 1e3, histogram_at(&latency, 0.999) / 1e3,
           (double)latency.max / 1e3,
           latency.count ? (double)latency.sum / (double)latency.count / 1e3 : 0,
           histogram_at(&late, 0.99) / 1e3, histogram_at(&late, 0.999) / 1e3,
           (unsigned long long)latency.count, (unsigned long long)still_open());
}

/* ---- options ---- */

static bool read_option(const char *text) {
    static const struct driver_number numbers[] = {
        {"port=", &options.port},         {"body=", &options.body},
        {"rate=", &options.rate},         {"ms=", &options.ms},
        {"requests=", &options.requests}, {"connections=", &options.connections},
        {"idle=", &options.idle},         {"post=", &options.post},
    };
    if (strncmp(text, "path=/", 6) == 0) {
        options.path = text + 5;
        return true;
    }
    return driver_read_number(text, numbers, sizeof numbers / sizeof *numbers) ||
           wire_read_option(text);
}

static bool read_options(int argc, char **argv) {
    for (int i = 1; i < argc; i++)
        if (!read_option(argv[i]))
            return false;
    bool has_end = options.ms > 0 || (options.requests > 0 && options.rate == 0);
    return options.port > 0 && options.port < 1 << 16 && options.connections > 0 &&
           options.connections <= CONNECTIONS_MAX && options.post <= POST_MAX &&
           (has_end || options.idle) && wire_prepare();
}

static void prepare_request(void) {
    request = malloc(REQUEST_HEAD_MAX + options.post);
    if (!request)
        fail("memory");
    char length[64] = "";
    if (options.post)
        (void)snprintf(length, sizeof length, "Content-Length: %llu\r\n",
                       (unsigned long long)options.post);
    int bytes =
        snprintf(request, REQUEST_HEAD_MAX, "%s %s HTTP/1.1\r\nHost: 127.0.0.1:%u\r\n%s\r\n",
                 options.post ? "POST" : "GET", options.path, (unsigned)options.port, length);
    if (bytes < 0 || bytes >= REQUEST_HEAD_MAX) {
        fprintf(stderr, "load: the path is longer than %d bytes\n", REQUEST_HEAD_MAX / 2);
        exit(2);
    }
    memset(request + bytes, 'x', options.post);
    request_bytes = (size_t)bytes + options.post;
}

static void prepare(void) {
    server = driver_server(options.port);
    prepare_request();
    connections = calloc(options.connections, sizeof *connections);
    idle = calloc(options.connections, sizeof *idle);
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (!connections || !idle || epoll_fd < 0)
        fail("memory and epoll");
    /* Else the kernel lets a sleeper wait 50 us longer, so as to wake several at once; and who is due at a
     * moment must not wait until the origin, on the same core, has done its turn. Without the right to that
     * late_p99_us tells. */
    (void)prctl(PR_SET_TIMERSLACK, 1);
    if (options.rate > 0)
        (void)sched_setscheduler(0, SCHED_FIFO, &(struct sched_param){.sched_priority = 1});
}

int main(int argc, char **argv) {
    if (!read_options(argc, argv)) {
        fputs("usage: load port=N [path=/] [post=BYTES] [body=BYTES] [connections=64] "
              "[rate=PER-SECOND] [ms=N] [requests=N] [idle=1]" WIRE_USAGE "\n"
              "ms or, without a rate, requests must say when it ends\n",
              stderr);
        return 2;
    }
    prepare();
    open_all();
    if (!options.idle)
        burst();
    puts("ready");
    (void)fflush(stdout);
    driver_wait_for_line();
    sent = answered = 0;
    latency = (struct histogram){0};
    uint64_t wall = now_ns(), cpu = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
    if (!options.idle && options.rate > 0)
        run_open(wall);
    else if (!options.idle)
        run_closed(wall);
    report(now_ns() - wall, clock_ns(CLOCK_PROCESS_CPUTIME_ID) - cpu);
    (void)fflush(stdout);
    driver_wait_for_line();
    return 0;
}
