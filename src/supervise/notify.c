#include "supervise/notify.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/clock.h"

static struct sockaddr_un to;
static socklen_t to_len; /* 0: nobody listens */
static int64_t watchdog_ns;

static void take_socket(const char *path) {
    size_t len = strlen(path);
    if (len < 2 || len >= sizeof to.sun_path || (path[0] != '/' && path[0] != '@'))
        return;
    to.sun_family = AF_UNIX;
    memcpy(to.sun_path, path, len);
    if (path[0] == '@')
        to.sun_path[0] = '\0'; /* an abstract one */
    to_len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len);
}

static bool is_for_us(const char *pid) {
    return !pid || strtol(pid, NULL, 10) == (long)getpid();
}

void notify_take(void) {
    const char *path = getenv("NOTIFY_SOCKET"), *usec = getenv("WATCHDOG_USEC");
    if (path)
        take_socket(path);
    if (usec && is_for_us(getenv("WATCHDOG_PID")))
        watchdog_ns = strtoll(usec, NULL, 10) * NS_PER_US / 2;
    (void)unsetenv("NOTIFY_SOCKET"); /* fails for bad names only */
    (void)unsetenv("WATCHDOG_USEC");
    (void)unsetenv("WATCHDOG_PID");
}

void notify_send(const char *lines) {
    if (!to_len)
        return;
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return;
    /* Nobody can be told that nobody could be told. */
    (void)!sendto(fd, lines, strlen(lines), MSG_NOSIGNAL | MSG_DONTWAIT, (struct sockaddr *)&to,
                  to_len);
    (void)close(fd);
}

int64_t notify_watchdog_ns(void) {
    return to_len && watchdog_ns > 0 ? watchdog_ns : 0;
}
