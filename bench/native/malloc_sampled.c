/* malloc_sampled: bench_malloc with Sluice's malloc, sampled at the rate that a Sluice of this environment
 * would have. */
#include <stdio.h>
#include <stdlib.h>

#include "heap/heap_profile.h"

__attribute__((constructor)) static void begin(void) {
    const char *rate = getenv("SLUICE_HEAP_PROFILE_RATE");
    if (heap_profile_init(rate ? strtoull(rate, NULL, 10) : HEAP_PROFILE_RATE) < 0) {
        fputs("bench_malloc_sluice: nothing can be sampled\n", stderr);
        exit(1);
    }
}
