/* schema: questions to the tables. All are linear scans: messages are short, and loading is rare. */
#include "config/schema.h"

#include <assert.h>

struct span cfg_camel_name(const char *name, char *buffer, size_t size) {
    size_t len = 0;
    bool upper = false;
    for (const char *p = name; *p && len + 1 < size; p++) {
        if (*p == '_') {
            upper = true;
            continue;
        }
        buffer[len++] = upper && *p >= 'a' && *p <= 'z' ? (char)(*p - 'a' + 'A') : *p;
        upper = false;
    }
    buffer[len] = '\0';
    return span_make(buffer, len);
}

enum { NAME_MAX_BYTES = 256 };

static bool name_is(struct span name, const char *snake, const char *json_name) {
    char camel[NAME_MAX_BYTES];
    if (span_eq(name, span_of(snake)))
        return true;
    if (json_name)
        return span_eq(name, span_of(json_name));
    return span_eq(name, cfg_camel_name(snake, camel, sizeof(camel)));
}

const struct cfg_field *cfg_field_find(const struct cfg_schema *schema, struct span name) {
    for (size_t i = 0; i < schema->fields_count; i++) {
        if (name_is(name, schema->fields[i].name, schema->fields[i].json_name))
            return &schema->fields[i];
    }
    return NULL;
}

const struct cfg_missing *cfg_missing_find(const struct cfg_schema *schema, struct span name) {
    for (size_t i = 0; i < schema->missing_count; i++) {
        if (name_is(name, schema->missing[i].name, NULL))
            return &schema->missing[i];
    }
    return NULL;
}

/* Levenshtein distance, with swapped neighbours counted once; stops being exact past limit. */
static size_t distance(struct span a, struct span b, size_t limit) {
    enum { LONGEST = 64 };
    if (a.len > LONGEST || b.len > LONGEST)
        return limit + 1;
    size_t rows[3][LONGEST + 1];
    for (size_t j = 0; j <= b.len; j++)
        rows[0][j] = j;
    for (size_t i = 1; i <= a.len; i++) {
        size_t *row = rows[i % 3], *above = rows[(i + 2) % 3], *above2 = rows[(i + 1) % 3];
        row[0] = i;
        for (size_t j = 1; j <= b.len; j++) {
            size_t best = above[j - 1] + (a.ptr[i - 1] != b.ptr[j - 1]);
            best = above[j] + 1 < best ? above[j] + 1 : best;
            best = row[j - 1] + 1 < best ? row[j - 1] + 1 : best;
            if (i > 1 && j > 1 && a.ptr[i - 1] == b.ptr[j - 2] && a.ptr[i - 2] == b.ptr[j - 1] &&
                above2[j - 2] + 1 < best)
                best = above2[j - 2] + 1;
            row[j] = best;
        }
    }
    return rows[a.len % 3][b.len];
}

const char *cfg_field_suggest(const struct cfg_schema *schema, struct span name) {
    size_t limit = name.len < 4 ? 1 : name.len < 8 ? 2 : 3;
    size_t best = limit + 1;
    const char *found = NULL;
    char camel[NAME_MAX_BYTES];
    for (size_t i = 0; i < schema->fields_count; i++) {
        const char *known = schema->fields[i].name;
        size_t d = distance(name, span_of(known), limit);
        size_t d_camel = distance(name, cfg_camel_name(known, camel, sizeof(camel)), limit);
        d = d_camel < d ? d_camel : d;
        if (d < best) {
            best = d;
            found = known;
        }
    }
    return found;
}

const struct cfg_enum_value *cfg_enum_find(const struct cfg_enum *e, struct span name) {
    for (size_t i = 0; i < e->count; i++) {
        if (span_eq(name, span_of(e->values[i].name)))
            return &e->values[i];
    }
    /* Envoy's JSON reader takes any case. */
    for (size_t i = 0; i < e->count; i++) {
        if (span_eq_nocase(name, span_of(e->values[i].name)))
            return &e->values[i];
    }
    return NULL;
}

const struct cfg_enum_value *cfg_enum_at(const struct cfg_enum *e, int64_t number) {
    for (size_t i = 0; i < e->count; i++) {
        if (e->values[i].number == number)
            return &e->values[i];
    }
    return NULL;
}

size_t cfg_scalar_size(enum cfg_type type) {
    switch (type) {
    case CFG_BOOL:
        return sizeof(bool);
    case CFG_I32:
    case CFG_SINT32:
    case CFG_SFIXED32:
    case CFG_U32:
    case CFG_FIXED32:
    case CFG_FLOAT:
    case CFG_ENUM:
        return 4;
    case CFG_I64:
    case CFG_SINT64:
    case CFG_SFIXED64:
    case CFG_U64:
    case CFG_FIXED64:
    case CFG_DOUBLE:
        return 8;
    case CFG_STRING:
    case CFG_BYTES:
        return sizeof(struct span);
    case CFG_DURATION:
        return sizeof(struct cfg_duration);
    case CFG_WIDE_DURATION:
    case CFG_TIMESTAMP:
        return sizeof(struct cfg_timestamp);
    case CFG_FIELD_MASK:
        return sizeof(struct cfg_field_mask);
    case CFG_VALUE:
    case CFG_STRUCT:
    case CFG_LIST_VALUE:
        return sizeof(struct cfg_value *);
    case CFG_ANY:
        return sizeof(struct cfg_any);
    case CFG_MESSAGE:
        return sizeof(void *);
    }
    return 0;
}

size_t cfg_wrapped_offset(enum cfg_type type) {
    /* A span aligns like its pointer; the others like their size. */
    size_t size = cfg_scalar_size(type);
    return size > _Alignof(struct span) ? _Alignof(struct span) : size;
}

size_t cfg_value_size(const struct cfg_field *field) {
    if (field->wrapped) {
        size_t size = cfg_wrapped_offset(field->type) + cfg_scalar_size(field->type);
        size_t align = cfg_wrapped_offset(field->type);
        return (size + align - 1) / align * align;
    }
    if (field->type == CFG_MESSAGE)
        return field->schema->size;
    return cfg_scalar_size(field->type);
}

static_assert(sizeof(int) == 4, "an enum is an int of four bytes");
static_assert(offsetof(struct cfg_bool, value) == 1, "cfg_wrapped_offset");
static_assert(offsetof(struct cfg_u32, value) == 4, "cfg_wrapped_offset");
static_assert(offsetof(struct cfg_u64, value) == 8, "cfg_wrapped_offset");
static_assert(offsetof(struct cfg_double, value) == 8, "cfg_wrapped_offset");

bool cfg_value_is_set(const struct cfg_field *field, const void *value) {
    if (field->wrapped)
        return *(const bool *)value;
    switch (field->type) {
    case CFG_STRING:
    case CFG_BYTES:
        return ((const struct span *)value)->len > 0;
    case CFG_DURATION:
        return ((const struct cfg_duration *)value)->set;
    case CFG_WIDE_DURATION:
    case CFG_TIMESTAMP:
        return ((const struct cfg_timestamp *)value)->set;
    case CFG_FIELD_MASK:
        return ((const struct cfg_field_mask *)value)->set;
    case CFG_VALUE:
    case CFG_STRUCT:
    case CFG_LIST_VALUE:
        return *(const struct cfg_value *const *)value != NULL;
    case CFG_ANY:
        return ((const struct cfg_any *)value)->type_url.len > 0;
    case CFG_MESSAGE:
        break;
    default: {
        static const char zero[8];
        return memcmp(value, zero, cfg_scalar_size(field->type)) != 0;
    }
    }
    /* An inline message without a flag is there when anything in it is. */
    for (size_t i = 0; i < field->schema->fields_count; i++) {
        const struct cfg_field *inner = &field->schema->fields[i];
        size_t count = 0;
        if (inner->shape != CFG_SINGULAR)
            (void)cfg_items(inner, value, &count); /* the count is all that matters */
        if (inner->shape == CFG_SINGULAR ? cfg_field_is_set(inner, value) : count > 0)
            return true;
    }
    return false;
}

const char *cfg_type_name(const struct cfg_field *field) {
    static const char *const plain[] = {
        [CFG_BOOL] = "bool",
        [CFG_I32] = "int32",
        [CFG_SINT32] = "sint32",
        [CFG_SFIXED32] = "sfixed32",
        [CFG_U32] = "uint32",
        [CFG_FIXED32] = "fixed32",
        [CFG_I64] = "int64",
        [CFG_SINT64] = "sint64",
        [CFG_SFIXED64] = "sfixed64",
        [CFG_U64] = "uint64",
        [CFG_FIXED64] = "fixed64",
        [CFG_FLOAT] = "float",
        [CFG_DOUBLE] = "double",
        [CFG_STRING] = "string",
        [CFG_BYTES] = "bytes",
        [CFG_DURATION] = "google.protobuf.Duration",
        [CFG_WIDE_DURATION] = "google.protobuf.Duration",
        [CFG_TIMESTAMP] = "google.protobuf.Timestamp",
        [CFG_FIELD_MASK] = "google.protobuf.FieldMask",
        [CFG_VALUE] = "google.protobuf.Value",
        [CFG_STRUCT] = "google.protobuf.Struct",
        [CFG_LIST_VALUE] = "google.protobuf.ListValue",
        [CFG_ANY] = "google.protobuf.Any",
    };
    static const char *const wrapped[] = {
        [CFG_BOOL] = "google.protobuf.BoolValue",     [CFG_I32] = "google.protobuf.Int32Value",
        [CFG_U32] = "google.protobuf.UInt32Value",    [CFG_I64] = "google.protobuf.Int64Value",
        [CFG_U64] = "google.protobuf.UInt64Value",    [CFG_FLOAT] = "google.protobuf.FloatValue",
        [CFG_DOUBLE] = "google.protobuf.DoubleValue", [CFG_STRING] = "google.protobuf.StringValue",
        [CFG_BYTES] = "google.protobuf.BytesValue",
    };
    if (field->type == CFG_MESSAGE)
        return field->schema->name;
    if (field->type == CFG_ENUM)
        return field->enumeration->name;
    return field->wrapped ? wrapped[field->type] : plain[field->type];
}
