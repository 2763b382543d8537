/* deadlines: what the stealable coroutines that parked on one P wait for at the longest.
 *
 * A wheel like the P's own, under a lock: whoever wakes such a coroutine takes its timer out, on any
 * thread, so that the coroutine can go on there. Nothing pinned is ever in here.
 *
 * Ownership  Borrows timers while they are armed.
 * Threads    deadlines_remove: any thread. The rest: the M that holds the P. */
#pragma once
#include "rt/spin.h"
#include "rt/wheel.h"

struct deadlines {
    bool any; /* the M's: something was added since the last look that found nothing */
    struct spin lock;
    struct wheel wheel;
};

void deadlines_init(struct deadlines *deadlines, int64_t now_ns);
void deadlines_add(struct deadlines *deadlines, struct timer *timer);
/* Nothing when it is not armed (any more). Once this returns nobody looks at the timer. */
void deadlines_remove(struct deadlines *deadlines, struct timer *timer);
/* As wheel_advance. The callbacks run under the lock: they add and remove nothing. */
unsigned deadlines_advance(struct deadlines *deadlines, int64_t now_ns);
/* As wheel_timeout_ms. A timer that is removed meanwhile makes it too early, never too late. */
int deadlines_timeout_ms(struct deadlines *deadlines, int64_t now_ns);
