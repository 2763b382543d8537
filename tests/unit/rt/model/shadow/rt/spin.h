/* spin: stands in for src/rt/spin.h when a source is explored. A turn that finds the lock held lets the
 * others go on instead of trying again: every turn would be a step to choose from. */
#pragma once
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>

#include "explorer.h"

struct spin {
    _Atomic uint32_t held;
};

enum { SPIN_TURNS = 1 << 30 }; /* nobody else has the core */

static inline void spin_pause(void) {
    model_yield();
}

static inline void spin_lock(struct spin *lock) {
    while (atomic_exchange_explicit(&lock->held, 1, memory_order_acquire))
        model_wait_for_zero(&lock->held);
}

static inline void spin_unlock(struct spin *lock) {
    atomic_store_explicit(&lock->held, 0, memory_order_release);
}
