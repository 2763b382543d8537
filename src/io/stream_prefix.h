/* stream_prefix: bytes before a stream, once: a trace header, a tenant, a tag. They come first, whatever the
 * sizes are in which the stream is read, and also before a stream that is empty.
 *
 * Once the prefix is out nobody looks at the bytes any more, so the rest may be spliced.
 *
 * Borrows  A reader lends the text where it lies, then what the reader inside lends, and for as long.
 * Memory   None but the struct, which its owner keeps until it was closed. */
#pragma once
#include "io/stream_layer.h"
#include "io/stream_text.h"

struct prefix_reader {
    struct reader_layer layer;
    struct stream_text text;
};

void prefix_reader_init(struct prefix_reader *prefix, struct reader inner BORROWED_BY(prefix),
                        struct stream_text text BORROWED_BY(prefix));
struct reader prefix_reader(struct prefix_reader *prefix BORROWED_BY(result));

/* It goes out with the first bytes that are written, or at the end of a stream that has none. */
struct prefix_writer {
    struct writer_layer layer;
    struct stream_text text;
};

void prefix_writer_init(struct prefix_writer *prefix, struct writer inner BORROWED_BY(prefix),
                        struct stream_text text BORROWED_BY(prefix));
struct writer prefix_writer(struct prefix_writer *prefix BORROWED_BY(result));
