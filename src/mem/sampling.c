/* sampling: who is told. */
#include "mem/sampling.h"

static const struct mem_sampler *the_sampler; /* constant once there is a cache */

void mem_sampler_set(const struct mem_sampler *sampler) {
    the_sampler = sampler;
}

const struct mem_sampler *mem_sampler_get(void) {
    return the_sampler;
}
