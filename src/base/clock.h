/* clock: the two clocks everything uses, in nanoseconds as int64_t.
 *
 * clock_mono_ns is for deadlines and durations, clock_wall_ns for what people read. Code that runs
 * on a P should prefer rt_now_ns(), which is read once per scheduling round. */
#pragma once
#include <stdint.h>

#define NS_PER_US 1000LL
#define NS_PER_MS 1000000LL
#define NS_PER_S 1000000000LL

int64_t clock_mono_ns(void);
int64_t clock_wall_ns(void);
