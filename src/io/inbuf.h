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

/* Makes room behind `end`, for reading into: takes a block, or, when nothing is unused, starts
 * over in this or a fresh one. Returns the room; 0 when the unused bytes fill the memory;
 * -ENOMEM. Spans into the old memory stay valid only while leased. */
MUST_CHECK int inbuf_room(struct inbuf *buf);
/* The unused bytes move to arena memory of at least size bytes: for heads above a block. */
MUST_CHECK int inbuf_grow(struct inbuf *buf, struct arena *arena, size_t size);
/* Room to read more of a head into: as inbuf_room, then by growing into the arena, up to `limit` bytes
 * of head. Beyond a block it comes in small steps, so that what follows the head still fits a block.
 * 0: the head is too large or memory is short. */
MUST_CHECK size_t inbuf_head_room(struct inbuf *buf, struct arena *arena, size_t limit);
/* The arena takes a lease on the block that holds the current bytes. No-op in arena memory. */
MUST_CHECK int inbuf_hold(struct inbuf *buf, struct arena *arena);
/* Before the arena ends: unused bytes in its memory move to a block. -EMSGSIZE if they do not fit,
 * -ENOMEM; then they are dropped. */
MUST_CHECK int inbuf_leave_arena(struct inbuf *buf);
/* Drops the unused bytes and the memory. */
void inbuf_drop(struct inbuf *buf);
/* Gives the block back when nothing is unused. */
void inbuf_idle(struct inbuf *buf);
