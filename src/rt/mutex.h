/* mutex: one coroutine at a time, on any P; Go's sync.Mutex with a deadline.
 *
 * Ownership  Lives inside its owner. Zero-initialised memory is an unlocked mutex. Not bound to its
 *            holder: another coroutine may unlock. Not recursive.
 * Threads    mutex_lock: coroutines. mutex_try_lock, mutex_unlock: any thread.
 * Parks      mutex_lock while it is held. A newcomer may overtake, which is what makes it fast, until
 *            somebody has waited MUTEX_STARVING_NS: from then on it is handed to who waits longest.
 * Order      An unlock happens before the next lock returns.
 * See also   comutex of sync.h: plain data, for coroutines of one P. */
#pragma once
#include "rt/rt.h"
#include "rt/spin.h"

#define MUTEX_STARVING_NS 1000000 /* Go's */

struct mutex_waiter;
struct mutex {
    _Atomic uint32_t state;
    struct spin lock; /* the queue */
    struct mutex_waiter *head, *tail;
};

/* 0, -ETIMEDOUT or -ECANCELED. */
MUST_CHECK int mutex_lock(struct mutex *mutex, int64_t deadline_ns);
MUST_CHECK bool mutex_try_lock(struct mutex *mutex);
void mutex_unlock(struct mutex *mutex); /* asserts that it is locked */
