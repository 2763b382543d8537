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
#include "rt/rt.h"

/* Installs the crash handler (SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT: name of the coroutine,
 * registers and a backtrace to stderr, then the default action), on alternate stacks. 0 or -errno. */
MUST_CHECK int signals_init(void);
MUST_CHECK int signals_after_dlopen(void);

/* Runs fn as a new coroutine on P 0 for each delivery of signo (SIGTERM, SIGINT, SIGHUP, SIGUSR1,
 * SIGUSR2; deliveries merge as signals do). Call inside rt_run's main_fn. */
MUST_CHECK int signals_on(int signo, const char *name, rt_fn fn, void *arg);

/* Gives the calling thread an alternate signal stack; every M does it by itself. */
MUST_CHECK int signals_thread_init(void);
