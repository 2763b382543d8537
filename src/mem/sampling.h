/* sampling: how somebody above sees a sample of what is had from this layer, which knows no stacks, no
 * labels and no profile.
 *
 * Who hands memory out keeps a countdown of bytes beside what it touches anyway. When that has run out it
 * asks the sampler, which winds it up again and says whether this one is of interest. recycler_get,
 * block_get and pool_get hand out; what blocks and pools have from the recycler is not counted twice.
 *
 *     if (mem_count_down(countdown, size))
 *         sample = mem_sample(countdown, size);
 *
 * Threads  Set once, before the first cache is made. sample is called by the thread that allocates, gone by
 *          any; both may be called on a coroutine's stack, neither parks or comes back to this layer. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* All 0 at first: so the first allocation asks. A thread's at a time. */
struct mem_countdown {
    int64_t left;  /* bytes; below 0: ask */
    uint64_t rate; /* the sampler's: what it wound it up with */
};

struct mem_sampler {
    /* size bytes, already counted down, are being handed out to the caller's caller. NULL, or what gone
     * must be told with when they come back. */
    void *(*sample)(size_t size, struct mem_countdown *countdown);
    void (*gone)(void *sample);
};

/* NULL: nobody looks. Borrowed for ever. */
void mem_sampler_set(const struct mem_sampler *sampler);
const struct mem_sampler *mem_sampler_get(void);

/* Whether it has run out. */
static inline bool mem_count_down(struct mem_countdown *countdown, size_t size) {
    countdown->left -= (int64_t)size;
    return __builtin_expect(countdown->left < 0, 0);
}
/* Inline, because the sampler counts callers. Without one the next question comes after 8 EiB. */
static inline __attribute__((always_inline)) void *mem_sample(struct mem_countdown *countdown,
                                                              size_t size) {
    const struct mem_sampler *sampler = mem_sampler_get();
    if (sampler)
        return sampler->sample(size, countdown);
    countdown->left = INT64_MAX;
    return NULL;
}
