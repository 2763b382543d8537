/* Spans that end where their storage ends, or before, or where nobody can know. */
#include "base/span.h"

size_t use(struct span s);
enum { SIZE = 16 };
struct line {
    size_t len;
    char text[SIZE];
};
struct tail {
    size_t len;
    char text[];
};

size_t of_an_array(size_t len) {
    char text[SIZE] = "";
    size_t n = use(span_make(text, sizeof text)) + use(span_make(text, len));
    n += use(span_make(text + 8, 8)) + use(span_make(&text[4], SIZE - 4));
    return n + use(span_make(text, sizeof text - 1));
}

size_t of_a_field(const struct line *line, const struct tail *tail) {
    return use(span_make(line->text, SIZE)) + use(span_make(tail->text, 40));
}

size_t of_a_literal(void) {
    struct span s = {"GET ", sizeof "GET " - 1};
    return use(s) + use(SPAN_LIT("POST")) + use(span_make("", 0));
}

size_t of_a_span(struct span s, size_t n) {
    size_t all = use(span_make(s.ptr + 1, s.len - 1)) + use(span_make(s.ptr, s.len - 4));
    all += use(span_make(s.ptr + 2, s.len - 1 - 1)) + use((struct span){s.ptr + 1, s.len - SIZE});
    return all + use(span_make(s.ptr + n, s.len - n)) + use(span_make(s.ptr, s.len));
}
