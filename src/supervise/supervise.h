/* supervise: `sluice --supervise`: a process that keeps the one that serves running.
 *
 *     supervisor ── fork, exec ──► process that serves          it ends:      it is started again, at once, then after a delay
 *         │  keeps the listening sockets, so that               it hangs:     it is made to tell where, killed, started again
 *         │  no connection is refused meanwhile                 SIGUSR2:      a second one is started; when that accepts, the
 *         └──────────────────────────────────────                            first serves what it has and ends
 *
 * SIGUSR2 executes the file that was started, as it is on disk then: so a release is replaced. The second process reads
 * the configuration anew; when it cannot serve, the first one goes on.
 *
 * SIGTERM and SIGINT are passed on, and the supervisor ends with the last process; so are SIGUSR1 and SIGQUIT, to the one
 * that serves. When the supervisor is killed, the kernel tells the processes to end as by SIGTERM. */
#pragma once
#include <stdint.h>

struct supervise_options {
    char **argv;         /* of the process that serves: the same; borrowed */
    int64_t patience_ns; /* without a beat of it, it hangs */
};

/* Until it is told to stop, or the process that serves ended of itself. The exit code of the process. */
int supervise_run(const struct supervise_options *options);
