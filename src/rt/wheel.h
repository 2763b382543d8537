/* wheel: timers by deadline, in 1 ms ticks of CLOCK_MONOTONIC; arm and disarm are O(1).
 *
 * Ownership  The wheel borrows timers while they are armed.
 * Threads    One P. */
#pragma once
#include "rt/timer.h"

enum { WHEEL_LEVELS = 8, WHEEL_BITS = 6, WHEEL_SLOTS = 1 << WHEEL_BITS };
#define WHEEL_TICK_NS 1000000LL
#define WHEEL_NEVER UINT64_MAX

struct wheel {
    uint64_t now;                    /* every timer due at or before this tick has fired */
    uint64_t occupied[WHEEL_LEVELS]; /* bit s: slot s of the level is not empty */
    uint32_t levels;                 /* bit l: occupied[l] != 0 */
    struct list slots[WHEEL_LEVELS][WHEEL_SLOTS];
};

void wheel_init(struct wheel *wheel, int64_t now_ns);
/* timer must not be armed. */
void wheel_add(struct wheel *wheel, struct timer *timer);
void wheel_remove(struct wheel *wheel, struct timer *timer);
/* Fires what is due at now_ns; returns how many. Callbacks may add and remove any timer. */
unsigned wheel_advance(struct wheel *wheel, int64_t now_ns);
/* The tick at which wheel_advance has something to do, at or before the next deadline. */
uint64_t wheel_next(const struct wheel *wheel);
/* Until wheel_next, rounded up to ms, for epoll_wait: 0 when due, -1 when nothing is armed. */
int wheel_timeout_ms(const struct wheel *wheel, int64_t now_ns);
