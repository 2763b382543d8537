/* cond: a queue of waiters, and the promise that nobody misses a change.
 *
 * Who waits queues up before it unlocks the mutex, so whoever changes the condition under the mutex
 * afterwards finds it. A signal that a waiter has got is never lost to its deadline (waiters.c, V1).
 *
 * Rejected  Passing the awakened from this queue straight into that of the mutex, which spares a wake-up
 *           for nothing when the signaller still holds it: the two locks and queues would have to know
 *           each other, and callers can signal after the unlock. */
#include "rt/cond.h"

void cond_init(struct cond *cond) {
    *cond = (struct cond){0};
}

int cond_wait(struct cond *cond, struct mutex *mutex, int64_t deadline_ns) {
    struct waiter waiter;
    spin_lock(&cond->lock);
    waiters_push_back(&cond->waiters, &waiter);
    spin_unlock(&cond->lock);
    mutex_unlock(mutex);
    int err = waiter_wait(&cond->waiters, &waiter, &cond->lock, "cond", deadline_ns);
    if (err < 0)
        spin_unlock(&cond->lock);
    mutex_lock_shielded(mutex);
    return err;
}

void cond_signal(struct cond *cond) {
    spin_lock(&cond->lock);
    struct waiter *waiter = waiters_claim_locked(&cond->waiters);
    spin_unlock(&cond->lock);
    if (waiter)
        waiter_wake(waiter);
}

void cond_broadcast(struct cond *cond) {
    struct waiters claimed = {0};
    spin_lock(&cond->lock);
    waiters_claim_all_locked(&cond->waiters, &claimed);
    spin_unlock(&cond->lock);
    waiters_wake(&claimed);
}
