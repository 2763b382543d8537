/* handle_slot: what handle.c keeps of each handle. Only its test and model look in here too: a slot whose
 * generations are nearly used up takes them fifty days to make. */
#pragma once
#include "mem/handle.h"

/* The word is the handle with the index's bits used otherwise:
 *
 *      63                     22  21  20        0
 *     ┌─────────────────────────┬────┬───────────┐
 *     │       generation        │over│  leases   │      over: destroyed, or not made yet
 *     └─────────────────────────┴────┴───────────┘ */
static const uint64_t HANDLE_OVER = (uint64_t)1 << (HANDLE_INDEX_BITS - 1);
static const uint64_t HANDLE_GENERATION_MAX = UINT64_MAX >> HANDLE_INDEX_BITS;

/* A cache line: two threads of the foreign code that are at two handles do not share one. */
struct handle_slot {
    _Alignas(64) _Atomic uint64_t word;
    const void *_Atomic key;
    void *object;
    void (*finalize)(void *object, const void *key);
    uint32_t next; /* in its shard's lists: index + 1, 0 ends */
    uint32_t shard;
};
