/* What is told to whoever started us, by sd_notify's protocol. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/clock.h"
#include "supervise/notify.h"

/* An abstract socket, which leaves no file. notify_take is for once in a process, so this is one story. */
static void what_is_said_arrives(void **state) {
    char name[64], came[256] = "", pid[16];
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int len = snprintf(name, sizeof name, "@sluice-notify-%d", (int)getpid());
    memcpy(address.sun_path + 1, name + 1, (size_t)len - 1);
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&address,
                          (socklen_t)(offsetof(struct sockaddr_un, sun_path) + (size_t)len)),
                     0);

    notify_send("READY=1\n"); /* to nobody yet */
    assert_int_equal(notify_watchdog_ns(), 0);
    (void)snprintf(pid, sizeof pid, "%d", (int)getpid());
    assert_int_equal(setenv("NOTIFY_SOCKET", name, 1), 0);
    assert_int_equal(setenv("WATCHDOG_USEC", "3000000", 1), 0);
    assert_int_equal(setenv("WATCHDOG_PID", pid, 1), 0);
    notify_take();
    assert_null(getenv("NOTIFY_SOCKET")); /* not for those that we start */
    assert_null(getenv("WATCHDOG_USEC"));
    assert_int_equal(notify_watchdog_ns(), 1500 * NS_PER_MS);

    notify_send("READY=1\nSTATUS=serves\n");
    assert_int_equal(recv(fd, came, sizeof came, 0), (ssize_t)strlen("READY=1\nSTATUS=serves\n"));
    assert_string_equal(came, "READY=1\nSTATUS=serves\n");
    (void)close(fd);
    notify_send("STOPPING=1\n"); /* to nobody any more */
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(what_is_said_arrives)};
    return cmocka_run_group_tests_name("notify", tests, NULL, NULL);
}
