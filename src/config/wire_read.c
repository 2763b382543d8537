#include "config/wire_read.h"

static bool read_varint(struct span *rest, uint64_t *out) {
    uint64_t value = 0;
    for (size_t i = 0; i < rest->len && i < 10; i++) {
        unsigned char byte = (unsigned char)rest->ptr[i];
        if (i == 9 && byte > 1)
            return false; /* more than 64 bits */
        value |= (uint64_t)(byte & 0x7F) << (7 * i);
        if (byte < 0x80) {
            *rest = span_from(*rest, i + 1);
            *out = value;
            return true;
        }
    }
    return false;
}

static bool read_fixed(struct span *rest, size_t size, uint64_t *out) {
    if (rest->len < size)
        return false;
    *out = 0;
    for (size_t i = 0; i < size; i++)
        *out |= (uint64_t)(unsigned char)rest->ptr[i] << (8 * i);
    *rest = span_from(*rest, size);
    return true;
}

enum wire_verdict wire_next(struct wire_reader *reader, struct wire_field *out) {
    uint64_t tag, len;
    struct wire_field field = {0};
    if (reader->rest.len == 0)
        return WIRE_END;
    if (!read_varint(&reader->rest, &tag) || tag > UINT32_MAX || tag >> 3 == 0)
        return WIRE_BAD;
    field.number = (uint32_t)tag >> 3;
    switch (tag & 7) {
    case WIRE_VARINT:
        if (!read_varint(&reader->rest, &field.number_value))
            return WIRE_BAD;
        break;
    case WIRE_64:
    case WIRE_32:
        if (!read_fixed(&reader->rest, (tag & 7) == WIRE_64 ? 8 : 4, &field.number_value))
            return WIRE_BAD;
        break;
    case WIRE_BYTES:
        if (!read_varint(&reader->rest, &len) || len > reader->rest.len)
            return WIRE_BAD;
        field.bytes = span_make(reader->rest.ptr, (size_t)len);
        reader->rest = span_from(reader->rest, (size_t)len);
        break;
    default:
        return WIRE_BAD;
    }
    field.type = (enum wire_type)(tag & 7);
    *out = field;
    return WIRE_FIELD;
}
