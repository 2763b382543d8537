/* google.protobuf.Value from JSON text: what is read is written, and that is read as the same. */
#include <errno.h>

#include "config/cfg_buf.h"
#include "config/native_config.h"
#include "config/value_json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct cfg_arena arena, other;
    struct cfg_value value, again;
    int rc = value_json_read(&arena, span_make((const char *)data, size), &value);
    ASSERT(rc == 0 || rc == -EINVAL);
    if (rc == 0) {
        struct cfg_buf first = {0}, second = {0};
        cfg_native_json(&first, &value);
        ASSERT(!first.failed);
        rc = value_json_read(&other, cfg_buf_view(&first), &again);
        ASSERT(rc == 0);
        cfg_native_json(&second, &again);
        ASSERT(span_eq(cfg_buf_view(&first), cfg_buf_view(&second)));
        cfg_buf_fini(&first);
        cfg_buf_fini(&second);
        cfg_arena_fini(&other);
    }
    cfg_arena_fini(&arena);
    return 0;
}
