/* crash: what is said about a fault before the process dies of it. */
#pragma once
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/check.h"
#include "rt/labels.h"

struct backtrace;

/* Installs the handlers of SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT and SIGTRAP. What was there before runs
 * after ours. 0 or -errno. */
MUST_CHECK int crash_init(void);

/* Asked first, about each fault of an instruction (signals that somebody sent are none): true when it has seen to it, by
 * changing where the context goes on. Runs in the handler, on the alternate stack: async-signal-safe. There is one, for
 * ever; before the code that it is for may run. */
typedef bool (*crash_catcher)(int signo, const siginfo_t *info, void *ucontext);
void crash_set_catcher(crash_catcher catcher);

/* ---- A report ---- */

enum { CRASH_LABELS_MAX = LABELS_MAX + LABELS_DESCRIBED_MAX };

/* Of the thread that got the signal. */
struct crash {
    int signo;
    const siginfo_t *info;
    const void *ucontext;
    const char *place;     /* "in coroutine", "in the scheduler", ... */
    const char *coroutine; /* its name, or NULL */
    uint64_t coroutine_id;
    unsigned label_count; /* what it works on */
    struct label labels[CRASH_LABELS_MAX];
    char told[LABELS_TOLD_MAX + 1]; /* by its describer */
};

/* Called once, by the first thread that dies, when that and the registers have been printed. False: there is no
 * report, and a backtrace of addresses is printed as well. Async-signal-safe; within CRASH_PATIENCE_S the process is dead.
 * There is one, for ever. 0, or -errno of getting ready for crash_each_thread. */
typedef bool (*crash_reporter)(const struct crash *crash);
enum { CRASH_PATIENCE_S = 9 };
MUST_CHECK int crash_set_reporter(crash_reporter reporter);

/* ---- For a reporter: async-signal-safe ---- */

/* name is borrowed for the call. */
void crash_each_register(const void *ucontext,
                         void (*fn)(const char *name, uintptr_t value, void *arg), void *arg);
/* The other threads of the runtime, those that answer in time. */
void crash_each_thread(void (*fn)(pid_t tid, const struct backtrace *backtrace, void *arg),
                       void *arg);
