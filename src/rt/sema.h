/* sema: a counting semaphore between coroutines of any P.
 *
 * Ownership  Lives inside its owner, which keeps it until nobody waits on it or releases it.
 * Threads    sema_acquire: coroutines. sema_try_acquire, sema_release: any thread, foreign code too.
 * Parks      sema_acquire while the count is 0. First come, first served: a permit that is released
 *            goes to who waits longest, so newcomers do not overtake.
 * Order      A release happens before the acquire that it lets through returns. */
#pragma once
#include "rt/waiters.h"

struct sema {
    _Atomic int64_t count; /* permits; below 0: minus the number that wait */
    struct spin lock;      /* the queue */
    struct waiters waiters;
};

void sema_init(struct sema *sema, uint32_t permits);
/* 0 and one permit taken, -ETIMEDOUT or -ECANCELED. A free permit is taken also when the deadline is
 * over. reason is for dumps. */
MUST_CHECK int sema_acquire(struct sema *sema, const char *reason, int64_t deadline_ns);
MUST_CHECK bool sema_try_acquire(struct sema *sema);
void sema_release(struct sema *sema, uint32_t permits);
