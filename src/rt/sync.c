/* sync: queues of coroutines of one P.
 *
 *     queue -> [waiter on A's stack] -> [waiter on B's stack] -> ...
 *
 * Whoever wakes a waiter unlinks it and sets woken, so a waiter that returns for another reason
 * knows whether it still has to unlink itself, and a wake-up that came together with a deadline is
 * not lost: the waiter then returns 0. Threads: the P's M. */
#include "rt/sync.h"

#include <errno.h>
#include <stddef.h>

struct waiter {
    struct list node;
    struct g *g;
    bool woken;
};

void wait_queue_init(struct wait_queue *queue) {
    list_init(&queue->waiters);
}

int wait_queue_wait(struct wait_queue *queue, const char *reason, int64_t deadline_ns) {
    struct waiter waiter = {.g = rt_self()};
    list_push_back(&queue->waiters, &waiter.node);
    for (;;) {
        int err = rt_park(reason, deadline_ns);
        if (waiter.woken)
            return 0;
        if (err < 0) {
            list_remove(&waiter.node);
            return err;
        }
    }
}

bool wait_queue_wake_one(struct wait_queue *queue) {
    struct list *node = list_pop_front(&queue->waiters);
    if (!node)
        return false;
    struct waiter *waiter = container_of(node, struct waiter, node);
    waiter->woken = true;
    rt_ready(waiter->g);
    return true;
}

void wait_queue_wake_all(struct wait_queue *queue) {
    while (wait_queue_wake_one(queue)) {
    }
}

void comutex_init(struct comutex *mutex) {
    mutex->held = false;
    wait_queue_init(&mutex->waiters);
}

int comutex_lock(struct comutex *mutex, int64_t deadline_ns) {
    if (!mutex->held) {
        mutex->held = true;
        return 0;
    }
    return wait_queue_wait(&mutex->waiters, "mutex", deadline_ns);
}

/* Handed over and never free in between: a newcomer cannot overtake those who wait. */
void comutex_unlock(struct comutex *mutex) {
    ASSERT(mutex->held);
    if (!wait_queue_wake_one(&mutex->waiters))
        mutex->held = false;
}

int rt_sleep_until(int64_t deadline_ns) {
    int err;
    do {
        err = rt_park("sleep", deadline_ns);
    } while (err == 0);
    return err == -ETIMEDOUT ? 0 : err;
}
