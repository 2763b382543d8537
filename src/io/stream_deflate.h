/* stream_deflate: bytes, compressed: RFC 1950 (zlib), 1951 (raw deflate) or 1952 (gzip).
 *
 * Flushing  A compressor holds back bytes while it hopes for more that are like them. With DEFLATE_FLUSHES it lets go of
 *           them where a reader would wait for the reader inside, and after each write, so whoever is at the
 *           other end sees what there is; that costs some bytes each time. Without it only the end lets go.
 * Borrows   A reader lends from a block of its own, until the next call; what the reader inside lends it uses up
 *           where it lies.
 * Memory    Some 290 KiB by malloc, from init to close, and a block of the P while there is something in it. Reads
 *           and writes allocate nothing. */
#pragma once
#include "io/stream_block.h"
#include "io/stream_inflate.h"
#include "io/stream_layer.h"

enum deflate_flush { DEFLATE_AT_END, DEFLATE_FLUSHES };

struct deflater { /* private, but for the counts */
    struct z_stream_s *z;
    uint64_t in_bytes, out_bytes; /* public: so far */
    enum deflate_flush flush;
    bool dirty;    /* something is held back */
    bool full;     /* there may be more to come out without anything going in */
    bool finished; /* all is out, the end included */
};

struct deflate_reader {
    struct reader_layer layer;
    struct deflater deflater;
    struct span in;
    struct stream_block made;
    int error;
    bool inner_ended;
};

/* level: 1 (fast) to 9 (small). 0 or -ENOMEM: then it must not be used, and inner is still the caller's. */
MUST_CHECK int deflate_reader_init(struct deflate_reader *deflate,
                                   struct reader inner BORROWED_BY(deflate),
                                   enum zlib_format format, int level, enum deflate_flush flush);
struct reader deflate_reader(struct deflate_reader *deflate BORROWED_BY(result));

/* finish() writes the end. Only a coroutine can write. */
struct deflate_writer {
    struct writer_layer layer;
    struct deflater deflater;
    int error;
};

MUST_CHECK int deflate_writer_init(struct deflate_writer *deflate,
                                   struct writer inner BORROWED_BY(deflate),
                                   enum zlib_format format, int level, enum deflate_flush flush);
struct writer deflate_writer(struct deflate_writer *deflate BORROWED_BY(result));
