/* slice: bytes, and the lease on the block that they stand in.
 *
 * Who passes a slice on passes the lease with it: whoever has the slice may keep it across a park, and
 * gives the block back exactly once. */
#pragma once
#include "base/span.h"
#include "mem/block.h"

struct slice {
    struct span bytes;
    struct block *block; /* leased; NULL: the bytes are borrowed, as a span's */
};

static inline struct slice slice_borrow(struct span bytes) {
    return (struct slice){bytes, NULL};
}
/* With a lease of its own. */
static inline struct slice slice_lease(struct span bytes, struct block *block) {
    return (struct slice){bytes, block_lease(block)};
}
