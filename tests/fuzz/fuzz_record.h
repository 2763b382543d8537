/* fuzz_record: the property of all records between a proxy and a host process. The first byte of an input is the kind of a
 * message, the rest its record: whatever is accepted lies in the record, and is written as it was read. */
#pragma once
#include "ext/remote/remote_message.h"

/* read_and_write: true: it was accepted, and is in out again. */
static inline int fuzz_record(bool (*read_and_write)(unsigned kind, struct span record,
                                                     struct remote_out *out),
                              const uint8_t *data, size_t size) {
    struct remote_out out = {0};
    if (size == 0)
        return 0;
    struct span record = span_make((const char *)data + 1, size - 1);
    if (read_and_write(data[0], record, &out)) {
        ASSERT(!out.failed);
        ASSERT(span_eq(record, span_make(out.data, out.len)));
    }
    remote_out_fini(&out);
    return 0;
}
