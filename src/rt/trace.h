/* trace: what the scheduler did, as a file for chrome://tracing or ui.perfetto.dev.
 *
 *    trace_start -> (a while) -> trace_stop -> trace_write
 *
 * The file (docs/runtime-trace.md) has one track per P with the coroutines it ran, why each stopped, its
 * quick calls and its sleep; one track per M with its foreign calls; and an arrow from whoever made a
 * coroutine ready to where it ran. Off, a hook costs a load and a branch that is never taken; on, about
 * 80 ns, a good part of it the clock. Nobody waits for anybody: starting, stopping and writing disturb no P.
 *
 * Threads  Any, one trace at a time in the process.
 * Parks    Nothing here does. trace_write takes half a microsecond an event: not on a P (blocking_call).
 * Limits   TRACE_EVENTS_MAX events per P, 32 bytes each, and memory is taken as they come; when a P's
 *          are used up it records no more, and the file says how many it missed. */
#pragma once
#include <stddef.h>

#include "base/check.h"

enum { TRACE_EVENTS = 128 * 1024, TRACE_EVENTS_MAX = 1024 * 1024 };

/* events_per_p of 0 is TRACE_EVENTS. Drops a trace that was stopped and not written. 0, -EBUSY (one is
 * running or being written), -EINVAL (too many events) or -ENOMEM. */
MUST_CHECK int trace_start(unsigned events_per_p);
/* 0 or -EINVAL when none runs. */
MUST_CHECK int trace_stop(void);
/* Hands the file of the trace that was stopped to write, piece by piece, and drops it. 0, or -EINVAL when
 * there is none, or else what write returned: not 0 ends it early. With a write of NULL it only drops. */
int trace_write(int (*write)(void *arg, const char *text, size_t len), void *arg);
