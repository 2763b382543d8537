/* futex: sleep on a word until somebody changes it and says so. Any thread, never a coroutine. */
#pragma once
#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* Returns when woken, at the timeout (NULL: none), on a signal, or at once if *word != expected:
 * callers look at their condition again. */
static inline void futex_wait(_Atomic uint32_t *word, uint32_t expected,
                              const struct timespec *timeout) {
    (void)syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, expected, timeout, NULL, 0);
}

static inline void futex_wake(_Atomic uint32_t *word, int count) {
    (void)syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, count, NULL, NULL, 0);
}
