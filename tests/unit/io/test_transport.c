/* A transport between a socket and its user: here one that turns each letter's case, and that takes of every
 * send more than it can let go at once. The user's functions are the same as ever. */
#include "io_faults.h"

#include <ctype.h>

#include "io/socket_raw.h"
#include "io/splice.h"
#include "near_story.h"

enum { ROOM = 8 };

static struct turn {
    struct transport transport;
    char unsent[ROOM];
    size_t unsent_size;
    bool said_end, closed;
    unsigned events;
} turn;

static void turn_case(char *bytes, size_t size) {
    for (size_t i = 0; i < size; i++)
        bytes[i] = (char)(islower((unsigned char)bytes[i]) ? toupper((unsigned char)bytes[i])
                                                           : tolower((unsigned char)bytes[i]));
}

static ssize_t turn_receive(struct socket *socket, void *into, size_t size) {
    ssize_t n = socket_raw_try_receive(socket, into, size);
    if (n > 0)
        turn_case(into, (size_t)n);
    return n;
}

static ssize_t flush(struct socket *socket) {
    while (turn.unsent_size) {
        struct iovec piece = {turn.unsent, turn.unsent_size};
        ssize_t n = socket_raw_try_send(socket, &piece, 1, turn.unsent_size);
        if (n < 0)
            return n;
        turn.unsent_size -= (size_t)n;
        memmove(turn.unsent, turn.unsent + n, turn.unsent_size);
    }
    return 0;
}

static ssize_t turn_send(struct socket *socket, const struct iovec *pieces, int count,
                         size_t size) {
    ssize_t rc = flush(socket);
    if (rc < 0)
        return rc;
    size_t done = turn.transport.owed;
    turn.transport.owed = 0;
    if (done)
        return (ssize_t)done;
    size_t take = pieces->iov_len < ROOM ? pieces->iov_len : ROOM;
    memcpy(turn.unsent, pieces->iov_base, take);
    turn_case(turn.unsent, take);
    turn.unsent_size = take;
    rc = flush(socket);
    if (rc == 0)
        return (ssize_t)take;
    turn.transport.owed = take;
    return rc;
}

static bool turn_has_unread(struct socket *socket) {
    return false;
}

static unsigned turn_event(struct socket *socket, unsigned events) {
    turn.events |= events;
    return events & SOCKET_HUNG_UP;
}

static int turn_shutdown(struct socket *socket) {
    turn.said_end = true;
    return 0;
}

static void turn_close(struct socket *socket) {
    CHECK(!turn.closed);
    turn.closed = true;
}

static const struct transport_itab itab = {turn_receive, turn_send,     turn_has_unread,
                                           turn_event,   turn_shutdown, turn_close};

static unsigned told;

static void on_event(struct socket *socket, unsigned events) {
    told |= events;
}

static void open_turned(socket_event_fn fn) {
    int fds[2];
    make_pair(fds);
    CHECK(socket_open(&near, fds[0], fn) == 0);
    far = fds[1];
    inbuf_init(&in, rt_blocks());
    turn = (struct turn){.transport = {.itab = &itab}};
    socket_set_transport(&near, &turn.transport);
}

static void both_ways_story(void *arg) {
    open_turned(NULL);
    peer_sends(far, "abC", 3);
    CHECK(receive() == 3);
    CHECK(holds(&in, "ABc"));
    CHECK(near.rx_bytes == 3);
    inbuf_consume(&in, 3);
    inbuf_idle(&in);

    struct iovec pieces[] = {piece_of("Longer than the room "), piece_of(""), piece_of("of it")};
    CHECK(socket_send(&near, pieces, 3, "sends", RT_FOREVER) == 0);
    struct slice slices[] = {slice_borrow(SPAN_LIT("And")), slice_borrow(SPAN_LIT("so"))};
    CHECK(socket_send_slices(&near, slices, 2, "sends", RT_FOREVER) == 0);
    CHECK(near.tx_bytes == 31);
    char got[64];
    CHECK(peer_receives(far, got, sizeof got) == 31);
    CHECK(memcmp(got, "lONGER THAN THE ROOM OF ITaNDSO", 31) == 0);

    peer_sends(far, "dropped", 7);
    peer_ends(far);
    CHECK(socket_discard(&near, 6, "drops", story_soon()) == -EMSGSIZE);
    CHECK(socket_discard(&near, 6, "drops", story_soon()) == 0);
    CHECK(socket_take_fd(&near, &in) == -EOPNOTSUPP);
    CHECK(socket_shutdown(&near) == 0);
    CHECK(turn.said_end);
    CHECK(peer_receives(far, got, sizeof got) == 0);
    socket_close(&near);
    CHECK(turn.closed);
    peer_closes(far);
    end();
}

static void a_transport_stands_between(void **state) {
    on_both(both_ways_story);
}

/* What it has taken and cannot let go is not sent again, and not lost. */
static void owed_story(void *arg) {
    open_turned(NULL);
    fault_set(FAULT_SEND, EAGAIN, 1);
    struct iovec piece = piece_of("taken");
    CHECK(socket_try_send(&near, &piece, 1) == -EAGAIN);
    CHECK(turn.transport.owed == 5);
    CHECK(near.tx_bytes == 0);
    near.pd.ready |= POLL_EVENT_OUT; /* which the kernel, not asked, will not say */
    CHECK(socket_send(&near, &piece, 1, "sends", RT_FOREVER) == 0);
    CHECK(near.tx_bytes == 5);
    char got[64];
    CHECK(peer_receives(far, got, sizeof got) == 5);

    /* Given up: the next send is of other bytes. */
    fault_set(FAULT_SEND, EAGAIN, 1);
    piece = piece_of("lost");
    rt_cancel(rt_self());
    CHECK(socket_send(&near, &piece, 1, "sends", RT_FOREVER) == -ECANCELED);
    rt_cancel_clear();
    CHECK(turn.transport.owed == 0);
    near.pd.ready |= POLL_EVENT_OUT;
    piece = piece_of("!");
    CHECK(socket_send(&near, &piece, 1, "sends", RT_FOREVER) == 0);
    CHECK(peer_receives(far, got, sizeof got) == 5);
    CHECK(memcmp(got, "LOST!", 5) == 0);
    socket_close(&near);
    peer_closes(far);
    end();
}

static void what_it_owes_is_sent_once(void **state) {
    make_pair = unix_pair;
    story(1, owed_story);
}

static void events_story(void *arg) {
    open_turned(on_event);
    peer_sends(far, "x", 1);
    STORY_AWAIT(turn.events & SOCKET_INPUT);
    CHECK(told == 0); /* it thought that nothing worth telling */
    peer_closes(far);
    STORY_AWAIT(told);
    CHECK(told & SOCKET_HUNG_UP);
    socket_close(&near);
    end();
}

static void it_decides_which_events_the_user_hears_of(void **state) {
    make_pair = unix_pair;
    story(1, events_story);
}

static struct splice_pool pool;

/* Bytes from it and to it go through memory, of which it makes what it makes. */
static void splice_story(void *arg) {
    open_turned(NULL);
    splice_pool_init(&pool);
    int fds[2];
    unix_pair(fds);
    struct socket plain;
    CHECK(socket_open(&plain, fds[0], NULL) == 0);
    CHECK(!socket_can_splice(&near));
    char got[64];

    struct splice splice = splice_begin(&pool);
    peer_sends(far, "from it", 7);
    CHECK(splice_receive(&splice, &near, 64, "splices", story_soon()) == 7);
    CHECK(span_eq(splice_in_memory(&splice), SPAN_LIT("FROM IT")));
    CHECK(pool.in_use == 0 && pool.memories_in_use == 1);
    CHECK(splice_send(&splice, &plain, false, "splices", RT_FOREVER) == 7);
    CHECK(splice.held == 0);
    splice_end(&splice);
    CHECK(pool.memories_in_use == 0);
    CHECK(peer_receives(fds[1], got, sizeof got) == 7);
    CHECK(memcmp(got, "FROM IT", 7) == 0);

    splice = splice_begin(&pool); /* it takes ROOM at a time */
    splice.through_memory = true;
    peer_sends(fds[1], "to what is between", 18);
    CHECK(splice_receive(&splice, &plain, 64, "splices", story_soon()) == 18);
    CHECK(splice_try_send(&splice, &near, false) == ROOM);
    CHECK(splice.held == 18 - ROOM);
    fault_set(FAULT_SEND, EAGAIN, 1); /* taken, and not out yet: the same bytes come again */
    CHECK(splice_try_send(&splice, &near, false) == -EAGAIN);
    CHECK(turn.transport.owed == ROOM && splice.held == 18 - ROOM);
    near.pd.ready |= POLL_EVENT_OUT;
    while (splice.held)
        CHECK(splice_send(&splice, &near, false, "splices", RT_FOREVER) > 0);
    splice_end(&splice);
    CHECK(peer_receives(far, got, sizeof got) == 18);
    CHECK(memcmp(got, "TO WHAT IS BETWEEN", 18) == 0);

    splice = splice_begin(&pool); /* a pipe to it all the same: copied */
    peer_sends(fds[1], "spliced", 7);
    CHECK(splice_receive(&splice, &plain, 7, "splices", story_soon()) == 7);
    CHECK(splice_send_ahead(&near, SPAN_LIT("7:"), "sends", RT_FOREVER) == 0);
    while (splice.held)
        CHECK(splice_send(&splice, &near, false, "sends", RT_FOREVER) > 0);
    splice_end(&splice);
    CHECK(peer_receives(far, got, sizeof got) == 9);
    CHECK(memcmp(got, "7:SPLICED", 9) == 0);
    (void)splice_pool_shrink(&pool);
    socket_close(&plain);
    peer_closes(fds[1]);
    socket_close(&near);
    peer_closes(far);
    end();
}

static struct splice waiting;

static void waits_for_bytes(void *arg) {
    waiter = rt_self();
    waiting = splice_begin(&pool);
    CHECK(splice_receive(&waiting, &near, 64, "splices", RT_FOREVER) == -ECANCELED);
    waiter_ended = true;
}

static void memory_story(void *arg) {
    open_turned(NULL);
    splice_pool_init(&pool);
    start_waiter(waits_for_bytes); /* who waits has none */
    CHECK(pool.memories_in_use == 0 && pool.memories_kept <= 1);
    rt_cancel(waiter);
    STORY_AWAIT(waiter_ended);
    splice_end(&waiting);

    struct splice held[SPLICE_MEMORIES_MAX], more = splice_begin(&pool);
    for (unsigned i = 0; i < SPLICE_MEMORIES_MAX; i++) {
        held[i] = splice_begin(&pool);
        peer_sends(far, "x", 1);
        CHECK(splice_can_begin(&pool, true, SPLICE_MAX));
        CHECK(splice_receive(&held[i], &near, 64, "splices", story_soon()) == 1);
    }
    CHECK(!splice_can_begin(&pool, true, SPLICE_MAX)); /* there is so much of it and no more */
    peer_sends(far, "y", 1);
    CHECK(splice_receive(&more, &near, 64, "splices", story_soon()) == -ENOBUFS);
    CHECK(receive() == 1);
    inbuf_consume(&in, 1);
    inbuf_idle(&in);

    splice_end(&held[0]); /* with what it holds */
    CHECK(splice_can_begin(&pool, true, SPLICE_MAX));
    CHECK(!splice_can_begin(&pool, true, BLOCK_DATA_SIZE)); /* where a block has to do */
    peer_ends(far);
    CHECK(splice_receive(&more, &near, 64, "splices", story_soon()) ==
          0); /* an end leaves none held */
    CHECK(!more.memory);
    splice_end(&more);
    for (unsigned i = 1; i < SPLICE_MEMORIES_MAX; i++)
        splice_end(&held[i]);
    CHECK(pool.memories_in_use == 0 && pool.memories_kept == SPLICE_MEMORIES_KEPT);
    CHECK(timer_is_armed(&pool.timer)); /* what nobody needs for a second goes */
    pool.timer.fn(&pool.timer);
    if (pool.memories_kept)
        pool.timer.fn(&pool.timer);
    CHECK(pool.memories_kept == 0);
    (void)splice_pool_shrink(&pool);
    socket_close(&near);
    peer_closes(far);
    end();
}

static void memory_is_bounded_and_given_back(void **state) {
    make_pair = unix_pair;
    story(1, memory_story);
}

static void nothing_is_spliced_past_it(void **state) {
    make_pair = unix_pair;
    story(1, splice_story);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_transport_stands_between),
        cmocka_unit_test(what_it_owes_is_sent_once),
        cmocka_unit_test(it_decides_which_events_the_user_hears_of),
        cmocka_unit_test(nothing_is_spliced_past_it),
        cmocka_unit_test(memory_is_bounded_and_given_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
