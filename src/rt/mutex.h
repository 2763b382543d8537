/* mutex: one coroutine at a time, on any P; Go's sync.Mutex with a deadline.
 *
 * Ownership  Lives inside its owner; who unlocks last may free it at once. Zero-initialised memory is an
 *            unlocked mutex. Not bound to its holder: another coroutine may unlock. Not recursive.
 * Threads    mutex_lock: coroutines. mutex_try_lock, mutex_unlock: any thread.
 * Parks      mutex_lock while it is held. A newcomer may overtake, which is what makes it fast, until
 *            somebody has waited MUTEX_STARVING_NS: from then on it is handed to who waits longest.
 * Order      An unlock happens before the next lock returns.
 * See also   comutex of sync.h: plain data, for coroutines of one P. */
#pragma once
#include "rt/waiters.h"

#define MUTEX_STARVING_NS 1000000 /* Go's */

struct mutex {
    _Atomic uint32_t state; /* enum mutex_bit */
    struct spin lock;       /* the queue */
    struct waiters waiters;
};

enum mutex_bit {
    MUTEX_LOCKED = 1,
    MUTEX_QUEUED = 2,   /* somebody waits in the queue */
    MUTEX_WOKEN = 4,    /* somebody who is awake competes: an unlock need not wake another */
    MUTEX_STARVING = 8, /* an unlock hands over to the first in the queue, without freeing it */
};

MUST_CHECK int mutex_lock_slowly(struct mutex *mutex, int64_t deadline_ns);
void mutex_unlock_slowly(struct mutex *mutex);

MUST_CHECK static inline bool mutex_try_lock(struct mutex *mutex) {
    return !(atomic_fetch_or_explicit(&mutex->state, MUTEX_LOCKED, memory_order_acquire) &
             MUTEX_LOCKED);
}

/* 0, -ETIMEDOUT or -ECANCELED. A free mutex is taken also when the deadline is over. */
MUST_CHECK static inline int mutex_lock(struct mutex *mutex, int64_t deadline_ns) {
    return mutex_try_lock(mutex) ? 0 : mutex_lock_slowly(mutex, deadline_ns);
}

/* For what must not fail: waits until it has it, cancelled or not. */
void mutex_lock_shielded(struct mutex *mutex);

/* Asserts that it is locked. */
static inline void mutex_unlock(struct mutex *mutex) {
    uint32_t locked = MUTEX_LOCKED;
    if (!atomic_compare_exchange_strong_explicit(&mutex->state, &locked, 0, memory_order_release,
                                                 memory_order_relaxed))
        mutex_unlock_slowly(mutex);
}
