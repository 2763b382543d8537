/* stream_count: how many bytes passed. It does not look at them, so they may be spliced.
 *
 * Borrows  A reader lends what the reader inside lends, and for as long.
 * Memory   None but the struct, which its owner keeps until it was closed. */
#pragma once
#include "io/stream_layer.h"

struct count_reader {
    struct reader_layer layer;
    uint64_t bytes; /* public: lent and spliced so far */
};

void count_reader_init(struct count_reader *count, struct reader inner BORROWED_BY(count));
struct reader count_reader(struct count_reader *count BORROWED_BY(result));

struct count_writer {
    struct writer_layer layer;
    uint64_t bytes; /* public: written so far; of a write that failed, none */
};

void count_writer_init(struct count_writer *count, struct writer inner BORROWED_BY(count));
struct writer count_writer(struct count_writer *count BORROWED_BY(result));
