/* Every error that the kernel may answer a call on a stream socket with: the caller gets it as it is, once; a
 * signal never shows; nothing leaks; and where the error is not the stream's, it goes on afterwards. */
#include "io_faults.h"

#include "io/socket.h"
#include "io_story.h"

static bool no_blocks;
struct block *__real_block_get(struct block_cache *cache);
struct block *__wrap_block_get(struct block_cache *cache);
struct block *__wrap_block_get(struct block_cache *cache) {
    return no_blocks ? NULL : __real_block_get(cache);
}

static struct socket near;
static struct inbuf in;
static int far;
static unsigned descriptors_before;

static void begin(void) {
    descriptors_before = open_descriptors();
}

static void open_near(void) {
    int fds[2];
    tcp_pair(fds);
    CHECK(socket_open(&near, fds[0], NULL) == 0);
    far = fds[1];
    inbuf_init(&in, rt_blocks());
}

static void close_near(void) {
    inbuf_drop(&in);
    socket_close(&near);
    peer_closes(far);
}

static void end(void) {
    CHECK(blocks_in_use() == 0);
    CHECK(open_descriptors() == descriptors_before);
    rt_stop(0);
}

static ssize_t receive(void) {
    return socket_receive(&near, &in, "test receives", story_soon());
}

#define EACH(list, i) (size_t i = 0; i < sizeof(list) / sizeof *(list); i++)

/* ---- Receiving ---- */

static void receive_story(void *arg) {
    static const int errors[] = {ECONNRESET,   ETIMEDOUT, EPIPE,    ENOMEM,       ENOBUFS,
                                 EHOSTUNREACH, ENETDOWN,  ENOTCONN, ECONNABORTED, EIO};
    begin();
    open_near();
    for
        EACH(errors, i) {
            uint64_t before = counted(IO_ERRORS);
            peer_sends(far, "abc", 3);
            fault_set(FAULT_RECV, errors[i], 1);
            CHECK(receive() == -errors[i]);
            CHECK(fault.met == 1);
            CHECK(counted(IO_ERRORS) == before + 1);
            CHECK(receive() == 3); /* of the ones that were not true */
            CHECK(holds(&in, "abc"));
            inbuf_consume(&in, 3);
            inbuf_idle(&in);

            fault_set(FAULT_RECV, errors[i], 1);
            peer_sends(far, "d", 1);
            CHECK(socket_discard(&near, 10, "drops", story_soon()) == -errors[i]);
            fault_set(FAULT_RECV, errors[i], 1);
            CHECK(socket_has_unread(&near)); /* an error is something to receive */
            CHECK(receive() == 1);
            inbuf_consume(&in, 1);
            inbuf_idle(&in);
        }
    close_near();
    end();
}

static void errors_of_a_receive_reach_the_caller(void **state) {
    story(1, receive_story);
}

static void signals_story(void *arg) {
    begin();
    open_near();
    peer_sends(far, "abc", 3);
    fault_set(FAULT_RECV, EINTR, 5);
    CHECK(receive() == 3);
    CHECK(fault.met == 5);
    fault_set(FAULT_SEND, EINTR, 5);
    struct iovec one[] = {piece_of("x")};
    CHECK(socket_send(&near, one, 1, "sends", RT_FOREVER) == 0);
    CHECK(fault.met == 5);
    static char large[5000];
    for (int i = 0; i < 2; i++) { /* gathered, and not */
        fault_set(FAULT_SEND, EINTR, 5);
        struct iovec two[] = {piece_of("x"), {large, i ? sizeof large : 1}};
        CHECK(socket_send(&near, two, 2, "sends", RT_FOREVER) == 0);
        CHECK(fault.met == 5);
    }
    CHECK(counted(IO_ERRORS) == 0);
    close_near();

    struct address at, peer;
    struct socket server;
    CHECK(socket_listen(&server, listening(&at, 4), NULL) == 0);
    fault_set(FAULT_CONNECT, EINTR, 1); /* it goes on all the same */
    CHECK(socket_connect(&near, &at, NULL, story_soon()) == 0);
    CHECK(fault.met == 1);
    fault_set(FAULT_ACCEPT, EINTR, 5);
    int fd = socket_accept(&server, &peer, "accepts", story_soon());
    CHECK(fd >= 0);
    CHECK(fault.met == 5);
    peer_closes(fd);
    socket_close(&near);
    socket_close(&server);
    end();
}

static void signals_do_not_show(void **state) {
    story(1, signals_story);
}

/* Nothing there after all: it gives the block back and waits. */
static void spurious_story(void *arg) {
    begin();
    open_near();
    peer_sends(far, "abc", 3);
    fault_set(FAULT_RECV, EAGAIN, 1);
    CHECK(socket_try_receive(&near, &in) == -EAGAIN);
    CHECK(counted(IO_RECV_AGAIN) == 1);
    inbuf_idle(&in);
    CHECK(receive() == 3); /* by the edge that came with them */
    close_near();
    end();
}

static void an_edge_for_nothing_is_waited_out(void **state) {
    story(1, spurious_story);
}

static void no_block_story(void *arg) {
    begin();
    open_near();
    peer_sends(far, "abc", 3);
    no_blocks = true;
    CHECK(receive() == -ENOMEM);
    CHECK(socket_try_receive(&near, &in) == -ENOMEM);
    CHECK(counted(IO_RECV_CALLS) == 0);
    no_blocks = false;
    CHECK(receive() == 3);
    CHECK(holds(&in, "abc"));
    close_near();
    end();
}

static void without_a_block_the_bytes_stay_where_they_are(void **state) {
    story(1, no_block_story);
}

/* ---- Sending ---- */

static void send_story(void *arg) {
    static const int errors[] = {ECONNRESET,   EPIPE,    ETIMEDOUT,   ENOMEM,   ENOBUFS,
                                 EHOSTUNREACH, ENETDOWN, ENETUNREACH, ENOTCONN, EACCES};
    static char large[5000];
    begin();
    open_near();
    for
        EACH(errors, i)
    for (int shape = 0; shape < 3; shape++) {
        uint64_t before = counted(IO_ERRORS);
        struct iovec pieces[] = {piece_of("x"), {large, shape == 2 ? sizeof large : 1}};
        fault_set(FAULT_SEND, errors[i], 1);
        CHECK(socket_send(&near, pieces, shape ? 2 : 1, "sends", RT_FOREVER) == -errors[i]);
        CHECK(fault.met == 1);
        CHECK(counted(IO_ERRORS) == before + 1);

        struct slice slices[40];
        for (int j = 0; j < 40; j++) {
            struct block *block = block_get(rt_blocks());
            CHECK(block);
            block->data[0] = 'x';
            slices[j] = (struct slice){span_make(block->data, 1), block};
        }
        fault_set(FAULT_SEND, errors[i], 1);
        fault.skip = shape ? 1 : 0; /* in the second batch */
        CHECK(socket_send_slices(&near, slices, 40, "sends", RT_FOREVER) == -errors[i]);
        CHECK(fault.met == 1);
        CHECK(blocks_in_use() == 0);
    }
    close_near();
    end();
}

static void errors_of_a_send_reach_the_caller(void **state) {
    story(1, send_story);
}

static void shutdown_story(void *arg) {
    begin();
    open_near();
    fault_set(FAULT_SHUTDOWN, ENOTCONN, 1);
    CHECK(socket_shutdown(&near) == -ENOTCONN);
    CHECK(counted(IO_ERRORS) == 1);
    CHECK(socket_shutdown(&near) == 0);
    close_near();
    end();
}

static void a_shutdown_may_find_no_connection(void **state) {
    story(1, shutdown_story);
}

/* ---- Connecting ---- */

static void connect_story(void *arg) {
    static const int at_once[] = {ECONNREFUSED, ENETUNREACH, EHOSTUNREACH, EADDRNOTAVAIL, ENOBUFS,
                                  ENOMEM,       EACCES,      EPERM,        ETIMEDOUT,     EAGAIN};
    static const int later[] = {ECONNREFUSED, ECONNRESET, ENETUNREACH, EHOSTUNREACH, ETIMEDOUT};
    static const int sockets[] = {EMFILE, ENFILE, ENOBUFS, ENOMEM, EAFNOSUPPORT};
    static const int watches[] = {ENOMEM, ENOSPC};
    begin();
    struct address at;
    int server = listening(&at, 64);
    unsigned descriptors = open_descriptors();
    for
        EACH(at_once, i) {
            fault_set(FAULT_CONNECT, at_once[i], 1);
            CHECK(socket_connect(&near, &at, NULL, story_soon()) == -at_once[i]);
            CHECK(open_descriptors() == descriptors);
        }
    for
        EACH(later, i) {
            fault_set(FAULT_SO_ERROR, later[i], 1);
            CHECK(socket_connect(&near, &at, NULL, story_soon()) == -later[i]);
            CHECK(fault.met == 1);
            CHECK(open_descriptors() == descriptors);
        }
    for
        EACH(sockets, i) {
            fault_set(FAULT_SOCKET, sockets[i], 1);
            CHECK(socket_connect(&near, &at, NULL, story_soon()) == -sockets[i]);
        }
    for
        EACH(watches, i) {
            fault_set(FAULT_WATCH, watches[i], 1);
            CHECK(socket_connect(&near, &at, NULL, story_soon()) == -watches[i]);
            CHECK(open_descriptors() == descriptors);
            int fds[2];
            unix_pair(fds);
            fault_set(FAULT_WATCH, watches[i], 1);
            CHECK(socket_open(&near, fds[0], NULL) == -watches[i]);
            peer_closes(fds[0]); /* it is still ours */
            peer_closes(fds[1]);
        }
    CHECK(socket_connect(&near, &at, NULL, story_soon()) == 0);
    socket_close(&near);
    peer_closes(server);
    end();
}

static void a_connect_that_fails_leaves_nothing(void **state) {
    story(1, connect_story);
}

/* ---- Accepting ---- */

static void accept_story(void *arg) {
    static const int errors[] = {EMFILE,       ENFILE,     ENOBUFS,     ENOMEM,       ECONNABORTED,
                                 EPROTO,       EPERM,      ENETDOWN,    ENOPROTOOPT,  EHOSTDOWN,
                                 EHOSTUNREACH, EOPNOTSUPP, ENETUNREACH, ECONNREFUSED, ETIMEDOUT};
    begin();
    struct address at, peer;
    struct socket server;
    CHECK(socket_listen(&server, listening(&at, 64), NULL) == 0);
    CHECK(socket_connect(&near, &at, NULL, story_soon()) == 0);
    for
        EACH(errors, i) {
            fault_set(FAULT_ACCEPT, errors[i], 1);
            peer.len = 77;
            CHECK(socket_accept(&server, &peer, "accepts", story_soon()) == -errors[i]);
            CHECK(peer.len == 77);            /* untouched */
            CHECK(socket_has_input(&server)); /* no edge will tell of that connection again */
        }
    int fd = socket_try_accept(&server, &peer);
    CHECK(fd >= 0);
    CHECK(counted(IO_ERRORS) == sizeof errors / sizeof *errors);
    peer_closes(fd);
    socket_close(&near);
    socket_close(&server);
    end();
}

static void errors_of_an_accept_leave_the_connection_in_the_queue(void **state) {
    story(1, accept_story);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(errors_of_a_receive_reach_the_caller),
        cmocka_unit_test(signals_do_not_show),
        cmocka_unit_test(an_edge_for_nothing_is_waited_out),
        cmocka_unit_test(without_a_block_the_bytes_stay_where_they_are),
        cmocka_unit_test(errors_of_a_send_reach_the_caller),
        cmocka_unit_test(a_shutdown_may_find_no_connection),
        cmocka_unit_test(a_connect_that_fails_leaves_nothing),
        cmocka_unit_test(errors_of_an_accept_leave_the_connection_in_the_queue),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
