#include "admin/histogram_view.h"

#include <math.h>

const double histogram_bounds_ms[HISTOGRAM_BOUNDS] = {
    0.5,  1,    5,     10,    25,    50,     100,    250,     500,     1000,
    2500, 5000, 10000, 30000, 60000, 300000, 600000, 1800000, 3600000,
};

const double histogram_quantiles[HISTOGRAM_QUANTILES] = {0,  25, 50,   75,   90,
                                                         95, 99, 99.5, 99.9, 100};

void histogram_cumulative(const struct stat_summary *summary, uint64_t out[HISTOGRAM_BOUNDS]) {
    unsigned step = 0;
    uint64_t below = 0; /* samples of the steps that lie wholly at or below the bound */
    for (unsigned i = 0; i < HISTOGRAM_BOUNDS; i++) {
        uint64_t bound_us = (uint64_t)(histogram_bounds_ms[i] * 1000);
        while (step < STAT_STEPS && stat_step_upper_us(step) <= bound_us)
            below += summary->buckets[step++];
        out[i] = below;
        if (step < STAT_STEPS && stat_step_lower_us(step) <= bound_us) {
            uint64_t lower = stat_step_lower_us(step);
            double part =
                (double)(bound_us - lower + 1) / (double)(stat_step_upper_us(step) - lower + 1);
            out[i] += (uint64_t)((double)summary->buckets[step] * part);
        }
    }
}

double histogram_quantile_ms(const struct stat_summary *summary, double percent) {
    if (summary->count == 0)
        return NAN;
    return (double)stat_quantile_us(summary, percent / 100) / 1000;
}
