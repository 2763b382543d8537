/* json_tell: documents on stdin, each behind its length in four bytes, little-endian; a line for each on stdout, what the
 * scanner tells of it. For json_differential.py.
 *
 *     json_tell PATH...    events as json_describe.h has them, strings as they are but for their control bytes */
#include "json_describe.h"

static uint32_t length_of(const unsigned char bytes[4]) {
    return bytes[0] | (uint32_t)bytes[1] << 8 | (uint32_t)bytes[2] << 16 | (uint32_t)bytes[3] << 24;
}

int main(int argc, char **argv) {
    struct span texts[JSON_PATHS_MAX];
    static struct json_story story;
    unsigned char len[4];
    const char *problem;
    uint32_t bad;
    for (int i = 1; i < argc && i <= JSON_PATHS_MAX; i++)
        texts[i - 1] = span_of(argv[i]);
    struct json_paths *paths = json_paths_new(texts, (uint32_t)argc - 1, &problem, &bad);
    ASSERT(paths);
    while (fread(len, 1, sizeof len, stdin) == sizeof len) {
        size_t n = length_of(len);
        char *bytes = malloc(n + 1);
        ASSERT(bytes && fread(bytes, 1, n, stdin) == n);
        puts(describe_scan(&story, json_kernels()[0], paths, span_make(bytes, n), 1 + n / 3,
                           1 + n / 5, false));
        free(bytes);
    }
    json_paths_free(paths);
    return 0;
}
