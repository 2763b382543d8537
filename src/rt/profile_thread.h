/* profile_thread: a thread of ours says that it is there, so that profiles see it.
 *
 * Threads  begin and end: the thread itself. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <time.h>

#include "base/list.h"

struct g;

struct profile_thread {
    struct list node; /* the rest is profile.c's, but for g */
    pid_t tid;
    clockid_t clock;
    bool has_timer;
    timer_t timer;
    uintptr_t stack_low, stack_high; /* of its own stack, below who called begin */
    /* The coroutine that it works for, which is suspended meanwhile; for an M its current is asked. */
    const struct g *_Atomic g;
};

/* Borrows self until end. The thread has an alternate signal stack. From here on the profile's signal gets through to it, also when
 * it blocks all others. */
void profile_thread_begin(struct profile_thread *self);
void profile_thread_end(struct profile_thread *self);

/* The coroutine that the calling thread runs, or works for in foreign_call or blocking_call; NULL: none.
 * It is not resumed elsewhere before the thread goes on. Any thread; async-signal-safe. */
const struct g *profile_thread_g(void);
