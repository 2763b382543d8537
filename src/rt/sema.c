/* sema: one compare-and-swap as long as nobody has to wait.
 *
 *     count   3 ... 1     0     -1 ... -3
 *             permits    none   that many coroutines wait, in the queue
 *
 *   S1  Above 0 the count changes by compare-and-swap alone. At 0 and below it changes only with the
 *       lock held, but for a release at 0, which nobody waits for. So with the lock held the queue has
 *       exactly max(0, -count) waiters, and a release that finds a negative count finds its waiter.
 *   S2  A released permit that somebody waits for is never free: count stays at or below 0 while the
 *       waiter is claimed. So newcomers do not overtake, and a waiter that wakes has its permit.
 *   S3  Who gives up takes itself off the queue and adds 1, under the lock. A permit is never handed to
 *       it: it would have been claimed, and then it does not give up (waiters.c, V1).
 *
 * Order  A release's compare-and-swap releases and an acquire's acquires; between the two that meet in
 *        the queue, waiters.c orders. */
#include "rt/sema.h"

void sema_init(struct sema *sema, uint32_t permits) {
    *sema = (struct sema){0};
    atomic_init(&sema->count, permits);
}

bool sema_try_acquire(struct sema *sema) {
    int64_t count = atomic_load_explicit(&sema->count, memory_order_relaxed);
    while (count > 0)
        if (atomic_compare_exchange_weak_explicit(&sema->count, &count, count - 1,
                                                  memory_order_acquire, memory_order_relaxed))
            return true;
    return false;
}

int sema_acquire(struct sema *sema, const char *reason, int64_t deadline_ns) {
    if (sema_try_acquire(sema))
        return 0;
    struct waiter waiter;
    spin_lock(&sema->lock);
    if (atomic_fetch_sub_explicit(&sema->count, 1, memory_order_acquire) > 0) {
        spin_unlock(&sema->lock);
        return 0;
    }
    waiters_push_back(&sema->waiters, &waiter);
    spin_unlock(&sema->lock);
    int err = waiter_wait(&sema->waiters, &waiter, &sema->lock, reason, deadline_ns);
    if (err < 0) {
        atomic_fetch_add_explicit(&sema->count, 1, memory_order_relaxed); /* S3 */
        spin_unlock(&sema->lock);
    }
    return err;
}

void sema_release(struct sema *sema, uint32_t permits) {
    int64_t count = atomic_load_explicit(&sema->count, memory_order_relaxed);
    while (count >= 0)
        if (atomic_compare_exchange_weak_explicit(&sema->count, &count, count + permits,
                                                  memory_order_release, memory_order_relaxed))
            return;
    struct waiters claimed = {0};
    spin_lock(&sema->lock);
    count = atomic_fetch_add_explicit(&sema->count, permits, memory_order_release);
    for (int64_t woken = 0; woken < permits && woken < -count; woken++)
        waiters_claim_to_locked(&sema->waiters, &claimed);
    spin_unlock(&sema->lock);
    waiters_wake(&claimed);
}
