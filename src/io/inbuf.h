/* inbuf: the bytes read from a connection and not yet used, in one contiguous run.
 *
 *      data            start            end             cap
 *       │ used up, maybe  │ not yet used  │ free to read   │
 *       │ spanned by heads│               │ into           │
 *
 * A head is parsed where it lies, so its spans point behind `start` of the time: whoever keeps
 * them takes a lease (inbuf_hold). An idle connection owns no block.
 *
 * Ownership  Holds one lease on its block. Memory that inbuf_grow took from an arena is borrowed
 *            until that arena ends: inbuf_leave_arena first.
 * Threads    The connection's P. Never parks by itself. */
#pragma once
#include <stdbool.h>

#include "base/span.h"
#include "mem/arena.h"
#include "mem/block.h"

struct inbuf {
    struct block_cache *cache;
    struct block *block; /* NULL: no memory, or memory of an arena */
    char *data;          /* NULL: no memory */
    uint32_t start, end, cap;
};

void inbuf_init(struct inbuf *buf, struct block_cache *cache);

static inline size_t inbuf_len(const struct inbuf *buf) {
    return buf->end - buf->start;
}
static inline struct span inbuf_bytes(const struct inbuf *buf) {
    return span_make(buf->data ? buf->data + buf->start : "", inbuf_len(buf));
}
static inline void inbuf_consume(struct inbuf *buf, size_t n) {
    ASSERT(n <= inbuf_len(buf));
    buf->start += (uint32_t)n;
}

/* Makes room behind `end`, for receiving into: takes a block, or, when nothing is unused, starts
 * over in this or a fresh one. Returns the room; -EMSGSIZE when the unused bytes fill the memory;
 * -ENOMEM. Spans into the old memory stay valid only while leased. For sockets. */
MUST_CHECK int inbuf_room(struct inbuf *buf);
/* The unused bytes move to arena memory of at least size bytes: for heads above a block. */
MUST_CHECK int inbuf_grow(struct inbuf *buf, struct arena *arena, size_t size);

/* Private. */
MUST_CHECK bool inbuf_make_head_room(struct inbuf *buf, struct arena *arena, size_t limit);
/* Before more of a head is received: when it fills its block, it moves on to memory of the arena, which is
 * for `limit` bytes of head and not much else. False: the head is too large or memory is short. */
MUST_CHECK static inline bool inbuf_head_room(struct inbuf *buf, struct arena *arena,
                                              size_t limit) {
    return buf->end < buf->cap || !buf->data || inbuf_make_head_room(buf, arena, limit);
}
/* Bytes that were kept elsewhere, of a head of up to `limit` bytes, into an empty buffer: a block, or memory of
 * the arena if they are too many. -ENOMEM. */
MUST_CHECK int inbuf_put(struct inbuf *buf, struct arena *arena, struct span bytes, size_t limit);
/* The arena takes a lease on the block that holds the current bytes. No-op in arena memory. */
MUST_CHECK int inbuf_hold(struct inbuf *buf, struct arena *arena);
/* Before the arena ends: unused bytes in its memory move to a block. -EMSGSIZE if they do not fit,
 * -ENOMEM; then they are dropped. */
MUST_CHECK int inbuf_leave_arena(struct inbuf *buf);
/* How much memory it keeps from being used otherwise, which is a block for one byte: what limits count. */
static inline size_t inbuf_pinned(const struct inbuf *buf) {
    return buf->block ? BLOCK_SIZE : buf->cap;
}
/* Drops the unused bytes and the memory. */
void inbuf_drop(struct inbuf *buf);
/* Gives the block back when nothing is unused. */
static inline void inbuf_idle(struct inbuf *buf) {
    if (buf->data && inbuf_len(buf) == 0)
        inbuf_drop(buf);
}
