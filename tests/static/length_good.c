/* Lengths that belong to their bytes, or were compared with them. */
#include "base/span.h"

size_t use(struct span s);

size_t own(struct span text) {
    return use(span_make(text.ptr, text.len)) + use(span_make(text.ptr + 1, text.len - 1));
}

size_t compared(struct span text, struct span prefix) {
    if (text.len < prefix.len)
        return 0;
    return use(span_make(text.ptr, prefix.len));
}

size_t asked(struct span text) {
    if (!span_starts_with(text, SPAN_LIT("GET ")))
        return 0;
    return use(span_make(text.ptr, 4));
}

size_t up_to(struct span text, const char *end) {
    return use(span_make(text.ptr, (size_t)(end - text.ptr)));
}

size_t none(struct span text) {
    return use(span_make(text.ptr, 0));
}

size_t given(const char *text, size_t len) {
    return use(span_make(text, len));
}
