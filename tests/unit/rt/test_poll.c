/* poll.c: descriptors wake coroutines, idle ones run callbacks, closed ones fall silent. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/timerfd.h>

#include "rt/poll.h"
#include "rt_story.h"

static void open_pair(int fds[2]) {
    CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) == 0);
}

/* Not inlined into a function that parks: errno. */
static NOINLINE ssize_t sys_read(int fd, void *into, size_t size) {
    ssize_t n = read(fd, into, size);
    return n < 0 ? -errno : n;
}

static NOINLINE ssize_t sys_write(int fd, const void *from, size_t size) {
    ssize_t n = send(fd, from, size, MSG_NOSIGNAL);
    return n < 0 ? -errno : n;
}

static ssize_t read_some(struct poll_fd *pd, void *into, size_t size) {
    for (;;) {
        ssize_t n = sys_read(pd->fd, into, size);
        if (n != -EAGAIN)
            return n;
        poll_not_readable(pd);
        int err = poll_wait_readable(pd, "test read", story_soon());
        if (err < 0)
            return err;
    }
}

static void write_all(struct poll_fd *pd, const char *from, size_t size) {
    while (size) {
        ssize_t n = sys_write(pd->fd, from, size);
        if (n == -EAGAIN) {
            poll_not_writable(pd);
            CHECK(poll_wait_writable(pd, "test write", story_soon()) == 0);
            continue;
        }
        CHECK(n > 0);
        from += n;
        size -= (size_t)n;
    }
}

/* ---- Echo ---- */

enum { ECHO_BYTES = 4 << 20 };
static struct poll_fd echo_pd, client_pd;
static bool echo_ended;

static void echo(void *arg) {
    static char buffer[4096];
    for (;;) {
        ssize_t n = read_some(&echo_pd, buffer, sizeof buffer);
        CHECK(n >= 0);
        if (n == 0)
            break;
        write_all(&echo_pd, buffer, (size_t)n);
    }
    CHECK(poll_hung_up(&echo_pd));
    poll_close(&echo_pd);
    echo_ended = true;
}

static void client_writes(void *arg) {
    static char chunk[8192];
    for (size_t sent = 0; sent < ECHO_BYTES; sent += sizeof chunk) {
        memset(chunk, (int)(sent / sizeof chunk), sizeof chunk);
        write_all(&client_pd, chunk, sizeof chunk);
    }
    CHECK(shutdown(client_pd.fd, SHUT_WR) == 0);
}

static void echo_story(void *arg) {
    int fds[2];
    open_pair(fds);
    CHECK(poll_open(&echo_pd, fds[0], NULL) == 0);
    CHECK(poll_open(&client_pd, fds[1], NULL) == 0);
    CHECK(go_here("echo", echo, NULL) == 0);
    CHECK(go_here("client writes", client_writes, NULL) == 0);
    static char buffer[5000];
    size_t got = 0;
    for (ssize_t n; (n = read_some(&client_pd, buffer, sizeof buffer)) > 0;)
        for (ssize_t i = 0; i < n; i++, got++)
            CHECK(buffer[i] == (char)(got / 8192));
    CHECK(got == ECHO_BYTES);
    CHECK(echo_ended);
    poll_close(&client_pd);
    rt_stop(0);
}

static void both_directions_wait_for_the_slower_side(void **state) {
    story(1, echo_story);
    story(2, echo_story);
}

/* ---- Deadlines ---- */

static void deadline_story(void *arg) {
    int fds[2];
    open_pair(fds);
    struct poll_fd pd;
    CHECK(poll_open(&pd, fds[0], NULL) == 0);
    CHECK(poll_wait_readable(&pd, "ready at first", RT_FOREVER) == 0);
    poll_not_readable(&pd);
    CHECK(poll_wait_readable(&pd, "nothing comes", clock_mono_ns() + 2 * NS_PER_MS) == -ETIMEDOUT);
    CHECK(pd.reader == NULL);
    CHECK(sys_write(fds[1], "x", 1) == 1);
    CHECK(poll_wait_readable(&pd, "something comes", story_soon()) == 0);
    CHECK(close(poll_detach(&pd)) == 0);
    CHECK(close(fds[1]) == 0);
    CHECK(poll_open(&pd, fds[1], NULL) == -EBADF);
    rt_stop(0);
}

static void a_wait_ends_at_its_deadline(void **state) {
    story(1, deadline_story);
}

/* A peer that stopped sending is no reason for a writer to spin. */
static bool writer_timed_out;

static void waits_to_write(void *arg) {
    struct poll_fd *pd = arg;
    static char chunk[65536];
    while (sys_write(pd->fd, chunk, sizeof chunk) > 0) {
    }
    poll_not_writable(pd);
    int err = poll_wait_writable(pd, "full", clock_mono_ns() + 10 * NS_PER_MS);
    CHECK(err == -ETIMEDOUT);
    writer_timed_out = true;
}

static void half_close_story(void *arg) {
    int fds[2];
    open_pair(fds);
    static struct poll_fd pd;
    CHECK(poll_open(&pd, fds[0], NULL) == 0);
    CHECK(shutdown(fds[1], SHUT_WR) == 0);
    poll_not_readable(&pd);
    CHECK(poll_wait_readable(&pd, "half close", story_soon()) == 0);
    CHECK(poll_hung_up(&pd));
    CHECK(go_here("writer", waits_to_write, &pd) == 0);
    STORY_AWAIT(writer_timed_out);
    CHECK(close(fds[1]) == 0); /* now both directions: the writer learns of it */
    CHECK(poll_wait_writable(&pd, "reset", story_soon()) == 0);
    CHECK(sys_write(pd.fd, "x", 1) == -EPIPE);
    poll_close(&pd);
    rt_stop(0);
}

static void half_close_wakes_readers_only(void **state) {
    story(1, half_close_story);
}

/* ---- Whatever is a descriptor ---- */

static void any_fd_story(void *arg) {
    int ends[2];
    CHECK(pipe2(ends, O_NONBLOCK | O_CLOEXEC) == 0);
    struct poll_fd from, to, event, watch;
    CHECK(poll_open(&from, ends[0], NULL) == 0);
    CHECK(poll_open(&to, ends[1], NULL) == 0);
    char bytes[4096];
    CHECK(sys_read(from.fd, bytes, 1) == -EAGAIN);
    poll_not_readable(&from);
    CHECK(poll_wait_readable(&from, "empty pipe", clock_mono_ns() + NS_PER_MS) == -ETIMEDOUT);
    while (write(to.fd, bytes, sizeof bytes) > 0) {
    }
    poll_not_writable(&to);
    CHECK(poll_wait_readable(&from, "pipe", story_soon()) == 0);
    CHECK(poll_wait_writable(&to, "full pipe", clock_mono_ns() + NS_PER_MS) == -ETIMEDOUT);
    while (sys_read(from.fd, bytes, sizeof bytes) > 0) {
    }
    poll_not_readable(&from);
    CHECK(poll_wait_writable(&to, "pipe", story_soon()) == 0);
    poll_close(&to); /* nobody will write to it */
    CHECK(poll_wait_readable(&from, "ended pipe", story_soon()) == 0);
    CHECK(poll_hung_up(&from));
    CHECK(sys_read(from.fd, bytes, 1) == 0);
    poll_close(&from);

    int fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    CHECK(poll_open(&event, fd, NULL) == 0);
    uint64_t number = 3;
    CHECK(sys_read(fd, &number, sizeof number) == -EAGAIN);
    poll_not_readable(&event);
    number = 7;
    CHECK(write(fd, &number, sizeof number) == sizeof number);
    CHECK(poll_wait_readable(&event, "eventfd", story_soon()) == 0);
    CHECK(sys_read(fd, &number, sizeof number) == sizeof number);
    CHECK(number == 7);
    poll_close(&event);

    fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    CHECK(poll_open(&watch, fd, NULL) == 0);
    poll_not_readable(&watch);
    struct itimerspec soon = {.it_value.tv_nsec = 1000 * 1000};
    CHECK(timerfd_settime(fd, 0, &soon, NULL) == 0);
    CHECK(poll_wait_readable(&watch, "timerfd", story_soon()) == 0);
    poll_close(&watch);

    fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC); /* a file is always ready: nothing to poll */
    CHECK(poll_open(&watch, fd, NULL) == -EPERM);
    CHECK(close(fd) == 0);
    rt_stop(0);
}

static void pipes_and_events_are_waited_for_like_sockets(void **state) {
    story(1, any_fd_story);
}

/* ---- Callbacks of idle descriptors ---- */

enum { IDLERS = 100 };
static struct poll_fd idlers[IDLERS];
static int peers[IDLERS];
static unsigned callbacks, served;

static void serves(void *arg) {
    struct poll_fd *pd = arg;
    char byte;
    CHECK(read_some(pd, &byte, 1) == 1);
    served++;
}

static void starts_coroutine(struct poll_fd *pd, unsigned events) {
    CHECK(rt_self() == NULL);
    CHECK(events & POLL_EVENT_IN);
    callbacks++;
    CHECK(go_here("serves", serves, pd) == 0);
}

static void idle_story(void *arg) {
    for (int i = 0; i < IDLERS; i++) {
        int fds[2];
        open_pair(fds);
        CHECK(poll_open(&idlers[i], fds[0], starts_coroutine) == 0);
        peers[i] = fds[1];
    }
    rt_yield();
    CHECK(callbacks == 0); /* being writable is no event for an idle connection */
    for (int i = 0; i < IDLERS; i++)
        CHECK(sys_write(peers[i], "x", 1) == 1);
    STORY_AWAIT(served == IDLERS);
    CHECK(callbacks == IDLERS);
    rt_stop(0);
}

static void an_idle_descriptor_owns_no_coroutine(void **state) {
    story(1, idle_story);
}

static struct poll_fd *heap_idlers[IDLERS];
static unsigned survivors;

/* The first one that fires closes and frees all the others, whose events were fetched with its own. */
static void closes_the_others(struct poll_fd *pd, unsigned events) {
    survivors++;
    for (int i = 0; i < IDLERS; i++) {
        if (heap_idlers[i] == pd || !heap_idlers[i])
            continue;
        poll_close(heap_idlers[i]);
        free(heap_idlers[i]);
        heap_idlers[i] = NULL;
    }
}

static void close_story(void *arg) {
    for (int i = 0; i < IDLERS; i++) {
        int fds[2];
        open_pair(fds);
        heap_idlers[i] = malloc(sizeof *heap_idlers[i]);
        CHECK(poll_open(heap_idlers[i], fds[0], closes_the_others) == 0);
        peers[i] = fds[1];
    }
    for (int i = 0; i < IDLERS; i++)
        CHECK(sys_write(peers[i], "x", 1) == 1);
    STORY_AWAIT(survivors > 0);
    for (int i = 0; i < 300; i++)
        rt_yield(); /* polls several times */
    CHECK(survivors == 1);
    for (int i = 0; i < IDLERS; i++) {
        close(peers[i]);
        free(heap_idlers[i]);
    }
    rt_stop(0);
}

static void events_of_a_closed_descriptor_are_dropped(void **state) {
    story(1, close_story);
}

/* ---- A P that never sleeps ---- */

static bool spin;

static void spins(void *arg) {
    while (spin)
        rt_yield();
}

static void busy_story(void *arg) {
    int fds[2];
    open_pair(fds);
    struct poll_fd pd;
    CHECK(poll_open(&pd, fds[0], NULL) == 0);
    spin = true;
    CHECK(go_here("spins", spins, NULL) == 0);
    poll_not_readable(&pd);
    CHECK(sys_write(fds[1], "x", 1) == 1);
    CHECK(poll_wait_readable(&pd, "behind a spinner", story_soon()) == 0);
    int64_t until_ns = clock_mono_ns() + 3 * NS_PER_MS;
    CHECK(rt_sleep_until(until_ns) == 0);
    spin = false;
    rt_stop(0);
}

static void a_busy_p_still_sees_events_and_timers(void **state) {
    story(1, busy_story);
}

/* ---- One that never waits ---- */

static struct poll_fd quiet_pd;
static bool has_read;

static void reads_one(void *arg) {
    char byte;
    CHECK(read_some(&quiet_pd, &byte, 1) == 1);
    has_read = true;
}

/* Whoever works without end lets those run that something has come for, at each yield. */
static void endless_story(void *arg) {
    int fds[2];
    open_pair(fds);
    CHECK(poll_open(&quiet_pd, fds[0], NULL) == 0);
    CHECK(go_here("reader", reads_one, NULL) == 0);
    rt_yield();
    CHECK(quiet_pd.reader);
    rt_yield_to_events();
    CHECK(!has_read);
    CHECK(sys_write(fds[1], "x", 1) == 1);
    rt_yield_to_events();
    CHECK(has_read);
    poll_close(&quiet_pd);
    CHECK(close(fds[1]) == 0);
    rt_stop(0);
}

static void test_an_endless_worker_yields_to_events(void **state) {
    story(1, endless_story);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(both_directions_wait_for_the_slower_side),
        cmocka_unit_test(a_wait_ends_at_its_deadline),
        cmocka_unit_test(half_close_wakes_readers_only),
        cmocka_unit_test(pipes_and_events_are_waited_for_like_sockets),
        cmocka_unit_test(an_idle_descriptor_owns_no_coroutine),
        cmocka_unit_test(events_of_a_closed_descriptor_are_dropped),
        cmocka_unit_test(a_busy_p_still_sees_events_and_timers),
        cmocka_unit_test(test_an_endless_worker_yields_to_events),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
