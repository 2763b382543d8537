/* spin: a lock for a few dozen instructions between Ms; the locks of channels and semaphores.
 *
 * Threads  Any thread, foreign code too. No park, no system call and no allocation under it.
 * Order    spin_lock acquires what the last spin_unlock released.
 * Rejected pthread_mutex: 40 bytes, so that a channel would be more than one cache line, and two system
 *          calls each time that two Ms meet. The price: a waiter whose holder lost its core burns up
 *          to SPIN_TURNS, then yields the core. */
#pragma once
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>

struct spin {
    _Atomic uint32_t held;
};

static inline void spin_pause(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

enum { SPIN_TURNS = 64 };

static inline void spin_lock(struct spin *lock) {
    for (unsigned turn = 1; atomic_exchange_explicit(&lock->held, 1, memory_order_acquire);
         turn++) {
        while (atomic_load_explicit(&lock->held, memory_order_relaxed)) {
            spin_pause();
            if (turn++ % SPIN_TURNS == 0)
                (void)sched_yield();
        }
    }
}

static inline void spin_unlock(struct spin *lock) {
    atomic_store_explicit(&lock->held, 0, memory_order_release);
}
