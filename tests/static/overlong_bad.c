/* Spans that end behind their storage. */
#include "base/span.h"

size_t use(struct span s);
enum { SIZE = 16 };
struct line {
    char text[SIZE];
    int number;
};

size_t of_an_array(void) {
    char text[SIZE] = "";
    size_t n = use(span_make(text, SIZE + 1)); /* finding */
    n += use(span_make(text + 8, 9));          /* finding */
    n += use(span_make(&text[4], SIZE));       /* finding */
    return n;
}

size_t of_a_field(const struct line *line) {
    return use(span_make(line->text, sizeof *line)); /* finding */
}

size_t of_a_literal(void) {
    struct span s = {"GET ", sizeof "GET "};   /* finding: its NUL is no part of it */
    return use(s) + use(span_make("POST", 5)); /* finding */
}

/* Or behind the span that they are made of. */
size_t of_a_span(struct span s, const struct span *line) {
    size_t n = use(span_make(s.ptr + 1, s.len));               /* finding */
    n += use(span_make(s.ptr, s.len + 1));                     /* finding */
    n += use((struct span){line->ptr + 4, line->len - 2});     /* finding */
    n += use((struct span){.ptr = s.ptr + 2, .len = s.len});   /* finding */
    return n + use(span_make(s.ptr + 1 + SIZE, s.len - SIZE)); /* finding */
}
