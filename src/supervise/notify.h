/* notify: tells systemd, or who else started us so, how we are (sd_notify(3)): one datagram to the socket that
 * NOTIFY_SOCKET names. Without one these do nothing.
 *
 * Source   systemd's sd_notify(3): the protocol is stable, and a library is not needed for it.
 * Threads  notify_take once, at start; then any. */
#pragma once
#include <stdint.h>

/* Takes NOTIFY_SOCKET and WATCHDOG_USEC out of the environment, so that what we start does not speak in our name. */
void notify_take(void);
/* Lines such as "READY=1\nSTATUS=serving". */
void notify_send(const char *lines);
/* How often WATCHDOG=1 is to be said at most, in ns: half of what is allowed. 0: nobody asks. */
int64_t notify_watchdog_ns(void);
