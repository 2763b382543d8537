/* Shorter spans, other lengths, and memory of one's own. */
#include <stdlib.h>

#include "base/span.h"

struct buffer {
    char *data;
    size_t len, capacity;
};

void put(struct buffer *buffer, struct span more) {
    if (buffer->capacity - buffer->len < more.len) {
        char *data = realloc(buffer->data, 2 * (buffer->len + more.len));
        if (!data)
            return;
        buffer->data = data;
        buffer->capacity = 2 * (buffer->len + more.len);
    }
    memcpy(buffer->data + buffer->len, more.ptr, more.len);
    buffer->len += more.len;
}

struct span shorter(struct span s BORROWED_BY(result)) {
    while (s.len > 0 && s.ptr[s.len - 1] == ' ')
        s.len--;
    s.len -= s.len > 3;
    s.len = s.len / 2;
    return s;
}

size_t measured(struct span s, struct span more) {
    struct span part = {s.ptr, 0};
    part.len = s.len < more.len ? s.len : more.len;
    size_t both = s.len;
    both += more.len;
    return both + part.len;
}
