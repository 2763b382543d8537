/* google.protobuf.Value off the wire: what is read is written, and that is read as the same; a limit holds. */
#include <stdlib.h>

#include "config/value_wire.h"

enum { BYTES_MAX = 1 << 16 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct cfg_value value, again;
    void *block, *other;
    int rc = value_wire_read(span_make((const char *)data, size), BYTES_MAX, &value, &block);
    if (rc != 0)
        return 0;
    struct cfg_buf first = {0}, second = {0};
    value_wire_put(&first, &value);
    ASSERT(!first.failed);
    rc = value_wire_read(cfg_buf_view(&first), BYTES_MAX, &again, &other);
    ASSERT(rc == 0);
    value_wire_put(&second, &again);
    ASSERT(span_eq(cfg_buf_view(&first), cfg_buf_view(&second)));
    cfg_buf_fini(&first);
    cfg_buf_fini(&second);
    free(block);
    free(other);
    return 0;
}
