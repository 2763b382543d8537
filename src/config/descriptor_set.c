/* descriptor_set: --descriptor-set FILE, a google.protobuf.FileDescriptorSet, into schema tables.
 *
 * Read in two passes over the bytes. The first collects every message and enum by full name; then
 * all tables exist, empty, and the second fills their fields, which can now refer to any of them,
 * themselves included, without recursion.
 *
 * The structs behind the tables exist only here: fields are laid out one after the other, each on
 * a multiple of 8. Singular messages are pointers, so that types may contain themselves.
 *
 * Not carried over: groups (proto2) and extensions. A field of such a kind is unknown to JSON. */
#include <stdlib.h>

#include "config/load.h"
#include "config/wire_read.h"

enum { NESTING_MAX = 64, LAYOUT_ALIGN_BYTES = 8 };

enum label { LABEL_OPTIONAL = 1, LABEL_REQUIRED = 2, LABEL_REPEATED = 3 };
enum proto_type { TYPE_GROUP = 10, TYPE_MESSAGE = 11, TYPE_ENUM = 14, TYPE_LAST = 18 };

struct type { /* a message or an enum */
    struct type *next;
    struct span name; /* full, without the leading dot; NUL-terminated */
    struct span bytes;
    bool is_enum, is_map_entry, has_presence; /* has_presence: scalars tell absent from zero */
    struct cfg_schema *schema;
    struct cfg_enum *enumeration;
};

struct cfg_descriptors {
    struct type **types; /* sorted by name */
    size_t count;
};

struct builder {
    struct cfg_loader *loader;
    struct span file;
    struct type *list;
    size_t count;
    struct cfg_descriptors *set;
    bool failed;
};

static void fail(struct builder *b, const char *text, struct span name) {
    struct cfg_mark mark = {.file = b->file};
    if (!b->failed)
        cfg_problem_add(b->loader->problems, CFG_PROBLEM_INVALID, &mark, "%s%.*s", text,
                        (int)name.len, name.ptr);
    b->failed = true;
}

/* For loops over the fields of a message: false at its end, or when it is no message. */
static bool next(struct builder *b, struct wire_reader *reader, struct wire_field *field) {
    if (b->failed)
        return false;
    enum wire_verdict verdict = wire_next(reader, field);
    if (verdict == WIRE_BAD)
        fail(b,
             "is not a serialised FileDescriptorSet: make one with protoc --include_imports "
             "--descriptor_set_out=FILE YOUR.proto",
             span_none());
    return verdict == WIRE_FIELD;
}

/* The bytes of the last field of that number, or none. */
static struct span bytes_of(struct builder *b, struct span message, uint32_t number) {
    struct wire_reader reader = {message};
    struct wire_field field;
    struct span found = span_none();
    while (next(b, &reader, &field)) {
        if (field.number == number && field.type == WIRE_BYTES)
            found = field.bytes;
    }
    return found;
}

static uint64_t number_of(struct builder *b, struct span message, uint32_t number) {
    struct wire_reader reader = {message};
    struct wire_field field;
    uint64_t found = 0;
    while (next(b, &reader, &field)) {
        if (field.number == number && field.type == WIRE_VARINT)
            found = field.number_value;
    }
    return found;
}

/* ---- first pass: names ---- */

static void add_type(struct builder *b, struct span scope, struct span bytes, bool is_enum,
                     bool has_presence, unsigned depth) {
    struct span name = bytes_of(b, bytes, 1);
    if (b->failed)
        return;
    if (depth > NESTING_MAX || name.len == 0) {
        fail(b, "holds a type without a name, or nested too deep", span_none());
        return;
    }
    struct type *type = cfg_alloc(b->loader->scratch, sizeof(*type));
    *type = (struct type){.next = b->list,
                          .name = cfg_printf(b->loader->arena, "%.*s%s%.*s", (int)scope.len,
                                             scope.len ? scope.ptr : "", scope.len ? "." : "",
                                             (int)name.len, name.ptr),
                          .bytes = bytes,
                          .is_enum = is_enum,
                          .has_presence = has_presence};
    b->list = type;
    b->count++;
    if (is_enum)
        return;
    struct span options = bytes_of(b, bytes, 7);
    type->is_map_entry = options.len && number_of(b, options, 7);
    struct wire_reader reader = {bytes};
    struct wire_field field;
    while (next(b, &reader, &field)) {
        if ((field.number == 3 || field.number == 4) && field.type == WIRE_BYTES)
            add_type(b, type->name, field.bytes, field.number == 4, has_presence, depth + 1);
    }
}

static void add_file(struct builder *b, struct span file) {
    struct span package = bytes_of(b, file, 2);
    /* proto2 (no syntax given) and editions track presence unless told otherwise. */
    bool has_presence = !span_eq(bytes_of(b, file, 12), SPAN_LIT("proto3"));
    struct wire_reader reader = {file};
    struct wire_field field;
    while (next(b, &reader, &field)) {
        if ((field.number == 4 || field.number == 5) && field.type == WIRE_BYTES)
            add_type(b, package, field.bytes, field.number == 5, has_presence, 0);
    }
}

static int compare_types(const void *a, const void *b) {
    return strcmp((*(struct type *const *)a)->name.ptr, (*(struct type *const *)b)->name.ptr);
}

static struct type *find(const struct cfg_descriptors *set, struct span name) {
    size_t low = 0, high = set->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        struct span have = set->types[middle]->name;
        size_t len = have.len < name.len ? have.len : name.len;
        int order = len ? memcmp(have.ptr, name.ptr, len) : 0;
        order = order ? order : (have.len > name.len) - (have.len < name.len);
        if (order == 0)
            return set->types[middle];
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return NULL;
}

/* ---- second pass: fields ---- */

static const enum cfg_type scalar_types[TYPE_LAST + 1] = {
    [1] = CFG_DOUBLE,    [2] = CFG_FLOAT,     [3] = CFG_I64,     [4] = CFG_U64,
    [5] = CFG_I32,       [6] = CFG_FIXED64,   [7] = CFG_FIXED32, [8] = CFG_BOOL,
    [9] = CFG_STRING,    [12] = CFG_BYTES,    [13] = CFG_U32,    [14] = CFG_ENUM,
    [15] = CFG_SFIXED32, [16] = CFG_SFIXED64, [17] = CFG_SINT32, [18] = CFG_SINT64,
};

struct layout {
    size_t size;
};

static uint32_t place(struct layout *layout, size_t size) {
    size_t offset = layout->size;
    layout->size += (size + LAYOUT_ALIGN_BYTES - 1) / LAYOUT_ALIGN_BYTES * LAYOUT_ALIGN_BYTES;
    return (uint32_t)offset;
}

/* Sets type, schema or enumeration from a FieldDescriptorProto. False: the field is left out. */
static bool resolve(struct builder *b, struct span bytes, struct cfg_field *field) {
    uint64_t type = number_of(b, bytes, 5);
    if (type == 0 || type > TYPE_LAST || type == TYPE_GROUP)
        return false;
    if (type != TYPE_MESSAGE && type != TYPE_ENUM) {
        field->type = scalar_types[type];
        return true;
    }
    struct span name = bytes_of(b, bytes, 6);
    if (name.len && *name.ptr == '.')
        name = span_from(name, 1);
    const struct cfg_schema *known = type == TYPE_MESSAGE ? cfg_well_known_find(name) : NULL;
    if (known && known->is_well_known) {
        field->type = known->fields[0].type;
        field->wrapped = known->fields[0].wrapped;
        return true;
    }
    struct type *target = find(b->set, name);
    if (!target || target->is_enum != (type == TYPE_ENUM)) {
        fail(b, "lacks a type that it refers to (make it with protoc --include_imports): ", name);
        return false;
    }
    field->type = type == TYPE_ENUM ? CFG_ENUM : CFG_MESSAGE;
    field->schema = target->schema;
    field->enumeration = target->enumeration;
    if (target->is_map_entry)
        field->shape = CFG_MAP;
    return true;
}

/* The name of the oneof that a field is a member of; proto3's optional fields are alone in a
 * synthetic one, which does not count. */
static const char *oneof_name(struct builder *b, struct span message, struct span field,
                              uint64_t *index) {
    struct wire_reader reader = {field};
    struct wire_field part;
    bool is_member = false;
    while (next(b, &reader, &part)) {
        if (part.number == 9 && part.type == WIRE_VARINT) {
            is_member = true;
            *index = part.number_value;
        }
    }
    if (!is_member || number_of(b, field, 17))
        return NULL;
    uint64_t at = 0;
    reader = (struct wire_reader){message};
    while (next(b, &reader, &part)) {
        if (part.number == 8 && part.type == WIRE_BYTES && at++ == *index)
            return cfg_copy(b->loader->arena, bytes_of(b, part.bytes, 1)).ptr;
    }
    return NULL;
}

static void fill_field(struct builder *b, const struct type *type, struct span bytes,
                       struct layout *layout, const uint32_t *cases, size_t cases_count) {
    struct cfg_schema *schema = type->schema;
    struct cfg_field field = {.rules = CFG_NUL_OK | CFG_OPEN_ENUM, .slot = CFG_SLOT_PAYLOAD};
    struct span name = bytes_of(b, bytes, 1), json_name = bytes_of(b, bytes, 10);
    uint64_t number = number_of(b, bytes, 3), label = number_of(b, bytes, 4);
    if (b->failed || name.len == 0 || number == 0 || number > UINT32_MAX >> 3 ||
        !resolve(b, bytes, &field))
        return;
    field.number = (uint32_t)number;
    field.name = cfg_copy(b->loader->arena, name).ptr;
    field.json_name = cfg_copy(b->loader->arena, json_name).ptr;
    field.doc = "";
    if (label == LABEL_REPEATED) {
        if (field.shape != CFG_MAP)
            field.shape = CFG_REPEATED;
        field.offset = place(layout, sizeof(void *));
        field.count_at = place(layout, sizeof(size_t)) + 1;
    } else {
        uint64_t index = 0;
        bool is_pointer = field.type == CFG_MESSAGE;
        field.shape = CFG_SINGULAR;
        field.offset = place(layout, is_pointer ? sizeof(void *) : cfg_value_size(&field));
        field.oneof = oneof_name(b, type->bytes, bytes, &index);
        if (field.oneof && index < cases_count)
            field.case_at = cases[index] + 1;
        else if (type->has_presence || number_of(b, bytes, 17))
            field.has_at = place(layout, sizeof(bool)) + 1;
        if (label == LABEL_REQUIRED)
            field.rules |= CFG_PRESENT;
    }
    ((struct cfg_field *)(uintptr_t)schema->fields)[schema->fields_count++] = field;
}

static int compare_fields(const void *a, const void *b) {
    uint32_t x = ((const struct cfg_field *)a)->number, y = ((const struct cfg_field *)b)->number;
    return (x > y) - (x < y);
}

static size_t count_parts(struct builder *b, struct span message, uint32_t number) {
    struct wire_reader reader = {message};
    struct wire_field field;
    size_t count = 0;
    while (next(b, &reader, &field))
        count += field.number == number && field.type == WIRE_BYTES;
    return count;
}

/* Key and value, both singular, the key an integer, a bool or a string. */
static bool is_entry(const struct cfg_schema *schema) {
    const struct cfg_field *key = &schema->fields[0], *value = &schema->fields[1];
    return schema->fields_count == 2 && key->number == 1 && value->number == 2 &&
           key->shape == CFG_SINGULAR && value->shape == CFG_SINGULAR && !key->wrapped &&
           key->type <= CFG_STRING && key->type != CFG_FLOAT && key->type != CFG_DOUBLE;
}

static void fill_message(struct builder *b, const struct type *type) {
    struct cfg_schema *schema = type->schema;
    struct layout layout = {0};
    struct cfg_field *fields =
        cfg_alloc_array(b->loader->arena, count_parts(b, type->bytes, 2), sizeof(*fields));
    size_t cases_count = count_parts(b, type->bytes, 8);
    uint32_t *cases = cfg_alloc_array(b->loader->scratch, cases_count, sizeof(*cases));
    for (size_t i = 0; i < cases_count; i++)
        cases[i] = place(&layout, sizeof(int));
    schema->fields = fields;
    struct wire_reader reader = {type->bytes};
    struct wire_field field;
    while (next(b, &reader, &field)) {
        if (field.number == 2 && field.type == WIRE_BYTES)
            fill_field(b, type, field.bytes, &layout, cases, cases_count);
    }
    if (schema->fields_count)
        qsort(fields, schema->fields_count, sizeof(*fields), compare_fields);
    schema->size = layout.size;
    if (type->is_map_entry && !b->failed && !is_entry(schema))
        fail(b, "holds a map without a proper key and value: ", type->name);
}

static void fill_enum(struct builder *b, const struct type *type) {
    size_t count = count_parts(b, type->bytes, 2);
    struct cfg_enum_value *values = cfg_alloc_array(b->loader->arena, count, sizeof(*values));
    struct wire_reader reader = {type->bytes};
    struct wire_field field;
    size_t i = 0;
    while (next(b, &reader, &field)) {
        if (field.number != 2 || field.type != WIRE_BYTES)
            continue;
        struct span name = cfg_copy(b->loader->arena, bytes_of(b, field.bytes, 1));
        values[i].name = name.ptr ? name.ptr : "";
        values[i++].number = (int)(int64_t)number_of(b, field.bytes, 2);
    }
    *type->enumeration = (struct cfg_enum){.name = type->name.ptr, .values = values, .count = i};
}

const struct cfg_descriptors *cfg_descriptors_load(struct cfg_loader *loader, struct span file,
                                                   struct span bytes) {
    struct builder b = {.loader = loader, .file = file};
    struct wire_reader reader = {bytes};
    struct wire_field field;
    while (next(&b, &reader, &field)) {
        if (field.number == 1 && field.type == WIRE_BYTES)
            add_file(&b, field.bytes);
    }
    if (b.failed)
        return NULL;
    b.set = cfg_alloc(loader->scratch, sizeof(*b.set));
    b.set->types = cfg_alloc_array(loader->scratch, b.count, sizeof(struct type *));
    for (struct type *type = b.list; type; type = type->next) {
        b.set->types[b.set->count++] = type;
        if (type->is_enum) {
            type->enumeration = cfg_alloc(loader->arena, sizeof(*type->enumeration));
        } else {
            type->schema = cfg_alloc(loader->arena, sizeof(*type->schema));
            type->schema->name = type->name.ptr;
        }
    }
    if (b.count)
        qsort(b.set->types, b.count, sizeof(struct type *), compare_types);
    for (size_t i = 0; i < b.count; i++) {
        if (b.set->types[i]->is_enum)
            fill_enum(&b, b.set->types[i]);
        else
            fill_message(&b, b.set->types[i]);
    }
    return b.failed ? NULL : b.set;
}

const struct cfg_schema *cfg_descriptors_find(const struct cfg_descriptors *descriptors,
                                              struct span full_name) {
    const struct type *type = find(descriptors, full_name);
    return type && !type->is_map_entry ? type->schema : NULL;
}
