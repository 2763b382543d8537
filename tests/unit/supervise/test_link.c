/* Messages between a supervisor and the process that serves. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "supervise/link.h"

static int ends[2];

static int opens(void **state) {
    return socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends);
}

static int closes(void **state) {
    for (int i = 0; i < 2; i++)
        if (ends[i] >= 0)
            (void)close(ends[i]);
    return 0;
}

static void a_descriptor_travels_with_a_message(void **state) {
    struct link_message message = {.kind = LINK_SOCKET, .number = 3, .key = "[::1]:80"}, came;
    int pipe_ends[2], fd;
    char byte = 'x';
    assert_int_equal(pipe(pipe_ends), 0);
    assert_int_equal(link_send(ends[0], &message, pipe_ends[1], 0), 0);
    assert_int_equal(link_receive(ends[1], &came, &fd, 0), 1);
    assert_int_equal(came.kind, LINK_SOCKET);
    assert_int_equal(came.number, 3);
    assert_string_equal(came.key, "[::1]:80");
    assert_int_equal(write(fd, &byte, 1), 1);
    assert_int_equal(read(pipe_ends[0], &byte, 1), 1);
    (void)close(fd);
    (void)close(pipe_ends[0]);
    (void)close(pipe_ends[1]);
}

static void one_without_has_none(void **state) {
    struct link_message message = {.kind = LINK_BEAT}, came;
    int fd = 0;
    assert_int_equal(link_receive(ends[1], &came, &fd, MSG_DONTWAIT), -EAGAIN);
    assert_int_equal(link_send(ends[0], &message, -1, 0), 0);
    assert_int_equal(link_receive(ends[1], &came, &fd, 0), 1);
    assert_int_equal(fd, -1);
}

static void another_release_is_told_apart(void **state) {
    struct link_message message = {.version = LINK_VERSION + 1, .kind = LINK_BEAT}, came;
    int fd;
    assert_int_equal(send(ends[0], &message, sizeof message, 0), (ssize_t)sizeof message);
    assert_int_equal(link_receive(ends[1], &came, &fd, 0), -EPROTO);
    message.version = LINK_VERSION;
    assert_int_equal(send(ends[0], &message, sizeof message - 1, 0), (ssize_t)sizeof message - 1);
    assert_int_equal(link_receive(ends[1], &came, &fd, 0), -EPROTO);
    memset(message.key, 'k', sizeof message.key); /* no NUL */
    assert_int_equal(send(ends[0], &message, sizeof message, 0), (ssize_t)sizeof message);
    assert_int_equal(link_receive(ends[1], &came, &fd, 0), -EPROTO);
}

static void the_end_is_seen(void **state) {
    struct link_message message = {.kind = LINK_READY}, came;
    int fd;
    assert_int_equal(close(ends[0]), 0);
    ends[0] = -1;
    assert_int_equal(link_receive(ends[1], &came, &fd, 0), 0);
    assert_int_equal(link_send(ends[1], &message, -1, 0), -EPIPE);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_descriptor_travels_with_a_message, opens, closes),
        cmocka_unit_test_setup_teardown(one_without_has_none, opens, closes),
        cmocka_unit_test_setup_teardown(another_release_is_told_apart, opens, closes),
        cmocka_unit_test_setup_teardown(the_end_is_seen, opens, closes),
    };
    return cmocka_run_group_tests_name("link", tests, NULL, NULL);
}
