/* sampling: how somebody above sees a sample of what is had from this layer, which knows no stacks, no
 * labels and no profile.
 *
 * Who hands memory out keeps a countdown of bytes beside what it touches anyway. When that has run out it
 * asks the sampler, which says how far it is to the next sample and whether this one is of interest.
 *
 * Threads  Set once, before the first cache is made. sample is called by the thread that allocates, gone by
 *          any; both may be called on a coroutine's stack, neither parks or comes back to this layer. */
#pragma once
#include <stddef.h>
#include <stdint.h>

struct mem_sampler {
    /* size bytes are being handed out to the caller's caller. NULL, or what gone must be told with when
     * they come back. *until: so many bytes from here to the next call. */
    void *(*sample)(size_t size, int64_t *until);
    void (*gone)(void *sample);
};

/* NULL: nobody looks. Borrowed for ever. */
void mem_sampler_set(const struct mem_sampler *sampler);
const struct mem_sampler *mem_sampler_get(void);
