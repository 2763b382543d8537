/* rt_story: runs a test's body inside a runtime, in a child process of its own.
 *
 * rt_run works once per process, and a coroutine's failed assertion must not unwind over a stack
 * that cmocka does not know. So a story uses CHECK, which prints and exits; the test looks at how the
 * child ended. No sleeps: wait for a condition, with a deadline that only a broken test reaches. */
#pragma once
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "rt/rt.h"
#include "rt/sync.h"

#define CHECK(condition)                                                                           \
    ((condition)                                                                                   \
         ? (void)0                                                                                 \
         : (fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition), _exit(99)))

/* For what an emulator (./dev test aarch64) does not emulate. */
static inline void story_skip_if_emulated(const char *why) {
    if (getenv("SLUICE_EMULATED")) {
        print_message("skipped under emulation: %s\n", why);
        skip();
    }
}

/* Only a broken test waits for it, so it is long: a loaded machine is no reason to fail. Each test's
 * timeout (meson.build) is longer. */
static inline int64_t story_soon(void) {
    return clock_mono_ns() + 120 * NS_PER_S;
}

/* Yields until the condition holds. */
#define STORY_AWAIT(condition)                                                                     \
    do {                                                                                           \
        for (int64_t story_until = story_soon(); !(condition);) {                                  \
            CHECK(clock_mono_ns() < story_until);                                                  \
            CHECK(rt_sleep_until(clock_mono_ns() + NS_PER_MS) == 0);                               \
        }                                                                                          \
    } while (0)

/* The child's exit status as of waitpid(2); body is rt_run's main and calls rt_stop(0). */
static inline int story_status(unsigned p_count, rt_fn body) {
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        /* Else RT_IO_EPOLL. */
        struct rt_options options = {.p_count = p_count,
                                     .io = getenv("STORY_IO_AUTO") ? RT_IO_AUTO : RT_IO_EPOLL};
        exit(rt_run(&options, body, NULL) == 0 ? 0 : 98);
    }
    int status = -1;
    if (pid < 0 || waitpid(pid, &status, 0) != pid)
        return -1;
    return status;
}

static inline void story(unsigned p_count, rt_fn body) {
    int status = story_status(p_count, body);
    if (WIFSIGNALED(status))
        fprintf(stderr, "the story ended by signal %d\n", WTERMSIG(status));
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

/* The body breaks a contract, which an assertion must notice. */
static inline void story_asserts(rt_fn body) {
    int status = story_status(1, body);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGABRT);
}

/* xorshift; seed must not be 0. */
static inline uint64_t next_random(uint64_t *seed) {
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    return *seed;
}
