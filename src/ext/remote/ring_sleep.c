/* ring_sleep: futexes are not the private kind of rt/futex.h: who sleeps is in another process, so the kernel finds
 * the word by file and offset. */
#include "ext/remote/ring_sleep.h"

#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"

void remote_sleep(_Atomic uint32_t *word, uint32_t expected, int64_t deadline_ns) {
    struct timespec until = {.tv_sec = deadline_ns / NS_PER_S, .tv_nsec = deadline_ns % NS_PER_S};
    /* With a bitset the time is absolute, on CLOCK_MONOTONIC. */
    (void)syscall(SYS_futex, word, FUTEX_WAIT_BITSET, expected,
                  deadline_ns == INT64_MAX ? NULL : &until, NULL, FUTEX_BITSET_MATCH_ANY);
}

void remote_wake(_Atomic uint32_t *word, int count) {
    (void)syscall(SYS_futex, word, FUTEX_WAKE, count, NULL, NULL, 0);
}

void remote_ring_bell(int bell) {
    uint64_t one = 1;
    ssize_t written = write(bell, &one, sizeof one);
    (void)written; /* fails only when the counter is full, and then it has been rung */
}
