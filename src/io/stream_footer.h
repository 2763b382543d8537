/* stream_footer: bytes behind a stream, once, when it has ended. A stream that failed or was aborted gets none: who
 * reads it can tell by that.
 *
 * Nobody looks at the bytes before, so those may be spliced.
 *
 * Borrows  A reader lends what the reader inside lends, and for as long, then the text where it lies.
 * Memory   None but the struct, which its owner keeps until it was closed. */
#pragma once
#include "io/stream_layer.h"
#include "io/stream_text.h"

struct footer_reader {
    struct reader_layer layer;
    struct stream_text text;
    bool ended;
};

void footer_reader_init(struct footer_reader *footer, struct reader inner BORROWED_BY(footer),
                        struct stream_text text BORROWED_BY(footer));
struct reader footer_reader(struct footer_reader *footer BORROWED_BY(result));

/* finish() writes it. */
struct footer_writer {
    struct writer_layer layer;
    struct stream_text text;
};

void footer_writer_init(struct footer_writer *footer, struct writer inner BORROWED_BY(footer),
                        struct stream_text text BORROWED_BY(footer));
struct writer footer_writer(struct footer_writer *footer BORROWED_BY(result));
