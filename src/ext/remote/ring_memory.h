/* ring_memory: where a ring (ring.h) lies in a shared file, and in an address space.
 *
 *     file        │ words │ data     │
 *     addresses   │ words │ data     │ data again │      so what goes over the end goes on at the beginning
 *
 * Ownership  A mapping is its maker's. It needs the file no longer open.
 * Threads    Any. */
#pragma once
#include <assert.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/check.h"

enum {
    REMOTE_RING_SIZE = 1 << 20, /* by default. Pages that nobody has touched cost nothing */
    REMOTE_RING_SIZE_MIN = 1 << 16,
    REMOTE_RING_SIZE_MAX = 1 << 28,
    /* Of the words; the largest page of machines that we run on, so it is a multiple of each. */
    REMOTE_PAGE = 1 << 16,
};

/* The shared words of a ring, all zero at first. Neither end believes them. */
struct remote_ring_words {
    /* Written by producers; 128: the next line comes along with one that is fetched. */
    _Alignas(128) _Atomic uint64_t tail; /* bytes that were ever committed */
    _Atomic uint32_t nudges; /* of a P's ring: how often there was news other than records */
    /* Whom to tell of room: 0, or the `who` of remote_ring_out_want. A futex. */
    _Alignas(128) _Atomic uint32_t wanted;
    /* Written by the consumer. */
    _Alignas(128) _Atomic uint64_t head; /* bytes that were ever taken */
    _Atomic uint64_t begun;  /* head, and the record that it looks at or was the last to look at */
    _Atomic uint32_t asleep; /* the consumer sleeps, or is about to. A futex */
};
static_assert(sizeof(struct remote_ring_words) <= REMOTE_PAGE, "the words have a page");

struct remote_ring_memory {
    struct remote_ring_words *words;
    char *data;
    uint32_t size; /* a power of two from REMOTE_RING_SIZE_MIN to _MAX */
};

/* What a ring takes in the file, a multiple of REMOTE_PAGE. */
static inline uint64_t remote_ring_span(uint32_t size) {
    return (uint64_t)REMOTE_PAGE + size;
}
bool remote_ring_size_is_valid(uint64_t size);

/* The ring at offset (a multiple of REMOTE_PAGE) of the file, which is long enough. 0 or -errno. */
MUST_CHECK int remote_ring_map(int fd, off_t offset, uint32_t size, struct remote_ring_memory *out);
void remote_ring_unmap(struct remote_ring_memory *memory);
