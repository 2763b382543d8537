/* wire_read: protobuf's wire format, one field at a time.
 *
 * Ownership  Spans point into the bytes that are read: borrowed as long as those.
 * Threads    A reader belongs to its caller. Pure; allocates nothing. */
#pragma once
#include "base/check.h"
#include "base/span.h"

enum wire_type { WIRE_VARINT = 0, WIRE_64 = 1, WIRE_BYTES = 2, WIRE_32 = 5 };

struct wire_reader {
    struct span rest;
};
struct wire_field {
    uint32_t number;
    enum wire_type type;
    uint64_t number_value; /* VARINT, 64, 32: the bits */
    struct span bytes;     /* BYTES */
};
enum wire_verdict { WIRE_FIELD, WIRE_END, WIRE_BAD };

/* The next field. WIRE_BAD: cut short, a group, or no wire format at all; the reader is then of no
 * further use. */
MUST_CHECK enum wire_verdict wire_next(struct wire_reader *reader, struct wire_field *out);
