/* stream_block: bytes that a decorator makes, in a block of the P, until they are lent. Private to io. */
#pragma once
#include <sys/types.h>

#include "base/span.h"
#include "mem/block.h"
#include "rt/rt.h"

struct stream_block {
    struct block *block; /* NULL: there is none */
    uint32_t start, end; /* of what is to be lent from there */
};

static inline bool stream_block_is_empty(const struct stream_block *made) {
    return made->start == made->end;
}

/* To write BLOCK_DATA_SIZE bytes to; NULL: memory is short. */
static inline char *stream_block_room(struct stream_block *made) {
    if (!made->block)
        made->block = block_get(rt_blocks());
    return made->block ? made->block->data : NULL;
}

/* So many of those were written. */
static inline void stream_block_fill(struct stream_block *made, size_t n) {
    made->start = 0;
    made->end = (uint32_t)n;
}

/* Borrowed until the next stream_block_room or _drop. */
static inline ssize_t stream_block_lend(struct stream_block *made, size_t max, struct span *out) {
    size_t n = made->end - made->start;
    if (n > max)
        n = max;
    *out = span_make(made->block->data + made->start, n);
    made->start += (uint32_t)n;
    return (ssize_t)n;
}

static inline void stream_block_drop(struct stream_block *made) {
    if (made->block)
        block_put(rt_blocks(), made->block);
    *made = (struct stream_block){0};
}
