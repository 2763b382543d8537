/* Sockets that outlive the process that accepts from them: who made one, who has it, and which are closed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "supervise/kept_sockets.h"

static const char web[] = "127.0.0.1:80", api[] = "127.0.0.1:81";

static int some_fd(void) {
    int fd = dup(STDERR_FILENO);
    assert_true(fd >= 0);
    return fd;
}

static bool is_open(int fd) {
    return fcntl(fd, F_GETFD) != -1;
}

static void who_takes_over_has_the_same_sockets(void **state) {
    struct kept_sockets kept = {0};
    int first = some_fd(), second = some_fd();
    assert_int_equal(kept_sockets_use(&kept, web, 0, first, 1), 0);
    assert_int_equal(kept_sockets_use(&kept, web, 1, second, 1), 0);
    assert_int_equal(kept_sockets_use(&kept, web, 0, -1, 2), 0);
    assert_int_equal(kept_sockets_use(&kept, web, 1, -1, 2), 0);
    kept_sockets_retain(&kept, 2);
    assert_int_equal(kept.count, 2);
    assert_true(is_open(first) && is_open(second));
    kept_sockets_clear(&kept);
    assert_false(is_open(first) || is_open(second));
}

static void what_the_successor_does_not_listen_on_is_closed(void **state) {
    struct kept_sockets kept = {0};
    int stays = some_fd(), goes = some_fd(), comes = some_fd();
    assert_int_equal(kept_sockets_use(&kept, web, 0, stays, 1), 0);
    assert_int_equal(kept_sockets_use(&kept, api, 0, goes, 1), 0);
    assert_int_equal(kept_sockets_use(&kept, web, 0, -1, 2), 0);
    assert_int_equal(kept_sockets_use(&kept, web, 1, comes, 2), 0);
    assert_true(is_open(goes)); /* until the successor serves */
    kept_sockets_retain(&kept, 2);
    assert_true(is_open(stays) && is_open(comes));
    assert_false(is_open(goes));
    kept_sockets_clear(&kept);
}

static void a_successor_that_comes_to_nothing_leaves_nothing(void **state) {
    struct kept_sockets kept = {0};
    int stays = some_fd(), tried = some_fd();
    assert_int_equal(kept_sockets_use(&kept, web, 0, stays, 1), 0);
    assert_int_equal(kept_sockets_use(&kept, web, 0, -1, 2), 0);
    assert_int_equal(kept_sockets_use(&kept, api, 0, tried, 2), 0);
    kept_sockets_undo(&kept, 2);
    assert_true(is_open(stays));
    assert_false(is_open(tried));
    kept_sockets_clear(&kept);
}

static void one_that_could_not_be_used_is_replaced(void **state) {
    struct kept_sockets kept = {0};
    int former = some_fd(), next = some_fd();
    assert_int_equal(kept_sockets_use(&kept, web, 0, former, 1), 0);
    assert_int_equal(kept_sockets_use(&kept, web, 0, next, 2), 0);
    assert_false(is_open(former));
    assert_true(is_open(next));
    assert_int_equal(kept.count, 1);
    kept_sockets_clear(&kept);
}

static void one_is_taken_or_closed_by_its_number(void **state) {
    struct kept_sockets kept = {0};
    int fds[3];
    for (unsigned i = 0; i < 3; i++) {
        fds[i] = some_fd();
        assert_int_equal(kept_sockets_use(&kept, web, i, fds[i], 1), 0);
    }
    assert_int_equal(kept_sockets_take(&kept, web, 1), fds[1]);
    assert_int_equal(kept_sockets_take(&kept, web, 1), -ENOENT);
    assert_int_equal(kept_sockets_use(&kept, web, 1, -1, 2), -ENOENT);
    assert_true(is_open(fds[1]));
    kept_sockets_close(&kept, web, 2);
    kept_sockets_close(&kept, api, 0); /* which is not there */
    assert_false(is_open(fds[2]));
    assert_int_equal(kept.count, 1);
    kept_sockets_clear(&kept);
    assert_int_equal(close(fds[1]), 0);
}

static void there_may_be_many(void **state) {
    struct kept_sockets kept = {0};
    enum { MANY = 300 };
    for (unsigned i = 0; i < MANY; i++)
        assert_int_equal(kept_sockets_use(&kept, i % 2 ? web : api, i, some_fd(), i % 3), 0);
    kept_sockets_retain(&kept, 1);
    assert_int_equal(kept.count, MANY / 3);
    for (size_t i = 0; i < kept.count; i++)
        assert_int_equal(kept.all[i].number % 3, 1);
    kept_sockets_clear(&kept);
    assert_int_equal(kept.count, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(who_takes_over_has_the_same_sockets),
        cmocka_unit_test(what_the_successor_does_not_listen_on_is_closed),
        cmocka_unit_test(a_successor_that_comes_to_nothing_leaves_nothing),
        cmocka_unit_test(one_that_could_not_be_used_is_replaced),
        cmocka_unit_test(one_is_taken_or_closed_by_its_number),
        cmocka_unit_test(there_may_be_many),
    };
    return cmocka_run_group_tests_name("kept sockets", tests, NULL, NULL);
}
