/* waiters: the queue of parked coroutines that sema, mutex, rwlock, cond and waitgroup share.
 *
 * Internal to rt. The object's spin-lock guards its queues; how a wake-up races with a deadline: the
 * head comment of waiters.c. A waiter lives on its coroutine's stack: the queue borrows it until
 * waiter_wait has returned. Zero-initialised memory is an empty queue.
 *
 *     spin_lock                               spin_lock
 *     waiters_push_back(queue, waiter)        waiter = waiters_claim_locked(queue)
 *     spin_unlock                             decide what the waiter gets
 *     waiter_wait(...) ....................   spin_unlock
 *                      <--------------------  waiter_wake(waiter) */
#pragma once
#include <stdatomic.h>

#include "rt/rt.h"
#include "rt/spin.h"

enum waiter_state {
    WAITER_QUEUED,
    WAITER_CLAIMED, /* somebody wakes it, and may still look at it */
    WAITER_WOKEN,   /* nobody will look at it again */
};

struct waiter {
    struct waiter *prev, *next;
    struct g *g;
    _Atomic uint32_t state; /* enum waiter_state */
};

struct waiters {
    struct waiter *first, *last;
};

/* The running coroutine's waiter becomes the last, or the first. Lock held. */
void waiters_push_back(struct waiters *queue, struct waiter *waiter);
void waiters_push_front(struct waiters *queue, struct waiter *waiter);

static inline bool waiters_is_empty(const struct waiters *queue) {
    return queue->first == NULL;
}

/* The longest waiting one, off the queue: it will return 0, whatever becomes of its deadline. The
 * caller writes to it what it is to find, unlocks, and wakes it. NULL when nobody waits. */
struct waiter *waiters_claim_locked(struct waiters *queue);
/* The same, to the end of claimed; false when nobody waits. */
bool waiters_claim_to_locked(struct waiters *queue, struct waiters *claimed);
/* All of them, in their order; returns how many. */
uint32_t waiters_claim_all_locked(struct waiters *queue, struct waiters *claimed);

/* Any thread, the lock not held. The waiter is gone when these return, and so may be the object. */
void waiter_wake(struct waiter *waiter);
void waiters_wake(struct waiters *claimed);

/* Parks the running coroutine, whose waiter was queued under lock, until it is claimed: 0, and the
 * lock is not held. Else -ETIMEDOUT or -ECANCELED: nobody has claimed it, it is off the queue, and the
 * lock is held, so that the caller can put in order what its leaving changes, and unlock. */
MUST_CHECK int waiter_wait(struct waiters *queue, struct waiter *waiter, struct spin *lock,
                           const char *reason, int64_t deadline_ns);
/* The same for what must not fail: a cancellation takes effect at the coroutine's next park. */
void waiter_wait_shielded(struct waiter *waiter, const char *reason);
