/* ticks: the processor's own clock, for durations that are measured many times per request: one
 * instruction, where clock_mono_ns is sixty.
 *
 * It is the time stamp counter where that runs at one rate whatever the processor does, and
 * clock_mono_ns elsewhere. Differences taken on two processors may be off by less than a microsecond.
 *
 * Threads  Any. Before ticks_init, which rt_run calls and which takes two milliseconds once, it is clock_mono_ns. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

#include "base/clock.h"

/* Private: how ticks become nanoseconds. */
struct ticks_rate {
    bool of_processor;
    uint64_t ns_per_tick_32; /* in 2^-32 */
};
extern struct ticks_rate ticks_rate;

/* Idempotent. */
void ticks_init(void);

static inline uint64_t ticks_now(void) {
    if (!ticks_rate.of_processor)
        return (uint64_t)clock_mono_ns();
#if defined(__x86_64__)
    return __builtin_ia32_rdtsc();
#elif defined(__aarch64__)
    uint64_t ticks;
    __asm__ volatile("mrs %0, cntvct_el0" : "=r"(ticks));
    return ticks;
#else
    return (uint64_t)clock_mono_ns();
#endif
}

/* 0 when the second look was at a clock that is behind. */
static inline uint64_t ticks_ns_between(uint64_t from, uint64_t to) {
    uint64_t ticks = to > from ? to - from : 0;
    return (uint64_t)((unsigned __int128)ticks * ticks_rate.ns_per_tick_32 >> 32);
}
