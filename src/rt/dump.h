/* dump: all coroutines as text, in the two formats that Go prints goroutines in and that tools for
 * those read, or as stacks that are counted.
 *
 * Nothing stops for it. Each P looks at its own coroutines, a few hundred microseconds at a time between
 * others' turns; so each entry is as of its own moment, and coroutines that start meanwhile may be
 * missing. A coroutine that waits all the while appears exactly once. A P that gives no answer for
 * DUMP_PATIENCE_MS is told of without its help: what it runs, by a signal, with frames; what it has
 * parked, without.
 *
 * Threads  Any thread, foreign code included. A coroutine too: it then waits in a blocking_call, so its
 *          P can answer. Not a scheduler callback and not inside foreign_call_quick: they would wait for
 *          themselves. Several callers take turns.
 * Parks    In a coroutine.
 * Costs    Some 100 bytes per coroutine while it runs. Text is made as it is written. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/check.h"

struct labels; /* labels.h */

enum { DUMP_PATIENCE_MS = 200, DUMP_TEXT_MAX = 64 * 1024 * 1024 };

enum rt_dump_format {
    /* Each one, as in Go's crash report and debug=2, by id:
     *     goroutine 12 [request head, 2 minutes, "downstream", P 1 labels:{"listener": "edge"}]:
     *     function(...)
     *             file.c:123 +0x1d
     *     created by function
     *             file.c:45 +0x20
     * Cut off after DUMP_TEXT_MAX bytes, as Go's is. */
    RT_DUMP_EACH,
    /* How many have the same stack, name, state and labels, as debug=1 of Go's profile. */
    RT_DUMP_GROUPED,
};

/* As many have this stack, name, state and these labels. All is borrowed for the call that passes it. */
struct stack_count {
    uint64_t count;
    const uintptr_t *pcs;        /* innermost first */
    unsigned depth;              /* 0: could not be seen */
    bool is_first_exact;         /* pcs[0] is where it stands; the others are return addresses */
    const char *name, *state;    /* or NULL */
    const struct labels *labels; /* NULL: none */
};
typedef void (*stack_count_fn)(void *arg, const struct stack_count *stack);

/* text is borrowed for the call; write may block, and runs on the calling thread or, for a coroutine, on
 * one of blocking_call. 0, -ENOMEM, or -EAGAIN when a coroutine's call can have no thread. After an
 * error nothing was written. */
typedef void (*dump_write_fn)(void *arg, const char *text, size_t len);
MUST_CHECK int rt_dump(enum rt_dump_format format, dump_write_fn write, void *arg);
/* The same groups for a program: fn is called for each, on the thread that write would be. */
MUST_CHECK int rt_dump_counts(stack_count_fn fn, void *arg);

/* A dump of each one into the log, on a thread of its own: also when every P is stuck. Async-signal-safe;
 * requests merge. Does nothing before and after rt_run. */
void rt_dump_to_log(void);
