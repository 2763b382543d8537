/* wire_body.c: a body arrives whole and in order, whether its bytes are lent or spliced, in any mixture and however
 * they come; and what follows it is left alone. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>

#include "../rt/rt_story.h"
#include "io/splice.h"
#include "io/sys.h"
#include "proxy/wire_body.h"
#include "rt/poll.h"

enum { BODY_MAX = 300 * 1024, NEXT_BYTES = 40 };

static uint64_t seed = 0x9e3779b97f4a7c15u;

static size_t below(size_t n) {
    return (size_t)(next_random(&seed) % n);
}

static char byte_at(size_t at) {
    return (char)(at * 131 + at / 509);
}

/* ---- The sender ---- */

static struct {
    char bytes[2 * BODY_MAX + 100000];
    size_t len;
    size_t body_len;
    bool ended;
} wire;

static void put(const char *bytes, size_t len) {
    CHECK(wire.len + len <= sizeof wire.bytes);
    memcpy(wire.bytes + wire.len, bytes, len);
    wire.len += len;
}

static void put_body(size_t len) {
    for (size_t i = 0; i < len; i++) {
        char byte = byte_at(wire.body_len++);
        put(&byte, 1);
    }
}

static void put_chunk(size_t len) {
    char head[24];
    put(head, http1_chunk_head(head, len));
    put_body(len);
    put("\r\n", 2);
}

static struct socket sender, receiver;

static void send_wire(void *arg) {
    size_t at = 0;
    while (at < wire.len) {
        size_t n = 1 + below(below(2) ? 200000 : 3000);
        if (n > wire.len - at)
            n = wire.len - at;
        struct iovec piece = {wire.bytes + at, n};
        CHECK(socket_send(&sender, &piece, 1, "test send", RT_FOREVER) == 0);
        at += n;
        if (below(3) == 0)
            rt_yield_to_events();
    }
    CHECK(socket_shutdown(&sender) == 0);
    wire.ended = true;
}

/* ---- The reader ---- */

static struct splice_pool pool;
static size_t lent_bytes, spliced_bytes;

static void expect(const char *bytes, size_t at, size_t len) {
    for (size_t i = 0; i < len; i++)
        CHECK(bytes[i] == byte_at(at + i));
}

static ssize_t splice_and_look(struct reader body, size_t at, size_t max) {
    static char bytes[SPLICE_MAX];
    struct splice splice = splice_begin(&pool);
    ssize_t n = reader_splice(body, &splice, max);
    if (n > 0) {
        CHECK(splice.held == (size_t)n);
        for (size_t got = 0; got < (size_t)n;) {
            ssize_t part = sys_read(splice.pipe.from, bytes + got, sizeof bytes - got);
            CHECK(part > 0);
            got += (size_t)part;
        }
        splice.held = 0;
        expect(bytes, at, (size_t)n);
        spliced_bytes += (size_t)n;
    }
    splice_end(&splice);
    return n;
}

static void read_body(struct wire_body *body) {
    struct reader reader = wire_body_reader(body);
    size_t at = 0;
    for (;;) {
        uint64_t unread = reader_unread(reader);
        ssize_t n;
        if (unread > 0 && below(4) != 0) {
            n = splice_and_look(reader, at, 1 + below(256 * 1024));
            CHECK(n < 0 || (uint64_t)n <= unread);
            if (n == -ENOBUFS)
                continue;
        } else {
            struct span run;
            n = reader_next(reader, 1 + below(64 * 1024), &run);
            if (n > 0) {
                expect(run.ptr, at, run.len);
                lent_bytes += run.len;
            }
        }
        CHECK(n >= 0);
        if (n == 0)
            break;
        at += (size_t)n;
    }
    CHECK(at == wire.body_len);
    CHECK(body->bytes == at);
    CHECK(body->done);
    CHECK(reader_unread(reader) == 0);
}

static void expect_next_message(struct inbuf *in) {
    while (inbuf_len(in) < NEXT_BYTES)
        CHECK(socket_receive(&receiver, in, "test next", story_soon()) > 0);
    for (size_t i = 0; i < NEXT_BYTES; i++)
        CHECK(inbuf_bytes(in).ptr[i] == 'N');
    inbuf_consume(in, NEXT_BYTES);
    CHECK(socket_receive(&receiver, in, "test end", story_soon()) == 0);
}

static void one_message(enum http1_framing framing, size_t size) {
    static const char next[] = "NNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNN";
    static const struct http1_limits limits = {.head_bytes = 8192, .header_count = 10};
    wire.len = wire.body_len = 0;
    wire.ended = false;
    if (framing == HTTP1_BODY_CHUNKED) {
        while (wire.body_len < size) {
            size_t left = size - wire.body_len;
            size_t n = 1 + below(below(2) ? 100000 : 100);
            put_chunk(n < left ? n : left);
        }
        put("0\r\n\r\n", 5);
    } else {
        put_body(size);
    }
    if (framing != HTTP1_BODY_UNTIL_CLOSE)
        put(next, NEXT_BYTES);

    int fds[2];
    CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) == 0);
    CHECK(socket_open(&sender, fds[0], NULL) == 0 && socket_open(&receiver, fds[1], NULL) == 0);
    CHECK(go_here("sender", send_wire, NULL) == 0);
    struct inbuf in;
    inbuf_init(&in, rt_blocks());
    struct http1_head head = {.framing = framing, .content_length = size};
    struct wire_body body;
    wire_body_init(&body, &receiver, &in, &head, &limits);
    read_body(&body);
    if (framing != HTTP1_BODY_UNTIL_CLOSE)
        expect_next_message(&in);
    inbuf_drop(&in);
    STORY_AWAIT(wire.ended);
    socket_close(&sender);
    socket_close(&receiver);
}

static void every_framing_story(void *arg) {
    splice_pool_init(&pool);
    static const enum http1_framing framings[] = {HTTP1_BODY_LENGTH, HTTP1_BODY_CHUNKED,
                                                  HTTP1_BODY_UNTIL_CLOSE};
    static const size_t sizes[] = {1, 100, 4096, 16384, 65537, 200000, BODY_MAX};
    for (size_t f = 0; f < sizeof framings / sizeof *framings; f++) {
        lent_bytes = spliced_bytes = 0;
        for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++)
            for (int turn = 0; turn < 4; turn++)
                one_message(framings[f], sizes[s]);
        CHECK(lent_bytes > 100000 && spliced_bytes > 100000); /* both ways were gone */
    }
    CHECK(pool.in_use == 0);
    rt_stop(0);
}

static void test_every_framing_in_any_mixture(void **state) {
    story(1, every_framing_story);
}

/* ---- Cut short ---- */

static void cut_story(void *arg) {
    static const struct http1_limits limits = {.head_bytes = 8192, .header_count = 10};
    splice_pool_init(&pool);
    for (int chunked = 0; chunked < 2; chunked++) {
        wire.len = wire.body_len = 0;
        if (chunked)
            put("ffff\r\n", 6);
        put_body(1000);
        int fds[2];
        CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) == 0);
        CHECK(socket_open(&sender, fds[0], NULL) == 0 && socket_open(&receiver, fds[1], NULL) == 0);
        send_wire(NULL);
        struct inbuf in;
        inbuf_init(&in, rt_blocks());
        struct http1_head head = {.framing = chunked ? HTTP1_BODY_CHUNKED : HTTP1_BODY_LENGTH,
                                  .content_length = 0xffff};
        struct wire_body body;
        wire_body_init(&body, &receiver, &in, &head, &limits);
        struct reader reader = wire_body_reader(&body);
        struct span run;
        size_t at = 0;
        if (chunked) { /* the chunk line has to be read */
            CHECK(reader_unread(reader) == 0);
            ssize_t n = reader_next(reader, 10, &run);
            CHECK(n == 10);
            at = 10;
            while (reader_unread(reader) == 0) {
                n = reader_next(reader, 1000, &run);
                CHECK(n > 0);
                at += (size_t)n;
            }
        }
        ssize_t n;
        while ((n = splice_and_look(reader, at, 700)) > 0)
            at += (size_t)n;
        CHECK(at == 1000 && n == -ECONNRESET);
        CHECK(body.error == -ECONNRESET && !body.done); /* sticky */
        CHECK(reader_unread(reader) == 0);
        CHECK(reader_next(reader, 1, &run) == -ECONNRESET);
        inbuf_drop(&in);
        socket_close(&sender);
        socket_close(&receiver);
    }
    rt_stop(0);
}

static void test_a_body_cut_short(void **state) {
    story(1, cut_story);
}

/* ---- 100 Continue ---- */

static unsigned invitations;
static int invite(void *arg) {
    invitations++;
    char bytes[10];
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = byte_at(i);
    struct iovec piece = {bytes, sizeof bytes};
    return socket_send(&sender, &piece, 1, "test invited", RT_FOREVER);
}

static void invitation_story(void *arg) {
    static const struct http1_limits limits = {.head_bytes = 8192, .header_count = 10};
    splice_pool_init(&pool);
    int fds[2];
    CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) == 0);
    CHECK(socket_open(&sender, fds[0], NULL) == 0 && socket_open(&receiver, fds[1], NULL) == 0);
    struct inbuf in;
    inbuf_init(&in, rt_blocks());
    struct http1_head head = {.framing = HTTP1_BODY_LENGTH, .content_length = 20};
    struct wire_body body;
    wire_body_init(&body, &receiver, &in, &head, &limits);
    body.before_wait = invite;
    struct reader reader = wire_body_reader(&body);
    struct splice splice = splice_begin(&pool);
    CHECK(reader_splice(reader, &splice, 100) == 10); /* it comes once it was asked for */
    CHECK(invitations == 1);
    splice_end(&splice);
    CHECK(invite(NULL) == 0);
    splice = splice_begin(&pool);
    CHECK(reader_splice(reader, &splice, 100) == 10);
    CHECK(invitations == 2);
    splice_end(&splice);
    CHECK(reader_peek(reader) == READER_END);
    inbuf_drop(&in);
    socket_close(&sender);
    socket_close(&receiver);
    rt_stop(0);
}

static void test_a_sender_that_waits_to_be_asked(void **state) {
    story(1, invitation_story);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_framing_in_any_mixture),
        cmocka_unit_test(test_a_body_cut_short),
        cmocka_unit_test(test_a_sender_that_waits_to_be_asked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
