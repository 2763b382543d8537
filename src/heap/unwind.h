/* unwind: the calling thread's stack as return addresses, by the unwind tables of the code that runs (its
 * .eh_frame), which, unlike frame pointers, libraries have too.
 *
 * Threads  Any, on any stack, unwind_after not in a signal handler. Allocates nothing. Ends at a frame without a table,
 *          as Go's have none, and at a coroutine's first frame. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

#include "heap/cfi.h"

/* Return addresses from the caller of the function that returns to `after` on, innermost first; all that
 * there are when it is not among them. How many, at most max. */
unsigned unwind_after(const void *after, uintptr_t *pcs, unsigned max);

/* ---- Of a thread that a signal interrupted, frame by frame ---- */

/* A frame. Nothing outside [low, high) is read, whatever stands on the stack, but where may_read says so of a word: for code
 * that went wrong, and in signal handlers. */
struct unwind_frame {
    uintptr_t pc;
    uintptr_t value[CFI_REGISTERS]; /* those that a call keeps are right, others may be wrong */
    uintptr_t low, high;
    bool (*may_read)(uintptr_t address); /* NULL: nothing elsewhere */
    bool interrupted;                    /* pc is the next instruction; else it is behind a call */
};

/* What the signal interrupted, with low as given. */
void unwind_interrupted(const void *ucontext, uintptr_t low, uintptr_t high,
                        struct unwind_frame *out);
/* To the caller; false: nobody knows, the frame is left as it is. Async-signal-safe. */
MUST_CHECK bool unwind_step(struct unwind_frame *frame);
