/* waitgroup: waits until a number of things is done; Go's sync.WaitGroup with a deadline.
 *
 * Ownership  Lives inside its owner until the last waitgroup_wait has returned and the last
 *            waitgroup_done too: a waiter may free it as soon as it returns.
 * Threads    waitgroup_wait: coroutines. The others: any thread.
 * Parks      waitgroup_wait while the count is above 0. */
#pragma once
#include "base/list.h"
#include "rt/rt.h"
#include "rt/spin.h"

struct waitgroup {
    struct spin lock;
    int64_t count;
    struct list waiters;
};

void waitgroup_init(struct waitgroup *wg);
/* A count below 0 asserts: more was done than was announced. Announce before the work can be done. */
void waitgroup_add(struct waitgroup *wg, int64_t delta);
void waitgroup_done(struct waitgroup *wg);
/* 0, -ETIMEDOUT or -ECANCELED. */
MUST_CHECK int waitgroup_wait(struct waitgroup *wg, int64_t deadline_ns);
