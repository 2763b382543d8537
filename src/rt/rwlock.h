/* rwlock: many readers or one writer, on any P; Go's sync.RWMutex with deadlines.
 *
 * Ownership  Lives inside its owner; who unlocks last may free it at once. Zero-initialised memory is
 *            an unlocked one. Not recursive, for readers neither: a waiting writer holds new readers
 *            back, so a reader that reads again could wait for itself.
 * Threads    The lock calls: coroutines. The unlock calls: any thread.
 * Parks      Readers while a writer has it or waits for it, writers while anybody has it. Neither side
 *            starves the other: readers that came during a write go before the next writer.
 * Order      An unlock happens before the lock that it lets through returns. */
#pragma once
#include "rt/waiters.h"

struct rwlock {
    _Atomic uint32_t state; /* bits and a count of readers: rwlock.c */
    struct spin lock;       /* the queues */
    struct waiters readers, writers;
};

void rwlock_init(struct rwlock *rw);
/* 0, -ETIMEDOUT or -ECANCELED. */
MUST_CHECK int rwlock_read_lock(struct rwlock *rw, int64_t deadline_ns);
void rwlock_read_unlock(struct rwlock *rw);
MUST_CHECK int rwlock_write_lock(struct rwlock *rw, int64_t deadline_ns);
void rwlock_write_unlock(struct rwlock *rw);
