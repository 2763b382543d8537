/* wire: C structs into protobuf's wire format, by the tables.
 *
 * Deterministic: fields by number, map entries sorted by key.
 *
 * When is a field written? With a presence flag or a oneof case, when that says so; else when its
 * value is not the type's default (proto3's implicit presence). */
#include <stdlib.h>

#include "config/load.h"
#include "config/value_wire.h"
#include "config/wire_write.h"

void cfg_wire_any(struct cfg_buf *buf, const struct cfg_any *any) {
    if (any->type_url.len)
        wire_put_string(buf, 1, any->type_url);
    if (any->value.len)
        wire_put_string(buf, 2, any->value);
}

static void put_seconds_nanos(struct cfg_buf *buf, int64_t seconds, int32_t nanos) {
    if (seconds) {
        wire_put_tag(buf, 1, WIRE_VARINT);
        wire_put_varint(buf, (uint64_t)seconds);
    }
    if (nanos) {
        wire_put_tag(buf, 2, WIRE_VARINT);
        wire_put_varint(buf, (uint64_t)(int64_t)nanos);
    }
}

/* ---- scalars ---- */

/* The bits of a value, sign-extended where the type is signed. */
static uint64_t load_bits(enum cfg_type type, const void *value) {
    int32_t i32;
    uint32_t u32;
    uint64_t u64;
    switch (type) {
    case CFG_BOOL:
        return *(const bool *)value;
    case CFG_I32:
    case CFG_SINT32:
    case CFG_SFIXED32:
    case CFG_ENUM:
        memcpy(&i32, value, sizeof(i32));
        return (uint64_t)(int64_t)i32;
    case CFG_U32:
    case CFG_FIXED32:
    case CFG_FLOAT:
        memcpy(&u32, value, sizeof(u32));
        return u32;
    default:
        memcpy(&u64, value, sizeof(u64));
        return u64;
    }
}

static unsigned scalar_wire_type(enum cfg_type type) {
    switch (type) {
    case CFG_DOUBLE:
    case CFG_FIXED64:
    case CFG_SFIXED64:
        return WIRE_64;
    case CFG_FLOAT:
    case CFG_FIXED32:
    case CFG_SFIXED32:
        return WIRE_32;
    default:
        return WIRE_VARINT;
    }
}

static bool is_number(enum cfg_type type) {
    return type <= CFG_DOUBLE || type == CFG_ENUM;
}

static void put_number(struct cfg_buf *buf, enum cfg_type type, const void *value) {
    uint64_t bits = load_bits(type, value);
    if (type == CFG_SINT32 || type == CFG_SINT64)
        bits = bits << 1 ^ (uint64_t)((int64_t)bits >> 63);
    if (type == CFG_SINT32)
        bits = (uint32_t)bits;
    unsigned wire_type = scalar_wire_type(type);
    if (wire_type == WIRE_VARINT)
        wire_put_varint(buf, bits);
    else
        wire_put_fixed(buf, bits, wire_type == WIRE_64 ? 8 : 4);
}

/* ---- fields ---- */

static void put_one(struct cfg_buf *buf, uint32_t number, const struct cfg_field *field,
                    const void *value);

/* The inside of a value that is a message on the wire. */
static void put_body(struct cfg_buf *buf, const struct cfg_field *field, const void *value) {
    struct cfg_timestamp wide;
    if (field->wrapped) {
        struct cfg_field inner = {.number = 1, .type = field->type};
        const char *plain = (const char *)value + cfg_wrapped_offset(field->type);
        if (cfg_value_is_set(&inner, plain))
            put_one(buf, 1, &inner, plain);
        return;
    }
    switch (field->type) {
    case CFG_MESSAGE:
        cfg_wire_message(buf, field->schema, value);
        break;
    case CFG_ANY:
        cfg_wire_any(buf, value);
        break;
    case CFG_DURATION: {
        int64_t ns = ((const struct cfg_duration *)value)->ns;
        put_seconds_nanos(buf, ns / 1000000000, (int32_t)(ns % 1000000000));
        break;
    }
    case CFG_WIDE_DURATION:
    case CFG_TIMESTAMP:
        memcpy(&wide, value, sizeof(wide));
        put_seconds_nanos(buf, wide.seconds, wide.nanos);
        break;
    case CFG_FIELD_MASK: {
        const struct cfg_field_mask *mask = value;
        for (size_t i = 0; i < mask->paths_count; i++)
            wire_put_string(buf, 1, mask->paths[i]);
        break;
    }
    case CFG_VALUE:
    case CFG_STRUCT:
    case CFG_LIST_VALUE: {
        const struct cfg_value *tree = *(const struct cfg_value *const *)value;
        if (!tree)
            break;
        if (field->type == CFG_VALUE)
            value_wire_put(buf, tree);
        else if (field->type == CFG_STRUCT)
            value_wire_put_struct(buf, tree);
        else
            value_wire_put_list(buf, tree);
        break;
    }
    default:
        ASSERT(false);
    }
}

static void put_one(struct cfg_buf *buf, uint32_t number, const struct cfg_field *field,
                    const void *value) {
    if (!field->wrapped && is_number(field->type)) {
        wire_put_tag(buf, number, scalar_wire_type(field->type));
        put_number(buf, field->type, value);
    } else if (!field->wrapped && (field->type == CFG_STRING || field->type == CFG_BYTES)) {
        wire_put_string(buf, number, *(const struct span *)value);
    } else {
        wire_put_tag(buf, number, WIRE_BYTES);
        size_t start = buf->len;
        put_body(buf, field, value);
        wire_put_length_before(buf, start);
    }
}

static void put_list_field(struct cfg_buf *buf, const struct cfg_field *field,
                           const void *message) {
    size_t count;
    const char *items = cfg_items(field, message, &count);
    size_t stride = cfg_value_size(field);
    if (count && is_number(field->type) && !field->wrapped) { /* packed */
        wire_put_tag(buf, field->number, WIRE_BYTES);
        size_t start = buf->len;
        for (size_t i = 0; i < count; i++)
            put_number(buf, field->type, items + i * stride);
        wire_put_length_before(buf, start);
        return;
    }
    for (size_t i = 0; i < count; i++)
        put_one(buf, field->number, field, items + i * stride);
}

static int compare_keys(const void *a, const void *b, void *key_field) {
    const struct cfg_field *field = key_field;
    const char *x = *(const char *const *)a + field->offset;
    const char *y = *(const char *const *)b + field->offset;
    if (field->type == CFG_STRING) {
        struct cfg_value_field left = {.key = *(const struct span *)(const void *)x};
        struct cfg_value_field right = {.key = *(const struct span *)(const void *)y};
        const struct cfg_value_field *p = &left, *q = &right;
        return value_field_compare(&p, &q);
    }
    uint64_t p = load_bits(field->type, x), q = load_bits(field->type, y);
    bool is_signed = field->type != CFG_BOOL && field->type != CFG_U32 && field->type != CFG_U64 &&
                     field->type != CFG_FIXED32 && field->type != CFG_FIXED64;
    if (is_signed)
        return ((int64_t)p > (int64_t)q) - ((int64_t)p < (int64_t)q);
    return (p > q) - (p < q);
}

static void put_map_field(struct cfg_buf *buf, const struct cfg_field *field, const void *message) {
    size_t count;
    const char *entries = cfg_items(field, message, &count);
    const struct cfg_field *key = &field->schema->fields[0], *value = &field->schema->fields[1];
    const char **sorted = wire_sort_space(buf, count);
    if (!sorted)
        return;
    for (size_t i = 0; i < count; i++)
        sorted[i] = entries + i * field->schema->size;
    qsort_r(sorted, count, sizeof(*sorted), compare_keys, (void *)(uintptr_t)key);
    for (size_t i = 0; i < count; i++) {
        wire_put_tag(buf, field->number, WIRE_BYTES);
        size_t start = buf->len;
        put_one(buf, 1, key, sorted[i] + key->offset);
        const void *at = cfg_singular(value, sorted[i]);
        if (at)
            put_one(buf, 2, value, at);
        wire_put_length_before(buf, start);
    }
    wire_sort_space_free(buf, sorted);
}

void cfg_wire_message(struct cfg_buf *buf, const struct cfg_schema *schema, const void *message) {
    if (schema->is_well_known) {
        put_body(buf, &schema->fields[0], message);
        return;
    }
    for (size_t i = 0; i < schema->fields_count; i++) {
        const struct cfg_field *field = &schema->fields[i];
        if (field->shape == CFG_REPEATED) {
            put_list_field(buf, field, message);
        } else if (field->shape == CFG_MAP) {
            put_map_field(buf, field, message);
        } else if (cfg_field_is_set(field, message)) {
            put_one(buf, field->number, field, cfg_singular(field, message));
        }
    }
}

char *cfg_to_wire(const struct cfg_schema *schema, const void *message, size_t *size_bytes) {
    struct cfg_buf buf = {0};
    cfg_wire_message(&buf, schema, message);
    *size_bytes = buf.len;
    return cfg_buf_take(&buf);
}
