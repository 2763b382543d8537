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
