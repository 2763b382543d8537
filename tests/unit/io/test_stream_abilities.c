/* stream_*.c: what a decorator can do beyond passing bytes is what is true of it: who looks at no bytes lets them be
 * spliced, who looks at them sees them where they lie; waiting ends in time; memory is held while it is needed. */
#include "io/socket_stream.h"
#include "io/stream_buffer.h"
#include "io/stream_concat.h"
#include "io/stream_copy.h"
#include "io/stream_count.h"
#include "io/stream_deadline.h"
#include "io/stream_footer.h"
#include "io/stream_hook.h"
#include "io/stream_limit.h"
#include "io/stream_peek.h"
#include "io/stream_prefix.h"
#include "io/stream_rate.h"
#include "io/stream_tee.h"
#include "io_story.h"
#include "stream_story.h"

enum {
    BYTES = 60000
}; /* that a sending socket takes at once, and several times what a block holds */

static int feeds, drains; /* the far ends */
static struct socket in_socket, out_socket;
static struct inbuf in;
static struct splice_pool pipes;
static struct socket_reader from;
static struct socket_writer to;
static char bytes[BYTES];

static NOINLINE void send_buffer(int fd) {
    int size = 1 << 20;
    CHECK(setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof size) == 0);
}

static void open_line(void) {
    int fds[2];
    tcp_pair(fds);
    feeds = fds[0];
    send_buffer(feeds);
    CHECK(socket_open(&in_socket, fds[1], NULL) == 0);
    tcp_pair(fds);
    drains = fds[0];
    CHECK(socket_open(&out_socket, fds[1], NULL) == 0);
    inbuf_init(&in, rt_blocks());
    splice_pool_init(&pipes);
    socket_reader_init(&from, &in_socket, &in, "test reads", RT_FOREVER);
    socket_writer_init(&to, &out_socket, "test writes", RT_FOREVER);
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = told_byte(i);
}

static void close_line(void) {
    inbuf_drop(&in);
    socket_close(&in_socket);
    socket_close(&out_socket);
    peer_closes(feeds);
    peer_closes(drains);
    (void)splice_pool_shrink(&pipes);
    CHECK(pipes.in_use == 0);
    CHECK(blocks_in_use() == 0);
}

/* What came at the far end begins with `text`, and goes on with the stream. */
static void expect_there(struct span text, size_t stream_bytes, struct span behind) {
    static char got[BYTES + 1000];
    size_t want = text.len + stream_bytes + behind.len, size = 0;
    int64_t until = story_soon();
    while (size < want) {
        CHECK(clock_mono_ns() < until);
        ssize_t n = peer_receives(drains, got + size, sizeof got - size);
        if (n > 0)
            size += (size_t)n;
        else
            rt_yield_to_events();
    }
    CHECK(size == want);
    CHECK(memcmp(got, text.ptr, text.len) == 0);
    CHECK(memcmp(got + text.len, bytes, stream_bytes) == 0);
    CHECK(memcmp(got + text.len + stream_bytes, behind.ptr, behind.len) == 0);
}

static uint64_t pass(struct reader reader, struct writer writer) {
    uint64_t before = counted(IO_STREAM_SPLICE_BYTES);
    struct stream_copy copy;
    stream_copy_init(&copy, reader, writer, &pipes);
    CHECK(stream_copy_run(&copy, STREAM_WAIT) == STREAM_END);
    stream_copy_end(&copy);
    CHECK(writer_finish(writer) == 0);
    reader_close(reader);
    writer_close(writer);
    return counted(IO_STREAM_SPLICE_BYTES) - before;
}

/* ---- Splicing ---- */

/* All who look at no bytes, on both sides at once. */
static void blind_story(void *arg) {
    open_line();
    struct count_reader count;
    struct limit_reader limit;
    struct prefix_reader prefix;
    struct footer_reader footer;
    struct peek_reader peek;
    struct deadline_reader deadline;
    struct rate_bucket bucket;
    struct rate_reader rate;
    struct concat_reader concat;
    struct prefix_writer prefix_w;
    struct footer_writer footer_w;
    struct count_writer count_w;
    struct limit_writer limit_w;
    struct rate_writer rate_w;
    peer_sends(feeds, bytes, BYTES);
    peer_ends(feeds);
    STORY_AWAIT(socket_has_input(&in_socket));
    peek_reader_init(&peek, socket_reader(&from));
    struct span seen;
    CHECK(peek_reader_look(&peek, 100, &seen) >= 100);
    CHECK(seen.ptr == in.data + in.start); /* where it lies */
    count_reader_init(&count, peek_reader(&peek));
    limit_reader_init(&limit, count_reader(&count), 2 * BYTES, LIMIT_FAILS);
    deadline_reader_init(&deadline, limit_reader(&limit), story_soon());
    rate_bucket_init(&bucket, 1ULL << 40, 1 << 30);
    rate_reader_init(&rate, deadline_reader(&deadline), &bucket);
    prefix_reader_init(&prefix, rate_reader(&rate), stream_text_of(SPAN_LIT("[in]")));
    footer_reader_init(&footer, prefix_reader(&prefix), stream_text_of(SPAN_LIT("[out]")));
    struct reader parts[] = {(struct reader){0}, footer_reader(&footer)};
    concat_reader_init(&concat, parts, 2);

    count_writer_init(&count_w, socket_writer(&to));
    limit_writer_init(&limit_w, count_writer(&count_w), BYTES + 100);
    rate_writer_init(&rate_w, limit_writer(&limit_w), &bucket);
    prefix_writer_init(&prefix_w, rate_writer(&rate_w), stream_text_of(SPAN_LIT("[IN]")));
    footer_writer_init(&footer_w, prefix_writer(&prefix_w), stream_text_of(SPAN_LIT("[OUT]")));

    struct reader reader = concat_reader(&concat);
    CHECK(reader_unread(reader) == 0); /* the prefix has to go first */
    uint64_t spliced = pass(reader, footer_writer(&footer_w));
    CHECK(spliced > 0);
    CHECK(count.bytes == BYTES);
    CHECK(count_w.bytes == BYTES + 18);
    expect_there(SPAN_LIT("[IN][in]"), BYTES, SPAN_LIT("[out][OUT]"));
    close_line();
    rt_stop(0);
}

static void test_who_does_not_look_lets_it_be_spliced(void **state) {
    story(1, blind_story);
}

static const char *shown_at;
static uint64_t shown;

static void see(void *arg, struct span run) {
    shown_at = run.ptr;
    for (size_t i = 0; i < run.len; i++)
        CHECK(run.ptr[i] == told_byte(shown++));
}

static void seeing_story(void *arg) {
    struct hook_reader hook;
    struct count_reader count;
    struct stream_observer observer = {.bytes = see};
    open_line();
    peer_sends(feeds, bytes, BYTES);
    peer_ends(feeds);
    hook_reader_init(&hook, socket_reader(&from), observer);
    count_reader_init(&count, hook_reader(&hook));
    struct span out;
    CHECK(reader_next(count_reader(&count), 10, &out) == 10);
    CHECK(shown == 10 && out.ptr == shown_at); /* the same bytes, and no copy */
    CHECK(shown_at >= in.data && shown_at < in.data + in.cap);
    uint64_t copied = counted(IO_COPIED_BYTES);
    CHECK(pass(count_reader(&count), socket_writer(&to)) == 0);
    CHECK(shown == BYTES);
    CHECK(counted(IO_COPIED_BYTES) == copied);
    memmove(bytes, bytes + 10, BYTES - 10);
    expect_there(SPAN_LIT(""), BYTES - 10, SPAN_LIT(""));
    close_line();

    /* A writer likewise. */
    struct hook_writer hook_w;
    shown = 0;
    open_line();
    peer_sends(feeds, bytes, BYTES);
    peer_ends(feeds);
    hook_writer_init(&hook_w, socket_writer(&to), observer);
    CHECK(!writer_can_splice(hook_writer(&hook_w)));
    CHECK(pass(socket_reader(&from), hook_writer(&hook_w)) == 0);
    CHECK(shown == BYTES);
    expect_there(SPAN_LIT(""), BYTES, SPAN_LIT(""));
    close_line();
    rt_stop(0);
}

static void test_an_observer_sees_them_where_they_lie(void **state) {
    story(1, seeing_story);
}

/* A footer comes also where the end was seen by splicing. */
static void spliced_end_story(void *arg) {
    struct footer_reader footer;
    struct span out;
    open_line();
    footer_reader_init(&footer, socket_reader(&from), stream_text_of(SPAN_LIT("-- end")));
    struct reader reader = footer_reader(&footer);
    peer_ends(feeds);
    STORY_AWAIT(socket_has_input(&in_socket));
    struct splice splice = splice_begin(&pipes);
    CHECK(reader_unread(reader) == UINT64_MAX);
    CHECK(reader_splice(reader, &splice, 1000) == -ENOBUFS);
    splice_end(&splice);
    CHECK(reader_unread(reader) == 0);
    CHECK(reader_peek(reader) == READER_READY);
    CHECK(reader_next(reader, 1000, &out) == 6 && memcmp(out.ptr, "-- end", 6) == 0);
    CHECK(reader_next(reader, 1000, &out) == 0);
    reader_close(reader);
    close_line();
    rt_stop(0);
}

static void test_a_footer_comes_behind_what_was_spliced(void **state) {
    story(1, spliced_end_story);
}

/* Whatever room the reader of a prefix has. */
static void small_room_story(void *arg) {
    struct span text = SPAN_LIT("X-Trace-ID: 4bf92f3577b34da6\n"), rest = SPAN_LIT("payload");
    for (size_t max = 1; max < 40; max++) {
        struct told_reader told;
        struct prefix_reader prefix;
        told_reader_init(&told, rest);
        prefix_reader_init(&prefix, told_reader(&told), stream_text_of(text));
        char got[64];
        size_t size = 0;
        struct span out;
        ssize_t n;
        while ((n = reader_next(prefix_reader(&prefix), max, &out)) > 0) {
            CHECK((size_t)n <= max && size + out.len <= sizeof got);
            CHECK(size >= text.len || (out.ptr == text.ptr + size && told.nexts == 0));
            memcpy(got + size, out.ptr, out.len);
            size += out.len;
        }
        CHECK(size == text.len + rest.len);
        CHECK(memcmp(got, text.ptr, text.len) == 0);
        CHECK(memcmp(got + text.len, rest.ptr, rest.len) == 0);
        reader_close(prefix_reader(&prefix));
    }
    /* Without memory to make it there is no stream. */
    struct told_reader told;
    struct prefix_reader prefix;
    told_reader_init(&told, rest);
    prefix_reader_init(&prefix, told_reader(&told), stream_text_of(span_none()));
    struct span out;
    CHECK(reader_next(prefix_reader(&prefix), 10, &out) == -ENOMEM);
    CHECK(reader_next(prefix_reader(&prefix), 10, &out) == -ENOMEM);
    CHECK(told.nexts == 0);
    reader_close(prefix_reader(&prefix));
    rt_stop(0);
}

static void test_a_prefix_is_whole_in_any_room(void **state) {
    story(1, small_room_story);
}

/* A prefix and the bytes behind it leave by one call. */
static void one_call_story(void *arg) {
    struct told_writer told;
    static char got[TOLD_BYTES_MAX];
    struct prefix_writer prefix;
    told_writer_init(&told, got);
    prefix_writer_init(&prefix, told_writer(&told), stream_text_of(SPAN_LIT("tenant=7 ")));
    CHECK(writer_write_span(prefix_writer(&prefix), SPAN_LIT("body")) == 0);
    CHECK(told.writes == 1);
    CHECK(writer_write_span(prefix_writer(&prefix), SPAN_LIT("more")) == 0);
    CHECK(told.size == 17 && memcmp(got, "tenant=7 bodymore", 17) == 0);
    rt_stop(0);
}

static void test_a_prefix_costs_no_call(void **state) {
    story(1, one_call_story);
}

/* ---- What is copied ---- */

/* The table of docs/architecture.md: bytes that are copied in memory for those that pass, on each way. */
enum way {
    SPLICED,
    LENT,
    COUNTED,
    HOOKED,
    PREFIXED,
    LITTLE,
    PEEKED_IN_ONE,
    PEEKED_IN_TWO,
    TEED,
    BUFFERED,
    WAYS
};

static uint64_t copied_on(enum way way) {
    static char got[TOLD_BYTES_MAX], side_got[TOLD_BYTES_MAX];
    struct told_writer told, side;
    struct told_reader little;
    struct count_reader count;
    struct hook_reader hook;
    struct prefix_reader prefix;
    struct peek_reader peek;
    struct tee_reader tee;
    struct buffer_reader buffer;
    struct span seen;
    told_writer_init(&told, got);
    told_writer_init(&side, side_got);
    open_line();
    struct reader reader = socket_reader(&from);
    struct writer writer = way == SPLICED ? socket_writer(&to) : told_writer(&told);
    uint64_t before = counted(IO_COPIED_BYTES), expected = BYTES;
    if (way == PEEKED_IN_TWO) {
        peer_sends(feeds, bytes, 100);
        peek_reader_init(&peek, reader);
        CHECK(peek_reader_look(&peek, 100, &seen) == 100);
        peer_sends(feeds, bytes + 100, BYTES - 100);
        CHECK(peek_reader_look(&peek, 128, &seen) == 128);
        reader = peek_reader(&peek);
    } else if (way == LITTLE) {
        told_reader_init(&little, span_make(bytes, 1000));
        little.runs[0] = 10;
        little.run_count = 1;
        reader = told_reader(&little);
        expected = 1000;
    } else {
        peer_sends(feeds, bytes, BYTES);
    }
    peer_ends(feeds);
    STORY_AWAIT(socket_has_input(&in_socket));
    switch (way) {
    case COUNTED:
        count_reader_init(&count, reader);
        reader = count_reader(&count);
        break;
    case HOOKED:
        hook_reader_init(&hook, reader, (struct stream_observer){.bytes = see});
        reader = hook_reader(&hook);
        shown = 0;
        break;
    case PREFIXED:
        prefix_reader_init(&prefix, reader, stream_text_of(SPAN_LIT("X-Trace-ID: 1\n")));
        reader = prefix_reader(&prefix);
        expected += 14;
        break;
    case PEEKED_IN_ONE:
        peek_reader_init(&peek, reader);
        CHECK(peek_reader_look(&peek, 128, &seen) >= 128);
        reader = peek_reader(&peek);
        break;
    case TEED:
        tee_reader_init(&tee, reader, told_writer(&side), TEE_FAILS);
        reader = tee_reader(&tee);
        break;
    case BUFFERED:
        buffer_reader_init(&buffer, reader, BYTES);
        reader = buffer_reader(&buffer);
        break;
    default:
        break;
    }
    CHECK((pass(reader, writer) > 0) == (way == SPLICED));
    CHECK(way == SPLICED || told.size == expected);
    uint64_t copied = counted(IO_COPIED_BYTES) - before;
    close_line();
    return copied;
}

static void copies_story(void *arg) {
    static const uint64_t table[WAYS] = {
        [LITTLE] = 1000 - 10,        /* the last run is written from where it lies */
        [PEEKED_IN_TWO] = 128 + 128, /* to be shown in one piece, and to go out with what follows */
        [BUFFERED] = BYTES,
    };
    for (enum way way = 0; way < WAYS; way++)
        CHECK(copied_on(way) == table[way]);
    rt_stop(0);
}

static void test_what_is_copied_on_each_way(void **state) {
    story(1, copies_story);
}

/* ---- Limits ---- */

static void limits_story(void *arg) {
    struct told_writer told;
    static char got[TOLD_BYTES_MAX];
    struct limit_writer limit;
    told_writer_init(&told, got);
    limit_writer_init(&limit, told_writer(&told), 10);
    struct iovec pieces[] = {{bytes, 4}, {bytes, 0}, {bytes, 6}};
    CHECK(writer_write(limit_writer(&limit), pieces, 3) == 0);
    CHECK(limit.left == 0);
    CHECK(writer_write_span(limit_writer(&limit), SPAN_LIT("")) == 0);
    CHECK(writer_write_span(limit_writer(&limit), SPAN_LIT("x")) == -EMSGSIZE);
    CHECK(writer_finish(limit_writer(&limit)) == -EMSGSIZE); /* no whole stream */
    CHECK(told.size == 10 && told.finishes == 0);

    struct told_reader reader;
    struct limit_reader of;
    struct span out;
    told_reader_init(&reader, SPAN_LIT("0123456789"));
    limit_reader_init(&of, told_reader(&reader), 4, LIMIT_ENDS);
    CHECK(reader_next(limit_reader(&of), 100, &out) == 4);
    CHECK(reader_peek(limit_reader(&of)) == READER_END);
    CHECK(reader_next(limit_reader(&of), 100, &out) == 0);
    CHECK(reader_next(told_reader(&reader), 100, &out) == 6); /* the rest is its owner's */
    open_line();
    CHECK(reader_unread(socket_reader(&from)) == UINT64_MAX);
    limit_reader_init(&of, socket_reader(&from), 4, LIMIT_ENDS);
    CHECK(reader_unread(limit_reader(&of)) == 4);
    limit_reader_init(&of, socket_reader(&from), 0, LIMIT_FAILS);
    CHECK(reader_unread(limit_reader(&of)) == 0);
    close_line();
    rt_stop(0);
}

static void test_limits_are_exact(void **state) {
    story(1, limits_story);
}

static void buffer_story(void *arg) {
    struct told_reader told;
    struct buffer_reader buffer;
    struct span out;
    static char text[3 * BLOCK_DATA_SIZE];
    memset(text, 'x', sizeof text);
    told_reader_init(&told, span_make(text, sizeof text));
    told.runs[0] = 4000;
    told.runs[1] = 0;
    told.run_count = 2;
    buffer_reader_init(&buffer, told_reader(&told), sizeof text);
    while (reader_try_next(buffer_reader(&buffer), 1, &out) == -EAGAIN)
        CHECK(told.at < sizeof text || !buffer.complete); /* not a byte before the end */
    CHECK(buffer.complete && buffer.bytes == sizeof text);
    CHECK(blocks_in_use() == 3);
    CHECK(reader_next(buffer_reader(&buffer), SIZE_MAX, &out) == BLOCK_DATA_SIZE - 1);
    CHECK(reader_next(buffer_reader(&buffer), SIZE_MAX, &out) == BLOCK_DATA_SIZE);
    CHECK(blocks_in_use() == 2); /* given back as it is lent on */
    reader_close(buffer_reader(&buffer));
    CHECK(blocks_in_use() == 0 && told.closes == 1);
    /* One byte too much, and nothing comes at all. */
    told_reader_init(&told, span_make(text, sizeof text));
    buffer_reader_init(&buffer, told_reader(&told), sizeof text - 1);
    CHECK(buffer_reader_fill(&buffer) == -EMSGSIZE);
    CHECK(reader_next(buffer_reader(&buffer), 1, &out) == -EMSGSIZE);
    CHECK(blocks_in_use() == 0);
    reader_close(buffer_reader(&buffer));
    rt_stop(0);
}

static void test_a_buffer_holds_all_or_nothing(void **state) {
    story(1, buffer_story);
}

/* ---- Time ---- */

static struct g *waiter;
static struct deadline_reader of_waiter;
static ssize_t waiter_got;
static bool waiter_cancelled, waiter_ended;

static void waits(void *arg) {
    waiter = rt_self();
    struct span out;
    waiter_got = reader_next(deadline_reader(&of_waiter), 10, &out);
    waiter_cancelled = rt_cancelled();
    waiter_ended = true;
}

static void start_waiter(int64_t deadline_ns) {
    open_line();
    waiter = NULL;
    waiter_ended = false;
    deadline_reader_init(&of_waiter, socket_reader(&from), deadline_ns);
    CHECK(go_here("waits", waits, NULL) == 0);
    STORY_AWAIT(waiter);
}

static void end_waiter(ssize_t got, bool cancelled) {
    STORY_AWAIT(waiter_ended);
    CHECK(waiter_got == got);
    CHECK(waiter_cancelled == cancelled);
    struct span out;
    CHECK(got > 0 || reader_next(deadline_reader(&of_waiter), 10, &out) == got);
    reader_close(deadline_reader(&of_waiter));
    CHECK(!timer_is_armed(&of_waiter.timer));
    close_line();
}

static void deadline_story(void *arg) {
    /* It waits in the socket, and is interrupted there; afterwards it is as if nobody had cancelled it. */
    start_waiter(clock_mono_ns() + NS_PER_MS);
    end_waiter(-ETIMEDOUT, false);
    /* Who cancels it as well has cancelled it, before and at the same time. */
    start_waiter(RT_FOREVER);
    rt_cancel(waiter);
    end_waiter(-ECANCELED, true);
    start_waiter(RT_FOREVER);
    of_waiter.timer.fn(&of_waiter.timer);
    rt_cancel(waiter);
    end_waiter(-ECANCELED, true);
    /* Bytes that came with the deadline are there. */
    start_waiter(RT_FOREVER);
    peer_sends(feeds, "late", 4);
    STORY_AWAIT(waiter_ended);
    end_waiter(4, false);
    rt_stop(0);
}

static void test_a_deadline_ends_any_wait(void **state) {
    story(1, deadline_story);
}

static void rate_story(void *arg) {
    struct rate_bucket bucket;
    struct rate_reader rate;
    struct told_reader told;
    struct span out;
    told_reader_init(&told, span_make(bytes, 200));
    rate_bucket_init(&bucket, 1000, 10);
    rate_reader_init(&rate, told_reader(&told), &bucket);
    int64_t start = rt_now_ns();
    CHECK(reader_try_next(rate_reader(&rate), 100, &out) == 10); /* saved up */
    CHECK(reader_peek(rate_reader(&rate)) == READER_MAY_PARK);
    CHECK(reader_try_next(rate_reader(&rate), 100, &out) == -EOPNOTSUPP);
    uint64_t got = 10;
    while (got < 60) {
        ssize_t n = reader_next(rate_reader(&rate), 100, &out);
        CHECK(n > 0 && n <= 10);
        got += (uint64_t)n;
        /* Never more than a burst and what the time is worth. */
        CHECK(got <= 10 + (uint64_t)(rt_now_ns() - start) / NS_PER_MS);
    }
    /* Writes are cut, and share the bucket. */
    struct rate_writer rate_w;
    static char got_there[TOLD_BYTES_MAX];
    struct told_writer told_w;
    told_writer_init(&told_w, got_there);
    rate_writer_init(&rate_w, told_writer(&told_w), &bucket);
    struct iovec pieces[] = {{bytes, 25}, {bytes, 0}, {bytes + 25, 25}};
    CHECK(writer_write(rate_writer(&rate_w), pieces, 3) == 0);
    CHECK(told_w.size == 50 && memcmp(got_there, bytes, 50) == 0);
    CHECK(told_w.writes >= 5);
    CHECK(got + 50 <= 10 + (uint64_t)(rt_now_ns() - start) / NS_PER_MS);
    reader_close(rate_reader(&rate));
    rt_stop(0);
}

static void test_a_rate_is_never_exceeded(void **state) {
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = told_byte(i);
    story(1, rate_story);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_who_does_not_look_lets_it_be_spliced),
        cmocka_unit_test(test_an_observer_sees_them_where_they_lie),
        cmocka_unit_test(test_a_footer_comes_behind_what_was_spliced),
        cmocka_unit_test(test_a_prefix_is_whole_in_any_room),
        cmocka_unit_test(test_a_prefix_costs_no_call),
        cmocka_unit_test(test_what_is_copied_on_each_way),
        cmocka_unit_test(test_limits_are_exact),
        cmocka_unit_test(test_a_buffer_holds_all_or_nothing),
        cmocka_unit_test(test_a_deadline_ends_any_wait),
        cmocka_unit_test(test_a_rate_is_never_exceeded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
