/* waitgroup: a count that falls to 0 under the lock only.
 *
 * The waiter may free the group the moment it learns of the 0, so whoever makes it 0 must not look at
 * the group later. A count that falls by a plain atomic, and a lock for the queue afterwards, would do
 * just that. So all changes are one compare-and-swap, but for the one to 0: that is made with the lock
 * held, and waiters look at the count with the lock held. They learn of the 0 either by that look,
 * after the unlock, or by being claimed and then woken, after the unlock too; what is touched after
 * the unlock is on the waiters' stacks (waiters.c, V2).
 *
 * Order  The count's changes are acq_rel, so the last one has acquired all before it; the lock, or the
 *        wake-up, passes that on to the waiter. */
#include "rt/waitgroup.h"

void waitgroup_init(struct waitgroup *wg) {
    *wg = (struct waitgroup){0};
}

static void fall_to_zero(struct waitgroup *wg, int64_t delta) {
    struct waiters claimed = {0};
    spin_lock(&wg->lock);
    int64_t count = atomic_fetch_add_explicit(&wg->count, delta, memory_order_acq_rel) + delta;
    ASSERT(count >= 0);
    if (count == 0) /* it is not when somebody has announced more meanwhile */
        waiters_claim_all_locked(&wg->waiters, &claimed);
    spin_unlock(&wg->lock);
    waiters_wake(&claimed);
}

void waitgroup_add(struct waitgroup *wg, int64_t delta) {
    int64_t count = atomic_load_explicit(&wg->count, memory_order_relaxed);
    do {
        ASSERT(count + delta >= 0);
        if (count + delta == 0) {
            fall_to_zero(wg, delta);
            return;
        }
    } while (!atomic_compare_exchange_weak_explicit(&wg->count, &count, count + delta,
                                                    memory_order_acq_rel, memory_order_relaxed));
}

void waitgroup_done(struct waitgroup *wg) {
    waitgroup_add(wg, -1);
}

int waitgroup_wait(struct waitgroup *wg, int64_t deadline_ns) {
    struct waiter waiter;
    spin_lock(&wg->lock);
    if (atomic_load_explicit(&wg->count, memory_order_acquire) == 0) {
        spin_unlock(&wg->lock);
        return 0;
    }
    waiters_push_back(&wg->waiters, &waiter);
    spin_unlock(&wg->lock);
    int err = waiter_wait(&wg->waiters, &waiter, &wg->lock, "waitgroup", deadline_ns);
    if (err < 0)
        spin_unlock(&wg->lock);
    return err;
}
