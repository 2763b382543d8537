/* once: runs something exactly once, whoever comes first; Go's sync.Once.
 *
 * Ownership  Lives inside its owner. Zero-initialised memory has not run.
 * Threads    Coroutines.
 * Parks      Those that come while it runs, until it has run; fn itself may park too. They are not to be
 *            cancelled: whoever returns finds it done.
 * Panic      of fn counts as done, as in Go. */
#pragma once
#include "rt/mutex.h"

struct once {
    _Atomic bool done;
    struct mutex mutex;
};

void once_do(struct once *once, rt_fn fn, void *arg);
