/* Results that point into what stays. */
#include "base/span.h"

struct line {
    char text[64];
    size_t len;
    struct span name;
};
static char shared[16];

struct span declared(struct span s BORROWED_BY(result)) {
    return span_trim(s);
}

struct span declared_pointer(const char *s BORROWED_BY(result)) {
    return span_of(s);
}

/* An accessor: the object holds the bytes. */
struct span line_text(const struct line *line) {
    return span_make(line->text, line->len);
}
struct span line_name(const struct line *line) {
    const struct line *same = line;
    return span_trim(same->name);
}

struct span of_static(void) {
    static char own[4];
    return own[0] ? span_make(own, 1) : span_make(shared, 2);
}

/* Numbers and verdicts borrow nothing. */
size_t length_of(struct span s) {
    char copy[8];
    return s.len + sizeof copy;
}
ptrdiff_t offset_of(struct span s, const char *at) {
    return at - s.ptr;
}

struct span copied(struct span s);
struct span lower(struct span s, bool copy) {
    struct span result = s;
    if (!copy)
        return span_none();
    result = copied(s);
    return result;
}

/* A parameter that is written as an array is a pointer of the caller's. */
const char *text_of(bool first, char out[16]) {
    memcpy(out, first ? "first" : "other", sizeof "first");
    return out;
}
struct line *other_line(struct line lines[2], const struct line *line) {
    return line == &lines[0] ? &lines[1] : lines;
}
