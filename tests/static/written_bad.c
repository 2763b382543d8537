/* Borrowed bytes are read only. */
#include "base/span.h"

void terminate(struct span s) {
    ((char *)s.ptr)[s.len] = '\0'; /* finding */
}

void lower(struct span s) {
    char *bytes = (char *)(uintptr_t)s.ptr; /* finding */
    for (size_t i = 0; i < s.len; i++)
        bytes[i] |= 0x20;
}

void append(const struct span *s, char byte) {
    *((char *)s->ptr + s->len) = byte; /* finding */
}

void by_detour(struct span s) {
    const char *at = s.ptr + 1;
    memset((void *)at, 0, 1); /* finding */
}
