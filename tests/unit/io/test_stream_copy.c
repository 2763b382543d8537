/* stream_copy.c: all bytes go, in order, on the way that is right for them, whichever side has to be waited for. */
#include "io/stream_copy.h"

#include "io/socket_stream.h"
#include "io_story.h"
#include "stream_story.h"

static struct told_reader from;
static struct told_writer to;
static char text[TOLD_BYTES_MAX], got[TOLD_BYTES_MAX];
static uint64_t moved;

static void note_moved(struct stream_copy *copy, size_t bytes) {
    moved += bytes;
}

static void begin(struct stream_copy *copy, size_t size) {
    for (size_t i = 0; i < size; i++)
        text[i] = told_byte(i);
    told_reader_init(&from, span_make(text, size));
    told_writer_init(&to, got);
    stream_copy_init(copy, told_reader(&from), told_writer(&to), NULL);
    copy->moved = note_moved;
    moved = 0;
}

static void expect(const struct stream_copy *copy, size_t size) {
    CHECK(to.size == size);
    CHECK(memcmp(got, text, size) == 0);
    CHECK(copy->bytes == size);
    CHECK(moved == size);
    CHECK(stream_copy_held(copy) == 0);
}

/* ---- From memory to memory ---- */

static void splits_story(void *arg) {
    struct stream_copy copy;
    for (size_t first = 0; first <= 40; first++) {
        begin(&copy, 40);
        from.runs[0] = first ? first : 40;
        from.runs[1] = 40;
        from.run_count = 2;
        CHECK(stream_copy_run(&copy, STREAM_WAIT) == STREAM_END);
        expect(&copy, 40);
        CHECK(to.writes == 1); /* both runs are there, so both go at once */
        stream_copy_end(&copy);
    }
    /* Where the second has to be waited for, the first goes before. */
    begin(&copy, 40);
    from.runs[0] = 10;
    from.runs[1] = 0;
    from.runs[2] = 30;
    from.run_count = 3;
    CHECK(stream_copy_run(&copy, STREAM_WAIT) == STREAM_END);
    expect(&copy, 40);
    CHECK(to.writes == 2);
    CHECK(from.closes == 0 && to.closes == 0 && to.finishes == 0); /* its owner's business */
    CHECK(blocks_in_use() == 0);
    rt_stop(0);
}

static void test_what_is_there_goes_at_once(void **state) {
    story(1, splits_story);
}

static void ways_story(void *arg) {
    struct stream_copy copy;
    /* Little ones are gathered, the large one behind them goes along from where it lies. */
    begin(&copy, 5000);
    from.runs[0] = 100;
    from.runs[1] = 200;
    from.runs[2] = 4000;
    from.runs[3] = 0;
    from.runs[4] = 700;
    from.run_count = 5;
    CHECK(stream_copy_run(&copy, STREAM_WAIT) == STREAM_END);
    expect(&copy, 5000);
    CHECK(to.writes == 2);
    CHECK(counted(IO_STREAM_COPY_BYTES) == 300 && counted(IO_STREAM_COPIES) == 1);
    CHECK(counted(IO_COPIED_BYTES) == 300);
    CHECK(counted(IO_STREAM_LEND_BYTES) == 4700 && counted(IO_STREAM_LENDS) == 2);
    CHECK(counted(IO_STREAM_SPLICE_BYTES) == 0);
    /* As many as a block has room for, byte by byte. */
    begin(&copy, 40000);
    from.runs[0] = 1;
    from.run_count = 1;
    CHECK(stream_copy_run(&copy, STREAM_WAIT) == STREAM_END);
    expect(&copy, 40000);
    CHECK(to.writes == 3);
    CHECK(blocks_in_use() == 0);
    rt_stop(0);
}

static void test_little_runs_are_gathered_and_large_ones_lent(void **state) {
    story(1, ways_story);
}

static void errors_story(void *arg) {
    struct stream_copy copy;
    for (size_t at = 0; at <= 30; at++) {
        for (size_t run = 1; run <= 30; run += 7) {
            begin(&copy, 30);
            from.runs[0] = run;
            from.run_count = 1;
            from.fails_at = at;
            CHECK(stream_copy_run(&copy, STREAM_WAIT) == STREAM_READ_FAILED);
            CHECK(copy.error == -ECONNRESET);
            expect(&copy, at); /* what came before it went */
            stream_copy_end(&copy);

            begin(&copy, 30);
            from.runs[0] = run;
            from.run_count = 1;
            to.fails_at = at;
            CHECK(stream_copy_run(&copy, STREAM_WAIT) ==
                  (at < 30 ? STREAM_WRITE_FAILED : STREAM_END));
            CHECK(copy.error == (at < 30 ? -EPIPE : 0));
            CHECK(to.size == at && copy.bytes <= at);
            stream_copy_end(&copy);
            CHECK(stream_copy_held(&copy) == 0);
        }
    }
    for (size_t limit = 0; limit <= 30; limit++) {
        begin(&copy, 30);
        copy.limit = limit;
        from.runs[0] = 7;
        from.run_count = 1;
        CHECK(stream_copy_run(&copy, STREAM_WAIT) == STREAM_END);
        expect(&copy, limit);
        CHECK(from.at == limit); /* the rest is somebody else's */
    }
    begin(&copy, 0);
    CHECK(stream_copy_run(&copy, STREAM_WAIT) == STREAM_END);
    CHECK(to.writes == 0);
    stream_copy_init(&copy, (struct reader){0}, told_writer(&to), NULL);
    CHECK(stream_copy_run(&copy, STREAM_TRY) == STREAM_END);
    CHECK(blocks_in_use() == 0);
    rt_stop(0);
}

static void test_either_side_fails_anywhere(void **state) {
    story(1, errors_story);
}

/* Both sides stop and go as they like; whoever runs it takes any mode that gets it on. */
static void any_way_story(void *arg) {
    uint64_t seed = 1234567;
    struct stream_copy copy;
    unsigned waited_for[STREAM_WRITE_FAILED + 1] = {0};
    for (unsigned round = 0; round < 200; round++) {
        size_t size = next_random(&seed) % 100000;
        begin(&copy, size);
        from.run_count = 1 + next_random(&seed) % 20;
        for (size_t i = 0; i < from.run_count; i++)
            from.runs[i] = next_random(&seed) % (next_random(&seed) % 2 ? 3000 : 20);
        from.runs[from.run_count - 1] = 4000;
        from.cannot_try = round % 10 == 0;
        to.take_count = 1 + next_random(&seed) % 8;
        for (size_t i = 0; i < to.take_count; i++)
            to.takes[i] = next_random(&seed) % 3 ? next_random(&seed) % 5000 : 0;
        enum stream_mode mode = STREAM_TRY;
        enum stream_result result;
        while ((result = stream_copy_run(&copy, mode)) != STREAM_END) {
            CHECK(result != STREAM_READ_FAILED && result != STREAM_WRITE_FAILED);
            waited_for[result]++;
            CHECK(stream_copy_held(&copy) == 0 || result == STREAM_WRITE_WAITS);
            CHECK(copy.bytes + stream_copy_held(&copy) == from.at);
            mode = result == STREAM_READ_UNKNOWN  ? STREAM_WAIT
                   : result == STREAM_WRITE_WAITS ? STREAM_WAIT_FOR_ROOM
                                                  : STREAM_TRY;
        }
        expect(&copy, size);
        CHECK(blocks_in_use() == 0);
    }
    CHECK(waited_for[STREAM_READ_WAITS] && waited_for[STREAM_READ_UNKNOWN]);
    CHECK(waited_for[STREAM_WRITE_WAITS] && waited_for[STREAM_TURN]);
    rt_stop(0);
}

static void test_interrupted_anywhere_nothing_is_lost(void **state) {
    story(1, any_way_story);
}

/* ---- From socket to socket ---- */

static int feeds, drains; /* the far ends */
static struct socket in_socket, out_socket;
static struct inbuf in;
static struct splice_pool pipes;
static struct socket_reader reader;
static struct socket_writer writer;

static void open_line(struct stream_copy *copy, bool with_pipes) {
    int fds[2];
    tcp_pair(fds);
    feeds = fds[0];
    CHECK(socket_open(&in_socket, fds[1], NULL) == 0);
    tcp_pair(fds);
    drains = fds[0];
    CHECK(socket_open(&out_socket, fds[1], NULL) == 0);
    inbuf_init(&in, rt_blocks());
    splice_pool_init(&pipes);
    socket_reader_init(&reader, &in_socket, &in, "test reads", RT_FOREVER);
    socket_writer_init(&writer, &out_socket, "test writes", RT_FOREVER);
    stream_copy_init(copy, socket_reader(&reader), socket_writer(&writer),
                     with_pipes ? &pipes : NULL);
    copy->moved = note_moved;
    moved = 0;
}

static void close_line(struct stream_copy *copy) {
    stream_copy_end(copy);
    stream_copy_end(copy); /* idempotent */
    reader_close(copy->from);
    writer_close(copy->to);
    inbuf_drop(&in);
    socket_close(&in_socket);
    socket_close(&out_socket);
    peer_closes(drains);
    (void)splice_pool_shrink(&pipes);
    CHECK(pipes.in_use == 0);
    CHECK(blocks_in_use() == 0);
}

/* Both far ends as one coroutine: sends bytes of the stream, then its end, and checks those that come back. */
static uint64_t far_size, far_got;
static bool far_saw_end, far_ended;

static NOINLINE bool far_step(uint64_t *sent) {
    char bytes[8192];
    bool any = false;
    size_t n = 0;
    while (n < sizeof bytes && *sent + n < far_size) {
        bytes[n] = told_byte(*sent + n);
        n++;
    }
    if (n) {
        ssize_t rc = send(feeds, bytes, n, MSG_NOSIGNAL | MSG_DONTWAIT);
        CHECK(rc > 0 || errno == EAGAIN);
        *sent += rc > 0 ? (uint64_t)rc : 0;
        any = rc > 0;
        if (*sent == far_size)
            peer_ends(feeds);
    }
    ssize_t rc = recv(drains, bytes, sizeof bytes, MSG_DONTWAIT);
    CHECK(rc >= 0 || errno == EAGAIN);
    for (ssize_t i = 0; i < rc; i++)
        CHECK(bytes[i] == told_byte(far_got++));
    far_saw_end = rc == 0;
    return any || rc > 0;
}

static void far_ends(void *arg) {
    uint64_t sent = 0;
    far_got = 0;
    far_saw_end = false;
    int64_t until = story_soon();
    while (!far_saw_end) {
        CHECK(clock_mono_ns() < until);
        if (!far_step(&sent))
            rt_yield_to_events();
        else
            rt_yield();
    }
    peer_closes(feeds);
    far_ended = true;
}

static void pass_bulk(bool with_pipes) {
    struct stream_copy copy;
    open_line(&copy, with_pipes);
    far_size = 3 << 20;
    far_ended = false;
    CHECK(go_here("far ends", far_ends, NULL) == 0);
    CHECK(stream_copy_run(&copy, STREAM_WAIT) == STREAM_END);
    CHECK(copy.bytes == far_size && moved == far_size);
    CHECK(writer_finish(copy.to) == 0);
    STORY_AWAIT(far_ended);
    CHECK(far_got == far_size);
    close_line(&copy);
}

static void bulk_story(void *arg) {
    pass_bulk(false);
    CHECK(counted(IO_STREAM_SPLICE_BYTES) == 0);
    CHECK(counted(IO_STREAM_LEND_BYTES) == far_size);
    CHECK(counted(IO_STREAM_COPY_BYTES) == 0);
    pass_bulk(true);
    /* How it comes is the kernel's matter, but the first run is always lent. */
    CHECK(counted(IO_STREAM_SPLICE_BYTES) + counted(IO_STREAM_LEND_BYTES) == 2 * far_size);
    CHECK(counted(IO_STREAM_SPLICE_BYTES) == counted(IO_SPLICE_BYTES));
    rt_stop(0);
}

static void test_a_stream_passes_from_socket_to_socket(void **state) {
    story(1, bulk_story);
}

/* A run of a good part of a block says that the rest is worth a pipe. */
static void splices_story(void *arg) {
    struct stream_copy copy;
    static char bytes[60000];
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = told_byte(i);
    open_line(&copy, true);
    int size = 1 << 20;
    CHECK(setsockopt(feeds, SOL_SOCKET, SO_SNDBUF, &size, sizeof size) == 0);
    peer_sends(feeds, bytes, sizeof bytes);
    peer_ends(feeds);
    CHECK(stream_copy_run(&copy, STREAM_WAIT) == STREAM_END);
    CHECK(copy.bytes == sizeof bytes);
    CHECK(counted(IO_STREAM_SPLICE_BYTES) > 0);
    CHECK(counted(IO_STREAM_SPLICE_BYTES) + counted(IO_STREAM_LEND_BYTES) == sizeof bytes);
    CHECK(pipes.in_use == 0); /* held only while there is something in it */
    peer_closes(feeds);
    close_line(&copy);
    rt_stop(0);
}

static void test_large_pieces_are_spliced(void **state) {
    story(1, splices_story);
}

/* ---- Without a coroutine ---- */

static void idle_story(void *arg) {
    struct stream_copy copy;
    char byte;
    open_line(&copy, true);
    CHECK(stream_copy_run(&copy, STREAM_TRY) == STREAM_READ_WAITS);
    CHECK(blocks_in_use() == 0);
    for (int i = 0; i < 5; i++) {
        peer_sends(feeds, "x", 1);
        STORY_AWAIT(socket_has_input(&in_socket));
        CHECK(stream_copy_run(&copy, STREAM_TRY) == STREAM_READ_WAITS);
        CHECK(stream_copy_held(&copy) == 0);
        CHECK(blocks_in_use() == 0); /* who waits holds no memory */
        STORY_AWAIT(peer_receives(drains, &byte, 1) == 1);
        CHECK(byte == 'x');
    }
    peer_ends(feeds);
    STORY_AWAIT(socket_has_input(&in_socket));
    CHECK(stream_copy_run(&copy, STREAM_TRY) == STREAM_END);
    CHECK(copy.bytes == 5);
    peer_closes(feeds);
    close_line(&copy);
    rt_stop(0);
}

static void test_an_idle_connection_needs_no_coroutine(void **state) {
    story(1, idle_story);
}

static bool room_ended;
static struct stream_copy for_room;

static void waits_for_room(void *arg) {
    CHECK(stream_copy_run(&for_room, STREAM_WAIT_FOR_ROOM) == STREAM_END);
    CHECK(writer_finish(for_room.to) == 0);
    room_ended = true;
}

/* The receiver takes nothing for a while: the handler leaves over what it took, a coroutine sees to that. */
static void fill_and_drain(bool with_pipes) {
    static char bytes[65536];
    open_line(&for_room, with_pipes);
    uint64_t sent = 0;
    int size = 256 * 1024;
    CHECK(setsockopt(drains, SOL_SOCKET, SO_RCVBUF, &size, sizeof size) == 0);
    CHECK(setsockopt(out_socket.pd.fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof size) == 0);
    enum stream_result result;
    int64_t until = story_soon();
    do {
        CHECK(clock_mono_ns() < until);
        for (size_t i = 0; i < sizeof bytes; i++)
            bytes[i] = told_byte(sent + i);
        ssize_t n = send(feeds, bytes, sizeof bytes, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n > 0)
            sent += (uint64_t)n;
        rt_yield_to_events();
        result = stream_copy_run(&for_room, STREAM_TRY);
    } while (result == STREAM_READ_WAITS || result == STREAM_TURN);
    CHECK(result == STREAM_WRITE_WAITS);
    CHECK(stream_copy_held(&for_room) > 0);
    CHECK(stream_copy_run(&for_room, STREAM_TRY) == STREAM_WRITE_WAITS);
    peer_ends(feeds);
    room_ended = false;
    CHECK(go_here("waits for room", waits_for_room, NULL) == 0);
    uint64_t received = 0;
    while (received < sent) {
        CHECK(clock_mono_ns() < until);
        ssize_t n = peer_receives(drains, bytes, sizeof bytes);
        for (ssize_t i = 0; i < n; i++)
            CHECK(bytes[i] == told_byte(received + (uint64_t)i));
        received += n > 0 ? (uint64_t)n : 0;
        rt_yield_to_events();
    }
    STORY_AWAIT(room_ended);
    CHECK(for_room.bytes == sent);
    CHECK(!with_pipes || counted(IO_STREAM_SPLICE_BYTES) > 0);
    peer_closes(feeds);
    close_line(&for_room);
}

static void full_story(void *arg) {
    fill_and_drain(false);
    fill_and_drain(true);
    rt_stop(0);
}

static void test_a_receiver_that_takes_nothing_gets_a_coroutine(void **state) {
    story(1, full_story);
}

/* ---- Ends that are none ---- */

static void resets_story(void *arg) {
    struct stream_copy copy;
    open_line(&copy, true);
    peer_sends(feeds, "half of i", 9);
    STORY_AWAIT(socket_has_input(&in_socket));
    CHECK(stream_copy_run(&copy, STREAM_TRY) == STREAM_READ_WAITS);
    peer_resets(feeds);
    CHECK(stream_copy_run(&copy, STREAM_WAIT) == STREAM_READ_FAILED);
    CHECK(copy.error == -ECONNRESET && copy.bytes == 9);
    /* Whoever reads it is told as much. */
    writer_abort(copy.to);
    char bytes[16];
    stream_copy_end(&copy);
    socket_close(&out_socket);
    STORY_AWAIT(peer_receives(drains, bytes, sizeof bytes) != -EAGAIN);
    CHECK(peer_receives(drains, bytes, sizeof bytes) <= 0);
    peer_closes(drains);
    inbuf_drop(&in);
    socket_close(&in_socket);
    (void)splice_pool_shrink(&pipes);

    /* The receiver goes away under a pipe with bytes in it. */
    open_line(&copy, true);
    copy.pace.comes = SPLICE_PACE_LARGE;
    peer_sends(feeds, text, 5000);
    peer_resets(drains);
    STORY_AWAIT(socket_has_input(&in_socket) && socket_hung_up(&out_socket));
    CHECK(stream_copy_run(&copy, STREAM_WAIT) == STREAM_WRITE_FAILED);
    CHECK(copy.error == -EPIPE || copy.error == -ECONNRESET);
    CHECK(stream_copy_held(&copy) == 5000 && copy.bytes == 0);
    stream_copy_end(&copy);
    CHECK(stream_copy_held(&copy) == 0 && pipes.in_use == 0);
    inbuf_drop(&in);
    socket_close(&in_socket);
    socket_close(&out_socket);
    peer_closes(feeds);
    CHECK(blocks_in_use() == 0);
    rt_stop(0);
}

static void test_a_reset_is_told_apart_by_side(void **state) {
    story(1, resets_story);
}

static struct g *copier;
static enum stream_result copier_result;
static struct stream_copy endless;
static bool copier_ended;

static void copies(void *arg) {
    copier = rt_self();
    copier_result = stream_copy_run(&endless, STREAM_WAIT);
    copier_ended = true;
}

static ssize_t endless_next(void *data, size_t max, struct span *out) {
    *out = span_make(text, 4096);
    return 4096;
}

static int devours(void *data, struct iovec *pieces, int count) {
    return 0;
}

static void cancel_story(void *arg) {
    /* While it waits. */
    open_line(&endless, true);
    CHECK(go_here("copies", copies, NULL) == 0);
    STORY_AWAIT(copier && in_socket.pd.reader);
    rt_cancel(copier);
    STORY_AWAIT(copier_ended);
    CHECK(copier_result == STREAM_READ_FAILED && endless.error == -ECANCELED);
    peer_closes(feeds);
    close_line(&endless);
    /* And where it never has to: others run in between. */
    static const struct reader_itab r = {.next = endless_next};
    static const struct writer_itab w = {.write = devours};
    stream_copy_init(&endless, (struct reader){&r, NULL}, (struct writer){&w, NULL}, NULL);
    copier = NULL;
    copier_ended = false;
    CHECK(go_here("copies", copies, NULL) == 0);
    STORY_AWAIT(copier && endless.bytes > 1 << 20);
    rt_cancel(copier);
    STORY_AWAIT(copier_ended);
    CHECK(copier_result == STREAM_READ_FAILED && endless.error == -ECANCELED);
    rt_stop(0);
}

static void test_it_can_be_cancelled_and_lets_others_run(void **state) {
    story(1, cancel_story);
}

static void stalls_story(void *arg) {
    struct stream_copy copy;
    open_line(&copy, true);
    reader.idle_ns = NS_PER_MS;
    CHECK(stream_copy_run(&copy, STREAM_WAIT) == STREAM_READ_FAILED);
    CHECK(copy.error == -ETIMEDOUT);
    struct span nothing;
    CHECK(reader_next(copy.from, 1, &nothing) == -ETIMEDOUT); /* it sticks */
    CHECK(reader_peek(copy.from) == READER_READY);
    fill_up(&out_socket);
    writer.stall_ns = NS_PER_MS;
    CHECK(writer_write_span(copy.to, span_make(text, sizeof text)) == -ETIMEDOUT);
    CHECK(writer_write_span(copy.to, SPAN_LIT("x")) == -ETIMEDOUT);
    CHECK(writer_finish(copy.to) == -ETIMEDOUT);
    peer_closes(feeds);
    close_line(&copy);
    rt_stop(0);
}

static void test_each_wait_has_its_deadline(void **state) {
    story(1, stalls_story);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_is_there_goes_at_once),
        cmocka_unit_test(test_little_runs_are_gathered_and_large_ones_lent),
        cmocka_unit_test(test_either_side_fails_anywhere),
        cmocka_unit_test(test_interrupted_anywhere_nothing_is_lost),
        cmocka_unit_test(test_a_stream_passes_from_socket_to_socket),
        cmocka_unit_test(test_large_pieces_are_spliced),
        cmocka_unit_test(test_an_idle_connection_needs_no_coroutine),
        cmocka_unit_test(test_a_receiver_that_takes_nothing_gets_a_coroutine),
        cmocka_unit_test(test_a_reset_is_told_apart_by_side),
        cmocka_unit_test(test_it_can_be_cancelled_and_lets_others_run),
        cmocka_unit_test(test_each_wait_has_its_deadline),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
