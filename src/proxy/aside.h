/* aside: what may take its time (files, extensions' code, a lock that somebody has for long) is done on a thread that may block.
 * Where none can be had, here: it is only slow.
 *
 * Threads  Ps. */
#pragma once
#include "rt/rt.h"

/* Parks until it is done. Coroutines. */
void aside(rt_fn fn, void *arg);
/* Returns at once; it is done later, when there is time. Coroutines and scheduler callbacks. */
void aside_later(rt_fn fn, void *arg BORROWED_BY(coroutine));
