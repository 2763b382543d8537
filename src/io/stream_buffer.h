/* stream_buffer: all of a stream before any of it: what is behind it sees nothing until the end is there, and
 * nothing at all of a stream that fails or is too long.
 *
 * Borrows  It lends from blocks of its own, to each of which the bytes were copied: until the next call. Blocks
 *          whose bytes were lent are given back.
 * Memory   Blocks of the P, for no more than `limit` bytes: -EMSGSIZE beyond. -ENOMEM: there is none. */
#pragma once
#include "io/reader.h"
#include "mem/block.h"

struct buffer_reader {
    struct reader inner;
    size_t limit;
    size_t bytes;  /* public: gathered so far; once `complete`, of the whole stream */
    bool complete; /* public: the end was seen */
    bool closed;
    int error;
    struct block *first, *last; /* in the order of the stream, by block.next */
    uint32_t at, end; /* what is lent next lies there in `first`; what comes there in `last` */
};

void buffer_reader_init(struct buffer_reader *buffer, struct reader inner BORROWED_BY(buffer),
                        size_t limit);
/* Reads to the end, without lending any: 0, or the error, which next() returns as well. Parks. */
MUST_CHECK int buffer_reader_fill(struct buffer_reader *buffer);
struct reader buffer_reader(struct buffer_reader *buffer BORROWED_BY(result));
