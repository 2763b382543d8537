/* histogram_view: a histogram as Envoy shows it, in milliseconds, from our steps in microseconds.
 *
 * Threads  Pure functions. */
#pragma once
#include "base/stats.h"

/* Upper bounds of Envoy's default buckets; +Inf, the last, is not in the list. */
enum { HISTOGRAM_BOUNDS = 19 };
extern const double histogram_bounds_ms[HISTOGRAM_BOUNDS];

/* Samples at or below each bound, so never falling from one to the next. A step that a bound cuts
 * is divided in proportion, rounded down: a sample on the bound itself may count above it. */
void histogram_cumulative(const struct stat_summary *summary, uint64_t out[HISTOGRAM_BOUNDS]);

/* The quantiles that Envoy prints, in percent. */
enum { HISTOGRAM_QUANTILES = 10 };
extern const double histogram_quantiles[HISTOGRAM_QUANTILES];
/* NaN without samples. */
double histogram_quantile_ms(const struct stat_summary *summary, double percent);
