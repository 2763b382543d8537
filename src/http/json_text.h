/* json_text: the text between a string's quotes, decoded into a bounded buffer as its pieces come.
 *
 * Ownership  The buffer is the caller's, borrowed for as long as the json_text is used.
 * Input      Has passed the scan, or passes it before anybody sees the text: escapes are well formed, and
 *            surrogates come in pairs. Of other input nothing but the text is wrong: nothing is written
 *            outside the buffer. */
#pragma once
#include "base/span.h"

struct json_text {
    char *out;
    uint32_t size, len;
    bool too_long; /* for the buffer: what is in it is no use */
    uint8_t phase; /* enum in json_text.c: within an escape or not */
    uint16_t code; /* of \u, so far */
    uint16_t high; /* the first of a pair of surrogates; 0: none */
};

static inline void json_text_init(struct json_text *text, char *out BORROWED_BY(text),
                                  uint32_t size) {
    *text = (struct json_text){.out = out, .size = size};
}
void json_text_add(struct json_text *text, struct span piece);
static inline struct span json_text_span(const struct json_text *text) {
    return span_make(text->out, text->len);
}
