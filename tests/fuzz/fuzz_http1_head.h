/* fuzz_http1_head: the property of both head parsers. The first four bytes of an input choose how the
 * rest is cut and how tight the limits are; whole, cut and byte by byte it must tell the same. */
#pragma once
#include "../unit/http/http1_describe.h"

enum { FUZZ_PREFIX = 4, FUZZ_INPUT_MAX = 1 << 16 };

static inline void fuzz_head(enum message message, struct span method, const uint8_t *data,
                             size_t size) {
    static struct describe d;
    if (!d.story.text)
        describe_init(&d);
    if (size < FUZZ_PREFIX || size > FUZZ_INPUT_MAX)
        return;
    struct span input = span_make(data + FUZZ_PREFIX, size - FUZZ_PREFIX);
    size_t first = ((size_t)data[0] << 8 | data[1]) % (input.len + 1), step = data[2] + (size_t)1;
    struct http1_limits limits = {
        .head_bytes = data[3] & 1 ? 100 : 60 * 1024,
        .header_count = data[3] & 2 ? 4 : 100,
        .allow_chunked_length = (data[3] & 4) != 0,
    };

    char *whole = strdup(describe_whole(&d, message, method, &limits, input));
    ASSERT(strcmp(whole, describe_head(&d, message, method, &limits, input, first, step)) == 0);
    if (input.len < 4096)
        ASSERT(strcmp(whole, describe_bytewise(&d, message, method, &limits, input)) == 0);
    free(whole);
}
