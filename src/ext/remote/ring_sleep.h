/* ring_sleep: how threads of two processes sleep on shared words and wake each other. What ring.c calls of the
 * kernel, and nothing else, so that ring.c can be explored without one.
 *
 * Threads  Any; never a coroutine's sleep. */
#pragma once
#include <stdatomic.h>
#include <stdint.h>

/* Returns when woken, at the deadline (absolute, INT64_MAX: none), on a signal, or at once if *word != expected. */
void remote_sleep(_Atomic uint32_t *word, uint32_t expected, int64_t deadline_ns);
void remote_wake(_Atomic uint32_t *word, int count);
/* An eventfd's. */
void remote_ring_bell(int bell);
