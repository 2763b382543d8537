/* histogram: how often each duration occurred, so that any percentile can be told with an error below 1 %.
 *
 * A value lies in the row of its highest bit, which is cut into STEPS equal steps:
 *
 *     value   1 m m m m m m m x x x x     row: the position of the 1; step: the bits m; x is lost
 *
 * A step is at most 1/STEPS of its value wide, and what is told is its middle: 0.4 % off at the most.
 * Values below STEPS are exact. */
#pragma once
#include <stdint.h>

enum { STEP_BITS = 7, STEPS = 1 << STEP_BITS, ROWS = 64 - STEP_BITS };

struct histogram {
    uint64_t count, max, sum;
    uint64_t times[ROWS + 1][STEPS];
};

/* How many low bits of the value are lost. */
static inline unsigned histogram_shift(uint64_t value) {
    return value < STEPS ? 0 : (unsigned)(63 - __builtin_clzll(value)) - STEP_BITS;
}

static inline void histogram_add(struct histogram *of, uint64_t value) {
    unsigned shift = histogram_shift(value);
    of->times[value < STEPS ? 0 : shift + 1][(value >> shift) % STEPS]++;
    of->count++;
    of->sum += value;
    if (value > of->max)
        of->max = value;
}

/* The value that the given share of all are not above; 0 when there are none. */
static inline double histogram_at(const struct histogram *of, double share) {
    uint64_t rank = (uint64_t)(share * (double)of->count + 0.999999), seen = 0;
    if (rank == 0 || of->count == 0)
        return 0;
    for (unsigned row = 0; row <= ROWS; row++)
        for (unsigned step = 0; step < STEPS; step++) {
            seen += of->times[row][step];
            if (seen < rank)
                continue;
            if (row == 0)
                return step;
            unsigned shift = row - 1;
            double low = (double)((uint64_t)(STEPS + step) << shift);
            double middle = low + (double)((1ULL << shift) - 1) / 2;
            return middle < (double)of->max ? middle : (double)of->max;
        }
    return (double)of->max;
}
