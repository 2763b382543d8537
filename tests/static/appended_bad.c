/* Borrowed bytes have an end; nobody lent what follows. */
#include <stdlib.h>

#include "base/span.h"

struct line {
    struct span name;
};

struct span one_more(struct span s BORROWED_BY(result)) {
    s.len++; /* finding */
    return s;
}

void with_its_end(struct line *line, size_t more) {
    line->name.len += more; /* finding */
}

void by_pointer(struct span *s, struct span next) {
    ++s->len;                   /* finding */
    s->len = s->len + next.len; /* finding */
    s->len = 2 + (s->len);      /* finding */
}

struct span joined(struct span s BORROWED_BY(result), struct span more) {
    char *both = realloc((char *)(uintptr_t)s.ptr, s.len + more.len); /* finding */
    memcpy(both + s.len, more.ptr, more.len);
    return span_make(both, s.len + more.len);
}

void *moved(const char *s, struct span text) {
    const char *at = text.len ? text.ptr : s;
    return realloc((void *)at, 100); /* finding */
}
