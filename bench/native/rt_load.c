/* bench_rt_load: what an echo server's peers see of it. Messages of 64 bytes go out on a schedule, over
 * the connections in turn, whether or not the answers to earlier ones have come; an answer's latency
 * counts from the time its message was due, so a server that stands still is charged for everybody
 * who had to wait. No coroutines, one thread: the same for each server.
 *
 * usage: bench_rt_load PORT MESSAGES-PER-SECOND MILLISECONDS
 * prints "p50_ns p99_ns max_ns count"; the first tenth of the messages is left out. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

enum { CONNECTIONS = 16, MESSAGE_BYTES = 64, BATCH = 32 };
static const int64_t ns_per_s = 1000000000;
static const int64_t patience_ns = 10 * 1000000000LL; /* after the last message */

struct connection {
    int fd;
    uint64_t answered; /* its k-th message is number k * CONNECTIONS + its index of all */
    size_t part;       /* bytes of an answer that is not complete */
};

static struct connection connections[CONNECTIONS];
static int64_t start_ns, gap_ns;
static uint64_t total, answered;
static int64_t *latencies;

static _Noreturn void fail(const char *what) {
    perror(what);
    exit(1);
}

static int64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * ns_per_s + now.tv_nsec;
}

static struct timespec timespec_of(int64_t ns) {
    return (struct timespec){.tv_sec = ns / ns_per_s, .tv_nsec = ns % ns_per_s};
}

static void open_all(int epoll_fd, uint16_t port) {
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int on = 1;
    for (unsigned i = 0; i < CONNECTIONS; i++) {
        struct connection *each = &connections[i];
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = each};
        each->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (each->fd < 0 || connect(each->fd, (const void *)&address, sizeof address) < 0 ||
            setsockopt(each->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) < 0 ||
            epoll_ctl(epoll_fd, EPOLL_CTL_ADD, each->fd, &event) < 0)
            fail("connect");
    }
}

static void send_due(uint64_t *sent) {
    static const char message[MESSAGE_BYTES];
    for (int64_t now = now_ns(); *sent < total && start_ns + (int64_t)*sent * gap_ns <= now;
         ++*sent)
        if (send(connections[*sent % CONNECTIONS].fd, message, MESSAGE_BYTES, MSG_NOSIGNAL) !=
            MESSAGE_BYTES)
            fail("send");
}

static void take_answers(struct connection *connection) {
    char buffer[4096];
    ssize_t n = recv(connection->fd, buffer, sizeof buffer, MSG_DONTWAIT);
    if (n < 0 && errno == EAGAIN)
        return;
    if (n <= 0)
        fail("recv");
    int64_t now = now_ns();
    connection->part += (size_t)n;
    for (; connection->part >= MESSAGE_BYTES; connection->part -= MESSAGE_BYTES) {
        uint64_t number =
            connection->answered++ * CONNECTIONS + (uint64_t)(connection - connections);
        latencies[number] = now - (start_ns + (int64_t)number * gap_ns);
        answered++;
    }
}

static int in_order(const void *a, const void *b) {
    int64_t left = *(const int64_t *)a, right = *(const int64_t *)b;
    return (left > right) - (left < right);
}

int main(int argc, char **argv) {
    if (argc != 4 || atoi(argv[2]) < 1 || atoi(argv[3]) < 1)
        return 2;
    gap_ns = ns_per_s / atoi(argv[2]);
    total = (uint64_t)atoi(argv[3]) * 1000000 / (uint64_t)gap_ns + 1;
    latencies = calloc(total, sizeof *latencies);
    int epoll_fd = epoll_create1(EPOLL_CLOEXEC), timer_fd = timerfd_create(CLOCK_MONOTONIC, 0);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
    if (!latencies || epoll_ctl(epoll_fd, EPOLL_CTL_ADD, timer_fd, &event) < 0)
        fail("epoll_ctl");
    open_all(epoll_fd, (uint16_t)atoi(argv[1]));

    start_ns = now_ns() + gap_ns;
    int64_t give_up_ns = start_ns + (int64_t)total * gap_ns + patience_ns;
    struct itimerspec ticks = {timespec_of(gap_ns), timespec_of(start_ns)};
    if (timerfd_settime(timer_fd, TFD_TIMER_ABSTIME, &ticks, NULL) < 0)
        fail("timerfd_settime");
    for (uint64_t sent = 0; answered < total;) {
        struct epoll_event batch[BATCH];
        int count = epoll_wait(epoll_fd, batch, BATCH, 1000);
        for (int i = 0; i < count; i++) {
            uint64_t expired;
            if (batch[i].data.ptr)
                take_answers(batch[i].data.ptr);
            else if (read(timer_fd, &expired, sizeof expired) < 0)
                fail("timerfd");
        }
        send_due(&sent);
        if (now_ns() > give_up_ns) {
            fprintf(stderr, "bench_rt_load: the server does not answer\n");
            return 1;
        }
    }
    int64_t *counted = latencies + total / 10;
    uint64_t count = total - total / 10;
    qsort(counted, count, sizeof *counted, in_order);
    printf("%lld %lld %lld %llu\n", (long long)counted[count / 2],
           (long long)counted[count * 99 / 100], (long long)counted[count - 1],
           (unsigned long long)count);
    return 0;
}
