/* recycler_front: a free list before a cache of the recycler, with a quicker way in and out than the
 * cache itself: block.c's and pool.c's. What is in it is lent as far as the recycler knows; the front
 * says how much of that is nobody's, and gives it up when it is asked to.
 *
 * Threads  The cache's owner, where nothing else is said. */
#pragma once
#include "mem/recycler.h"

void recycler_add_front(struct recycler_cache *cache, struct recycler_front *front);
void recycler_remove_front(struct recycler_front *front);

/* recycler_get without a sample of it. */
MUST_CHECK void *recycler_lend(struct recycler_cache *cache, size_t size);
/* recycler_give of what has been free in the front since since_ns: it keeps that age. */
void recycler_give_idle(struct recycler_cache *cache, void *ptr, size_t size, int64_t since_ns);

/* The start of what is lent with this size, a power of two of 4 to 128 KiB, and has ptr in it. Asserts
 * that there is such a thing, whatever ptr is. */
MUST_CHECK void *recycler_lent_at(const void *ptr, size_t size);

/* A note on what is lent, for the sample of whoever has it from the front. */
void recycler_put_note(void *lent, void *note);
MUST_CHECK void *recycler_take_note(void *lent);

/* So much more of what the front has is nobody's. */
static inline void recycler_count_front(struct recycler_cache *cache, int64_t bytes) {
    __atomic_store_n(&cache->front_bytes, cache->front_bytes + (uint64_t)bytes, __ATOMIC_RELAXED);
}
/* So much more of what all fronts of a kind share. Any thread. */
void recycler_count_shared_front(int64_t bytes);
/* Something of it is: there is something to age. */
static inline void recycler_wake(struct recycler_cache *cache) {
    if (__builtin_expect(!cache->is_ageing, 0)) {
        cache->is_ageing = true;
        cache->on_idle(cache);
    }
}
