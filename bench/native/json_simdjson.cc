/* json_simdjson: the same with simdjson's on-demand parser.
 *
 *     json_simdjson FILE KEY SECONDS [HOW]    prints a line of JSON (json_peers.h)
 *
 *   in_place   the whole document is in memory, with the bytes of padding behind it that simdjson reads
 *   copied     it comes in spans, which are copied into such a buffer first: what a proxy would have to do
 *
 * The parser is kept, so its own buffers are allocated once. Of what it does not touch on its way it checks UTF-8, strings
 * and their ends; not whether it is JSON. */
#include <simdjson.h>

#include "json_peers.h"

static simdjson::ondemand::parser parser;

static bool find(struct json_document *document, const char *bytes) {
    simdjson::ondemand::document parsed;
    std::string_view text;
    document->found[0] = '\0';
    if (parser.iterate(bytes, document->len, document->len + simdjson::SIMDJSON_PADDING)
            .get(parsed) ||
        parsed.find_field(document->key).get_string().get(text))
        return false;
    json_answer(document, text.data(), text.size());
    return true;
}

static bool in_place(struct json_document *document) {
    return find(document, document->bytes);
}

static bool copied(struct json_document *document) {
    char *copy = NULL;
    size_t len = 0, room = 0;
    enum { SPAN = 16384 };
    while (len < document->len) {
        size_t n = document->len - len < SPAN ? document->len - len : SPAN;
        if (len + n + simdjson::SIMDJSON_PADDING > room) {
            room = (len + n) * 2 + simdjson::SIMDJSON_PADDING;
            copy = static_cast<char *>(realloc(copy, room));
        }
        memcpy(copy + len, document->bytes + len, n);
        len += n;
    }
    bool ok = find(document, copy);
    free(copy);
    return ok;
}

int main(int argc, char **argv) {
    struct json_document document = {};
    if (argc < 4 || !json_load(&document, argv[1])) {
        (void)fprintf(stderr, "usage: %s FILE KEY SECONDS [in_place|copied]\n", argv[0]);
        return 2;
    }
    document.key = argv[2];
    bool copies = argc > 4 && strcmp(argv[4], "copied") == 0;
    return json_measure(copies ? "simdjson_copied" : "simdjson", copies ? copied : in_place,
                        &document, strtod(argv[3], NULL));
}
