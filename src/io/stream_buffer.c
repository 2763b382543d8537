#include "io/stream_buffer.h"

#include <string.h>

#include "rt/io_counts.h"
#include "rt/rt.h"

enum { ASK = 64 * 1024 };

void buffer_reader_init(struct buffer_reader *buffer, struct reader inner, size_t limit) {
    *buffer = (struct buffer_reader){.inner = inner, .limit = limit, .end = BLOCK_DATA_SIZE};
}

static void drop_first(struct buffer_reader *buffer) {
    struct block *block = buffer->first;
    buffer->first = block->next;
    buffer->at = 0;
    block_put(rt_blocks(), block);
}

static void drop_all(struct buffer_reader *buffer) {
    while (buffer->first)
        drop_first(buffer);
    buffer->last = NULL;
}

static int fail(struct buffer_reader *buffer, int error) {
    drop_all(buffer);
    return buffer->error = error;
}

static int keep(struct buffer_reader *buffer, struct span bytes) {
    if (bytes.len > buffer->limit - buffer->bytes)
        return -EMSGSIZE;
    io_counts_add(io_counts_here(), IO_COPIED_BYTES, bytes.len);
    buffer->bytes += bytes.len;
    while (bytes.len) {
        if (buffer->end == BLOCK_DATA_SIZE) {
            struct block *block = block_get(rt_blocks());
            if (!block)
                return -ENOMEM;
            block->next = NULL;
            if (buffer->last)
                buffer->last->next = block;
            else
                buffer->first = block;
            buffer->last = block;
            buffer->end = 0;
        }
        size_t room = BLOCK_DATA_SIZE - buffer->end, n = bytes.len < room ? bytes.len : room;
        memcpy(buffer->last->data + buffer->end, bytes.ptr, n);
        buffer->end += (uint32_t)n;
        bytes = span_from(bytes, n);
    }
    return 0;
}

/* 0: it is complete; -EAGAIN, -EOPNOTSUPP of a step that does not wait; or the sticky error. */
static inline int fill(struct buffer_reader *buffer, reader_step step) {
    while (!buffer->complete && buffer->error == 0) {
        struct span bytes;
        /* One byte more than is allowed tells whether that is too much. */
        size_t left = buffer->limit - buffer->bytes;
        ssize_t n = step(buffer->inner, left < ASK ? left + 1 : ASK, &bytes);
        if (n > 0)
            n = keep(buffer, bytes);
        else if (n == 0)
            buffer->complete = true;
        if (n < 0)
            return reader_is_over(n) ? fail(buffer, (int)n) : (int)n;
    }
    return buffer->error;
}

int buffer_reader_fill(struct buffer_reader *buffer) {
    return fill(buffer, reader_next);
}

static uint32_t end_of_first(const struct buffer_reader *buffer) {
    return buffer->first == buffer->last ? buffer->end : BLOCK_DATA_SIZE;
}

static inline ssize_t pull(struct buffer_reader *buffer, size_t max, struct span *out,
                           reader_step step) {
    *out = span_make("", 0);
    int rc = fill(buffer, step);
    if (rc != 0)
        return rc;
    if (buffer->first && buffer->at == end_of_first(buffer))
        drop_first(buffer);
    if (!buffer->first)
        return 0;
    size_t n = end_of_first(buffer) - buffer->at;
    if (n > max)
        n = max;
    *out = span_make(buffer->first->data + buffer->at, n);
    buffer->at += (uint32_t)n;
    return (ssize_t)n;
}

static ssize_t next(void *data, size_t max, struct span *out) {
    return pull(data, max, out, reader_next);
}

static ssize_t try_next(void *data, size_t max, struct span *out) {
    return pull(data, max, out, reader_try_next);
}

static enum reader_peek peek(void *data) {
    const struct buffer_reader *buffer = data;
    if (buffer->error)
        return READER_READY;
    if (!buffer->complete)
        return READER_MAY_PARK;
    bool is_last = buffer->first == buffer->last;
    return !buffer->first || (is_last && buffer->at == buffer->end) ? READER_END : READER_READY;
}

static void close_reader(void *data) {
    struct buffer_reader *buffer = data;
    drop_all(buffer);
    if (buffer->closed)
        return;
    buffer->closed = true;
    if (!buffer->error)
        buffer->error = -ECANCELED;
    reader_close(buffer->inner);
}

struct reader buffer_reader(struct buffer_reader *buffer) {
    static const struct reader_itab itab = {
        .next = next, .close = close_reader, .peek = peek, .try_next = try_next};
    return (struct reader){&itab, buffer};
}
