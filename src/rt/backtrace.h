/* backtrace: return addresses of a coroutine, suspended or running.
 *
 * Frames are found by frame pointers, which all our code keeps. Code without them (libc, libssl) may
 * hide its caller or end the walk; a running coroutine that was caught in a function's first or last
 * instructions may lack one frame. What is read is always inside the stack that is walked.
 *
 * An address is that of the instruction after the call, but for the first one of a running coroutine,
 * which is where it stands: look up address - 1, or the line is that of the next statement. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/check.h"
#include "rt/labels.h"

struct g;
struct m;

enum { BACKTRACE_MAX = 64 };

enum backtrace_where {
    BACKTRACE_RUNNING, /* on the coroutine's stack; pcs[0] is where it stands */
    BACKTRACE_FOREIGN, /* in foreign code: the coroutine, up to foreign_call */
    BACKTRACE_THREAD,  /* on the thread's own stack: the scheduler, a callback, a quick call */
};

struct backtrace {
    enum backtrace_where where;
    uint64_t g_id;    /* of the M's coroutine, 0 for none */
    const char *name; /* its name, or NULL */
    unsigned described_count;
    struct label described[LABELS_DESCRIBED_MAX]; /* what its describer said */
    char told[LABELS_TOLD_MAX + 1];               /* and told */
    unsigned count;
    uintptr_t pcs[BACKTRACE_MAX]; /* innermost first */
};

/* Of a coroutine that nobody can resume meanwhile: the caller has its P, or has claimed it. Fills up
 * to max addresses and returns how many. One that never ran shows the function that it will run. */
unsigned backtrace_suspended(const struct g *g, uintptr_t *pcs, unsigned max);

/* What the thread of m does now. A signal makes it look at itself, so it answers unless it blocks our
 * signal or gets no processor for timeout_ns. Any thread, that of m included; one question per M at a
 * time. 0, -ETIMEDOUT, -EBUSY (somebody else asks), -ESRCH (the thread has ended) or what sigaction
 * said. On error out is left untouched. */
MUST_CHECK int backtrace_running(struct m *m, struct backtrace *out, int64_t timeout_ns);

/* The calling thread, from a signal handler: where it was interrupted, and on to the coroutine that it
 * works for. What it is in and the stacks it knows are read directly; any other, as that of a goroutine
 * which runs in foreign code, by a system call that says so when there is nothing. pcs[0] is where it
 * stands. Async-signal-safe. */
struct backtrace_thread {
    uintptr_t stack_low, stack_high; /* its own stack, as far up as frames are wanted */
    const struct g *current;         /* or NULL */
    bool is_suspended;               /* current waits for what the thread's own stack does */
};
unsigned backtrace_interrupted(const struct backtrace_thread *thread, const void *ucontext,
                               uintptr_t *pcs, unsigned max);

/* After it backtrace_running is async-signal-safe. 0, or what sigaction said. */
MUST_CHECK int backtrace_prepare(void);

/* Of the calling thread; both 0 when they cannot be known. */
void backtrace_own_stack(uintptr_t *low, uintptr_t *high);

/* The calling thread becomes m's: notes what the handler needs. Before it runs coroutines. */
void backtrace_thread_init(struct m *m);
