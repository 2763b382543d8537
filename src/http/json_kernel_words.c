/* json_kernel_words: the scanner for machines without vectors that we know of. */
#include "http/json_block_words.h"

#include "http/json_kernel.h"
#include "http/json_kernels.h"

static enum json_verdict run(struct json_scan *scan, const char *bytes, size_t len) {
    return scan_span(scan, bytes, len);
}

const struct json_kernel json_kernel_words = {.name = "words", .run = run};
