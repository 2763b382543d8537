/* schema: tables that say how a protobuf message looks in JSON, on the wire and in C.
 *
 * One `const struct cfg_schema` per message, in schema_*.c. Everything else walks them: decode.c
 * (node tree -> struct), wire.c (struct -> protobuf bytes), json_out.c (struct -> JSON), docs.c.
 * Types from a --descriptor-set become the same tables at run time (descriptor_set.c), with structs
 * laid out on the fly, so there is one walker per direction and no second set of rules.
 *
 * Rules of a table, checked by tests/unit/config:
 *   - fields ascend by number, which is also the order on the wire;
 *   - every field that is not listed under `unsupported` has a place in the struct, inert ones
 *     too, so that an encoded message says all that was written;
 *   - a nested message may share its parent's struct (CFG_INLINE with offset 0): bootstrap.h is
 *     flatter than Envoy's API where the nesting carries no meaning for us.
 *
 * Ownership  Static tables live for ever. Those of a descriptor set belong to their config.
 * Threads    Read-only after they are built. */
#pragma once
#include <stdio.h>

#include "config/cfg_buf.h"
#include "config/types.h"

/* The second column is the C type of a singular value (CFG_C_*). */
enum cfg_type {
    CFG_BOOL,     /* bool */
    CFG_I32,      /* int32_t */
    CFG_SINT32,   /* int32_t, zigzag on the wire */
    CFG_SFIXED32, /* int32_t */
    CFG_U32,      /* uint32_t */
    CFG_FIXED32,  /* uint32_t */
    CFG_I64,      /* int64_t */
    CFG_SINT64,
    CFG_SFIXED64,
    CFG_U64,     /* uint64_t */
    CFG_FIXED64, /* uint64_t */
    CFG_FLOAT,
    CFG_DOUBLE,
    CFG_STRING,        /* struct span */
    CFG_BYTES,         /* struct span */
    CFG_ENUM,          /* int */
    CFG_MESSAGE,       /* pointer, or the struct itself with CFG_INLINE and in arrays */
    CFG_DURATION,      /* struct cfg_duration */
    CFG_WIDE_DURATION, /* struct cfg_timestamp: the full range, in payloads */
    CFG_TIMESTAMP,     /* struct cfg_timestamp */
    CFG_FIELD_MASK,    /* struct cfg_field_mask */
    CFG_VALUE,         /* struct cfg_value * */
    CFG_STRUCT,        /* struct cfg_value *, of kind CFG_VALUE_STRUCT */
    CFG_LIST_VALUE,    /* struct cfg_value *, of kind CFG_VALUE_LIST */
    CFG_ANY,           /* struct cfg_any */
};

struct cfg_timestamp {
    bool set;
    int64_t seconds;
    int32_t nanos;
};
struct cfg_field_mask {
    struct span *paths; /* snake_case */
    size_t paths_count;
    bool set;
};

enum cfg_shape {
    CFG_SINGULAR,
    CFG_REPEATED,
    CFG_MAP, /* an array of entries; `schema` has key (1) and value (2), as on the wire */
};

enum cfg_status {
    CFG_SUPPORTED,
    CFG_INERT,       /* accepted and checked, without effect on behaviour */
    CFG_UNSUPPORTED, /* Envoy has it, this release does not */
};

/* Where an Any stands decides which types it may hold. */
enum cfg_any_slot {
    CFG_SLOT_PAYLOAD, /* any type at all: handed on as bytes */
    CFG_SLOT_NETWORK_FILTER,
    CFG_SLOT_HTTP_FILTER,
    CFG_SLOT_PER_ROUTE,
    CFG_SLOT_ACCESS_LOG,
    CFG_SLOT_UPSTREAM_PROTOCOL,
    CFG_SLOT_RESOURCE_MONITOR,
    CFG_SLOT_LISTENER_FILTER,
    CFG_SLOT_TRANSPORT_SOCKET,
    CFG_SLOT_CLUSTER_SPECIFIER,
    CFG_SLOT_RESOURCE, /* of discovery */
};

/* Checks, after Envoy's protoc-gen-validate rules. Those on an absent scalar apply to its zero
 * value, as there; those on a member of a oneof or on a wrapper only when it is set. */
enum cfg_rule {
    CFG_REQUIRED = 1 << 0,       /* message: present; repeated: not empty; string: not empty */
    CFG_RANGE = 1 << 1,          /* min <= value <= max; for durations in nanoseconds */
    CFG_HEADER_NAME = 1 << 2,    /* a field name (RFC 9110 token), or a pseudo-header */
    CFG_HEADER_VALUE = 1 << 3,   /* no NUL, CR, LF */
    CFG_MODIFIABLE = 1 << 4,     /* neither a pseudo-header nor Host */
    CFG_CONST_TRUE = 1 << 5,     /* may only be true */
    CFG_ONEOF_REQUIRED = 1 << 6, /* one member of this field's oneof must be set */
    CFG_SEPARATED_PATH = 1 << 7, /* like "/a/b": no '?' or '#', no '/' at the end */
    CFG_MAX_LEN = 1 << 8,        /* max bytes */
    CFG_OPEN_ENUM = 1 << 10,     /* numbers without a name pass; ours are closed (defined_only) */
    CFG_MAX_ITEMS = 1 << 11,     /* max items */
    CFG_NUL_OK = 1 << 12,        /* a string may hold NUL bytes; else they are refused */
    CFG_SECRET = 1 << 15,        /* texts in this message are shown to nobody: /config_dump */
    CFG_ONLY_FALSE = 1 << 14,    /* true is what Envoy has and this release has not */
    CFG_PRESENT = 1 << 13,       /* must be written, whatever its value (proto2's required) */
};

struct cfg_enum_value {
    int number;
    const char *name;
    enum cfg_status status;
};
struct cfg_enum {
    const char *name; /* full name */
    const struct cfg_enum_value *values;
    size_t count;
};

/* A field of ours in a message of Envoy's has a number from here on, where Envoy will never have one. */
enum { CFG_OWN_FIELD = 50000 };

struct cfg_field {
    uint32_t number;
    const char *name; /* snake_case, as in the .proto */
    enum cfg_type type;
    enum cfg_shape shape;
    enum cfg_status status;
    bool wrapped;   /* a google.protobuf wrapper of type: {bool set; T value} */
    bool is_inline; /* CFG_MESSAGE: the struct lies at offset, not a pointer to it */
    enum cfg_any_slot slot;
    uint32_t offset;
    /* The next three are offsets plus one, so that 0 says there is none. */
    uint32_t count_at;               /* size_t: of repeated and map */
    uint32_t case_at;                /* int: the oneof's case */
    uint32_t has_at;                 /* bool: was it present at all */
    const char *oneof;               /* name of the oneof, whether or not it has a case member */
    const struct cfg_schema *schema; /* CFG_MESSAGE and CFG_MAP */
    const struct cfg_enum *enumeration;
    uint32_t rules; /* enum cfg_rule */
    int64_t min, max;
    const char *default_text; /* what absence means, for the documentation */
    const char *doc;
    const char *json_name; /* set by descriptor sets that chose their own; else derived */
};

struct cfg_missing { /* a field of Envoy's that this release does not have */
    uint32_t number;
    const char *name;
};

struct cfg_loader;
struct cfg_tree;
struct cfg_path;
struct cfg_schema {
    const char *name; /* "envoy.config.core.v3.Node" */
    const char *doc;
    size_t size;      /* of the struct, which a CFG_INLINE user shares */
    uint32_t mark_at; /* offset plus one of struct cfg_mark, 0: none */
    const struct cfg_field *fields;
    size_t fields_count;
    const struct cfg_missing *missing;
    size_t missing_count;
    /* Rules over several fields; called after the fields are filled. */
    void (*check)(struct cfg_loader *loader, const struct cfg_tree *node,
                  const struct cfg_path *path, void *message);
    /* A well-known type: its JSON is the value of its only field, of this type. */
    bool is_well_known;
};

/* ---- macros for the tables ---- */
#define CFG_C_CFG_BOOL bool
#define CFG_C_CFG_U32 uint32_t
#define CFG_C_CFG_U64 uint64_t
#define CFG_C_CFG_I64 int64_t
#define CFG_C_CFG_I32 int32_t
#define CFG_C_CFG_DOUBLE double
#define CFG_C_CFG_STRING struct span
#define CFG_C_CFG_BYTES struct span
#define CFG_C_CFG_ENUM int
#define CFG_C_CFG_DURATION struct cfg_duration
#define CFG_C_CFG_STRUCT struct cfg_value *
#define CFG_C_CFG_VALUE struct cfg_value *
#define CFG_C_CFG_LIST_VALUE struct cfg_value *
#define CFG_C_CFG_ANY struct cfg_any
#define CFG_C_CFG_TIMESTAMP struct cfg_timestamp
#define CFG_C_CFG_FIELD_MASK struct cfg_field_mask
#define CFG_W_CFG_BOOL struct cfg_bool
#define CFG_W_CFG_U32 struct cfg_u32
#define CFG_W_CFG_U64 struct cfg_u64
#define CFG_W_CFG_DOUBLE struct cfg_double

/* offsetof that does not compile when the member is not of that C type. */
#define CFG_OFFSET(type, member, c_type)                                                           \
    (offsetof(type, member) +                                                                      \
     0 * sizeof(char[__builtin_types_compatible_p(__typeof__(((type *)0)->member), c_type) ? 1     \
                                                                                           : -1]))
#define CFG_AT(type, member) (offsetof(type, member) + 1)

#define FIELD(T, num, member, kind, ...)                                                           \
    {                                                                                              \
        .number = (num), .name = #member, .type = kind,                                            \
        .offset = CFG_OFFSET(T, member, CFG_C_##kind), __VA_ARGS__                                 \
    }
/* In the _AS forms the proto's name differs from the member's, which may be a part's: library.gogc. */
#define FIELD_AS(T, num, proto, member, kind, ...)                                                 \
    {                                                                                              \
        .number = (num), .name = proto, .type = kind,                                              \
        .offset = CFG_OFFSET(T, member, CFG_C_##kind), __VA_ARGS__                                 \
    }
#define WRAPPER(T, num, member, kind, ...)                                                         \
    {                                                                                              \
        .number = (num), .name = #member, .type = kind, .wrapped = true,                           \
        .offset = CFG_OFFSET(T, member, CFG_W_##kind), __VA_ARGS__                                 \
    }
#define WRAPPER_AS(T, num, proto, member, kind, ...)                                               \
    {                                                                                              \
        .number = (num), .name = proto, .type = kind, .wrapped = true,                             \
        .offset = CFG_OFFSET(T, member, CFG_W_##kind), __VA_ARGS__                                 \
    }
#define ENUM(T, num, member, which, ...)                                                           \
    {                                                                                              \
        .number = (num), .name = #member, .type = CFG_ENUM, .enumeration = &(which),               \
        .offset = CFG_OFFSET(T, member, int), __VA_ARGS__                                          \
    }
#define ENUM_AS(T, num, proto, member, which, ...)                                                 \
    {                                                                                              \
        .number = (num), .name = proto, .type = CFG_ENUM, .enumeration = &(which),                 \
        .offset = CFG_OFFSET(T, member, int), __VA_ARGS__                                          \
    }
#define ONEOF(T, name) .oneof = #name, .case_at = 1 + CFG_OFFSET(T, name##_case, int)
/* A message behind a pointer; C is its struct. */
#define POINTER(T, num, member, C, which, ...)                                                     \
    {                                                                                              \
        .number = (num), .name = #member, .type = CFG_MESSAGE, .schema = &(which),                 \
        .offset = CFG_OFFSET(T, member, C *), __VA_ARGS__                                          \
    }
/* A message that is a member of its own. */
#define INLINE(T, num, member, C, which, ...)                                                      \
    {                                                                                              \
        .number = (num), .name = #member, .type = CFG_MESSAGE, .schema = &(which),                 \
        .is_inline = true, .offset = CFG_OFFSET(T, member, C), __VA_ARGS__                         \
    }
#define POINTER_AS(T, num, proto, member, C, which, ...)                                           \
    {                                                                                              \
        .number = (num), .name = proto, .type = CFG_MESSAGE, .schema = &(which),                   \
        .offset = CFG_OFFSET(T, member, C *), __VA_ARGS__                                          \
    }
#define INLINE_AS(T, num, proto, member, C, which, ...)                                            \
    {                                                                                              \
        .number = (num), .name = proto, .type = CFG_MESSAGE, .schema = &(which),                   \
        .is_inline = true, .offset = CFG_OFFSET(T, member, C), __VA_ARGS__                         \
    }
/* A message whose fields are members of this same struct. */
#define FLAT(T, num, proto, which, ...)                                                            \
    {                                                                                              \
        .number = (num), .name = proto, .type = CFG_MESSAGE, .schema = &(which),                   \
        .is_inline = true, .offset = 0, __VA_ARGS__                                                \
    }
#define LIST(T, num, member, C, which, ...)                                                        \
    {                                                                                              \
        .number = (num), .name = #member, .type = CFG_MESSAGE, .shape = CFG_REPEATED,              \
        .schema = &(which), .offset = CFG_OFFSET(T, member, C *),                                  \
        .count_at = 1 + CFG_OFFSET(T, member##_count, size_t), __VA_ARGS__                         \
    }
#define SCALARS(T, num, member, kind, ...)                                                         \
    {                                                                                              \
        .number = (num), .name = #member, .type = kind, .shape = CFG_REPEATED,                     \
        .offset = CFG_OFFSET(T, member, CFG_C_##kind *),                                           \
        .count_at = 1 + CFG_OFFSET(T, member##_count, size_t), __VA_ARGS__                         \
    }
#define MAP(T, num, member, C, which, ...)                                                         \
    {                                                                                              \
        .number = (num), .name = #member, .type = CFG_MESSAGE, .shape = CFG_MAP,                   \
        .schema = &(which), .offset = CFG_OFFSET(T, member, C *),                                  \
        .count_at = 1 + CFG_OFFSET(T, member##_count, size_t), __VA_ARGS__                         \
    }

#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))
#define FIELDS(array) .fields = (array), .fields_count = COUNT_OF(array)
#define MISSING(array) .missing = (array), .missing_count = COUNT_OF(array)
#define MARK(T) .mark_at = 1 + CFG_OFFSET(T, mark, struct cfg_mark)
#define ENUM_TABLE(full_name, array)                                                               \
    { .name = (full_name), .values = (array), .count = COUNT_OF(array) }

/* ---- questions to the tables (schema.c) ---- */

/* By snake_case or lowerCamelCase name; NULL when there is none. */
const struct cfg_field *cfg_field_find(const struct cfg_schema *schema, struct span name);
const struct cfg_missing *cfg_missing_find(const struct cfg_schema *schema, struct span name);
/* The known name nearest to a misspelt one, NULL when none is near. */
const char *cfg_field_suggest(const struct cfg_schema *schema, struct span name);
const struct cfg_enum_value *cfg_enum_find(const struct cfg_enum *e, struct span name);
const struct cfg_enum_value *cfg_enum_at(const struct cfg_enum *e, int64_t number);

/* Bytes of one element: what an array of them strides by. */
size_t cfg_value_size(const struct cfg_field *field);
/* Of the value inside a wrapper struct, {bool set; T value}. */
size_t cfg_wrapped_offset(enum cfg_type type);
size_t cfg_scalar_size(enum cfg_type type);

/* As a .proto names it: "uint32", "google.protobuf.Duration", a message's or an enum's name. */
const char *cfg_type_name(const struct cfg_field *field);

/* The lowerCamelCase form of a snake_case name, as protoc derives it. */
struct span cfg_camel_name(const char *name, char *buffer BORROWED_BY(result), size_t size);

/* Every table reachable from the bootstrap and the extensions: depth first, each once. Returns
 * how many there are; fills at most capacity of them. */
size_t cfg_schema_all(const struct cfg_schema **out, size_t capacity);

/* A type with a table that may stand in an Any, by its full name. */
struct cfg_any_type {
    const struct cfg_schema *schema;
    enum cfg_any_slot slot;
    const char *extension; /* "envoy.filters.http.router"; NULL: a resource, which is none */
};
/* Besides those that are built in: by programs that bring extensions of their own, before the first load. */
enum { CFG_ADDED_TYPES_MAX = 32 };
void cfg_any_type_add(const struct cfg_any_type *type BORROWED_BY(program));
const struct cfg_any_type *cfg_any_type_find(struct span full_name);
const struct cfg_any_type *cfg_any_type_at(size_t index); /* NULL past the end */
/* Struct, Duration, the wrappers, TypedStruct ...: types every payload may have. */
const struct cfg_schema *cfg_well_known_find(struct span full_name);

/* ---- reading a struct by its table ---- */

/* The items of a repeated field, or the entries of a map. */
static inline const char *cfg_items(const struct cfg_field *field, const void *message,
                                    size_t *count) {
    const char *items;
    ASSERT(field->count_at);
    memcpy(count, (const char *)message + field->count_at - 1, sizeof(*count));
    memcpy(&items, (const char *)message + field->offset, sizeof(items));
    return items;
}

/* Where the value of a singular field lies; NULL for a message that is not there. */
static inline const void *cfg_singular(const struct cfg_field *field, const void *message) {
    const char *at = (const char *)message + field->offset;
    if (field->type != CFG_MESSAGE || field->is_inline)
        return at;
    const void *target;
    memcpy(&target, at, sizeof(target));
    return target;
}

/* Is a value other than the default of its type? */
bool cfg_value_is_set(const struct cfg_field *field, const void *value);

/* Was the singular field set? By its case or flag, else by its value not being the default. */
static inline bool cfg_field_is_set(const struct cfg_field *field, const void *message) {
    const void *value = cfg_singular(field, message);
    if (field->has_at)
        return *((const bool *)message + field->has_at - 1) && value;
    if (field->case_at) {
        int number;
        memcpy(&number, (const char *)message + field->case_at - 1, sizeof(number));
        return number == (int)field->number && value;
    }
    if (field->type == CFG_MESSAGE && !field->is_inline)
        return value != NULL;
    return cfg_value_is_set(field, value);
}
