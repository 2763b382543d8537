/* wire: C structs into protobuf's wire format, by the tables.
 *
 * Deterministic: fields by number, map entries sorted by key. A length goes in front of what it
 * measures, so a nested message is written first and then moved to make room for its length.
 *
 * When is a field written? With a presence flag or a oneof case, when that says so; else when its
 * value is not the type's default (proto3's implicit presence). */
#include <stdlib.h>

#include "config/load.h"
#include "config/wire_read.h"

static size_t varint_bytes(char out[10], uint64_t value) {
    size_t len = 0;
    do {
        out[len++] = (char)((value & 0x7F) | (value > 0x7F ? 0x80 : 0));
        value >>= 7;
    } while (value);
    return len;
}

static void put_varint(struct cfg_buf *buf, uint64_t value) {
    char bytes[10];
    cfg_buf_add(buf, bytes, varint_bytes(bytes, value));
}

static void put_tag(struct cfg_buf *buf, uint32_t number, unsigned wire_type) {
    put_varint(buf, (uint64_t)number << 3 | wire_type);
}

/* Everything after start becomes length-delimited. */
static void put_length_before(struct cfg_buf *buf, size_t start) {
    char bytes[10];
    size_t body = buf->len - start;
    size_t len = varint_bytes(bytes, body);
    cfg_buf_add(buf, bytes, len); /* makes the room */
    if (buf->failed)
        return;
    memmove(buf->ptr + start + len, buf->ptr + start, body);
    memcpy(buf->ptr + start, bytes, len);
}

static void put_string(struct cfg_buf *buf, uint32_t number, struct span s) {
    put_tag(buf, number, WIRE_BYTES);
    put_varint(buf, s.len);
    cfg_buf_span(buf, s);
}

static void put_fixed(struct cfg_buf *buf, uint64_t bits, size_t size) {
    for (size_t i = 0; i < size; i++)
        cfg_buf_byte(buf, (char)(bits >> (8 * i)));
}

/* Room for sorting. With an arena it is the arena's: only arenas may be held across something that
 * may leave by longjmp. NULL after a failure. */
static void *sort_space(struct cfg_buf *buf, size_t count) {
    if (buf->arena)
        return cfg_alloc_array(buf->arena, count, sizeof(void *));
    void *space = calloc(count ? count : 1, sizeof(void *));
    buf->failed = buf->failed || !space;
    return space;
}

static void sort_space_free(struct cfg_buf *buf, void *space) {
    if (!buf->arena)
        free(space);
}

/* ---- google.protobuf.Value and its like ---- */

static void put_value(struct cfg_buf *buf, const struct cfg_value *value);

static int compare_value_fields(const void *a, const void *b) {
    const struct span *x = &(*(const struct cfg_value_field *const *)a)->key;
    const struct span *y = &(*(const struct cfg_value_field *const *)b)->key;
    size_t len = x->len < y->len ? x->len : y->len;
    int order = len ? memcmp(x->ptr, y->ptr, len) : 0;
    return order ? order : (x->len > y->len) - (x->len < y->len);
}

static void put_struct(struct cfg_buf *buf, const struct cfg_value *value) {
    const struct cfg_value_field **sorted = sort_space(buf, value->fields_count);
    if (!sorted)
        return;
    for (size_t i = 0; i < value->fields_count; i++)
        sorted[i] = &value->fields[i];
    qsort(sorted, value->fields_count, sizeof(*sorted), compare_value_fields);
    for (size_t i = 0; i < value->fields_count; i++) {
        put_tag(buf, 1, WIRE_BYTES);
        size_t entry = buf->len;
        put_string(buf, 1, sorted[i]->key);
        put_tag(buf, 2, WIRE_BYTES);
        size_t start = buf->len;
        put_value(buf, &sorted[i]->value);
        put_length_before(buf, start);
        put_length_before(buf, entry);
    }
    sort_space_free(buf, sorted);
}

static void put_list(struct cfg_buf *buf, const struct cfg_value *value) {
    for (size_t i = 0; i < value->items_count; i++) {
        put_tag(buf, 1, WIRE_BYTES);
        size_t start = buf->len;
        put_value(buf, &value->items[i]);
        put_length_before(buf, start);
    }
}

static void put_value(struct cfg_buf *buf, const struct cfg_value *value) {
    uint64_t bits;
    size_t start;
    switch (value->kind) {
    case CFG_VALUE_NULL:
        put_tag(buf, 1, WIRE_VARINT);
        put_varint(buf, 0);
        break;
    case CFG_VALUE_NUMBER:
        memcpy(&bits, &value->number, sizeof(bits));
        put_tag(buf, 2, WIRE_64);
        put_fixed(buf, bits, 8);
        break;
    case CFG_VALUE_STRING:
        put_string(buf, 3, value->string);
        break;
    case CFG_VALUE_BOOL:
        put_tag(buf, 4, WIRE_VARINT);
        put_varint(buf, value->boolean);
        break;
    case CFG_VALUE_STRUCT:
        put_tag(buf, 5, WIRE_BYTES);
        start = buf->len;
        put_struct(buf, value);
        put_length_before(buf, start);
        break;
    case CFG_VALUE_LIST:
        put_tag(buf, 6, WIRE_BYTES);
        start = buf->len;
        put_list(buf, value);
        put_length_before(buf, start);
        break;
    }
}

void cfg_wire_any(struct cfg_buf *buf, const struct cfg_any *any) {
    if (any->type_url.len)
        put_string(buf, 1, any->type_url);
    if (any->value.len)
        put_string(buf, 2, any->value);
}

static void put_seconds_nanos(struct cfg_buf *buf, int64_t seconds, int32_t nanos) {
    if (seconds) {
        put_tag(buf, 1, WIRE_VARINT);
        put_varint(buf, (uint64_t)seconds);
    }
    if (nanos) {
        put_tag(buf, 2, WIRE_VARINT);
        put_varint(buf, (uint64_t)(int64_t)nanos);
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
        put_varint(buf, bits);
    else
        put_fixed(buf, bits, wire_type == WIRE_64 ? 8 : 4);
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
            put_string(buf, 1, mask->paths[i]);
        break;
    }
    case CFG_VALUE:
    case CFG_STRUCT:
    case CFG_LIST_VALUE: {
        const struct cfg_value *tree = *(const struct cfg_value *const *)value;
        if (!tree)
            break;
        if (field->type == CFG_VALUE)
            put_value(buf, tree);
        else if (field->type == CFG_STRUCT)
            put_struct(buf, tree);
        else
            put_list(buf, tree);
        break;
    }
    default:
        ASSERT(false);
    }
}

static void put_one(struct cfg_buf *buf, uint32_t number, const struct cfg_field *field,
                    const void *value) {
    if (!field->wrapped && is_number(field->type)) {
        put_tag(buf, number, scalar_wire_type(field->type));
        put_number(buf, field->type, value);
    } else if (!field->wrapped && (field->type == CFG_STRING || field->type == CFG_BYTES)) {
        put_string(buf, number, *(const struct span *)value);
    } else {
        put_tag(buf, number, WIRE_BYTES);
        size_t start = buf->len;
        put_body(buf, field, value);
        put_length_before(buf, start);
    }
}

static void put_list_field(struct cfg_buf *buf, const struct cfg_field *field,
                           const void *message) {
    size_t count;
    const char *items = cfg_items(field, message, &count);
    size_t stride = cfg_value_size(field);
    if (count && is_number(field->type) && !field->wrapped) { /* packed */
        put_tag(buf, field->number, WIRE_BYTES);
        size_t start = buf->len;
        for (size_t i = 0; i < count; i++)
            put_number(buf, field->type, items + i * stride);
        put_length_before(buf, start);
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
        return compare_value_fields(&p, &q);
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
    const char **sorted = sort_space(buf, count);
    if (!sorted)
        return;
    for (size_t i = 0; i < count; i++)
        sorted[i] = entries + i * field->schema->size;
    qsort_r(sorted, count, sizeof(*sorted), compare_keys, (void *)(uintptr_t)key);
    for (size_t i = 0; i < count; i++) {
        put_tag(buf, field->number, WIRE_BYTES);
        size_t start = buf->len;
        put_one(buf, 1, key, sorted[i] + key->offset);
        const void *at = cfg_singular(value, sorted[i]);
        if (at)
            put_one(buf, 2, value, at);
        put_length_before(buf, start);
    }
    sort_space_free(buf, sorted);
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
