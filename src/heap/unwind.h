/* unwind: the calling thread's stack as return addresses, by the unwind tables of the code that runs (its
 * .eh_frame), which, unlike frame pointers, libraries have too.
 *
 * Threads  Any, on any stack, not in a signal handler. Allocates nothing. Ends at a frame without a table,
 *          as Go's have none, and at a coroutine's first frame. */
#pragma once
#include <stdint.h>

/* Return addresses from the caller of the function that returns to `after` on, innermost first; all that
 * there are when it is not among them. How many, at most max. */
unsigned unwind_after(const void *after, uintptr_t *pcs, unsigned max);
