/* wire_write: a length goes in front of what it measures, so a nested message is written first and then moved. */
#include "config/wire_write.h"

#include <stdlib.h>

static size_t varint_bytes(char out[10], uint64_t value) {
    size_t len = 0;
    do {
        out[len++] = (char)((value & 0x7F) | (value > 0x7F ? 0x80 : 0));
        value >>= 7;
    } while (value);
    return len;
}

void wire_put_varint(struct cfg_buf *buf, uint64_t value) {
    char bytes[10];
    cfg_buf_add(buf, bytes, varint_bytes(bytes, value));
}

void wire_put_tag(struct cfg_buf *buf, uint32_t number, unsigned wire_type) {
    wire_put_varint(buf, (uint64_t)number << 3 | wire_type);
}

/* Everything after start becomes length-delimited. */
void wire_put_length_before(struct cfg_buf *buf, size_t start) {
    char bytes[10];
    size_t body = buf->len - start;
    size_t len = varint_bytes(bytes, body);
    cfg_buf_add(buf, bytes, len); /* makes the room */
    if (buf->failed)
        return;
    memmove(buf->ptr + start + len, buf->ptr + start, body);
    memcpy(buf->ptr + start, bytes, len);
}

void wire_put_string(struct cfg_buf *buf, uint32_t number, struct span s) {
    wire_put_tag(buf, number, WIRE_BYTES);
    wire_put_varint(buf, s.len);
    cfg_buf_span(buf, s);
}

void wire_put_fixed(struct cfg_buf *buf, uint64_t bits, size_t size) {
    for (size_t i = 0; i < size; i++)
        cfg_buf_byte(buf, (char)(bits >> (8 * i)));
}

/* Room for sorting. With an arena it is the arena's: only arenas may be held across something that
 * may leave by longjmp. NULL after a failure. */
void *wire_sort_space(struct cfg_buf *buf, size_t count) {
    if (buf->arena)
        return cfg_alloc_array(buf->arena, count, sizeof(void *));
    void *space = calloc(count ? count : 1, sizeof(void *));
    buf->failed = buf->failed || !space;
    return space;
}

void wire_sort_space_free(struct cfg_buf *buf, void *space) {
    if (!buf->arena)
        free(space);
}
