/* poll_ring.c behind socket.h: the receives and the sends of a round in one system call each. */
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>

#include "../rt/rt_story.h"
#include "io/socket.h"
#include "rt/foreign.h"
#include "rt/poll_ring.h"
#include "rt/waitgroup.h"

static void ring_story(rt_fn body) {
    setenv("STORY_IO_AUTO", "", 1);
    story(1, body);
}

static NOINLINE void unix_pair(int fds[2]) {
    CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) == 0);
}

static NOINLINE void peer_sends(int fd, const char *text) {
    CHECK(send(fd, text, strlen(text), MSG_NOSIGNAL) == (ssize_t)strlen(text));
}

static NOINLINE ssize_t peer_receives(int fd, void *into, size_t size) {
    ssize_t n = recv(fd, into, size, MSG_DONTWAIT);
    return n < 0 ? -errno : n;
}

static NOINLINE int send_text(struct socket *socket, const char *text) {
    struct iovec piece = {(void *)(uintptr_t)text, strlen(text)};
    return socket_send(socket, &piece, 1, "send", RT_FOREVER);
}

/* ---- Many at a time ---- */

enum { MANY = 600 }; /* more than a batch of events and than the ring's entries */

struct echo {
    struct socket socket;
    struct inbuf in;
    int peer;
    struct waitgroup *all;
};

static void echo(void *arg) {
    struct echo *e = arg;
    inbuf_init(&e->in, rt_blocks());
    ssize_t n;
    while ((n = socket_receive(&e->socket, &e->in, "echo", RT_FOREVER)) > 0) {
        struct span bytes = inbuf_bytes(&e->in);
        struct iovec piece = {(void *)(uintptr_t)bytes.ptr, bytes.len};
        CHECK(socket_send(&e->socket, &piece, 1, "echo", RT_FOREVER) == 0);
        inbuf_consume(&e->in, bytes.len);
        inbuf_idle(&e->in);
    }
    CHECK(n == 0);
    inbuf_drop(&e->in);
    socket_close(&e->socket);
    waitgroup_done(e->all);
}

static void many_story(void *arg) {
    CHECK(poll_ring_is_on());
    struct echo *all = calloc(MANY, sizeof *all);
    struct waitgroup left = {0};
    for (int i = 0; i < MANY; i++) {
        int fds[2];
        unix_pair(fds);
        all[i].peer = fds[1];
        all[i].all = &left;
        CHECK(socket_open(&all[i].socket, fds[0], NULL) == 0);
        waitgroup_add(&left, 1);
        CHECK(go_here("echo", echo, &all[i]) == 0);
    }
    for (int round = 0; round < 50; round++) {
        char text[32], back[32];
        for (int i = 0; i < MANY; i++) {
            snprintf(text, sizeof text, "%d of %d", i, round);
            peer_sends(all[i].peer, text);
        }
        for (int i = 0; i < MANY; i++) {
            ssize_t n;
            STORY_AWAIT((n = peer_receives(all[i].peer, back, sizeof back)) != -EAGAIN);
            snprintf(text, sizeof text, "%d of %d", i, round);
            CHECK(n == (ssize_t)strlen(text) && memcmp(text, back, (size_t)n) == 0);
        }
    }
    for (int i = 0; i < MANY; i++)
        (void)close(all[i].peer);
    CHECK(waitgroup_wait(&left, story_soon()) == 0);
    free(all);
    struct rt_p_stats stats;
    rt_p_stats(0, &stats);
    CHECK(stats.blocks_in_use == 0);
    rt_stop(0);
}

static void each_of_many_gets_its_own_bytes(void **state) {
    ring_story(many_story);
}

/* ---- Receiving for somebody who has gone ---- */

static struct g *waiting;

struct receiver {
    struct socket socket;
    struct inbuf in;
    ssize_t result;
    bool over;
};

static void wait_for_bytes(void *arg) {
    struct receiver *w = arg;
    waiting = rt_self();
    w->result = socket_receive(&w->socket, &w->in, "bytes", RT_FOREVER);
    w->over = true;
}

static void canceller_event(struct socket *socket, unsigned events) {
    rt_cancel(waiting); /* in the very batch in which its bytes are received */
}

static void cancel_story(void *arg) {
    int fds[2], poke[2];
    unix_pair(fds);
    unix_pair(poke);
    struct receiver w = {0};
    struct socket canceller;
    inbuf_init(&w.in, rt_blocks());
    CHECK(socket_open(&w.socket, fds[0], NULL) == 0);
    CHECK(socket_open(&canceller, poke[0], canceller_event) == 0);
    CHECK(socket_try_receive(&w.socket, &w.in) == -EAGAIN);
    rt_yield();
    const struct go_options options = {.name = "waiter", .place = RT_HERE};
    CHECK(go_with(&options, wait_for_bytes, &w) == 0);
    STORY_AWAIT(w.socket.pd.reader);
    peer_sends(fds[1], "here");
    peer_sends(poke[1], "!");
    STORY_AWAIT(w.over);
    /* Cancelled or not: no byte is lost, and none comes twice. */
    if (w.result == -ECANCELED)
        CHECK(socket_receive(&w.socket, &w.in, "bytes", story_soon()) == 4);
    else
        CHECK(w.result == 4);
    CHECK(span_eq(inbuf_bytes(&w.in), SPAN_LIT("here")));
    inbuf_drop(&w.in);
    socket_close(&w.socket);
    socket_close(&canceller);
    rt_stop(0);
}

static void a_cancelled_receive_loses_no_bytes(void **state) {
    ring_story(cancel_story);
}

/* ---- Sends that were put off ---- */

static void close_story(void *arg) {
    int fds[2];
    unix_pair(fds);
    struct socket socket;
    CHECK(socket_open(&socket, fds[0], NULL) == 0);
    CHECK(send_text(&socket, "the last words") == 0);
    char back[32];
    CHECK(peer_receives(fds[1], back, sizeof back) == -EAGAIN); /* at the end of the round */
    socket_close(&socket);
    CHECK(peer_receives(fds[1], back, sizeof back) == 14);
    CHECK(peer_receives(fds[1], back, sizeof back) == 0);
    rt_stop(0);
}

static void a_close_sends_what_was_put_off(void **state) {
    ring_story(close_story);
}

static size_t fill_up(int fd) {
    char bytes[4096] = {0};
    size_t filled = 0;
    ssize_t n;
    while ((n = send(fd, bytes, sizeof bytes, MSG_DONTWAIT | MSG_NOSIGNAL)) > 0)
        filled += (size_t)n;
    return filled;
}

static void late_story(void *arg) {
    int fds[2];
    unix_pair(fds);
    struct socket socket;
    CHECK(socket_open(&socket, fds[0], NULL) == 0);
    size_t filled = fill_up(fds[0]); /* behind the socket's back, which believes there is room */
    CHECK(send_text(&socket, "late") == 0);
    rt_yield();
    STORY_AWAIT(socket.pd.ring & POLL_RING_LATE); /* the kernel did not take it */
    CHECK(socket_shutdown(&socket) == 0);
    socket_close(&socket);
    char back[4096];
    size_t got = 0;
    while (got < filled) {
        ssize_t n =
            peer_receives(fds[1], back, filled - got < sizeof back ? filled - got : sizeof back);
        CHECK(n > 0);
        got += (size_t)n;
    }
    ssize_t n;
    STORY_AWAIT((n = peer_receives(fds[1], back, sizeof back)) != -EAGAIN);
    CHECK(n == 4 && memcmp(back, "late", 4) == 0);
    STORY_AWAIT((n = peer_receives(fds[1], back, sizeof back)) != -EAGAIN);
    CHECK(n == 0);
    rt_stop(0);
}

static void what_the_kernel_did_not_take_outlives_the_socket(void **state) {
    ring_story(late_story);
}

static void error_story(void *arg) {
    int fds[2];
    unix_pair(fds);
    struct socket socket;
    CHECK(socket_open(&socket, fds[0], NULL) == 0);
    (void)close(fds[1]);
    CHECK(send_text(&socket, "to nobody") == 0);
    CHECK(rt_sleep_until(clock_mono_ns() + NS_PER_MS) == 0); /* the round is over */
    CHECK(send_text(&socket, "to nobody") == -EPIPE);
    socket_close(&socket);
    rt_stop(0);
}

static void an_error_shows_at_the_next_send(void **state) {
    ring_story(error_story);
}

/* ---- The P in other hands ---- */

static _Atomic bool may_end;

static void foreign_wait(void *arg) {
    struct timespec ms = {.tv_nsec = 1000000};
    while (!atomic_load(&may_end))
        (void)nanosleep(&ms, NULL);
}

static void go_foreign(void *arg) {
    struct echo *e = arg;
    CHECK(send_text(&e->socket, "before the call") ==
          0); /* and nobody waits for the call to see it */
    foreign_call(foreign_wait, NULL);
    CHECK(send_text(&e->socket, "after the call") == 0);
}

static void handoff_story(void *arg) {
    int fds[2], other[2];
    unix_pair(fds);
    unix_pair(other);
    struct waitgroup left = {0};
    struct echo served = {.peer = fds[1], .all = &left}, caller = {.peer = other[1]};
    CHECK(socket_open(&served.socket, fds[0], NULL) == 0);
    CHECK(socket_open(&caller.socket, other[0], NULL) == 0);
    waitgroup_add(&left, 1);
    CHECK(go_here("echo", echo, &served) == 0);
    char back[64];
    struct rt_p_stats stats;
    for (int i = 1; i <= 20; i++) {
        atomic_store(&may_end, false);
        CHECK(go_here("foreign", go_foreign, &caller) == 0);
        do { /* this coroutine goes on only on another thread */
            rt_p_stats(0, &stats);
            rt_yield();
        } while (stats.retakes < (uint64_t)i);
        ssize_t n;
        STORY_AWAIT((n = peer_receives(caller.peer, back, sizeof back)) != -EAGAIN);
        CHECK(n == 15);
        peer_sends(served.peer, "who serves me?");
        STORY_AWAIT((n = peer_receives(served.peer, back, sizeof back)) != -EAGAIN);
        CHECK(n == 14);
        atomic_store(&may_end, true);
        STORY_AWAIT((n = peer_receives(caller.peer, back, sizeof back)) != -EAGAIN);
        CHECK(n == 14);
    }
    (void)close(served.peer);
    CHECK(waitgroup_wait(&left, story_soon()) == 0);
    socket_close(&caller.socket);
    rt_stop(0);
}

static void a_p_handed_on_serves_its_connections(void **state) {
    ring_story(handoff_story);
}

/* ---- Calls that return at once ---- */

static void no_time(void *arg) {
    (void)arg;
}

static void some_time(void *arg) {
    int64_t end_ns = clock_mono_ns() + 2 * NS_PER_MS;
    while (clock_mono_ns() < end_ns) {
    }
}

/* Whether the first call leaves alone what was sent is a matter of time, of which the kernel may take some;
 * that the second one does not, is not. */
static bool is_held_by_calls(struct echo *e) {
    char back[64];
    CHECK(send_text(&e->socket, "an answer") == 0);
    foreign_call(no_time, NULL);
    ssize_t n = peer_receives(e->peer, back, sizeof back);
    bool held = n == -EAGAIN;
    foreign_call(some_time, NULL);
    foreign_call(no_time, NULL);
    if (held)
        n = peer_receives(e->peer, back, sizeof back);
    CHECK(n == 9);
    return held;
}

static void short_calls_story(void *arg) {
    int fds[2];
    unix_pair(fds);
    struct echo e = {.peer = fds[1]};
    CHECK(socket_open(&e.socket, fds[0], NULL) == 0);
    bool held = false;
    for (int i = 0; i < 100 && !held; i++)
        held = is_held_by_calls(&e);
    CHECK(held);
    (void)close(e.peer);
    socket_close(&e.socket);
    rt_stop(0);
}

static void short_calls_leave_a_round_together_and_long_ones_do_not_hold_it_up(void **state) {
    ring_story(short_calls_story);
}

/* ---- The end ---- */

static int outside[2];

static void last_words_story(void *arg) {
    static struct socket socket; /* never closed */
    CHECK(socket_open(&socket, outside[0], NULL) == 0);
    CHECK(send_text(&socket, "good night") == 0);
    rt_stop(0);
}

static void what_was_sent_before_the_stop_leaves(void **state) {
    char heard[32];
    unix_pair(outside);
    ring_story(last_words_story);
    assert_int_equal(peer_receives(outside[1], heard, sizeof heard), 10);
    (void)close(outside[0]);
    (void)close(outside[1]);
}

/* ---- Where io_uring is forbidden ---- */

/* As container runtimes do it. */
static void forbid_io_uring(void) {
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_io_uring_setup, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {sizeof filter / sizeof filter[0], filter};
    CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
    CHECK(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0);
}

static void forbidden_story(void *arg) {
    CHECK(!poll_ring_is_on());
    int fds[2];
    unix_pair(fds);
    struct socket socket;
    CHECK(socket_open(&socket, fds[0], NULL) == 0);
    CHECK(send_text(&socket, "all the same") == 0);
    char back[32];
    CHECK(peer_receives(fds[1], back, sizeof back) == 12);
    socket_close(&socket);
    rt_stop(0);
}

static void without_io_uring_epoll_does_it_alone(void **state) {
    pid_t pid = fork();
    if (pid == 0) {
        forbid_io_uring();
        ring_story(forbidden_story);
        _exit(0);
    }
    int status = -1;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

static void says_whether_there_is_one(void *arg) {
    rt_stop(poll_ring_is_on());
}

static bool has_io_uring(void) {
    int status = 0;
    pid_t pid = fork();
    if (pid == 0) {
        struct rt_options options = {.p_count = 1, .io = RT_IO_AUTO};
        exit(rt_run(&options, says_whether_there_is_one, NULL));
    }
    return waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 1;
}

int main(void) {
    if (!has_io_uring()) {
        puts("no io_uring here");
        return 77; /* skipped */
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_of_many_gets_its_own_bytes),
        cmocka_unit_test(a_cancelled_receive_loses_no_bytes),
        cmocka_unit_test(a_close_sends_what_was_put_off),
        cmocka_unit_test(what_the_kernel_did_not_take_outlives_the_socket),
        cmocka_unit_test(an_error_shows_at_the_next_send),
        cmocka_unit_test(a_p_handed_on_serves_its_connections),
        cmocka_unit_test(short_calls_leave_a_round_together_and_long_ones_do_not_hold_it_up),
        cmocka_unit_test(what_was_sent_before_the_stop_leaves),
        cmocka_unit_test(without_io_uring_epoll_does_it_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
