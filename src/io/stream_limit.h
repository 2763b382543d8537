/* stream_limit: no more than so many bytes. It does not look at them, so they may be spliced.
 *
 * Borrows  A reader lends what the reader inside lends, and for as long.
 * Memory   None but the struct, which its owner keeps until it was closed. */
#pragma once
#include "io/stream_layer.h"

enum limit_then {
    LIMIT_ENDS,  /* the stream ends there; what follows is left to whoever owns the reader inside */
    LIMIT_FAILS, /* a byte more is -EMSGSIZE */
};

struct limit_reader {
    struct reader_layer layer;
    uint64_t left; /* public, to be read */
    enum limit_then then;
    int error;
};

void limit_reader_init(struct limit_reader *limit, struct reader inner BORROWED_BY(limit),
                       uint64_t max, enum limit_then then);
struct reader limit_reader(struct limit_reader *limit BORROWED_BY(result));

/* A write that would be too much is -EMSGSIZE, and nothing of it is written. */
struct limit_writer {
    struct writer_layer layer;
    uint64_t left; /* public, to be read */
    int error;
};

void limit_writer_init(struct limit_writer *limit, struct writer inner BORROWED_BY(limit),
                       uint64_t max);
struct writer limit_writer(struct limit_writer *limit BORROWED_BY(result));
