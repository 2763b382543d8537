/* JSON: what is told, and where it stops being JSON, is what the plainest parser there could be says, in every kernel and
 * however the bytes arrive. The first four bytes choose the cut. */
#include "../unit/http/json_describe.h"

enum { FUZZ_PREFIX = 4, FUZZ_INPUT_MAX = 1 << 14 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct json_paths *make_paths(void) {
    static const struct span texts[] = {
        SPAN_INIT("a"),      SPAN_INIT("[0]"), SPAN_INIT("a.b"),      SPAN_INIT("m[*].r"),
        SPAN_INIT("m[1].r"), SPAN_INIT("[*]"), SPAN_INIT("[*].a[1]"),
    };
    const char *problem;
    uint32_t bad;
    return json_paths_new(texts, sizeof texts / sizeof *texts, &problem, &bad);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static struct json_paths *paths;
    static struct json_story expected, got;
    if (!paths)
        paths = make_paths();
    ASSERT(paths);
    if (size < FUZZ_PREFIX || size > FUZZ_INPUT_MAX)
        return 0;
    struct span input = span_make(data + FUZZ_PREFIX, size - FUZZ_PREFIX);
    size_t first = ((size_t)data[0] << 8 | data[1]) % (input.len + 1), step = data[2] + (size_t)1;
    bool stop = data[3] & 1;
    expected.enough = got.enough = data[3] & 2 ? UINT32_MAX : 0;
    (void)describe_reference(&expected, paths, input, stop);
    for (const struct json_kernel *const *k = json_kernels(); *k; k++) {
        ASSERT(strcmp(expected.text, describe_scan(&got, *k, paths, input,
                                                   input.len ? input.len : 1, 1, stop)) == 0);
        ASSERT(strcmp(expected.text, describe_scan(&got, *k, paths, input, first, step, stop)) ==
               0);
        if (input.len < 1024)
            ASSERT(strcmp(expected.text, describe_scan(&got, *k, paths, input, 1, 1, stop)) == 0);
    }
    return 0;
}
