/* body_out.c: how much at a time, whose turn it is then, and which way bytes go.
 *
 * The kernel is played (--wrap): both peers are as fast or as slow as a story says, and nothing of it depends on the
 * machine. Bytes that are sent by copying are written down; spliced ones are only counted. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>

#include "../rt/rt_story.h"
#include "io/splice.h"
#include "io/sys.h"
#include "proxy/body_out.h"
#include "proxy/downstream.h"
#include "proxy/hcm.h"
#include "proxy/worker.h"

/* ---- The kernel ---- */

static struct {
    size_t in_most, out_most; /* bytes that a splice moves; 0: all that was asked for */
    size_t asked, asked_most; /* by the last splice from a socket, and by any */
    unsigned in_calls;
    size_t spliced, copied; /* sent */
    char sent[4096];        /* the first bytes sent by copying */
    size_t sent_len;
} kernel;

ssize_t __wrap_sys_splice(int from, int to, size_t max, bool more);
ssize_t __wrap_sys_splice(int from, int to, size_t max, bool more) {
    bool in = fcntl(to, F_GETPIPE_SZ) >= 0;
    size_t most = in ? kernel.in_most : kernel.out_most;
    size_t n = most && most < max ? most : max;
    if (in) {
        kernel.asked = max;
        kernel.in_calls++;
        if (max > kernel.asked_most)
            kernel.asked_most = max;
    } else {
        kernel.spliced += n;
    }
    return (ssize_t)n;
}

static void take(const void *from, size_t size) {
    size_t room = sizeof kernel.sent - kernel.sent_len;
    memcpy(kernel.sent + kernel.sent_len, from, size < room ? size : room);
    kernel.sent_len += size < room ? size : room;
    kernel.copied += size;
}

ssize_t __wrap_sys_send(int fd, const void *from, size_t size);
ssize_t __wrap_sys_send(int fd, const void *from, size_t size) {
    take(from, size);
    return (ssize_t)size;
}

ssize_t __wrap_sys_send_ahead(int fd, const void *from, size_t size);
ssize_t __wrap_sys_send_ahead(int fd, const void *from, size_t size) {
    take(from, size);
    return (ssize_t)size;
}

ssize_t __wrap_sys_sendv(int fd, const struct iovec *iov, int count, size_t size);
ssize_t __wrap_sys_sendv(int fd, const struct iovec *iov, int count, size_t size) {
    for (int i = 0; i < count; i++)
        take(iov[i].iov_base, iov[i].iov_len);
    return (ssize_t)size;
}

/* ---- A body ---- */

static struct {
    size_t left;     /* of all */
    size_t run;      /* lent at a time at most */
    bool may_splice; /* else somebody has to look at it */
    bool until_close;
    bool ended; /* and the end was seen */
    struct socket socket;
} source;

static ssize_t source_next(void *data, size_t max, struct span *out) {
    static char bytes[64 * 1024];
    size_t n = max < source.run ? max : source.run;
    n = n < source.left ? n : source.left;
    source.left -= n;
    source.ended = n == 0;
    *out = span_make(bytes, n);
    return (ssize_t)n;
}

static uint64_t source_unread(void *data) {
    return !source.may_splice ? 0 : source.until_close ? UINT64_MAX : source.left;
}

static ssize_t source_splice(void *data, struct splice *splice, size_t max) {
    if (source.left == 0)
        return 0;
    ssize_t n = splice_try_receive(splice, &source.socket, max < source.left ? max : source.left);
    if (n > 0)
        source.left -= (size_t)n;
    return n;
}

static enum reader_peek source_peek(void *data) {
    return source.left ? READER_READY : READER_END;
}

static const struct reader_itab source_itab = {
    .peek = source_peek, .next = source_next, .unread = source_unread, .splice = source_splice};

/* ---- An exchange, as far as a body's way out goes ---- */

static struct exchange x;
static struct serving serving;
static struct worker worker;
static struct hcm hcm;
static struct socket sink;
static struct message message;
static struct body_out out;

static void open_socket(struct socket *socket) {
    int fds[2];
    CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) == 0);
    CHECK(socket_open(socket, fds[0], NULL) == 0);
}

static void begin(size_t size, enum http1_transfer transfer) {
    static bool is_open;
    if (!is_open) {
        open_socket(&sink);
        open_socket(&source.socket);
        splice_pool_init(&worker.pipes);
        is_open = true;
    }
    memset(&kernel, 0, sizeof kernel);
    x = (struct exchange){.serving = &serving, .worker = &worker, .hcm = &hcm};
    serving = (struct serving){0};
    worker.overload.active = 0;
    hcm.buffer_limit = 1024 * 1024;
    source.left = size;
    source.run = 16 * 1024;
    source.may_splice = true;
    source.until_close = false;
    source.ended = false;
    arena_init(&x.arena, rt_blocks(), 1 << 20);
    message = (struct message){.body = {&source_itab, NULL}};
    header_map_init(&message.headers, &x.arena);
    header_map_init(&message.trailers, &x.arena);
    if (transfer == HTTP1_SEND_LENGTH)
        CHECK(header_set_id(&message.headers, HDR_CONTENT_LENGTH, arena_decimal(&x.arena, size)) ==
              0);
    CHECK(body_out_init(&out, &x, &sink, &message, transfer, span_none()) == 0);
    out.head_waits = false; /* it has gone */
}

static void end(void) {
    CHECK(worker.pipes.in_use == 0);
    arena_fini(&x.arena);
}

/* ---- Turns ---- */

enum { OTHERS = 8, STREAM_BYTES = 64 * 1024 * 1024 };
static struct poll_fd others[OTHERS];
static int triggers[OTHERS];
static unsigned rounds;
static size_t longest_gap, moved_before;
static bool streaming;

static NOINLINE ssize_t sys_byte(int fd, bool write_it) {
    char byte = 0;
    ssize_t n = write_it ? write(fd, &byte, 1) : read(fd, &byte, 1);
    return n < 0 ? -errno : n;
}

/* Waits for a byte and passes one on to the next, as a proxy's small requests do: each step needs the poller. */
static void pass_on(void *arg) {
    unsigned index = (unsigned)(uintptr_t)arg;
    while (streaming) {
        ssize_t n = sys_byte(others[index].fd, false);
        if (n == -EAGAIN) {
            poll_not_readable(&others[index]);
            if (poll_wait_readable(&others[index], "test turn", story_soon()) != 0)
                return;
            continue;
        }
        CHECK(n == 1);
        size_t gap = out.body_bytes - moved_before;
        moved_before = out.body_bytes;
        if (gap > longest_gap)
            longest_gap = gap;
        rounds++;
        CHECK(sys_byte(triggers[(index + 1) % OTHERS], true) == 1);
    }
}

/* Both peers are so fast that the stream never waits. */
static void stream_beside_others(bool may_splice, size_t most_between) {
    begin(STREAM_BYTES, HTTP1_SEND_LENGTH);
    source.may_splice = may_splice;
    longest_gap = moved_before = 0;
    rounds = 0;
    streaming = true;
    for (unsigned i = 0; i < OTHERS; i++) {
        int fds[2];
        CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) == 0);
        CHECK(poll_open(&others[i], fds[0], NULL) == 0);
        triggers[i] = fds[1];
        CHECK(go_here("other", pass_on, (void *)(uintptr_t)i) == 0);
    }
    CHECK(sys_byte(triggers[0], true) == 1);
    rt_yield();
    CHECK(body_out_send(&out, true) == 1);
    CHECK(out.body_bytes == STREAM_BYTES);
    CHECK(kernel.copied + kernel.spliced == STREAM_BYTES);
    CHECK(may_splice == (kernel.spliced > 0));
    streaming = false;
    CHECK(rounds >= STREAM_BYTES / most_between);
    CHECK(longest_gap <= most_between);
    end();
}

static void turns_copied_story(void *arg) {
    stream_beside_others(false, 2 * 64 * 1024);
    rt_stop(0);
}
static void turns_spliced_story(void *arg) {
    stream_beside_others(true, 2 * SPLICE_MAX);
    rt_stop(0);
}

static void test_an_endless_stream_leaves_turns_to_others(void **state) {
    story(1, turns_copied_story);
    story(1, turns_spliced_story);
}

/* An answer to a request that is sent whole must not find it unread. */
static void looks_on(void *arg) {
    while (!source.ended) {
        CHECK(source.left > 0);
        rt_yield();
    }
}

static void last_byte_story(void *arg) {
    for (int may_splice = 0; may_splice < 2; may_splice++) {
        begin(1024 * 1024, HTTP1_SEND_LENGTH); /* a turn is over with its last byte */
        source.may_splice = may_splice;
        CHECK(go_here("looks on", looks_on, NULL) == 0);
        CHECK(body_out_send(&out, true) == 1);
        CHECK(source.ended);
        rt_yield();
        end();
    }
    rt_stop(0);
}

static void test_no_turn_between_the_last_byte_and_the_end(void **state) {
    story(1, last_byte_story);
}

/* ---- Sizes ---- */

static size_t most_spliced(size_t size) {
    CHECK(body_out_send(&out, true) == 1);
    CHECK(out.body_bytes == size && source.left == 0);
    end();
    return kernel.asked_most;
}

static void sizes_story(void *arg) {
    enum { LARGE = 4 * 1024 * 1024 };
    begin(LARGE, HTTP1_SEND_LENGTH);
    CHECK(most_spliced(LARGE) == SPLICE_MAX); /* a receiver that takes it all */
    CHECK(kernel.spliced == LARGE && kernel.copied == 0);

    begin(LARGE, HTTP1_SEND_LENGTH);
    hcm.buffer_limit = 100 * 1024;
    CHECK(most_spliced(LARGE) == 100 * 1024);

    struct quota_purse purse = {0}; /* where memory is counted a block has to do */
    begin(LARGE, HTTP1_SEND_LENGTH);
    serving.purse = &purse;
    CHECK(most_spliced(LARGE) == BLOCK_DATA_SIZE);

    begin(LARGE, HTTP1_SEND_LENGTH); /* or is short */
    worker.overload.active = 1u << OVERLOAD_SHRINK_HEAP;
    CHECK(most_spliced(LARGE) == BLOCK_DATA_SIZE);
    rt_stop(0);
}

static void test_how_much_at_a_time(void **state) {
    story(1, sizes_story);
}

static void slow_receiver_story(void *arg) {
    enum { LARGE = 8 * 1024 * 1024 };
    begin(LARGE, HTTP1_SEND_LENGTH);
    kernel.out_most = 1000; /* so it never takes a whole piece at once */
    CHECK(body_out_send(&out, true) == 1);
    CHECK(out.body_bytes == LARGE);
    CHECK(kernel.asked_most == 64 * 1024); /* the first one; then ever less */
    CHECK(kernel.copied > LARGE / 10 * 9); /* and its pipe is left to others */
    end();

    begin(LARGE, HTTP1_SEND_LENGTH);
    source.may_splice = true;
    kernel.out_most = 100 * 1024;
    CHECK(body_out_send(&out, true) == 1);
    CHECK(kernel.asked_most <= 256 * 1024 && kernel.copied == 0);
    end();
    rt_stop(0);
}

static void test_a_slow_receiver_gets_little_ahead(void **state) {
    story(1, slow_receiver_story);
}

static void little_story(void *arg) {
    enum { LARGE = 1024 * 1024 };
    begin(15 * 1024, HTTP1_SEND_LENGTH); /* not worth it */
    CHECK(most_spliced(15 * 1024) == 0);

    begin(LARGE, HTTP1_SEND_LENGTH); /* it comes in packets: one attempt */
    kernel.in_most = 1400;
    source.run = 1400;
    CHECK(body_out_send(&out, true) == 1);
    CHECK(kernel.in_calls == 1 && kernel.copied == LARGE - 1400);
    end();

    begin(LARGE, HTTP1_SEND_CLOSE); /* nobody knows how long it is: first see how it comes */
    source.until_close = true;
    CHECK(body_out_send(&out, true) == 1);
    CHECK(out.body_bytes == LARGE && kernel.copied == 16 * 1024);
    end();

    begin(LARGE, HTTP1_SEND_LENGTH); /* a filter looks at it */
    source.may_splice = false;
    CHECK(most_spliced(LARGE) == 0);
    CHECK(kernel.copied == LARGE);
    rt_stop(0);
}

static void test_what_is_not_worth_a_pipe(void **state) {
    story(1, little_story);
}

/* ---- To a transport ---- */

static struct {
    struct transport transport;
    size_t most;       /* that it takes at a time; 0: all */
    bool holds;        /* it takes nothing now */
    unsigned calls;    /* that brought it something */
    size_t largest;    /* of those */
    unsigned recvs;    /* of the body */
    size_t recv_most;  /* that one of them brings; 0: all that was asked for */
    size_t asked_most; /* of one of them */
} secure;

static ssize_t secure_send(struct socket *socket, const struct iovec *pieces, int count,
                           size_t size) {
    size_t n = secure.most && secure.most < size ? secure.most : size, left = n;
    for (; left; pieces++) {
        size_t part = pieces->iov_len < left ? pieces->iov_len : left;
        take(pieces->iov_base, part);
        left -= part;
    }
    secure.calls++;
    secure.largest = size > secure.largest ? size : secure.largest;
    return (ssize_t)n;
}

static void secure_close(struct socket *socket) {}

static const struct transport_itab secure_itab = {.try_send = secure_send, .close = secure_close};

ssize_t __wrap_sys_recv(int fd, void *into, size_t size, int flags);
ssize_t __wrap_sys_recv(int fd, void *into, size_t size, int flags) {
    size_t n = secure.recv_most && secure.recv_most < size ? secure.recv_most : size;
    memset(into, 'b', n);
    secure.recvs++;
    secure.asked_most = size > secure.asked_most ? size : secure.asked_most;
    return (ssize_t)n;
}

static void begin_secure(size_t size, enum http1_transfer transfer) {
    begin(size, transfer);
    memset(&secure, 0, sizeof secure);
    secure.transport.itab = &secure_itab;
    sink.transport = &secure.transport;
}

static void end_secure(void) {
    CHECK(worker.pipes.memories_in_use == 0); /* whatever became of it */
    CHECK(kernel.in_calls == 0);              /* no pipe */
    sink.transport = NULL;
    source.socket.pd.ready |= SOCKET_INPUT;
    end();
}

static void secure_story(void *arg) {
    enum { LARGE = 4 * 1024 * 1024 };
    begin_secure(LARGE, HTTP1_SEND_LENGTH);
    CHECK(body_out_send(&out, true) == 1);
    CHECK(out.body_bytes == LARGE && kernel.copied == LARGE && out.length_left == 0);
    CHECK(secure.largest == SPLICE_MEMORY_SIZE && secure.asked_most == SPLICE_MEMORY_SIZE);
    CHECK(secure.recvs == secure.calls && secure.calls <= LARGE / SPLICE_MEMORY_SIZE + 1);
    end_secure();

    begin_secure(LARGE,
                 HTTP1_SEND_LENGTH); /* what has come goes at once, whatever is still to come */
    secure.recv_most = 5000;
    source.socket.pd.ready |= SOCKET_HUNG_UP; /* else a short receive is followed by a wait */
    CHECK(body_out_send(&out, true) == 1);
    CHECK(secure.largest == 5000 && out.body_bytes == LARGE);
    source.socket.pd.ready &= (uint8_t)~SOCKET_HUNG_UP;
    end_secure();

    struct quota_purse purse = {0}; /* where memory is counted a block has to do */
    begin_secure(LARGE, HTTP1_SEND_LENGTH);
    serving.purse = &purse;
    CHECK(body_out_send(&out, true) == 1);
    CHECK(secure.recvs == 0 && secure.largest == source.run);
    end_secure();

    begin_secure(LARGE,
                 HTTP1_SEND_LENGTH); /* a receiver that takes little gets little, then blocks */
    secure.most = 1000;
    CHECK(body_out_send(&out, true) == 1);
    CHECK(out.body_bytes == LARGE && kernel.copied == LARGE);
    CHECK(secure.asked_most == 64 * 1024 && secure.recvs < LARGE / (64 * 1024));
    end_secure();
    rt_stop(0);
}

static void test_many_records_at_a_time(void **state) {
    story(1, secure_story);
}

static void secure_chunks_story(void *arg) {
    begin_secure(100000, HTTP1_SEND_CHUNKED);
    secure.recv_most = 9;
    source.left = 16 * 1024; /* two of them, the first of which shows that they are little */
    source.socket.pd.ready |= SOCKET_HUNG_UP;
    source.run = 7;
    CHECK(body_out_send(&out, true) == 1);
    CHECK(memcmp(kernel.sent, "9\r\nbbbbbbbbb\r\n7\r\n", 17) == 0);
    CHECK(out.body_bytes == 16 * 1024);
    CHECK(secure.recvs == 1);
    source.socket.pd.ready &= (uint8_t)~SOCKET_HUNG_UP;
    end_secure();
    rt_stop(0);
}

static void test_a_chunk_goes_with_its_framing(void **state) {
    story(1, secure_chunks_story);
}

static void secure_failure_story(void *arg) {
    begin_secure(200000, HTTP1_SEND_LENGTH); /* more comes than was promised */
    out.length_left = 100000;
    CHECK(body_out_send(&out, true) == -EPROTO);
    CHECK(out.length_is_wrong && kernel.copied == 100000);
    end_secure();
    rt_stop(0);
}

static void test_a_length_that_is_wrong_to_a_transport(void **state) {
    story(1, secure_failure_story);
}

/* ---- Framing ---- */

static void chunks_story(void *arg) {
    begin(100000, HTTP1_SEND_CHUNKED);
    CHECK(body_out_send(&out, true) == 1);
    CHECK(kernel.spliced == 100000);
    CHECK(span_eq(span_make(kernel.sent, kernel.sent_len),
                  SPAN_LIT("10000\r\n\r\n86a0\r\n\r\n0\r\n\r\n")));
    end();
    rt_stop(0);
}

static void test_each_piece_is_a_chunk(void **state) {
    story(1, chunks_story);
}

static void lengths_story(void *arg) {
    for (int difference = -1; difference <= 1; difference += 2) {
        begin(200000, HTTP1_SEND_LENGTH);
        source.left = difference < 0 ? 199999 : 200001;
        CHECK(body_out_send(&out, true) == -EPROTO);
        CHECK(out.length_is_wrong && !out.write_failed);
        /* Not a byte more than was promised. */
        CHECK(kernel.spliced + kernel.copied <= 200000);
        CHECK(kernel.spliced > 100000);
        end();
    }
    rt_stop(0);
}

static void test_a_length_that_is_wrong(void **state) {
    story(1, lengths_story);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_an_endless_stream_leaves_turns_to_others),
        cmocka_unit_test(test_no_turn_between_the_last_byte_and_the_end),
        cmocka_unit_test(test_how_much_at_a_time),
        cmocka_unit_test(test_a_slow_receiver_gets_little_ahead),
        cmocka_unit_test(test_what_is_not_worth_a_pipe),
        cmocka_unit_test(test_many_records_at_a_time),
        cmocka_unit_test(test_a_chunk_goes_with_its_framing),
        cmocka_unit_test(test_a_length_that_is_wrong_to_a_transport),
        cmocka_unit_test(test_each_piece_is_a_chunk),
        cmocka_unit_test(test_a_length_that_is_wrong),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
