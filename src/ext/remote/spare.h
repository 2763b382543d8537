/* spare: the thread that starts all host processes of isolated libraries, and one that is started before
 * anybody needs it: it waits to be told what it is for.
 *
 *     supervisors' threads ── spare_take ──► the spare, or one that is started now
 *                                                   │
 *     this thread ── posix_spawn ───────────────────┘── and later another spare
 *
 * Why one thread: the kernel ends a process with the thread that started it, and this one ends with the proxy. So
 * whoever has a process may hand it on, and end.
 * Why one spare, of no library: it saves what the program's own start takes. One that had loaded its library as well would run the
 * library's init functions twice, which open ports and connect to databases, and cost its memory again.
 *
 * Ownership  A process that was taken is owned by who took it, ext_host_free.
 * Threads    Any real thread. */
#pragma once
#include "ext/host/ext_host.h"

/* The spare, if there is one that lives, else a new one. 0; -errno: none can be had. */
MUST_CHECK int spare_take(struct ext_host **out, bool *was_spare);
/* There should be a spare: one is started in the background, unless there is. What fails is tried again when
 * it is asked for the next time. */
void spare_want(void);
/* Ends the spare, if there is one, and returns when it is gone: nobody is isolated any more. */
void spare_end(void);
/* The spare's process; 0: none. */
pid_t spare_pid(void);
