/* deadlines: a wheel and its lock. See deadlines.h for who may call what, park.c (K6) for why the lock
 * also covers the callbacks. `any` spares a P without stealable coroutines the lock: it polls often. */
#include "rt/deadlines.h"

void deadlines_init(struct deadlines *deadlines, int64_t now_ns) {
    *deadlines = (struct deadlines){0};
    wheel_init(&deadlines->wheel, now_ns);
}

void deadlines_add(struct deadlines *deadlines, struct timer *timer) {
    spin_lock(&deadlines->lock);
    wheel_add(&deadlines->wheel, timer);
    spin_unlock(&deadlines->lock);
    deadlines->any = true;
}

void deadlines_remove(struct deadlines *deadlines, struct timer *timer) {
    spin_lock(&deadlines->lock);
    if (timer_is_armed(timer))
        wheel_remove(&deadlines->wheel, timer);
    spin_unlock(&deadlines->lock);
}

unsigned deadlines_advance(struct deadlines *deadlines, int64_t now_ns) {
    if (!deadlines->any)
        return 0;
    spin_lock(&deadlines->lock);
    unsigned fired = wheel_advance(&deadlines->wheel, now_ns);
    deadlines->any = wheel_next(&deadlines->wheel) != WHEEL_NEVER;
    spin_unlock(&deadlines->lock);
    return fired;
}

int deadlines_timeout_ms(struct deadlines *deadlines, int64_t now_ns) {
    if (!deadlines->any)
        return -1;
    spin_lock(&deadlines->lock);
    int timeout_ms = wheel_timeout_ms(&deadlines->wheel, now_ns);
    spin_unlock(&deadlines->lock);
    return timeout_ms;
}
