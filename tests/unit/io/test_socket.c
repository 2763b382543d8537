/* socket.c: receiving, ends, callbacks, connecting: what its header promises, on pairs of UNIX and of TCP sockets,
 * and how many system calls that takes. Sending: test_socket_send.c. What the kernel may refuse:
 * test_socket_faults.c. */
#include "io_faults.h"

#include "near_story.h"

/* ---- Receiving ---- */

static void waits_for_input(void *arg) {
    waiter = rt_self();
    waiter_got = socket_receive(&near, &in, "test waits", RT_FOREVER);
    waiter_ended = true;
}

static void lazy_story(void *arg) {
    open_near();
    start_waiter(waits_for_input);
    CHECK(!waiter_ended);
    CHECK(inbuf_pinned(&in) == 0);
    CHECK(blocks_in_use() == 0);
    peer_sends(far, "x", 1);
    STORY_AWAIT(waiter_ended);
    CHECK(waiter_got == 1);
    CHECK(holds(&in, "x"));
    CHECK(inbuf_pinned(&in) == BLOCK_SIZE); /* for one byte: that is what limits count */
    CHECK(near.rx_bytes == 1);
    end();
}

static void who_waits_for_input_holds_no_memory(void **state) {
    on_both(lazy_story);
}

static void packed_story(void *arg) {
    open_near();
    const struct block *block = NULL;
    for (int i = 0; i < 200; i++) {
        peer_sends(far, "ab", 2);
        CHECK(receive() == 2);
        CHECK(!block || in.block == block);
        block = in.block;
    }
    CHECK(inbuf_len(&in) == 400);
    CHECK(inbuf_pinned(&in) == BLOCK_SIZE);
    for (int i = 0; i < 200; i++)
        CHECK(memcmp(inbuf_bytes(&in).ptr + 2 * i, "ab", 2) == 0);
    end();
}

static void short_reads_are_packed_into_one_block(void **state) {
    on_both(packed_story);
}

static void full_story(void *arg) {
    static char bytes[BLOCK_DATA_SIZE + 100];
    memset(bytes, 'x', sizeof bytes);
    open_near();
    peer_sends(far, bytes, sizeof bytes);
    ssize_t n;
    while ((n = receive()) > 0) {
    }
    CHECK(n == -EMSGSIZE); /* all of the block, wherever in it the first byte came */
    CHECK(inbuf_len(&in) == BLOCK_DATA_SIZE);
    inbuf_consume(&in, 1);
    CHECK(receive() == 1);
    inbuf_consume(&in, BLOCK_DATA_SIZE);
    CHECK(receive() == 99);
    end();
}

static void unused_bytes_fill_the_block_and_no_more(void **state) {
    on_both(full_story);
}

static void no_wasted_call_story(void *arg) {
    open_near();
    peer_sends(far, "abc", 3);
    uint64_t calls = counted(IO_RECV_CALLS);
    CHECK(receive() == 3);
    CHECK(!socket_has_input(&near)); /* it was a short one */
    CHECK(socket_try_receive(&near, &in) == -EAGAIN);
    CHECK(!socket_has_unread(&near));
    CHECK(counted(IO_RECV_CALLS) == calls + 1);
    CHECK(counted(IO_RECV_AGAIN) == 0);
    peer_sends(far, "d", 1);
    CHECK(receive() == 1); /* told by an edge, not by asking */
    CHECK(counted(IO_RECV_CALLS) == calls + 2);
    CHECK(counted(IO_RECV_AGAIN) == 0);
    CHECK(counted(IO_RECV_BYTES) == 4);
    end();
}

static void after_a_short_read_nobody_asks_again(void **state) {
    on_both(no_wasted_call_story);
}

static void fin_story(void *arg) {
    open_near();
    peer_sends(far, "last", 4);
    peer_ends(far);
    CHECK(receive() == 4); /* the FIN's edge may have come before or may come after */
    CHECK(receive() == 0);
    CHECK(receive() == 0);
    CHECK(socket_hung_up(&near));
    CHECK(socket_has_input(&near));
    CHECK(holds(&in, "last"));
    peer_closes(far);
    socket_close(&near);
    inbuf_drop(&in);

    /* The end alone, while somebody waits. */
    open_near();
    start_waiter(waits_for_input);
    peer_ends(far);
    STORY_AWAIT(waiter_ended);
    CHECK(waiter_got == 0);
    end();
}

static void an_end_is_told_behind_the_last_bytes(void **state) {
    on_both(fin_story);
}

static void half_story(void *arg) {
    open_near();
    CHECK(socket_shutdown(&near) == 0);
    CHECK(counted(IO_SHUTDOWN_CALLS) == 1);
    char byte;
    for (int64_t until = story_soon();; rt_yield()) {
        ssize_t n = peer_receives(far, &byte, 1);
        CHECK(n <= 0 && clock_mono_ns() < until);
        if (n == 0)
            break;
    }
    for (int i = 0; i < 3; i++) {
        peer_sends(far, "still", 5);
        CHECK(receive() == 5);
    }
    CHECK(!socket_hung_up(&near)); /* it is our half that is closed */
    struct iovec piece = {&byte, 1};
    CHECK(socket_send(&near, &piece, 1, "after the end", story_soon()) == -EPIPE);
    end();
}

static void after_our_end_the_peer_may_go_on(void **state) {
    on_both(half_story);
}

static void ends_story(void *arg) {
    open_near();
    int64_t soon = clock_mono_ns() + 2 * NS_PER_MS;
    CHECK(socket_has_input(&near)); /* nobody has asked yet */
    CHECK(socket_receive(&near, &in, "nothing", soon) == -ETIMEDOUT);
    CHECK(inbuf_pinned(&in) == 0);
    start_waiter(waits_for_input);
    rt_cancel(waiter);
    STORY_AWAIT(waiter_ended);
    CHECK(waiter_got == -ECANCELED);
    peer_sends(far, "abc", 3); /* nothing is lost by that */
    CHECK(receive() == 3);
    CHECK(holds(&in, "abc"));
    end();
}

static void a_wait_ends_by_deadline_and_by_cancellation(void **state) {
    on_both(ends_story);
}

static void unread_story(void *arg) {
    open_near();
    CHECK(!socket_has_unread(&near));
    peer_sends(far, "a", 1);
    CHECK(poll_wait_readable(&near.pd, "an edge", story_soon()) == 0);
    CHECK(socket_has_unread(&near));
    CHECK(socket_has_unread(&near)); /* it was not taken away */
    CHECK(receive() == 1);
    peer_closes(far);
    CHECK(poll_wait_readable(&near.pd, "an edge", story_soon()) == 0);
    CHECK(socket_has_unread(&near)); /* the end */
    end();
}

static void unread_bytes_and_ends_are_seen_unread(void **state) {
    on_both(unread_story);
}

static void discard_story(void *arg) {
    static char bytes[50000];
    open_near();
    peer_sends(far, bytes, 10000);
    CHECK(socket_discard(&near, 1 << 20, "drops", clock_mono_ns() + NS_PER_MS) == -ETIMEDOUT);
    peer_sends(far, bytes, sizeof bytes);
    peer_ends(far);
    CHECK(socket_discard(&near, sizeof bytes, "drops", story_soon()) == 0);
    CHECK(counted(IO_RECV_BYTES) == 10000 + sizeof bytes);
    CHECK(blocks_in_use() == 0);
    peer_closes(far);
    socket_close(&near);

    open_near();
    peer_sends(far, bytes, sizeof bytes);
    CHECK(socket_discard(&near, sizeof bytes - 1, "drops", story_soon()) == -EMSGSIZE);
    end();
}

static void what_is_dropped_takes_no_memory(void **state) {
    on_both(discard_story);
}

/* ---- Resets ---- */

static void reset_story(void *arg) {
    open_near();
    start_waiter(waits_for_input);
    peer_resets(far);
    STORY_AWAIT(waiter_ended);
    CHECK(waiter_got == -ECONNRESET);
    CHECK(socket_hung_up(&near));
    CHECK(counted(IO_ERRORS) == 1);
    socket_close(&near);
    CHECK(inbuf_len(&in) == 0);
    inbuf_drop(&in);

    open_near();
    start_waiter(waits_for_room);
    for (uint64_t before = near.tx_bytes, now; (now = near.tx_bytes) != before; before = now)
        CHECK(rt_sleep_until(clock_mono_ns() + NS_PER_MS) == 0); /* it is full */
    CHECK(!waiter_ended);
    peer_resets(far);
    STORY_AWAIT(waiter_ended);
    CHECK(sender_rc == -ECONNRESET || sender_rc == -EPIPE);
    socket_close(&near);
    end();
}

static void a_reset_wakes_readers_and_writers(void **state) {
    make_pair = tcp_pair;
    story(1, reset_story);
}

/* ---- Misuse ---- */

static void close_under_reader_story(void *arg) {
    open_near();
    start_waiter(waits_for_input);
    socket_close(&near);
}

static void close_under_writer_story(void *arg) {
    open_near();
    start_waiter(waits_for_room);
    socket_close(&near);
}

static void two_readers_story(void *arg) {
    open_near();
    start_waiter(waits_for_input);
    (void)receive();
}

static void not_a_socket_story(void *arg) {
    open_near();
    fault_set(FAULT_RECV, EBADF, 1);
    (void)receive();
}

static void what_would_be_our_mistake_asserts(void **state) {
    make_pair = unix_pair;
    story_asserts(close_under_reader_story);
    story_asserts(close_under_writer_story);
    story_asserts(two_readers_story);
    story_asserts(not_a_socket_story);
}

/* ---- The descriptor ---- */

static void take_story(void *arg) {
    open_near();
    peer_sends(far, "sniffed", 7);
    CHECK(receive() == 7);
    peer_sends(far, " and more", 9);
    int fd = socket_take_fd(&near, &in);
    CHECK(fd >= 0);
    char rest[20];
    size_t len = inbuf_len(&in);
    CHECK(len >= 7);
    memcpy(rest, inbuf_bytes(&in).ptr, len);
    for (ssize_t n; len < 16; len += (size_t)n)
        CHECK((n = peer_receives(fd, rest + len, sizeof rest - len)) > 0);
    CHECK(memcmp(rest, "sniffed and more", 16) == 0);
    CHECK(socket_open(&near, fd, NULL) == 0); /* it may be given to a poller again */
    peer_sends(far, "!", 1);
    CHECK(receive() == 1);
    socket_close(&near);
    end();
}

static void a_descriptor_that_was_taken_has_the_rest(void **state) {
    on_both(take_story);
}

/* ---- Callbacks ---- */

enum { IDLERS = 40 };
static struct socket idlers[IDLERS];
static bool closed[IDLERS];
static unsigned told, told_gone;

/* The first one that is told of something closes all the others. */
static void closes_others(struct socket *socket, unsigned events) {
    CHECK(rt_self() == NULL);
    CHECK((events & ~(unsigned)(SOCKET_INPUT | SOCKET_HUNG_UP)) == 0);
    told++;
    told_gone += (events & SOCKET_HUNG_UP) != 0;
    for (int i = 0; i < IDLERS; i++)
        if (&idlers[i] != socket && !closed[i]) {
            closed[i] = true;
            socket_close(&idlers[i]);
        }
}

static void callbacks_story(void *arg) {
    int fars[IDLERS];
    for (int i = 0; i < IDLERS; i++) {
        int fds[2];
        make_pair(fds);
        CHECK(socket_open(&idlers[i], fds[0], closes_others) == 0);
        fars[i] = fds[1];
    }
    CHECK(rt_sleep_until(clock_mono_ns() + NS_PER_MS) == 0);
    CHECK(told == 0); /* room to send is no event */
    for (int i = 0; i < IDLERS; i++)
        peer_closes(fars[i]);
    STORY_AWAIT(told > 0);
    CHECK(told == 1);
    CHECK(told_gone == 1);
    end();
}

static void a_callback_may_close_others_of_its_batch(void **state) {
    on_both(callbacks_story);
}

/* ---- Connecting and accepting ---- */

static struct address server_at;
static struct socket server;
static int accepted;

static void accepts_one(void *arg) {
    waiter = rt_self();
    struct address peer;
    accepted = socket_accept(&server, &peer, "accepts", RT_FOREVER);
    if (accepted >= 0)
        CHECK(address_is_loopback(&peer));
    waiter_ended = true;
}

static void connect_story(void *arg) {
    int fd = listening(&server_at, 8);
    CHECK(socket_listen(&server, fd, NULL) == 0);
    struct address peer;
    CHECK(socket_try_accept(&server, &peer) == -EAGAIN);
    uint64_t calls = counted(IO_ACCEPT_CALLS);
    CHECK(socket_try_accept(&server, &peer) == -EAGAIN);
    CHECK(counted(IO_ACCEPT_CALLS) == calls); /* it is known that there is none */
    CHECK(socket_accept(&server, &peer, "none", clock_mono_ns() + NS_PER_MS) == -ETIMEDOUT);

    start_waiter(accepts_one);
    CHECK(socket_connect(&near, &server_at, NULL, story_soon()) == 0);
    STORY_AWAIT(waiter_ended);
    CHECK(accepted >= 0);
    inbuf_init(&in, rt_blocks());
    peer_sends(accepted, "hello", 5);
    CHECK(receive() == 5);
    inbuf_drop(&in);
    struct address ours, theirs;
    socket_local_address(&near, &ours);
    theirs.len = sizeof theirs.sa;
    CHECK(getpeername(accepted, &theirs.sa.any, &theirs.len) == 0);
    CHECK(address_eq(&ours, &theirs));
    int on = 0;
    socklen_t len = sizeof on;
    CHECK(getsockopt(near.pd.fd, IPPROTO_TCP, TCP_NODELAY, &on, &len) == 0);
    CHECK(on);
    socket_close(&near);
    peer_closes(accepted);

    start_waiter(accepts_one);
    rt_cancel(waiter);
    STORY_AWAIT(waiter_ended);
    CHECK(accepted == -ECANCELED);

    socket_close(&server);
    unsigned descriptors = open_descriptors();
    CHECK(socket_connect(&near, &server_at, NULL, story_soon()) == -ECONNREFUSED);
    CHECK(open_descriptors() == descriptors);
    end();
}

static void connecting_meets_accepting(void **state) {
    story(1, connect_story);
}

static int connect_rc;

static void connects(void *arg) {
    waiter = rt_self();
    connect_rc = socket_connect(&near, &server_at, NULL, RT_FOREVER);
    waiter_ended = true;
}

/* A queue that is full: the kernel drops what else would connect. */
static void connect_waits_story(void *arg) {
    int fd = listening(&server_at, 0);
    struct socket fills[8];
    int count = 0, rc;
    do {
        CHECK(count < 8);
        rc = socket_connect(&fills[count++], &server_at, NULL, clock_mono_ns() + 50 * NS_PER_MS);
    } while (rc == 0);
    CHECK(rc == -ETIMEDOUT);
    unsigned descriptors = open_descriptors();
    start_waiter(connects);
    CHECK(!waiter_ended);
    rt_cancel(waiter);
    STORY_AWAIT(waiter_ended);
    CHECK(connect_rc == -ECANCELED);
    CHECK(open_descriptors() == descriptors);
    while (--count > 0)
        socket_close(&fills[count - 1]);
    peer_closes(fd);
    end();
}

static void a_connect_ends_by_deadline_and_by_cancellation(void **state) {
    story_skip_if_emulated("a queue of connections that is full");
    story(1, connect_waits_story);
}

static void accepted_inherits_story(void *arg) {
    int fd = listening(&server_at, 8), on = 1;
    CHECK(setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) == 0);
    CHECK(socket_listen(&server, fd, NULL) == 0);
    CHECK(socket_connect(&near, &server_at, NULL, story_soon()) == 0);
    struct address peer;
    accepted = socket_accept(&server, &peer, "accepts", story_soon());
    CHECK(accepted >= 0);
    socklen_t len = sizeof on;
    on = 0;
    CHECK(getsockopt(accepted, IPPROTO_TCP, TCP_NODELAY, &on, &len) == 0);
    CHECK(on);
    end();
}

/* What the listeners of the proxy rely on. */
static void accepted_sockets_have_nodelay_of_the_listening_one(void **state) {
    story(1, accepted_inherits_story);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(who_waits_for_input_holds_no_memory),
        cmocka_unit_test(short_reads_are_packed_into_one_block),
        cmocka_unit_test(unused_bytes_fill_the_block_and_no_more),
        cmocka_unit_test(after_a_short_read_nobody_asks_again),
        cmocka_unit_test(an_end_is_told_behind_the_last_bytes),
        cmocka_unit_test(after_our_end_the_peer_may_go_on),
        cmocka_unit_test(a_wait_ends_by_deadline_and_by_cancellation),
        cmocka_unit_test(unread_bytes_and_ends_are_seen_unread),
        cmocka_unit_test(what_is_dropped_takes_no_memory),
        cmocka_unit_test(a_reset_wakes_readers_and_writers),
        cmocka_unit_test(what_would_be_our_mistake_asserts),
        cmocka_unit_test(a_descriptor_that_was_taken_has_the_rest),
        cmocka_unit_test(a_callback_may_close_others_of_its_batch),
        cmocka_unit_test(connecting_meets_accepting),
        cmocka_unit_test(a_connect_ends_by_deadline_and_by_cancellation),
        cmocka_unit_test(accepted_sockets_have_nodelay_of_the_listening_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
