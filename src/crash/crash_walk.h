/* crash_walk: the stack of a thread that died, from within its signal handler.
 *
 * Threads  One at a time. Async-signal-safe; opens a file. */
#pragma once
#include <stdint.h>

/* Addresses from where the signal came upon it outwards: the first one is where it stands, the others are behind calls.
 * Goes on from the stack of foreign code to the coroutine's that called it. Returns how many, at least 1; max >= 1. */
unsigned crash_walk(const void *ucontext, uintptr_t *pcs, unsigned max);
