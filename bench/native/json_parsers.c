/* json_parsers: the same with parsers of the usual kind, which take all of the document in.
 *
 *     json_parsers yajl|jansson|jansson_copied FILE KEY SECONDS    prints a line of JSON (json_peers.h)
 *
 *   yajl            in spans of a block's size, events for every value
 *   jansson         a tree of the whole document
 *   jansson_copied  the same, after the spans were gathered in one buffer: what a server does that reads all first */
#include <jansson.h>
#include <yajl/yajl_parse.h>

#include "json_peers.h"

enum { SPAN = 16384 };

/* ---- yajl ---- */

struct events {
    struct json_document *document;
    unsigned depth;
    bool at_key;
};

static int other(void *arg) {
    struct events *events = arg;
    events->at_key = false;
    return 1;
}
static int on_boolean(void *arg, int value) {
    return other(arg);
}
static int on_number(void *arg, const char *text, size_t len) {
    return other(arg);
}
static int on_string(void *arg, const unsigned char *text, size_t len) {
    struct events *events = arg;
    if (events->at_key)
        json_answer(events->document, (const char *)text, len);
    return other(arg);
}
static int on_key(void *arg, const unsigned char *text, size_t len) {
    struct events *events = arg;
    const char *key = events->document->key;
    events->at_key = events->depth == 1 && len == strlen(key) && memcmp(text, key, len) == 0;
    return 1;
}
static int on_open(void *arg) {
    struct events *events = arg;
    events->depth++;
    return other(arg);
}
static int on_close(void *arg) {
    struct events *events = arg;
    events->depth--;
    return 1;
}

static bool run_yajl(struct json_document *document) {
    static const yajl_callbacks callbacks = {.yajl_null = other,
                                             .yajl_boolean = on_boolean,
                                             .yajl_number = on_number,
                                             .yajl_string = on_string,
                                             .yajl_start_map = on_open,
                                             .yajl_map_key = on_key,
                                             .yajl_end_map = on_close,
                                             .yajl_start_array = on_open,
                                             .yajl_end_array = on_close};
    struct events events = {.document = document};
    yajl_handle handle = yajl_alloc(&callbacks, NULL, &events);
    bool ok = handle != NULL;
    document->found[0] = '\0';
    for (size_t at = 0; ok && at < document->len; at += SPAN) {
        size_t n = document->len - at < SPAN ? document->len - at : SPAN;
        ok = yajl_parse(handle, (const unsigned char *)document->bytes + at, n) == yajl_status_ok;
    }
    ok = ok && yajl_complete_parse(handle) == yajl_status_ok;
    if (handle)
        yajl_free(handle);
    return ok && document->found[0];
}

/* ---- jansson ---- */

static bool find(struct json_document *document, const char *bytes) {
    json_t *root = json_loadb(bytes, document->len, 0, NULL);
    const char *text = json_string_value(json_object_get(root, document->key));
    if (text)
        json_answer(document, text, strlen(text));
    json_decref(root);
    return text != NULL;
}

static bool run_jansson(struct json_document *document) {
    return find(document, document->bytes);
}

static bool run_jansson_copied(struct json_document *document) {
    size_t len = 0, room = 0;
    char *copy = NULL;
    while (len < document->len) {
        size_t n = document->len - len < SPAN ? document->len - len : SPAN;
        if (len + n > room) {
            room = (len + n) * 2;
            char *grown = realloc(copy, room);
            if (!grown) {
                free(copy);
                return false;
            }
            copy = grown;
        }
        memcpy(copy + len, document->bytes + len, n);
        len += n;
    }
    bool ok = find(document, copy);
    free(copy);
    return ok;
}

int main(int argc, char **argv) {
    static const struct {
        const char *name;
        json_peer_fn run;
    } peers[] = {
        {"yajl", run_yajl}, {"jansson", run_jansson}, {"jansson_copied", run_jansson_copied}};
    struct json_document document = {0};
    if (argc == 5 && json_load(&document, argv[2])) {
        document.key = argv[3];
        for (size_t i = 0; i < sizeof peers / sizeof *peers; i++)
            if (strcmp(peers[i].name, argv[1]) == 0)
                return json_measure(peers[i].name, peers[i].run, &document, strtod(argv[4], NULL));
    }
    (void)fprintf(stderr, "usage: %s yajl|jansson|jansson_copied FILE KEY SECONDS\n", argv[0]);
    return 2;
}
