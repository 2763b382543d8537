/* go_monitor: see the header.
 *
 * Go's monitor (runtime.sysmon) sleeps 20 us between its looks, and longer only after 50 of them that found nothing to do.
 * For a program in Go that is right: a look finds something when the program is stuck in a system call, which a proxy's
 * filters hardly ever are. But in a library each 10 ms of callbacks look like that:
 *
 *      a callback ends ──► its thread keeps Go's P, "in a system call"
 *      the P has had the same goroutine for 10 ms, for callbacks are not scheduled ──► the monitor takes it: found something
 *      the next callback takes it back and wakes the monitor ──► 50 looks 20 us apart
 *
 * So there were 2,000 wake-ups a second, and each takes the core from the thread that serves requests: 8 us of each
 * request's 44 with one Go filter. Nothing that a user can set changes the pace. But a thread has a timer slack, by which
 * the kernel may end its sleeps later so that it does not have to wake up so often. With 1 ms of it there are half as many
 * wake-ups, and two thirds less of them come in the middle of something else. What Go's monitor does late by that is
 * what ours does as late: to go on without a thread that is stuck in a system call. (It lets that wait for 20 ms at worst.)
 *
 * Timer slack can be set only by the thread itself (or with CAP_SYS_NICE), so it is sent a signal; and only it may be
 * slow, since the other threads wait for the timers of goroutines.
 *
 *     which one   A thread inherits its creator's name. The one that loads the library has a name of its own
 *                 while it does so, hence so has the library's first thread, which the loader creates, and what that
 *                 creates. The first thing that Go's main does is to start the monitor, in each version so far: the second
 *                 thread of that name. Tids go up until they begin anew, where we give up.
 *
 * Rejected  A slack for all threads, set before dlopen and inherited: goroutines' timers would be late by it.
 *           SCHED_BATCH for the monitor: it wakes up as often, and by the next tick of the scheduler's it runs.
 *           GOMAXPROCS: the 10 ms do not ask whether other Ps are idle. */
#include "ext/go/go_monitor.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/clock.h"
#include "rt/signals.h"

static const unsigned long slack_ns = NS_PER_MS;

void go_monitor_begin(struct go_monitor *monitor) {
    static unsigned loads;
    (void)prctl(PR_GET_NAME, monitor->loader, 0, 0, 0);
    (void)snprintf(monitor->library, sizeof monitor->library, "sluice:go%u", loads++);
    (void)prctl(PR_SET_NAME, monitor->library, 0, 0, 0);
}

void go_monitor_end(const struct go_monitor *monitor) {
    (void)prctl(PR_SET_NAME, monitor->loader, 0, 0, 0);
}

/* On the monitor's thread. */
static void on_signal(int signo, siginfo_t *info, void *context) {
    (void)signo;
    (void)context;
    if (info->si_code != SI_TKILL || info->si_pid != getpid())
        return;
    int was = errno;
    char name[2 * GO_MONITOR_NAME_SIZE] = "";
    (void)prctl(PR_SET_TIMERSLACK, slack_ns, 0, 0, 0);
    (void)prctl(PR_GET_NAME, name, 0, 0, 0);
    strcat(name, ":mon");
    (void)prctl(PR_SET_NAME, name, 0, 0, 0);
    errno = was;
}

static bool is_named(int tid, const char *name) {
    char path[64], found[GO_MONITOR_NAME_SIZE + 1];
    (void)snprintf(path, sizeof path, "/proc/self/task/%d/comm", tid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    ssize_t n = read(fd, found, sizeof found);
    (void)close(fd);
    return n == (ssize_t)strlen(name) + 1 && memcmp(found, name, (size_t)n - 1) == 0;
}

/* The second of the library's threads. 0: there is none, or nobody knows. */
static int find(const struct go_monitor *monitor) {
    DIR *tasks = opendir("/proc/self/task");
    if (!tasks)
        return 0;
    int first = 0, second = 0, self = (int)syscall(SYS_gettid);
    for (const struct dirent *entry; (entry = readdir(tasks));) {
        int tid = atoi(entry->d_name);
        if (tid <= 0 || !is_named(tid, monitor->library))
            continue;
        if (!first || tid < first) {
            second = first;
            first = tid;
        } else if (!second || tid < second) {
            second = tid;
        }
    }
    (void)closedir(tasks);
    return first > self ? second : 0;
}

void go_monitor_slow(const struct go_monitor *monitor) {
    int tid = find(monitor);
    if (tid && signals_own(signals_go_monitor_signo(), on_signal) == 0)
        (void)syscall(SYS_tgkill, getpid(), tid, signals_go_monitor_signo());
}
