/* sync: waiting between coroutines of one P. All of it is plain data: only the P's M touches it.
 *
 * Which one  These, where everybody who waits and wakes is pinned to the same P, as all that serves a
 *            connection is: no locked instruction, no lock, and a condition can be looked at and waited
 *            for without a race. As soon as one side may be elsewhere: mutex, cond, sema, rwlock and
 *            waitgroup of the headers of these names, or a chan.
 * Parks      The _wait and _lock calls. No deadline means RT_FOREVER.
 * Errors     -ETIMEDOUT, -ECANCELED as rt_park. */
#pragma once
#include "base/list.h"
#include "rt/rt.h"

/* A queue of parked coroutines: the building block of the others and of pools. */
struct wait_queue {
    struct list waiters;
};
void wait_queue_init(struct wait_queue *queue);
/* Parks until woken by wait_queue_wake_*; never returns 0 for any other reason. */
MUST_CHECK int wait_queue_wait(struct wait_queue *queue, const char *reason, int64_t deadline_ns);
/* Wakes the coroutine that waits longest; false when nobody does. */
bool wait_queue_wake_one(struct wait_queue *queue);
void wait_queue_wake_all(struct wait_queue *queue);

/* First come, first served. Not recursive. */
struct comutex {
    bool held;
    struct wait_queue waiters;
};
void comutex_init(struct comutex *mutex);
MUST_CHECK int comutex_lock(struct comutex *mutex, int64_t deadline_ns);
void comutex_unlock(struct comutex *mutex);

int rt_sleep_until(int64_t deadline_ns);
