/* cond: waits for something that a mutex guards to change; Go's sync.Cond with a deadline.
 *
 * Ownership  Lives inside its owner. Zero-initialised memory is one that nobody waits on.
 * Threads    cond_wait: coroutines that hold the mutex. The others: any thread, with the mutex or not.
 * Parks      cond_wait. It returns for a wake-up, never spuriously; the condition may have changed
 *            again by then, so callers loop. */
#pragma once
#include "rt/mutex.h"
#include "rt/waiters.h"

struct cond {
    struct spin lock;
    struct waiters waiters;
};

void cond_init(struct cond *cond);
/* Unlocks mutex, waits, locks it again whatever the outcome: the caller has it afterwards, also after
 * -ETIMEDOUT or -ECANCELED. A wake-up that comes together with a deadline counts as the wake-up. */
MUST_CHECK int cond_wait(struct cond *cond, struct mutex *mutex, int64_t deadline_ns);
void cond_signal(struct cond *cond); /* who waits longest */
void cond_broadcast(struct cond *cond);
