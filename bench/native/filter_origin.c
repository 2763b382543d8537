/* filter_origin: what stands behind a proxy whose filters are measured: HTTP/1.1 that sees whether the filter did what
 * it is there for. A request is answered when the whole of it has come, with 128 bytes, and the connection stays open;
 * one that is not as its path says it must be is answered 422, which whoever asks does not take for an answer.
 *
 *     /         as it is
 *     /set      has a header x-bench that is not empty
 *     /upper    has a body without an x in it
 *
 * So there is no early answer to a body that is still under way, after which some proxies close the connection. One
 * thread. Bodies have a Content-Length, and a request on a connection follows the answer to the one before it; what
 * else comes is the end of the connection.
 *
 * usage: filter_origin PORT */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { BATCH = 256, BACKLOG = 4096, HEAD_MAX = 4096, INPUT_BYTES = 128 << 10, ANSWER_BYTES = 128 };

struct connection {
    int fd;
    bool is_listener, is_body, is_upper, is_wrong;
    size_t head_bytes;
    uint64_t body_left;
    char head[HEAD_MAX];
};

static int epoll_fd;
static char good[256], bad[256];

static _Noreturn void fail(const char *what) {
    fprintf(stderr, "filter_origin: %s: %s\n", what, strerror(errno));
    exit(1);
}

static void new_connection(int fd, bool is_listener) {
    struct connection *connection = calloc(1, sizeof *connection);
    if (!connection)
        fail("memory");
    connection->fd = fd;
    connection->is_listener = is_listener;
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = connection};
    if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event) != 0)
        fail("epoll_ctl");
}

/* ---- requests ---- */

/* The value of a header, to the end of its line; NULL when there is none. The head ends with NUL. */
static const char *value_of(const char *head, const char *name) {
    size_t len = strlen(name);
    for (const char *line = strchr(head, '\n'); line; line = strchr(line, '\n')) {
        if (strncasecmp(++line, name, len) == 0 && line[len] == ':')
            return line + len + 1 + strspn(line + len + 1, " ");
    }
    return NULL;
}

static bool has_path(const char *head, const char *path) {
    const char *at = strchr(head, ' ');
    size_t len = strlen(path);
    return at && strncmp(at + 1, path, len) == 0 && at[1 + len] == ' ';
}

static void read_head(struct connection *connection) {
    const char *head = connection->head, *length = value_of(head, "content-length");
    connection->body_left = length ? strtoull(length, NULL, 10) : 0;
    connection->is_upper = has_path(head, "/upper");
    connection->is_wrong = connection->is_upper && !connection->body_left;
    if (has_path(head, "/set")) {
        const char *value = value_of(head, "x-bench");
        connection->is_wrong = !value || *value == '\r';
    }
    connection->is_body = true;
}

/* How many of these bytes belong to the head; 0 when it is too long. */
static size_t take_head(struct connection *connection, const char *bytes, size_t count) {
    size_t before = connection->head_bytes, room = HEAD_MAX - 1 - before;
    size_t taken = count < room ? count : room;
    memcpy(connection->head + before, bytes, taken);
    connection->head_bytes += taken;
    connection->head[connection->head_bytes] = 0;
    char *end = memmem(connection->head, connection->head_bytes, "\r\n\r\n", 4);
    if (!end)
        return taken;
    end[2] = 0; /* the line before it is whole */
    read_head(connection);
    return (size_t)(end - connection->head) + 4 - before;
}

static bool answer(struct connection *connection) {
    const char *text = connection->is_wrong ? bad : good;
    connection->is_body = false;
    connection->head_bytes = 0;
    return send(connection->fd, text, strlen(text), MSG_NOSIGNAL) == (ssize_t)strlen(text);
}

static bool take_bytes(struct connection *connection, const char *bytes, size_t count) {
    if (!connection->is_body) {
        size_t head = take_head(connection, bytes, count);
        bytes += head;
        count -= head;
        if (!connection->is_body)
            return head > 0;
    }
    if (count > connection->body_left)
        return false;
    connection->is_wrong |= connection->is_upper && memchr(bytes, 'x', count);
    connection->body_left -= count;
    return connection->body_left > 0 || answer(connection);
}

static void serve(struct connection *connection) {
    static char input[INPUT_BYTES];
    if (connection->is_listener) {
        int on = 1;
        for (int fd; (fd = accept4(connection->fd, NULL, NULL, SOCK_CLOEXEC)) >= 0;) {
            (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
            new_connection(fd, false);
        }
        return;
    }
    ssize_t n = recv(connection->fd, input, sizeof input, MSG_DONTWAIT);
    if (n < 0 && errno == EAGAIN)
        return;
    if (n <= 0 || !take_bytes(connection, input, (size_t)n)) {
        close(connection->fd);
        free(connection);
    }
}

/* ---- the run ---- */

static void prepare_answer(char *out, size_t size, const char *status) {
    int len =
        snprintf(out, size, "HTTP/1.1 %s\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n",
                 status, ANSWER_BYTES);
    if (len < 0 || (size_t)len + ANSWER_BYTES >= size)
        abort();
    memset(out + len, 'x', ANSWER_BYTES);
    out[len + ANSWER_BYTES] = 0;
}

int main(int argc, char **argv) {
    if (argc != 2) {
        fputs("usage: filter_origin PORT\n", stderr);
        return 2;
    }
    prepare_answer(good, sizeof good, "200 OK");
    prepare_answer(bad, sizeof bad, "422 Unprocessable Content");
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    struct sockaddr_in here = {.sin_family = AF_INET,
                               .sin_port = htons((uint16_t)atoi(argv[1])),
                               .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int on = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(fd, (void *)&here, sizeof here) != 0 || listen(fd, BACKLOG) != 0)
        fail("listen");
    new_connection(fd, true);
    for (;;) {
        struct epoll_event batch[BATCH];
        int count = epoll_wait(epoll_fd, batch, BATCH, -1);
        for (int i = 0; i < count; i++)
            serve(batch[i].data.ptr);
    }
}
