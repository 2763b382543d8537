/* handshakes: TLS connections to one server, each of them a handshake and no more. One thread: the same for every
 * server that is measured.
 *
 *     handshakes port=N tls=1.2|1.3 [cipher=NAME] [resume=1] [connections=16] [ms=N] [requests=N]
 *
 *     connect ──► handshake ──► the ticket ──► close_notify, close ──► the next one
 *
 * A server says after the handshake of TLS 1.3 how it can be resumed, and that belongs to what a handshake costs,
 * so it is waited for. With TLS 1.2 that comes within. resume=1: each connection goes on with the
 * session of the one before it in its place; the first ones are full and before what is measured.
 *
 * As stream_load.c does, it does one on each connection, prints "ready", waits for a line, and prints a line of JSON
 * about what came after: requests are handshakes. bad_version: not the version or the cipher that was
 * asked for. not_resumed: a full one where it was to be resumed, or the other way round. It ends when its input does. */
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "driver.h"
#include "measure.h"
#include "tls_client.h"

enum { BATCH = 256, CONNECTIONS_MAX = 4096 };
static const uint64_t ns_per_ms = 1000000;
static const uint64_t patience_ns = 20 * 1000000000ULL;

struct connection {
    SSL *ssl; /* while it is busy */
    int fd;
    bool has_ticket;
    SSL_SESSION *session; /* to go on with, or NULL */
};

static struct { uint64_t port, connections, ms, requests, resume; } options = {.connections = 16};
static struct tls_wish wish;
static SSL_CTX *context;
static struct connection *connections;
static struct sockaddr_in server;
static int epoll_fd;
static bool is_measured;
static uint64_t opened, started, done, broken, bad_version, not_resumed;

static _Noreturn void fail(const char *what) {
    driver_fail("handshakes", what);
}

static uint64_t now_ns(void) {
    return clock_ns(CLOCK_MONOTONIC);
}

static void open_socket(struct connection *connection) {
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = connection};
    int fd = driver_connect(&server, opened++);
    if (fd < 0 || fcntl(fd, F_SETFL, O_NONBLOCK) != 0 ||
        epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event) != 0)
        fail("connect");
    connection->fd = fd;
}

/* OpenSSL calls it when a session may be resumed. 1: the session is ours from now on. */
static int keep_session(SSL *ssl, SSL_SESSION *session) {
    struct connection *connection = SSL_get_app_data(ssl);
    SSL_SESSION_free(connection->session);
    connection->session = session;
    connection->has_ticket = true;
    return 1;
}

static void step(struct connection *connection);

static void start(struct connection *connection) {
    open_socket(connection);
    connection->has_ticket = false;
    connection->ssl = SSL_new(context);
    if (!connection->ssl || !SSL_set_fd(connection->ssl, connection->fd) ||
        !SSL_set_app_data(connection->ssl, connection))
        fail("SSL_new");
    if (options.resume && connection->session &&
        !SSL_set_session(connection->ssl, connection->session))
        fail("SSL_set_session");
    SSL_set_connect_state(connection->ssl);
    started++;
    step(connection);
}

static void finish(struct connection *connection, bool is_whole) {
    bool must_resume = options.resume && is_measured;
    if (!is_whole)
        broken++;
    else if (!tls_is_as_wished(&wish, connection->ssl))
        bad_version++;
    else if (is_measured && (SSL_session_reused(connection->ssl) == 1) != must_resume)
        not_resumed++;
    if (is_whole)
        (void)SSL_shutdown(connection->ssl); /* only says it; the answer is not waited for */
    SSL_free(connection->ssl);
    connection->ssl = NULL;
    close(connection->fd);
    done++;
}

/* As far as it comes. */
static void step(struct connection *connection) {
    char byte;
    int n = SSL_do_handshake(connection->ssl);
    /* A server of TLS 1.2 that resumes need not give another ticket. */
    bool is_complete = n == 1 && (wish.version == TLS1_2_VERSION || connection->has_ticket);
    if (n == 1 && !is_complete) {
        n = SSL_read(connection->ssl, &byte, 1); /* nobody sends any: what comes is the ticket */
        is_complete = connection->has_ticket;
    }
    if (is_complete)
        finish(connection, true);
    else if (n > 0 || SSL_get_error(connection->ssl, n) != SSL_ERROR_WANT_READ)
        finish(connection, false);
}

static void take_events(int wait_ms) {
    struct epoll_event batch[BATCH];
    int count = epoll_wait(epoll_fd, batch, BATCH, wait_ms);
    if (count < 0 && errno != EINTR)
        fail("epoll_wait");
    for (int i = 0; i < count; i++)
        step(batch[i].data.ptr);
}

static bool start_idle(uint64_t most) {
    for (uint64_t i = 0; i < options.connections && started < most; i++)
        if (!connections[i].ssl)
            start(&connections[i]);
    return started < most;
}

/* However late it is, each connection makes one: a turn of nothing has no cost of one. */
static void run(uint64_t start_ns, uint64_t end_ns, uint64_t most) {
    uint64_t last_ns = start_ns, last_done = done;
    bool may_start = start_idle(most);
    while (may_start || done < started) {
        take_events(done < started ? 100 : 0);
        uint64_t now = now_ns();
        may_start = may_start && now < end_ns && start_idle(most);
        if (done != last_done) {
            last_done = done;
            last_ns = now;
        }
        if (now - last_ns > patience_ns) {
            fprintf(stderr, "handshakes: %llu did not come to their end\n",
                    (unsigned long long)(started - done));
            exit(1);
        }
    }
}

static void report(uint64_t took_ns, uint64_t cpu_ns) {
    printf("{\"requests\": %llu, \"seconds\": %.6f, \"broken\": %llu, \"bad_version\": %llu, "
           "\"not_resumed\": %llu, \"driver_busy\": %.3f}\n",
           (unsigned long long)done, (double)took_ns / 1e9, (unsigned long long)broken,
           (unsigned long long)bad_version, (unsigned long long)not_resumed,
           took_ns ? (double)cpu_ns / (double)took_ns : 0);
}

static bool read_option(const char *text) {
    static const struct driver_number numbers[] = {
        {"port=", &options.port},     {"connections=", &options.connections},
        {"ms=", &options.ms},         {"requests=", &options.requests},
        {"resume=", &options.resume},
    };
    return driver_read_number(text, numbers, sizeof numbers / sizeof *numbers) ||
           tls_read_option(&wish, text);
}

static bool read_options(int argc, char **argv) {
    for (int i = 1; i < argc; i++)
        if (!read_option(argv[i]))
            return false;
    return options.port > 0 && options.port < 1 << 16 && wish.version != 0 &&
           options.connections > 0 && options.connections <= CONNECTIONS_MAX &&
           (options.ms > 0 || options.requests > 0);
}

static void prepare(void) {
    server = driver_server(options.port);
    context = tls_new_context(&wish);
    SSL_CTX_set_session_cache_mode(context,
                                   SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL_STORE);
    SSL_CTX_sess_set_new_cb(context, keep_session);
    connections = calloc(options.connections, sizeof *connections);
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (!connections || epoll_fd < 0)
        fail("memory and epoll");
}

int main(int argc, char **argv) {
    if (!read_options(argc, argv)) {
        fputs("usage: handshakes port=N tls=1.2|1.3 [cipher=NAME] [resume=1] [connections=16] "
              "[ms=N] [requests=N]\n"
              "ms or requests must say when it ends\n",
              stderr);
        return 2;
    }
    prepare();
    run(now_ns(), UINT64_MAX, options.connections);
    puts("ready");
    (void)fflush(stdout);
    driver_wait_for_line();
    started = done = 0;
    is_measured = true;
    uint64_t wall = now_ns(), cpu = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
    run(wall, options.ms ? wall + options.ms * ns_per_ms : UINT64_MAX,
        options.requests ? options.requests : UINT64_MAX);
    report(now_ns() - wall, clock_ns(CLOCK_PROCESS_CPUTIME_ID) - cpu);
    (void)fflush(stdout);
    driver_wait_for_line();
    return 0;
}
