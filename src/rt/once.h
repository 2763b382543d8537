/* once: runs something exactly once, whoever comes first; Go's sync.Once.
 *
 * Ownership  Lives inside its owner. Zero-initialised memory has not run.
 * Threads    Coroutines.
 * Parks      Those that come while it runs, until it has run; fn itself may park too. Cancelled or not,
 *            whoever returns finds it done. A once that fn asks for itself waits for ever, as in Go.
 * Panic      of fn counts as done, and so does rt_exit in it. */
#pragma once
#include "rt/mutex.h"

struct once {
    _Atomic bool done;
    struct mutex mutex;
};

void once_do_slowly(struct once *once, rt_fn fn, void *arg);

static inline void once_do(struct once *once, rt_fn fn, void *arg) {
    if (!atomic_load_explicit(&once->done, memory_order_acquire)) /* of the store in once.c */
        once_do_slowly(once, fn, arg);
}
