/* waitgroup: waits until a number of things is done; Go's sync.WaitGroup with a deadline.
 *
 * Ownership  Lives inside its owner. A waiter that got 0 may free it at once: whoever did the last
 *            waitgroup_done is through with it, even if that call has not returned yet. Zero-initialised
 *            memory is a group with nothing to wait for.
 * Threads    waitgroup_wait: coroutines. The others: any thread.
 * Parks      waitgroup_wait while the count is above 0.
 * Order      What happens before a waitgroup_done is seen after the wait that it ends. */
#pragma once
#include "rt/waiters.h"

struct waitgroup {
    _Atomic int64_t count;
    struct spin lock; /* the queue, and the way of count to 0 */
    struct waiters waiters;
};

void waitgroup_init(struct waitgroup *wg);
/* A count below 0 asserts: more was done than was announced. Announce before the work can be done. */
void waitgroup_add(struct waitgroup *wg, int64_t delta);
void waitgroup_done(struct waitgroup *wg);
/* 0, -ETIMEDOUT or -ECANCELED. */
MUST_CHECK int waitgroup_wait(struct waitgroup *wg, int64_t deadline_ns);
