/* Response heads: the verdict does not depend on how the bytes arrive. */
#include "fuzz_http1_head.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const char *const methods[] = {"GET", "HEAD", "CONNECT", "POST"};
    struct span method = span_of(methods[size > 3 ? data[3] >> 6 : 0]);
    fuzz_head(RESPONSE, method, data, size);
    return 0;
}
