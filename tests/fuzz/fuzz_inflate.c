/* Inflating: what comes out, and how it ends, does not depend on how bytes arrive nor on the room there is; and no more
 * comes out than is allowed. The first two bytes choose the format, the limits and the sizes. */
#include <stdlib.h>
#include <string.h>

#include "io/stream_inflate.h"

enum { FUZZ_PREFIX = 2, FUZZ_INPUT_MAX = 1 << 14, OUT_MAX = 1 << 18 };

struct outcome {
    char *out;
    size_t size;
    int error;
};

static void inflate_all(struct outcome *outcome, enum zlib_format format,
                        struct inflate_limits limits, struct span input, size_t step, size_t room) {
    struct inflater inflater;
    ASSERT(inflater_init(&inflater, format, limits) == 0);
    outcome->size = 0;
    ssize_t n = 0;
    while (input.len && n >= 0) {
        struct span piece = span_make(input.ptr, input.len < step ? input.len : step);
        input = span_from(input, piece.len);
        do {
            ASSERT(outcome->size <= OUT_MAX);
            size_t most = OUT_MAX + 1 - outcome->size;
            n = inflater_run(&inflater, &piece, outcome->out + outcome->size,
                             room < most ? room : most);
            if (n > 0)
                outcome->size += (size_t)n;
        } while (n > 0);
        ASSERT(n < 0 || piece.len == 0);
    }
    outcome->error = n < 0 ? (int)n : inflater_end(&inflater);
    ASSERT(outcome->size <= limits.bytes);
    inflater_fini(&inflater);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static char whole_out[OUT_MAX + 1], parts_out[OUT_MAX + 1];
    if (size < FUZZ_PREFIX || size > FUZZ_INPUT_MAX)
        return 0;
    enum zlib_format format = (enum zlib_format)(data[0] & 3);
    struct inflate_limits limits = {.bytes = data[0] & 4 ? 1000 : OUT_MAX,
                                    .ratio = INFLATE_RATIO_MAX};
    struct span input = span_make(data + FUZZ_PREFIX, size - FUZZ_PREFIX);
    struct outcome whole = {.out = whole_out}, parts = {.out = parts_out};
    inflate_all(&whole, format, limits, input, SIZE_MAX, SIZE_MAX);
    inflate_all(&parts, format, limits, input, 1 + data[1] % 16, 1 + data[1] / 16);
    ASSERT(whole.error == parts.error);
    /* Where it fails, how much came out before is a matter of the room. */
    size_t common = whole.size < parts.size ? whole.size : parts.size;
    ASSERT(whole.error != 0 || whole.size == parts.size);
    ASSERT(memcmp(whole.out, parts.out, common) == 0);
    return 0;
}
