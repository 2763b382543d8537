/* signals: the one owner of the process's signals.
 *
 * Go libraries install handlers at load. Most of them chain to what was there; SIGURG, by which a
 * Go runtime preempts its threads, is not chained, so the library loaded last would swallow the
 * preemption of the others and their GC would hang for ever. signals_after_dlopen re-takes SIGURG,
 * remembers the handler that was found there and from then on every SIGURG runs all of them. What
 * the new library swallowed in between is repeated.
 *
 * Order    signals_init before the first dlopen (so that Go chains to our crash handler), then
 *          signals_after_dlopen after each dlopen, both from the main thread or a blocking_call.
 * SIGPIPE  is ignored by us; Go libraries chain to that. */
#pragma once
#include <signal.h>

#include "rt/rt.h"

/* Installs the crash handler (SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT, SIGTRAP: name of the
 * coroutine, registers and a backtrace to stderr, then the default action), on alternate stacks. 0 or -errno. */
MUST_CHECK int signals_init(void);
MUST_CHECK int signals_after_dlopen(void);

/* Runs fn as a new coroutine on P 0 for each delivery of signo (SIGTERM, SIGINT, SIGHUP, SIGUSR1,
 * SIGUSR2; deliveries merge as signals do). Call inside rt_run's main_fn. */
MUST_CHECK int signals_on(int signo, const char *name BORROWED_BY(program), rt_fn fn,
                          void *arg BORROWED_BY(coroutine));

/* Each delivery of signo (SIGQUIT) writes all coroutines to the log, see dump.h, also when every P is
 * stuck; the process goes on. Any thread; put back after each dlopen. 0 or -errno. */
MUST_CHECK int signals_dump_on(int signo);

/* The handler of a signal that the runtime sends to itself; put back after each dlopen. It runs on the
 * alternate stack with all signals blocked. Any thread; a repetition does nothing. 0 or -errno. */
MUST_CHECK int signals_own(int signo, void (*handler)(int, siginfo_t *, void *));
/* The one by which backtrace.c asks a thread what it does. Not the first ones, which some C libraries
 * and Go take for themselves, and not the last, which valgrind does. */
static inline int signals_sample_signo(void) {
    return SIGRTMAX - 3;
}
/* The one by which a CPU profile interrupts its threads. */
static inline int signals_profile_signo(void) {
    return SIGRTMAX - 4;
}

/* The one that tells a Go runtime's monitor to take its time. */
static inline int signals_go_monitor_signo(void) {
    return SIGRTMAX - 5;
}

/* Gives the calling thread an alternate signal stack; every M does it by itself. */
MUST_CHECK int signals_thread_init(void);
