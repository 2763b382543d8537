/* wire_body.c and io's streams together: a thousand bodies in chunks of all sizes, over one connection, each with its
 * checksum, and never more memory than the block that they are read into. */
#include "../io/io_story.h"
#include "io/stream_copy.h"
#include "io/stream_count.h"
#include "io/stream_hook.h"
#include "proxy/wire_body.h"

enum { BODIES = 1000 };

static int far;
static struct socket near;
static struct inbuf in;
static bool all_sent;

/* What both sides make of a number: a body's size and the seed of its bytes. */
static size_t size_of(unsigned number) {
    uint64_t seed = number * 7919u + 1;
    (void)next_random(&seed);
    return next_random(&seed) % (number % 20 ? 3000 : 60000);
}

static uint64_t sum_of(uint64_t sum, const char *bytes, size_t size) {
    for (size_t i = 0; i < size; i++)
        sum = sum * 31 + (uint8_t)bytes[i];
    return sum;
}

static void fill(char *bytes, unsigned number, size_t size) {
    uint64_t seed = number + 1;
    for (size_t i = 0; i < size; i++)
        bytes[i] = (char)next_random(&seed);
}

static NOINLINE size_t peer_sends_some(const char *bytes, size_t size) {
    ssize_t n = send(far, bytes, size, MSG_NOSIGNAL | MSG_DONTWAIT);
    CHECK(n > 0 || errno == EAGAIN);
    return n > 0 ? (size_t)n : 0;
}

static void sends(void *arg) {
    static char body[60000], coded[600000];
    uint64_t seed = 5;
    for (unsigned number = 0; number < BODIES; number++) {
        size_t size = size_of(number), at = 0, length = 0;
        fill(body, number, size);
        while (at < size) {
            size_t chunk = 1 + next_random(&seed) % (next_random(&seed) % 2 ? 30 : 9000);
            if (chunk > size - at)
                chunk = size - at;
            length += (size_t)sprintf(coded + length, "%zx\r\n", chunk);
            memcpy(coded + length, body + at, chunk);
            length += chunk;
            memcpy(coded + length, "\r\n", 2);
            length += 2;
            at += chunk;
        }
        memcpy(coded + length, "0\r\n\r\n", 5);
        length += 5;
        for (size_t sent = 0; sent < length;) {
            /* As it comes: some of it, or all there is room for. */
            size_t some = next_random(&seed) % 3 ? length - sent : 1 + next_random(&seed) % 500;
            size_t n = peer_sends_some(coded + sent, some < length - sent ? some : length - sent);
            sent += n;
            if (n == 0 || next_random(&seed) % 4 == 0)
                rt_yield_to_events();
        }
    }
    all_sent = true;
}

static uint64_t seen_sum, written_sum, most_blocks;

static void see(void *arg, struct span bytes) {
    seen_sum = sum_of(seen_sum, bytes.ptr, bytes.len);
}

static int sum_up(void *data, struct iovec *pieces, int count) {
    for (int i = 0; i < count; i++)
        written_sum = sum_of(written_sum, pieces[i].iov_base, pieces[i].iov_len);
    uint64_t blocks = blocks_in_use();
    most_blocks = blocks > most_blocks ? blocks : most_blocks;
    return 0;
}

static void bodies_story(void *arg) {
    static const struct writer_itab sums = {.write = sum_up};
    static const struct http1_limits limits = {.head_bytes = 1000, .header_count = 10};
    static char expected[60000];
    struct http1_head head = {.framing = HTTP1_BODY_CHUNKED};
    int fds[2];
    unix_pair(fds);
    far = fds[0];
    CHECK(socket_open(&near, fds[1], NULL) == 0);
    inbuf_init(&in, rt_blocks());
    CHECK(go_here("sends", sends, NULL) == 0);
    for (unsigned number = 0; number < BODIES; number++) {
        struct wire_body body;
        struct hook_reader hook;
        struct count_reader count;
        struct stream_copy copy;
        wire_body_init(&body, &near, &in, &head, &limits);
        hook_reader_init(&hook, wire_body_reader(&body), (struct stream_observer){.bytes = see});
        count_reader_init(&count, hook_reader(&hook));
        seen_sum = written_sum = 0;
        stream_copy_init(&copy, count_reader(&count), (struct writer){&sums, NULL}, NULL);
        CHECK(stream_copy_run(&copy, STREAM_WAIT) == STREAM_END);
        stream_copy_end(&copy);
        reader_close(count_reader(&count));
        size_t size = size_of(number);
        fill(expected, number, size);
        CHECK(count.bytes == size && copy.bytes == size);
        CHECK(seen_sum == sum_of(0, expected, size));
        CHECK(written_sum == seen_sum);
        CHECK(body.done);
    }
    STORY_AWAIT(all_sent); /* it may have let us run behind its last byte */
    CHECK(inbuf_len(&in) == 0);
    CHECK(most_blocks == 1);
    inbuf_drop(&in);
    socket_close(&near);
    peer_closes(far);
    CHECK(blocks_in_use() == 0);
    rt_stop(0);
}

static void test_a_thousand_bodies_in_one_block(void **state) {
    story(1, bodies_story);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_thousand_bodies_in_one_block),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
