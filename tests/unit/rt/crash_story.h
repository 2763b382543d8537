/* crash_story: how a child process died inside the runtime, and what it said. */
#pragma once
#include <signal.h>
#include <string.h>

#include "rt/signals.h"
#include "rt_story.h"

static char crash_text[1 << 16];

/* Runs body in a child and collects its stderr. */
static inline int crash_status(rt_fn body) {
    int fds[2];
    assert_int_equal(pipe(fds), 0);
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        dup2(fds[1], STDERR_FILENO);
        close(fds[0]);
        close(fds[1]);
        /* cmocka's handlers, or a sanitizer's, would come after ours. */
        for (int signo = 1; signo < SIGRTMIN; signo++)
            (void)signal(signo, SIG_DFL);
        CHECK(signals_init() == 0);
        struct rt_options options = {.p_count = 1};
        exit(rt_run(&options, body, NULL));
    }
    close(fds[1]);
    size_t len = 0;
    for (ssize_t n; (n = read(fds[0], crash_text + len, sizeof crash_text - 1 - len)) > 0;)
        len += (size_t)n;
    crash_text[len] = '\0';
    close(fds[0]);
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return status;
}

static inline void assert_died(int status, int signo) {
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), signo);
}

static inline void assert_said(const char *words) {
    if (!strstr(crash_text, words))
        fail_msg("not said: \"%s\" in\n%s", words, crash_text);
}
