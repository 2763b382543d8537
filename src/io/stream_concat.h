/* stream_concat: several streams one after the other, as Go's io.MultiReader. A stream whose end was seen is closed
 * before the next one is asked.
 *
 * Borrows  It lends what the reader whose turn it is lends, and for as long. What can be spliced of each is.
 * Memory   None but the struct and the array, which their owner keeps until it was closed. */
#pragma once
#include "io/reader.h"

struct concat_reader {
    const struct reader *readers; /* those from `at` on are still open */
    unsigned count, at;
    bool closed;
};

void concat_reader_init(struct concat_reader *concat,
                        const struct reader *readers BORROWED_BY(concat), unsigned count);
struct reader concat_reader(struct concat_reader *concat BORROWED_BY(result));
