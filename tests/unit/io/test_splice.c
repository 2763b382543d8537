/* splice.c: what goes into a pipe comes out of it, whole and in order, whatever the kernel refuses on the way. */
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../rt/rt_story.h"
#include "io/splice.h"
#include "io/sys.h"
#include "rt/io_counts.h"

/* ---- Faults: --wrap puts these in the place of sys.c's ---- */

static struct {
    int pipe_error, in_error, out_error; /* -errno for each call; 0: none */
    size_t in_most, out_most;            /* bytes that a call moves; 0: as it likes */
    unsigned pipe_calls;
    int in_end; /* the last pipe's, to tell the directions apart */
} fault;

static uint64_t seed = 88172645463325252u;

static size_t part(size_t size, size_t most) {
    return most && size > most ? 1 + next_random(&seed) % most : size;
}

int __real_sys_pipe(int ends[2], int capacity, int least);
int __wrap_sys_pipe(int ends[2], int capacity, int least);
int __wrap_sys_pipe(int ends[2], int capacity, int least) {
    fault.pipe_calls++;
    return fault.pipe_error ? fault.pipe_error : __real_sys_pipe(ends, capacity, least);
}

static bool is_pipe(int fd) {
    return fcntl(fd, F_GETPIPE_SZ) >= 0;
}

ssize_t __real_sys_splice(int from, int to, size_t max, bool more);
ssize_t __wrap_sys_splice(int from, int to, size_t max, bool more);
ssize_t __wrap_sys_splice(int from, int to, size_t max, bool more) {
    bool in = is_pipe(to);
    CHECK(in != is_pipe(from));
    if (in ? fault.in_error : fault.out_error)
        return in ? fault.in_error : fault.out_error;
    return __real_sys_splice(from, to, part(max, in ? fault.in_most : fault.out_most), more);
}

ssize_t __real_sys_send_ahead(int fd, const void *from, size_t size);
ssize_t __wrap_sys_send_ahead(int fd, const void *from, size_t size);
ssize_t __wrap_sys_send_ahead(int fd, const void *from, size_t size) {
    return __real_sys_send_ahead(fd, from, part(size, fault.out_most));
}

/* A user without privileges has no pipe above pipe-max-size, and gets the largest that he may have. */
static void test_a_pipe_is_as_large_as_may_be(void **state) {
    int most = 0, status;
    FILE *file = fopen("/proc/sys/fs/pipe-max-size", "re");
    if (!file || fscanf(file, "%d", &most) != 1 || most < SPLICE_PIPE_LEAST || most > 1 << 26)
        skip();
    (void)fclose(file);
    pid_t child = fork();
    if (child == 0) {
        int ends[2];
        bool is_nobody = getuid() != 0 || setuid(65534) == 0;
        bool is_made = is_nobody && sys_pipe(ends, most * 8, SPLICE_PIPE_LEAST) == 0;
        _exit(is_made && fcntl(ends[1], F_GETPIPE_SZ) == most ? 0 : 1);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
}

/* ---- Connections ---- */

/* Not inlined into a function that parks: errno. */
static NOINLINE void connect_pair(int fds[2], int buffer_bytes) {
    struct sockaddr_in here = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof here;
    int server = socket(AF_INET, SOCK_STREAM, 0);
    fds[0] = socket(AF_INET, SOCK_STREAM, 0);
    if (buffer_bytes) { /* before the handshake, which agrees on the window */
        CHECK(setsockopt(server, SOL_SOCKET, SO_RCVBUF, &buffer_bytes, sizeof buffer_bytes) == 0);
        CHECK(setsockopt(fds[0], SOL_SOCKET, SO_SNDBUF, &buffer_bytes, sizeof buffer_bytes) == 0);
    }
    CHECK(bind(server, (void *)&here, sizeof here) == 0 && listen(server, 1) == 0);
    CHECK(getsockname(server, (void *)&here, &len) == 0);
    CHECK(connect(fds[0], (void *)&here, sizeof here) == 0);
    fds[1] = accept(server, NULL, NULL);
    CHECK(fds[1] >= 0);
    for (int i = 0; i < 2; i++)
        CHECK(fcntl(fds[i], F_SETFL, O_NONBLOCK) == 0);
    CHECK(close(server) == 0);
}

struct line { /* a ──► b, one way */
    struct socket a, b;
};

static void open_line(struct line *line, int buffer_bytes) {
    int fds[2];
    connect_pair(fds, buffer_bytes);
    CHECK(socket_open(&line->a, fds[0], NULL) == 0);
    CHECK(socket_open(&line->b, fds[1], NULL) == 0);
}

static void close_line(struct line *line) {
    socket_close(&line->a);
    socket_close(&line->b);
}

static char byte_at(size_t at) {
    return (char)(at * 31 + at / 251);
}

static void send_bytes(struct socket *socket, size_t from, size_t size) {
    static char bytes[256 * 1024];
    while (size) {
        size_t n = size < sizeof bytes ? size : sizeof bytes;
        for (size_t i = 0; i < n; i++)
            bytes[i] = byte_at(from + i);
        struct iovec piece = {bytes, n};
        CHECK(socket_send(socket, &piece, 1, "test send", RT_FOREVER) == 0);
        from += n;
        size -= n;
    }
}

/* Receives exactly that. */
static void expect_bytes(struct socket *socket, size_t from, size_t size) {
    static char bytes[64 * 1024];
    while (size) {
        ssize_t n = sys_recv(socket->pd.fd, bytes, size < sizeof bytes ? size : sizeof bytes, 0);
        if (n == -EAGAIN) {
            poll_not_readable(&socket->pd);
            CHECK(poll_wait_readable(&socket->pd, "test receive", story_soon()) == 0);
            continue;
        }
        CHECK(n > 0);
        for (size_t i = 0; i < (size_t)n; i++)
            CHECK(bytes[i] == byte_at(from + i));
        from += (size_t)n;
        size -= (size_t)n;
    }
}

static unsigned open_descriptors(void) {
    unsigned count = 0;
    DIR *dir = opendir("/proc/self/fd");
    CHECK(dir);
    while (readdir(dir))
        count++;
    CHECK(closedir(dir) == 0);
    return count;
}

static uint64_t count_of(enum io_count what) {
    uint64_t counts[IO_COUNTS];
    io_counts_read(0, counts);
    return counts[what];
}

static struct splice_pool pool;
static struct line in_line, out_line; /* in_line.b ──pipe──► out_line.a */

static void open_lines(int buffer_bytes) {
    splice_pool_init(&pool);
    open_line(&in_line, buffer_bytes);
    open_line(&out_line, buffer_bytes);
}

static void close_lines(void) {
    close_line(&in_line);
    close_line(&out_line);
    splice_pool_shrink(&pool);
}

static ssize_t receive(struct splice *splice, size_t max) {
    return splice_receive(splice, &in_line.b, max, "test splice in", story_soon());
}

static void send_held(struct splice *splice) {
    while (splice->held)
        CHECK(splice_send(splice, &out_line.a, false, "test splice out", RT_FOREVER) > 0);
}

/* ---- A stream ---- */

enum { STREAM_BYTES = 3 * 1024 * 1024 + 17 };
static bool relayed, received;

static void relay(void *arg) {
    size_t total = 0;
    for (;;) {
        struct splice splice = splice_begin(&pool);
        ssize_t n = receive(&splice, SPLICE_MAX);
        CHECK(n >= 0);
        CHECK((size_t)n == splice.held);
        send_held(&splice);
        splice_end(&splice);
        total += (size_t)n;
        if (n == 0)
            break;
    }
    CHECK(total == STREAM_BYTES);
    CHECK(in_line.b.rx_bytes == total && out_line.a.tx_bytes == total);
    relayed = true;
}

static void receiver(void *arg) {
    expect_bytes(&out_line.b, 0, STREAM_BYTES);
    received = true;
}

static void stream(int buffer_bytes) {
    open_lines(buffer_bytes);
    CHECK(go_here("relay", relay, NULL) == 0);
    CHECK(go_here("receiver", receiver, NULL) == 0);
    send_bytes(&in_line.a, 0, STREAM_BYTES);
    CHECK(socket_shutdown(&in_line.a) == 0);
    STORY_AWAIT(relayed && received);
    CHECK(count_of(IO_SPLICE_BYTES) == STREAM_BYTES);
    CHECK(pool.in_use == 0);
    close_lines();
}

static void stream_story(void *arg) {
    unsigned before = open_descriptors();
    stream(0);
    CHECK(fault.pipe_calls == 1); /* one pipe serves, over and over */
    CHECK(open_descriptors() == before);
    rt_stop(0);
}

static void small_buffers_story(void *arg) {
    stream(8 * 1024);
    CHECK(count_of(IO_SPLICE_AGAIN) > 0);
    rt_stop(0);
}

static void pieces_story(void *arg) {
    fault.in_most = 3000;
    fault.out_most = 1700;
    stream(0);
    rt_stop(0);
}

static void test_a_stream_passes(void **state) {
    story(1, stream_story);
}
static void test_a_stream_passes_through_small_buffers(void **state) {
    story(1, small_buffers_story);
}
static void test_a_stream_passes_in_small_pieces(void **state) {
    story(1, pieces_story);
}

/* ---- No pipe ---- */

static void no_pipe_story(void *arg) {
    open_lines(0);
    send_bytes(&in_line.a, 0, 1000);
    fault.pipe_error = -EMFILE;
    CHECK(splice_pool_has_pipe(&pool));
    struct splice splice = splice_begin(&pool);
    CHECK(receive(&splice, 1000) == -ENOBUFS);
    CHECK(fault.pipe_calls == 1 && count_of(IO_SPLICE_NO_PIPE) == 1);
    /* For a while nobody asks again. */
    CHECK(!splice_pool_has_pipe(&pool));
    CHECK(receive(&splice, 1000) == -ENOBUFS);
    CHECK(fault.pipe_calls == 1);
    splice_end(&splice);
    expect_bytes(&in_line.b, 0, 1000);
    /* Later there are some. */
    fault.pipe_error = 0;
    STORY_AWAIT(splice_pool_has_pipe(&pool));
    send_bytes(&in_line.a, 0, 1000);
    splice = splice_begin(&pool);
    CHECK(receive(&splice, 1000) == 1000);
    send_held(&splice);
    splice_end(&splice);
    expect_bytes(&out_line.b, 0, 1000);
    close_lines();
    rt_stop(0);
}

static void test_without_a_pipe_nothing_is_moved(void **state) {
    story(1, no_pipe_story);
}

static void limit_story(void *arg) {
    struct rlimit limit;
    CHECK(getrlimit(RLIMIT_NOFILE, &limit) == 0);
    limit.rlim_cur = 96; /* 96 / 16 descriptors for pipes: 3 of them */
    CHECK(setrlimit(RLIMIT_NOFILE, &limit) == 0);
    open_lines(0);
    send_bytes(&in_line.a, 0, 4);
    struct splice held[4];
    for (size_t i = 0; i < 4; i++) {
        held[i] = splice_begin(&pool);
        CHECK(receive(&held[i], 1) == (i < 3 ? 1 : -ENOBUFS));
    }
    send_held(&held[1]);
    splice_end(&held[1]);
    CHECK(receive(&held[3], 1) == 1);
    CHECK(fault.pipe_calls == 3);
    send_held(&held[3]);
    splice_end(&held[3]);
    expect_bytes(&out_line.b, 1, 1);
    expect_bytes(&out_line.b, 3, 1);
    /* Those that hold bytes nobody wants are closed, not kept. */
    CHECK(pool.kept == 1);
    unsigned before = open_descriptors();
    splice_end(&held[0]);
    splice_end(&held[2]);
    CHECK(pool.kept == 1 && pool.in_use == 0);
    CHECK(open_descriptors() == before - 4);
    close_lines();
    CHECK(pool.kept == 0 && open_descriptors() == before - 4 - 2 - 4);
    rt_stop(0);
}

static void test_pipes_are_bounded_and_never_dirty(void **state) {
    story(1, limit_story);
}

/* A byte through each of count pipes that are held at once. */
static void use_pipes(unsigned count) {
    struct splice held[4];
    for (unsigned i = 0; i < count; i++) {
        send_bytes(&in_line.a, 0, 1);
        held[i] = splice_begin(&pool);
        CHECK(receive(&held[i], 1) == 1);
    }
    for (unsigned i = 0; i < count; i++) {
        send_held(&held[i]);
        splice_end(&held[i]);
        expect_bytes(&out_line.b, 0, 1);
    }
}

static void a_second_passes(void) {
    pool.timer.fn(&pool.timer);
}

static void idle_story(void *arg) {
    open_lines(0);
    unsigned before = open_descriptors();
    use_pipes(4);
    CHECK(pool.kept == 4);
    /* What a second had no need of goes at its end; what it used stays. */
    a_second_passes(); /* it began as the first was given back, and that one was not used again */
    CHECK(pool.kept == 3);
    use_pipes(1);
    a_second_passes();
    CHECK(pool.kept == 1);
    use_pipes(1);
    CHECK(fault.pipe_calls == 4);
    /* One that holds bytes is nobody's to close. */
    use_pipes(2);
    send_bytes(&in_line.a, 0, 10);
    struct splice splice = splice_begin(&pool);
    CHECK(receive(&splice, 10) == 10);
    STORY_AWAIT(pool.kept == 0);
    CHECK(open_descriptors() == before + 2);
    send_held(&splice);
    expect_bytes(&out_line.b, 0, 10);
    splice_end(&splice);
    STORY_AWAIT(pool.kept == 0 && !timer_is_armed(&pool.timer));
    CHECK(open_descriptors() == before);
    close_lines();
    rt_stop(0);
}

static void test_idle_pipes_are_closed(void **state) {
    story(1, idle_story);
}

/* ---- Refusals ---- */

static void refuse(int error, bool out) {
    open_lines(0);
    send_bytes(&in_line.a, 0, 100000);
    *(out ? &fault.out_error : &fault.in_error) = error;
    struct splice splice = splice_begin(&pool);
    size_t moved = 0;
    ssize_t n = receive(&splice, 50000);
    if (out) {
        CHECK(n > 0);
        moved = splice.held;
        send_held(&splice); /* by copying */
        expect_bytes(&out_line.b, 0, moved);
    } else {
        CHECK(n == -ENOBUFS);
    }
    splice_end(&splice);
    CHECK(!splice_pool_has_pipe(&pool));
    CHECK(receive(&splice, 1) == -ENOBUFS); /* remembered */
    expect_bytes(&in_line.b, moved, 100000 - moved);
    close_lines();
}

static const int refusals[] = {-EINVAL, -ENOSYS, -EPERM};
static int refusal;

static void refused_in_story(void *arg) {
    refuse(refusal, false);
    rt_stop(0);
}
static void refused_out_story(void *arg) {
    refuse(refusal, true);
    rt_stop(0);
}
static void test_a_kernel_that_refuses(void **state) {
    for (size_t i = 0; i < sizeof refusals / sizeof *refusals; i++) {
        refusal = refusals[i];
        story(1, refused_in_story);
        story(1, refused_out_story);
    }
}

/* ---- Ends and errors ---- */

static void ends_story(void *arg) {
    open_lines(0);
    struct splice splice = splice_begin(&pool);
    CHECK(splice_receive(&splice, &in_line.b, 1, "test", rt_now_ns() + NS_PER_MS) == -ETIMEDOUT);
    CHECK(splice_try_receive(&splice, &in_line.b, 1) == -EAGAIN);
    CHECK(!splice.has_pipe && pool.in_use == 0); /* none while waiting */
    send_bytes(&in_line.a, 0, 10);
    CHECK(socket_shutdown(&in_line.a) == 0);
    CHECK(receive(&splice, 100) == 10);
    send_held(&splice);
    CHECK(receive(&splice, 100) == 0);
    CHECK(receive(&splice, 100) == 0);
    splice_end(&splice);
    splice_end(&splice); /* idempotent */
    expect_bytes(&out_line.b, 0, 10);
    close_lines();
    rt_stop(0);
}

static void test_ends_and_deadlines(void **state) {
    story(1, ends_story);
}

static NOINLINE void reset_peer(struct socket *socket) {
    struct linger now = {.l_onoff = 1};
    CHECK(setsockopt(socket->pd.fd, SOL_SOCKET, SO_LINGER, &now, sizeof now) == 0);
    socket_close(socket);
}

static void reset_story(void *arg) {
    /* The sender. */
    open_lines(0);
    reset_peer(&in_line.a);
    struct splice splice = splice_begin(&pool);
    CHECK(receive(&splice, 100) == -ECONNRESET);
    splice_end(&splice);
    socket_close(&in_line.b);
    close_line(&out_line);
    splice_pool_shrink(&pool);
    /* The receiver. */
    open_lines(0);
    send_bytes(&in_line.a, 0, 100);
    splice = splice_begin(&pool);
    CHECK(receive(&splice, 100) == 100);
    reset_peer(&out_line.b);
    ssize_t n = splice_send(&splice, &out_line.a, false, "test", story_soon());
    CHECK(n == -ECONNRESET || n == -EPIPE);
    CHECK(splice.held == 100);
    splice_end(&splice);
    CHECK(pool.in_use == 0 && pool.kept == 0);
    close_line(&in_line);
    socket_close(&out_line.a);
    rt_stop(0);
}

static void test_peers_that_reset(void **state) {
    story(1, reset_story);
}

static ssize_t full_result;
static bool full_ended;

/* Until the receiver, who never reads, takes no more. */
static void fill(void *arg) {
    for (;;) {
        struct splice splice = splice_begin(&pool);
        ssize_t n = receive(&splice, SPLICE_MAX);
        while (n > 0 && splice.held)
            n = splice_send(&splice, &out_line.a, false, "test full", RT_FOREVER);
        bool holds = splice.held > 0;
        splice_end(&splice);
        if (n <= 0) {
            CHECK(holds);
            full_result = n;
            break;
        }
    }
    full_ended = true;
}

static struct g *filler;
static void fill_named(void *arg) {
    filler = rt_self();
    fill(arg);
}

static void feed(void *arg) {
    struct iovec piece;
    static char bytes[4096];
    for (;;) {
        piece = (struct iovec){bytes, sizeof bytes};
        if (socket_send(&in_line.a, &piece, 1, "test feed", RT_FOREVER) != 0)
            return;
    }
}

static struct g *feeder;
static void feed_named(void *arg) {
    feeder = rt_self();
    feed(arg);
    feeder = NULL;
}

static void full_story(void *arg) {
    open_lines(16 * 1024);
    CHECK(go_here("filler", fill_named, NULL) == 0);
    CHECK(go_here("feeder", feed_named, NULL) == 0);
    STORY_AWAIT(out_line.a.pd.writer); /* it waits for the receiver */
    CHECK(pool.in_use == 1);
    /* A receiver that is slow pins one pipe's worth, however much the sender has. */
    uint64_t ahead = in_line.b.rx_bytes - out_line.a.tx_bytes;
    CHECK(ahead > 0 && ahead <= SPLICE_MAX);
    rt_cancel(filler);
    STORY_AWAIT(full_ended);
    CHECK(full_result == -ECANCELED);
    CHECK(pool.in_use == 0 && pool.kept == 0);
    rt_cancel(feeder);
    STORY_AWAIT(!feeder);
    close_lines();
    rt_stop(0);
}

static void test_a_receiver_that_never_reads(void **state) {
    story(1, full_story);
}

/* ---- Framing in front, and what recv leaves out ---- */

static void ahead_story(void *arg) {
    open_lines(0);
    fault.out_most = 2;
    send_bytes(&in_line.a, 5, 95);
    struct splice splice = splice_begin(&pool);
    CHECK(receive(&splice, 95) == 95);
    char head[5];
    for (size_t i = 0; i < sizeof head; i++)
        head[i] = byte_at(i);
    CHECK(splice_send_ahead(&out_line.a, span_make(head, sizeof head), "test", RT_FOREVER) == 0);
    send_held(&splice);
    splice_end(&splice);
    expect_bytes(&out_line.b, 0, 100);
    CHECK(out_line.a.tx_bytes == 100);
    close_lines();
    rt_stop(0);
}

static void test_framing_goes_ahead(void **state) {
    story(1, ahead_story);
}

static NOINLINE void send_urgent(struct socket *socket) {
    CHECK(send(socket->pd.fd, "!", 1, MSG_OOB) == 1);
}

static void urgent_story(void *arg) {
    open_lines(0);
    send_bytes(&in_line.a, 0, 10);
    send_urgent(&in_line.a);
    send_bytes(&in_line.a, 10, 10);
    struct splice splice = splice_begin(&pool);
    size_t got = 0;
    ssize_t n;
    while ((n = receive(&splice, 100)) > 0) {
        send_held(&splice);
        got += (size_t)n;
    }
    splice_end(&splice);
    CHECK(n == -ENOBUFS); /* it does not wait for ever at the urgent byte */
    expect_bytes(&out_line.b, 0, got);
    expect_bytes(&in_line.b, got, 20 - got);
    close_lines();
    rt_stop(0);
}

static void test_an_urgent_byte_is_no_dead_end(void **state) {
    story(1, urgent_story);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_pipe_is_as_large_as_may_be),
        cmocka_unit_test(test_a_stream_passes),
        cmocka_unit_test(test_a_stream_passes_through_small_buffers),
        cmocka_unit_test(test_a_stream_passes_in_small_pieces),
        cmocka_unit_test(test_without_a_pipe_nothing_is_moved),
        cmocka_unit_test(test_pipes_are_bounded_and_never_dirty),
        cmocka_unit_test(test_idle_pipes_are_closed),
        cmocka_unit_test(test_a_kernel_that_refuses),
        cmocka_unit_test(test_ends_and_deadlines),
        cmocka_unit_test(test_peers_that_reset),
        cmocka_unit_test(test_a_receiver_that_never_reads),
        cmocka_unit_test(test_framing_goes_ahead),
        cmocka_unit_test(test_an_urgent_byte_is_no_dead_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
