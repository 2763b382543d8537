/* xxhash: XXH64 with seed 0, where others expect its values, as in Envoy's statistics of versions. For tables of ours:
 * span_hash. */
#pragma once
#include <stdint.h>

#include "base/span.h"

uint64_t xxhash64(struct span bytes);
