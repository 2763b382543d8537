#include "io/stream_peek.h"

#include <string.h>

#include "rt/io_counts.h"
#include "rt/rt.h"

void peek_reader_init(struct peek_reader *peek, struct reader inner) {
    *peek = (struct peek_reader){.inner = inner};
}

static void drop_block(struct peek_reader *peek) {
    if (peek->block)
        block_put(rt_blocks(), peek->block);
    peek->block = NULL;
    peek->block_end = 0;
}

/* ---- Looking ---- */

static void append(struct peek_reader *peek, struct span bytes) {
    memcpy(peek->block->data + peek->block_end, bytes.ptr, bytes.len);
    peek->block_end += (uint32_t)bytes.len;
    io_counts_add(io_counts_here(), IO_COPIED_BYTES, bytes.len);
}

/* What was seen goes to the block, with room for `want` in all: the reader inside takes back what it lent. */
static int move_to_block(struct peek_reader *peek, size_t want) {
    if (peek->block && peek->block_end - peek->seen.len + want <= PEEK_MAX)
        return 0;
    struct block *block = block_get(rt_blocks());
    if (!block)
        return -ENOMEM;
    struct block *before = peek->block;
    struct span seen = peek->seen;
    peek->block = block;
    peek->block_end = 0;
    append(peek, seen);
    if (before)
        block_put(rt_blocks(), before);
    peek->seen = span_make(block->data, seen.len);
    return 0;
}

static inline ssize_t look(struct peek_reader *peek, size_t want, struct span *out,
                           reader_step step) {
    ASSERT(want > 0);
    ASSERT(want <= PEEK_MAX);
    ssize_t n = 1;
    while (n > 0 && peek->seen.len < want) {
        struct span bytes;
        if (peek->seen.len == 0) {
            drop_block(peek);
            n = step(peek->inner, PEEK_MAX, &bytes);
            if (n > 0)
                peek->seen = bytes;
            continue;
        }
        n = move_to_block(peek, want);
        if (n == 0)
            n = step(peek->inner, want - peek->seen.len, &bytes);
        if (n > 0) {
            size_t start = peek->block_end - peek->seen.len;
            append(peek, bytes);
            peek->seen = span_make(peek->block->data + start, peek->block_end - start);
        }
    }
    *out = peek->seen.len ? peek->seen : span_make("", 0);
    return n < 0 ? n : (ssize_t)out->len;
}

ssize_t peek_reader_look(struct peek_reader *peek, size_t want, struct span *out) {
    return look(peek, want, out, reader_next);
}

ssize_t peek_reader_try_look(struct peek_reader *peek, size_t want, struct span *out) {
    return look(peek, want, out, reader_try_next);
}

/* ---- Reading ---- */

static inline ssize_t pull(struct peek_reader *peek, size_t max, struct span *out,
                           reader_step step) {
    if (peek->seen.len == 0) {
        drop_block(peek);
        return step(peek->inner, max, out);
    }
    size_t n = peek->seen.len < max ? peek->seen.len : max;
    *out = span_make(peek->seen.ptr, n);
    peek->seen = span_from(peek->seen, n);
    return (ssize_t)n;
}

static ssize_t next(void *data, size_t max, struct span *out) {
    return pull(data, max, out, reader_next);
}

static ssize_t try_next(void *data, size_t max, struct span *out) {
    return pull(data, max, out, reader_try_next);
}

static enum reader_peek peek_at(void *data) {
    const struct peek_reader *peek = data;
    return peek->seen.len ? READER_READY : reader_peek(peek->inner);
}

static uint64_t unread(void *data) {
    const struct peek_reader *peek = data;
    return peek->seen.len ? 0 : reader_unread(peek->inner);
}

static ssize_t splice_in(void *data, struct splice *splice, size_t max) {
    struct peek_reader *peek = data;
    drop_block(peek);
    return reader_splice(peek->inner, splice, max);
}

static ssize_t try_splice_in(void *data, struct splice *splice, size_t max) {
    struct peek_reader *peek = data;
    drop_block(peek);
    return reader_try_splice(peek->inner, splice, max);
}

static void close_reader(void *data) {
    struct peek_reader *peek = data;
    peek->seen = span_none();
    drop_block(peek);
    if (peek->closed)
        return;
    peek->closed = true;
    reader_close(peek->inner);
}

struct reader peek_reader(struct peek_reader *peek) {
    static const struct reader_itab itab = {.next = next,
                                            .close = close_reader,
                                            .peek = peek_at,
                                            .unread = unread,
                                            .splice = splice_in,
                                            .try_next = try_next,
                                            .try_splice = try_splice_in};
    return (struct reader){&itab, peek};
}
