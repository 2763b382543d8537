/* json_kernel_sse2: the scanner for any x86-64. */
#include "http/json_kernels.h"

#ifdef JSON_HAS_VECTORS

#include "http/json_block_sse2.h"

#include "http/json_kernel.h"

static enum json_verdict run(struct json_scan *scan, const char *bytes, size_t len) {
    return scan_span(scan, bytes, len);
}

const struct json_kernel json_kernel_sse2 = {.name = "sse2", .run = run};

#endif
