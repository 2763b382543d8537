#include "ext/go/go_any.h"

#include <stdlib.h>
#include <string.h>

static size_t put_field(char *out, unsigned number, struct span bytes) {
    size_t n = 0;
    out[n++] = (char)(number << 3 | 2);
    for (size_t len = bytes.len;; len >>= 7) {
        out[n++] = (char)((len & 0x7f) | (len > 0x7f ? 0x80 : 0));
        if (len <= 0x7f)
            break;
    }
    if (bytes.len)
        memcpy(out + n, bytes.ptr, bytes.len);
    return n + bytes.len;
}

char *go_any_bytes(const struct cfg_any *any, size_t *len) {
    enum { FIELD_OVERHEAD = 11 };
    *len = 0;
    size_t room = any ? any->type_url.len + any->value.len + 2 * FIELD_OVERHEAD : 1;
    char *out = malloc(room);
    if (!out || !any)
        return out;
    if (any->type_url.len)
        *len += put_field(out, 1, any->type_url);
    if (any->value.len)
        *len += put_field(out + *len, 2, any->value);
    return out;
}
