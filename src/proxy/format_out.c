/* format_out: bytes that grow at the end. */
#include <stdlib.h>
#include <string.h>

#include "proxy/format_internal.h"

bool format_out_grow(struct format_out *out, size_t more) {
    size_t capacity = out->capacity < 256 ? 256 : out->capacity;
    while (capacity - out->len < more) {
        if (capacity > SIZE_MAX / 2)
            return false;
        capacity *= 2;
    }
    char *data = realloc(out->data, capacity);
    if (!data)
        return false;
    out->data = data;
    out->capacity = capacity;
    return true;
}

void format_put_u64(struct format_out *out, uint64_t number) {
    char buf[20];
    char *at = buf + sizeof(buf);
    do {
        *--at = (char)('0' + number % 10);
        number /= 10;
    } while (number > 0);
    format_out_put(out, span_make(at, (size_t)(buf + sizeof(buf) - at)));
}
