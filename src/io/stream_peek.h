/* stream_peek: looks at the first bytes of a stream and leaves them in it. What was seen is read all the same.
 *
 * Borrows  What is shown, until the next call of anything here. What is lent: first what was shown, then
 *          what the reader inside lends, and for as long.
 * Copies   Nothing where the first piece that the reader inside lends is long enough; else what is shown.
 *          Once what was shown is read nobody looks any more, and the rest may be spliced.
 * Memory   A block of the P while it shows what came in several pieces. */
#pragma once
#include "io/reader.h"
#include "mem/block.h"

enum { PEEK_MAX = BLOCK_DATA_SIZE };

struct peek_reader {
    struct reader inner;
    struct span seen; /* and not read yet: lent by the reader inside, or in the block */
    struct block *block;
    uint32_t block_end;
    bool closed;
};

void peek_reader_init(struct peek_reader *peek, struct reader inner BORROWED_BY(peek));
/* The next `want` bytes (1..PEEK_MAX), or those there are up to the end: how many are in *out, and may be more.
 * 0: there are none. Or the reader's error, of which next() tells behind the bytes that came before; -ENOMEM, which
 * does not stick. Parks. */
MUST_CHECK ssize_t peek_reader_look(struct peek_reader *peek, size_t want, struct span *out);
/* The same without parking, by reader_try_next: -EAGAIN and -EOPNOTSUPP when they are not there yet; *out has those that
 * are. */
MUST_CHECK ssize_t peek_reader_try_look(struct peek_reader *peek, size_t want, struct span *out);
struct reader peek_reader(struct peek_reader *peek BORROWED_BY(result));
