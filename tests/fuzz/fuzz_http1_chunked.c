/* Chunked bodies: data, trailers and verdict do not depend on how the bytes arrive. The first four
 * bytes choose the cut and the limits, as for heads. */
#include "../unit/http/chunked_describe.h"

enum { FUZZ_PREFIX = 4, FUZZ_INPUT_MAX = 1 << 16 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static struct describe d;
    if (!d.story.text)
        describe_init(&d);
    if (size < FUZZ_PREFIX || size > FUZZ_INPUT_MAX)
        return 0;
    struct span input = span_make(data + FUZZ_PREFIX, size - FUZZ_PREFIX);
    size_t first = ((size_t)data[0] << 8 | data[1]) % (input.len + 1), step = data[2] + (size_t)1;
    struct http1_limits limits = {
        .head_bytes = data[3] & 1 ? 40 : 60 * 1024,
        .header_count = data[3] & 2 ? 2 : 100,
    };
    bool keep = (data[3] & 4) == 0;

    char *whole = strdup(describe_chunked(&d, &limits, input, input.len, 1, keep));
    ASSERT(strcmp(whole, describe_chunked(&d, &limits, input, first, step, keep)) == 0);
    if (input.len < 4096)
        ASSERT(strcmp(whole, describe_chunked(&d, &limits, input, 1, 1, keep)) == 0);
    free(whole);
    return 0;
}
