/* Results that point into what ends with the call, or into a borrow that nobody declared. */
#include "base/span.h"

struct line {
    char text[64];
    size_t len;
    struct span name;
};

struct span of_a_local(int number) {
    char text[16] = {(char)number};
    return span_make(text, 1); /* finding */
}

struct span of_a_local_struct(void) {
    struct line line = {.text = "a"};
    struct span s = {line.text, line.len};
    return span_trim(s); /* finding */
}

struct span of_a_copy(struct line line) {
    return span_make(line.text, line.len); /* finding */
}

struct span of_a_parameter(struct span s) {
    return s.len > 3 ? span_from(s, 3) : span_none(); /* finding */
}

struct span of_a_pointer(const char *s) {
    return span_of(s); /* finding */
}

const char *bytes_of(struct span s) {
    const char *at = memchr(s.ptr, ' ', s.len);
    return at; /* finding */
}

struct line in_a_struct(struct span name) {
    return (struct line){.len = 1, .name = name}; /* finding */
}

static struct span helper(const char *from) {
    return span_of(from);
}
struct span by_loop(unsigned count) {
    char text[8] = "abc";
    struct span found = span_none(), next = span_none();
    for (unsigned i = 0; i < count; i++) {
        found = next;
        next = helper(text);
    }
    return found; /* finding */
}

struct span by_switch(struct span s, int which) {
    struct span part = SPAN_LIT("none");
    switch (which) {
    case 1:
        part = s;
        break;
    default:
        part = SPAN_LIT("other");
    }
    return part; /* finding */
}

struct span of_an_array(char text[16]) {
    return span_make(text, 16); /* finding */
}
