/* bench_json_scan: what it costs to find a value in a document with http/json_scan.
 *
 *     bench_json_scan FILE KEY SECONDS [HOW [KERNEL]]    prints a line of JSON (json_peers.h)
 *
 *   spans    the document comes in spans of a block's size, as it does from a socket; all of it is validated
 *   whole    in one span
 *   until    in spans, and no more is looked at once the value is known: what a route waits for */
#include "http/json_scan.h"

#include "json_peers.h"

enum { SPAN = 16384, TEXT = 256 };

static struct json_paths *paths;
static size_t span_size = SPAN;
static bool stop_when_found;

static bool on_value(void *arg, const struct json_value *value) {
    struct json_document *document = arg;
    if (!value->again && value->kind == JSON_STRING && !value->too_long)
        json_answer(document, value->text.ptr, value->text.len);
    return true;
}

static bool scan(struct json_document *document) {
    static char text[TEXT];
    struct json_scan_options options = {.text = text,
                                        .text_size = sizeof text,
                                        .stop_when_found = stop_when_found,
                                        .on_value = on_value,
                                        .arg = document};
    struct json_scan scan;
    document->found[0] = '\0';
    json_scan_init(&scan, paths, options);
    for (size_t at = 0; at < document->len; at += span_size) {
        size_t n = document->len - at < span_size ? document->len - at : span_size;
        if (json_scan_feed(&scan, span_make(document->bytes + at, n)) != JSON_MORE)
            break;
    }
    enum json_verdict wanted = stop_when_found ? JSON_FOUND : JSON_DONE;
    return json_scan_end(&scan) == wanted && document->found[0] != '\0';
}

static const struct json_kernel *kernel_named(const char *name) {
    for (const struct json_kernel *const *k = json_kernels(); *k; k++)
        if (!name || strcmp((*k)->name, name) == 0)
            return *k;
    return NULL;
}

int main(int argc, char **argv) {
    struct json_document document = {0};
    const char *problem, *how = argc > 4 ? argv[4] : "spans";
    uint32_t bad;
    const struct json_kernel *kernel = kernel_named(argc > 5 ? argv[5] : NULL);
    if (argc < 4 || !kernel || !json_load(&document, argv[1])) {
        (void)fprintf(stderr, "usage: %s FILE KEY SECONDS [spans|whole|until [avx2|sse2|words]]\n",
                      argv[0]);
        return 2;
    }
    document.key = argv[2];
    struct span path = span_of(argv[2]);
    paths = json_paths_new(&path, 1, &problem, &bad);
    if (!paths) {
        (void)fprintf(stderr, "%s: %s\n", argv[2], problem);
        free(document.bytes);
        return 2;
    }
    paths->kernel = kernel;
    stop_when_found = strcmp(how, "until") == 0;
    if (strcmp(how, "whole") == 0)
        span_size = document.len;
    char name[64];
    (void)snprintf(name, sizeof name, "scan_%s_%s", how, kernel->name);
    int status = json_measure(name, scan, &document, strtod(argv[3], NULL));
    json_paths_free(paths);
    free(document.bytes);
    return status;
}
