/* stream_load: what asks for bytes through a TCP proxy, of stream_origin.c. One thread, no coroutines: the same
 * for every proxy that is measured.
 *
 *     stream_load port=N mode=MODE [connections=64] [ms=N] [requests=N] [bytes=N] [hellos=FILE] [verify=1]
 *
 *   mode=bulk      each connection asks for so many bytes, and again when it has them. The kernel drops them
 *                  (MSG_TRUNC), so that receiving costs the machine little; with verify=1 they are looked at.
 *   mode=ping      each connection sends a message and waits for the same to come back.
 *   mode=exchange  connect, say hello, receive one byte and the end of the stream, close: each time a new connection.
 *                  The hellos are taken from the file in turn. A hello there is a byte, which is the one that
 *                  must be the answer, two with the length, big-endian, and so many that are sent.
 *   mode=idle      a message comes back on each connection, and no more; at the end it says how many are still open.
 *
 * As load.c does, it opens its connections and uses each of them once, prints "ready", waits for a line, and prints a
 * line of JSON about what came after. It ends when its input does. All modes are closed loops that end
 * after so many ms or requests, whichever comes first; what is under way is waited for. */
#include <endian.h>
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "driver.h"
#include "measure.h"
#include "stream_pattern.h"

enum {
    BATCH = 256,
    RECEIVE_BYTES = 1 << 20,
    HELLOS_MAX = 64,
    HELLO_BYTES_MAX = 4096,
    CONNECTIONS_MAX = 1 << 20,
    BROKEN_MAX = 1000, /* then no more are opened */
};
static const uint64_t ns_per_ms = 1000000;
static const uint64_t patience_ns = 20 * 1000000000ULL; /* for answers that are due */

struct hello {
    char answer;
    uint16_t bytes;
    char text[HELLO_BYTES_MAX];
};

struct connection {
    int fd;
    bool is_busy;
    bool has_byte; /* an exchange's answer */
    const struct hello *hello;
    uint64_t got; /* of the answer */
};

static enum mode { BULK, PING, EXCHANGE, IDLE, MODES } mode = MODES;
static struct {
    uint64_t port, connections, ms, requests, bytes, verify;
    const char *hellos;
} options = {.connections = 64, .bytes = 4 << 20};

static struct hello hellos[HELLOS_MAX];
static unsigned hello_count;
static struct connection *connections;
static struct sockaddr_in server;
static int epoll_fd;
static char message[MESSAGE_BYTES];
static uint64_t answer_bytes; /* of a request of bulk, ping and idle */
static char pattern[2 * RECEIVE_BYTES];

static uint64_t opened, sent, answered, received, broken;

static _Noreturn void fail(const char *what) {
    driver_fail("stream_load", what);
}

static uint64_t now_ns(void) {
    return clock_ns(CLOCK_MONOTONIC);
}

/* ---- connections ---- */

static void open_one(struct connection *connection) {
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = connection};
    connection->fd = driver_connect(&server, opened++);
    if (connection->fd < 0 || epoll_ctl(epoll_fd, EPOLL_CTL_ADD, connection->fd, &event) != 0)
        fail("connect");
}

/* A request fits the buffer of a connection that has none under way. A connection that the proxy has closed says so
 * when it is read. */
static void ask(struct connection *connection) {
    const char *bytes = message;
    size_t count = mode == BULK ? 1 + sizeof(uint64_t) : MESSAGE_BYTES;
    if (mode == EXCHANGE) {
        open_one(connection);
        connection->hello = &hellos[sent % hello_count];
        connection->has_byte = false;
        bytes = connection->hello->text;
        count = connection->hello->bytes;
    }
    connection->is_busy = true;
    connection->got = 0;
    sent++;
    ssize_t n = send(connection->fd, bytes, count, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n >= 0 && (size_t)n != count)
        fail("send");
}

/* ---- answers ---- */

static void finish(struct connection *connection, bool is_right) {
    connection->is_busy = false;
    answered++;
    broken += !is_right;
    if (mode == EXCHANGE)
        close(connection->fd);
}

/* Ended before its answer was whole, or said what nobody asked for. Idle ones stay closed, and still_open tells. */
static void replace(struct connection *connection) {
    if (connection->is_busy)
        finish(connection, false);
    else
        broken += mode != IDLE;
    close(connection->fd);
    connection->fd = -1;
    if (mode == IDLE)
        return;
    if (broken > BROKEN_MAX) {
        fprintf(stderr, "stream_load: more than %d connections were closed or wrong\n", BROKEN_MAX);
        exit(1);
    }
    open_one(connection);
}

static void take_exchange(struct connection *connection) {
    char bytes[16];
    ssize_t n = recv(connection->fd, bytes, sizeof bytes, MSG_DONTWAIT);
    if (n < 0 && errno == EAGAIN)
        return;
    if (n == 1 && !connection->has_byte && bytes[0] == connection->hello->answer)
        connection->has_byte = true;
    else
        finish(connection, n == 0 && connection->has_byte);
}

static bool is_expected(const struct connection *connection, const char *bytes, size_t count) {
    if (mode == BULK)
        return !options.verify ||
               memcmp(bytes, pattern + connection->got % PATTERN_PERIOD, count) == 0;
    return memcmp(bytes, message + connection->got, count) == 0;
}

static void take_answer(struct connection *connection) {
    static char bytes[RECEIVE_BYTES];
    int flags = MSG_DONTWAIT | (mode == BULK && !options.verify ? MSG_TRUNC : 0);
    ssize_t n = recv(connection->fd, bytes, sizeof bytes, flags);
    if (n < 0 && errno == EAGAIN)
        return;
    if (n <= 0 || !connection->is_busy || (uint64_t)n > answer_bytes - connection->got ||
        !is_expected(connection, bytes, (size_t)n)) {
        replace(connection);
        return;
    }
    connection->got += (uint64_t)n;
    received += (uint64_t)n;
    if (connection->got == answer_bytes)
        finish(connection, true);
}

/* Waits until something is readable or so long, and takes what is there; again: asks anew where an answer is
 * whole. */
static void take_answers(int wait_ms, bool again, uint64_t most) {
    struct epoll_event batch[BATCH];
    int count = epoll_wait(epoll_fd, batch, BATCH, wait_ms);
    if (count < 0 && errno != EINTR)
        fail("epoll_wait");
    for (int i = 0; i < count; i++) {
        struct connection *connection = batch[i].data.ptr;
        if (mode == EXCHANGE)
            take_exchange(connection);
        else
            take_answer(connection);
        if (again && !connection->is_busy && sent < most)
            ask(connection);
    }
}

static void settle(uint64_t busy) {
    uint64_t give_up_ns = now_ns() + patience_ns;
    while (sent - answered > busy) {
        take_answers(1000, false, 0);
        if (now_ns() > give_up_ns) {
            fprintf(stderr, "stream_load: %llu requests got no answer\n",
                    (unsigned long long)(sent - answered));
            exit(1);
        }
    }
}

/* ---- the run ---- */

/* A few at a time, or the proxy's queue of them overflows and the kernel tries again after a second. */
static void open_all(void) {
    enum { OPENING = 64 };
    for (uint64_t i = 0; i < options.connections; i++) {
        settle(OPENING - 1);
        if (mode != EXCHANGE)
            open_one(&connections[i]);
        ask(&connections[i]);
    }
    settle(0);
}

static void run(uint64_t start_ns) {
    uint64_t end_ns = options.ms ? start_ns + options.ms * ns_per_ms : UINT64_MAX;
    uint64_t most = options.requests ? options.requests : UINT64_MAX;
    uint64_t last_ns = start_ns, last_count = 0; /* when something was answered */
    for (uint64_t i = 0; i < options.connections && sent < most; i++)
        ask(&connections[i]);
    for (uint64_t now = start_ns; now < end_ns && (sent < most || answered < sent);
         now = now_ns()) {
        uint64_t left_ms = (end_ns - now) / ns_per_ms + 1;
        take_answers(left_ms < 1000 ? (int)left_ms : 1000, true, most);
        if (received + answered != last_count) {
            last_count = received + answered;
            last_ns = now;
        }
        if (now - last_ns > patience_ns)
            break; /* settle says so */
    }
    settle(0);
}

static uint64_t still_open(void) {
    uint64_t count = 0;
    for (uint64_t i = 0; mode != EXCHANGE && i < options.connections; i++) {
        char byte;
        ssize_t n = recv(connections[i].fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
        count += n < 0 && errno == EAGAIN;
    }
    return count;
}

static void report(uint64_t took_ns, uint64_t cpu_ns) {
    printf("{\"requests\": %llu, \"bytes\": %llu, \"seconds\": %.6f, \"broken\": %llu, "
           "\"driver_busy\": %.3f, \"still_open\": %llu}\n",
           (unsigned long long)answered, (unsigned long long)received, (double)took_ns / 1e9,
           (unsigned long long)broken, took_ns ? (double)cpu_ns / (double)took_ns : 0,
           (unsigned long long)still_open());
}

/* ---- options ---- */

static bool read_number(const char *text) {
    static const struct driver_number numbers[] = {
        {"port=", &options.port},   {"connections=", &options.connections},
        {"ms=", &options.ms},       {"requests=", &options.requests},
        {"bytes=", &options.bytes}, {"verify=", &options.verify},
    };
    return driver_read_number(text, numbers, sizeof numbers / sizeof *numbers);
}

static bool read_option(const char *text) {
    static const char *const names[MODES] = {"bulk", "ping", "exchange", "idle"};
    if (strncmp(text, "hellos=", 7) == 0) {
        options.hellos = text + 7;
        return true;
    }
    if (strncmp(text, "mode=", 5) != 0)
        return read_number(text);
    for (mode = 0; mode < MODES && strcmp(text + 5, names[mode]) != 0;)
        mode++;
    return mode < MODES;
}

static bool read_options(int argc, char **argv) {
    for (int i = 1; i < argc; i++)
        if (!read_option(argv[i]))
            return false;
    return options.port > 0 && options.port < 1 << 16 && mode < MODES && options.connections > 0 &&
           options.connections <= CONNECTIONS_MAX && options.bytes > 0 &&
           (options.ms > 0 || options.requests > 0 || mode == IDLE) &&
           (mode == EXCHANGE) == (options.hellos != NULL);
}

static void read_hellos(void) {
    unsigned char head[3];
    FILE *file = fopen(options.hellos, "rbe");
    if (!file)
        fail(options.hellos);
    while (hello_count < HELLOS_MAX && fread(head, sizeof head, 1, file) == 1) {
        struct hello *hello = &hellos[hello_count];
        hello->answer = (char)head[0];
        hello->bytes = (uint16_t)(head[1] << 8 | head[2]);
        if (hello->bytes == 0 || hello->bytes > HELLO_BYTES_MAX ||
            fread(hello->text, hello->bytes, 1, file) != 1)
            break;
        hello_count++;
    }
    if (fgetc(file) != EOF || hello_count == 0) {
        fprintf(stderr, "stream_load: %s has no hellos or too many\n", options.hellos);
        exit(2);
    }
    (void)fclose(file); /* it was only read */
}

static void prepare(void) {
    server = driver_server(options.port);
    fill_pattern(pattern, sizeof pattern);
    memset(message, 'e', sizeof message);
    message[0] = mode == BULK ? 'G' : 'E';
    answer_bytes = mode == BULK ? options.bytes : MESSAGE_BYTES;
    if (mode == BULK)
        memcpy(message + 1, &(uint64_t){htobe64(options.bytes)}, sizeof(uint64_t));
    if (mode == EXCHANGE)
        read_hellos();
    connections = calloc(options.connections, sizeof *connections);
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (!connections || epoll_fd < 0)
        fail("memory and epoll");
}

int main(int argc, char **argv) {
    if (!read_options(argc, argv)) {
        fputs("usage: stream_load port=N mode=bulk|ping|exchange|idle [connections=64] [ms=N] "
              "[requests=N] [bytes=N] [hellos=FILE] [verify=1]\n"
              "ms or requests must say when it ends; exchange needs hellos\n",
              stderr);
        return 2;
    }
    prepare();
    open_all();
    puts("ready");
    (void)fflush(stdout);
    driver_wait_for_line();
    sent = answered = received = 0;
    uint64_t wall = now_ns(), cpu = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
    if (mode != IDLE)
        run(wall);
    report(now_ns() - wall, clock_ns(CLOCK_PROCESS_CPUTIME_ID) - cpu);
    (void)fflush(stdout);
    driver_wait_for_line();
    return 0;
}
