/* waiters: one protocol for everything that waits, so that its races are argued once.
 *
 *     queue -> [waiter on A's stack] <-> [waiter on B's stack] <-> ...
 *
 *     state      who moves it there                                what it promises
 *     QUEUED     the coroutine, under the lock                     it is in the queue
 *     CLAIMED    a waker, under the lock, with the unlinking       it returns 0
 *     WOKEN      the same waker, after rt_ready                    the waker is done with it
 *
 *   V1  Who returns and why is decided under the lock, by whoever takes the waiter off the queue: a
 *       waker (CLAIMED), or the coroutine itself when its deadline or a cancellation finds it still
 *       QUEUED. So what was handed over is never lost to a deadline that fires meanwhile.
 *   V2  A coroutine that was claimed does not return, and so does not end, before it has read WOKEN.
 *       It can be up early: a deadline, a cancellation, a token that was meant for something else.
 *       Therefore the waker may call rt_ready(g) without the lock ("g has not ended"), the links of
 *       waiters that were claimed together stay valid until each is woken, and a waker's last touch
 *       of the waiter, the store of WOKEN, comes before the coroutine's stack changes. The coroutine
 *       hardly ever has to wait for it: its own P cannot run it before a waker of that P is through,
 *       and another P gets to it later than the waker to its next instruction.
 *   V3  Only a coroutine that reads QUEUED parks again. Its token is then still to come, for rt_ready
 *       follows CLAIMED; and if a park has consumed that token, rt_ready has shown us CLAIMED.
 *
 * Whoever returns 0 may leave a token behind, at most one; the next park returns early once, which
 * every caller of rt_park allows for.
 *
 * Order  A waker's writes before waiter_wake are seen after waiter_wait: WOKEN is stored with release
 *        and read with acquire.
 * Rejected  rt_ready under the lock: it may cost a system call and take other locks. rt_park_unlock: the
 *        lock would be held over the switch to g0, to spare nothing: a token given early is remembered.
 *        A count of references on struct g: a locked instruction for each wait, to cover a window of
 *        a few instructions. */
#include "rt/waiters.h"

#include <errno.h>

static void queue_up(struct waiter *waiter) {
    waiter->g = rt_self();
    ASSERT(waiter->g);
    atomic_store_explicit(&waiter->state, WAITER_QUEUED, memory_order_relaxed);
}

void waiters_push_back(struct waiters *queue, struct waiter *waiter) {
    queue_up(waiter);
    waiter->next = NULL;
    waiter->prev = queue->last;
    *(queue->last ? &queue->last->next : &queue->first) = waiter;
    queue->last = waiter;
}

void waiters_push_front(struct waiters *queue, struct waiter *waiter) {
    queue_up(waiter);
    waiter->prev = NULL;
    waiter->next = queue->first;
    *(queue->first ? &queue->first->prev : &queue->last) = waiter;
    queue->first = waiter;
}

static void unlink_locked(struct waiters *queue, struct waiter *waiter) {
    *(waiter->prev ? &waiter->prev->next : &queue->first) = waiter->next;
    *(waiter->next ? &waiter->next->prev : &queue->last) = waiter->prev;
}

struct waiter *waiters_claim_locked(struct waiters *queue) {
    struct waiter *waiter = queue->first;
    if (!waiter)
        return NULL;
    unlink_locked(queue, waiter);
    waiter->next = NULL;
    atomic_store_explicit(&waiter->state, WAITER_CLAIMED, memory_order_relaxed);
    return waiter;
}

bool waiters_claim_to_locked(struct waiters *queue, struct waiters *claimed) {
    struct waiter *waiter = waiters_claim_locked(queue);
    if (!waiter)
        return false;
    *(claimed->last ? &claimed->last->next : &claimed->first) = waiter;
    claimed->last = waiter;
    return true;
}

uint32_t waiters_claim_all_locked(struct waiters *queue, struct waiters *claimed) {
    uint32_t count = 0;
    while (waiters_claim_to_locked(queue, claimed))
        count++;
    return count;
}

void waiter_wake(struct waiter *waiter) {
    rt_ready(waiter->g);
    atomic_store_explicit(&waiter->state, WAITER_WOKEN, memory_order_release); /* V2 */
}

void waiters_wake(struct waiters *claimed) {
    struct waiter *waiter = claimed->first;
    while (waiter) {
        struct waiter *next = waiter->next;
        waiter_wake(waiter);
        waiter = next;
    }
}

/* V2. A waker of many is a while on its way to the last one: other coroutines go on meanwhile. */
static void await_woken(struct waiter *waiter) {
    for (unsigned turn = 1;
         atomic_load_explicit(&waiter->state, memory_order_acquire) != WAITER_WOKEN; turn++) {
        if (turn % SPIN_TURNS == 0)
            rt_yield();
        else
            spin_pause();
    }
}

static bool is_queued(struct waiter *waiter) {
    return atomic_load_explicit(&waiter->state, memory_order_relaxed) == WAITER_QUEUED;
}

int waiter_wait(struct waiters *queue, struct waiter *waiter, struct spin *lock, const char *reason,
                int64_t deadline_ns) {
    do {
        int err = rt_park(reason, deadline_ns);
        if (err == 0)
            continue;
        spin_lock(lock);
        if (is_queued(waiter)) {
            unlink_locked(queue, waiter);
            return err;
        }
        spin_unlock(lock);
    } while (is_queued(waiter)); /* V3 */
    await_woken(waiter);
    return 0;
}

void waiter_wait_shielded(struct waiter *waiter, const char *reason) {
    bool cancelled = false;
    do {
        if (rt_cancelled()) {
            cancelled = true;
            rt_cancel_clear();
        }
        (void)rt_park(reason, RT_FOREVER);
    } while (is_queued(waiter));
    await_woken(waiter);
    if (cancelled)
        rt_cancel(rt_self());
}
