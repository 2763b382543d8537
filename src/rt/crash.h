/* crash: what is said about a fault before the process dies of it. */
#pragma once
#include <signal.h>
#include <stdbool.h>

#include "base/check.h"

/* Installs the handlers of SIGSEGV, SIGBUS, SIGILL, SIGFPE and SIGABRT. What was there before runs
 * after ours. 0 or -errno. */
MUST_CHECK int crash_init(void);

/* Asked first, about each fault of an instruction (signals that somebody sent are none): true when it has seen to it, by
 * changing where the context goes on. Runs in the handler, on the alternate stack: async-signal-safe. There is one, for
 * ever; before the code that it is for may run. */
typedef bool (*crash_catcher)(int signo, const siginfo_t *info, void *ucontext);
void crash_set_catcher(crash_catcher catcher);
