/* json_kernel_avx2: the scanner for x86-64 with AVX2, both BMIs and carry-less multiplication: Haswell, 2013. */
#include "http/json_kernels.h"

#ifdef JSON_HAS_VECTORS

#ifdef __clang__
#pragma clang attribute push(__attribute__((target("avx2,bmi,bmi2,pclmul"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,bmi,bmi2,pclmul")
#endif
#include "http/json_block_avx2.h"

#include "http/json_kernel.h"

static enum json_verdict run(struct json_scan *scan, const char *bytes, size_t len) {
    return scan_span(scan, bytes, len);
}
#ifdef __clang__
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

const struct json_kernel json_kernel_avx2 = {.name = "avx2", .run = run};

#endif
