/* The bytes of one, the length of another. */
#include "base/span.h"

size_t use(struct span s);

size_t of_another(struct span text, struct span pattern) {
    return use(span_make(text.ptr, pattern.len)); /* finding */
}

size_t of_another_pointer(const struct span *text, struct span pattern) {
    return use((struct span){text->ptr + 1, pattern.len - 1}); /* finding */
}

size_t a_number(struct span text) {
    return use(span_make(text.ptr, 4)); /* finding */
}

size_t of_a_bare_pointer(const char *text) {
    struct span s = {.ptr = text, .len = 8}; /* finding */
    return use(s);
}
