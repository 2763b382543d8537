/* unit: numbers with a unit behind them, as people write them in options: "64MiB", "30s". */
#pragma once
#include <stdint.h>

#include "base/span.h"

struct unit {
    struct span name; /* "" stands for a bare number; a table ends with span_none() */
    int64_t factor;
};
/* B, KiB, MiB, GiB, TiB. */
extern const struct unit unit_bytes[];
/* ms, s, m, h, in nanoseconds. */
extern const struct unit unit_times[];

/* Decimal digits and one of the units; a bare number only where the table has "". False on anything else, and
 * when it comes to more than max. */
bool unit_parse(struct span text, const struct unit *units, int64_t max, int64_t *out);
