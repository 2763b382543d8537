/* stack_call: a call that needs more stack than the coroutine has left.
 *
 * The coroutine is the same one meanwhile and may park; its stack is another. Nobody sees a difference but for
 * backtraces by frame pointers, which begin with fn. Private to Sluice.
 *
 * Threads  Coroutines. */
#pragma once
#include <stddef.h>
#include <stdint.h>

#include "rt/rt.h"

/* Calls fn(arg) with `size` bytes of stack at least: on the coroutine's own when it has them, which costs nothing.
 * 0; -ENOMEM or -EINVAL (more than RT_STACK_MAX): fn did not run. */
MUST_CHECK int stack_call(size_t size, rt_fn fn, void *arg);

/* What the calling coroutine stands on now. */
void stack_call_bounds(uintptr_t *low, uintptr_t *high);
