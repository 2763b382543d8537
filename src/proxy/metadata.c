/* metadata: a list of namespaces, each a Struct. There are few of both, so they are looked up one by one. */
#include "proxy/metadata.h"

#include <errno.h>

#include "mem/arena.h"
#include "proxy/connection_info.h"

struct name_space {
    struct name_space *next;
    struct span name;
    struct cfg_value values; /* a Struct */
    size_t capacity;         /* of its fields */
};

struct metadata {
    struct arena *arena;          /* or */
    struct connection_info *info; /* exactly one of them: where memory is from */
    struct name_space *first;
};

static void *take(const struct metadata *metadata, size_t size) {
    return metadata->arena ? arena_alloc(metadata->arena, size)
                           : connection_info_alloc(metadata->info, size);
}

static struct metadata *begin(struct metadata from) {
    struct metadata *metadata = take(&from, sizeof *metadata);
    if (metadata)
        *metadata = from;
    return metadata;
}

struct metadata *metadata_in_arena(struct arena *arena) {
    return begin((struct metadata){.arena = arena});
}

struct metadata *metadata_of_connection(struct connection_info *info) {
    return begin((struct metadata){.info = info});
}

/* ---- setting ---- */

static int copy_text(const struct metadata *metadata, struct span from, struct span *to) {
    *to = SPAN_LIT("");
    if (from.len == 0)
        return 0;
    char *bytes = take(metadata, from.len);
    if (!bytes)
        return -ENOMEM;
    memcpy(bytes, from.ptr, from.len);
    *to = span_make(bytes, from.len);
    return 0;
}

static int copy_value(const struct metadata *metadata, const struct cfg_value *from,
                      struct cfg_value *to, unsigned depth);

static int copy_fields(const struct metadata *metadata, const struct cfg_value *from,
                       struct cfg_value *to, unsigned depth) {
    to->fields = take(metadata, (from->fields_count + 1) * sizeof to->fields[0]);
    if (!to->fields)
        return -ENOMEM;
    for (size_t i = 0; i < from->fields_count; i++) {
        int rc = copy_text(metadata, from->fields[i].key, &to->fields[i].key);
        if (rc == 0)
            rc = copy_value(metadata, &from->fields[i].value, &to->fields[i].value, depth + 1);
        if (rc != 0)
            return rc;
    }
    return 0;
}

static int copy_items(const struct metadata *metadata, const struct cfg_value *from,
                      struct cfg_value *to, unsigned depth) {
    to->items = take(metadata, (from->items_count + 1) * sizeof to->items[0]);
    if (!to->items)
        return -ENOMEM;
    for (size_t i = 0; i < from->items_count; i++) {
        int rc = copy_value(metadata, &from->items[i], &to->items[i], depth + 1);
        if (rc != 0)
            return rc;
    }
    return 0;
}

static int copy_value(const struct metadata *metadata, const struct cfg_value *from,
                      struct cfg_value *to, unsigned depth) {
    if (depth > METADATA_DEPTH_MAX)
        return -EINVAL;
    *to = *from;
    switch (from->kind) {
    case CFG_VALUE_STRING:
        return copy_text(metadata, from->string, &to->string);
    case CFG_VALUE_STRUCT:
        return copy_fields(metadata, from, to, depth);
    case CFG_VALUE_LIST:
        return copy_items(metadata, from, to, depth);
    case CFG_VALUE_NULL:
    case CFG_VALUE_NUMBER:
    case CFG_VALUE_BOOL:
        break;
    }
    return 0;
}

static struct name_space *find_space(const struct metadata *metadata, struct span name) {
    for (struct name_space *at = metadata ? metadata->first : NULL; at; at = at->next)
        if (span_eq(at->name, name))
            return at;
    return NULL;
}

static struct name_space *make_space(struct metadata *metadata, struct span name) {
    struct name_space *space = take(metadata, sizeof *space);
    if (!space)
        return NULL;
    *space = (struct name_space){.next = metadata->first, .values.kind = CFG_VALUE_STRUCT};
    if (copy_text(metadata, name, &space->name) != 0)
        return NULL;
    metadata->first = space;
    return space;
}

static struct cfg_value_field *find_field(const struct cfg_value *values, struct span key) {
    for (size_t i = 0; values->kind == CFG_VALUE_STRUCT && i < values->fields_count; i++)
        if (span_eq(values->fields[i].key, key))
            return &values->fields[i];
    return NULL;
}

/* A place behind the last field. */
static struct cfg_value_field *make_field(const struct metadata *metadata,
                                          struct name_space *space) {
    struct cfg_value *values = &space->values;
    if (values->fields_count == space->capacity) {
        size_t capacity = space->capacity ? space->capacity * 2 : 4;
        struct cfg_value_field *fields = take(metadata, capacity * sizeof *fields);
        if (!fields)
            return NULL;
        if (values->fields_count)
            memcpy(fields, values->fields, values->fields_count * sizeof *fields);
        values->fields = fields;
        space->capacity = capacity;
    }
    return &values->fields[values->fields_count];
}

int metadata_set(struct metadata *metadata, struct span name_space, struct span key,
                 const struct cfg_value *value) {
    struct cfg_value copy;
    int rc = copy_value(metadata, value, &copy, 0);
    if (rc != 0)
        return rc;
    struct name_space *space = find_space(metadata, name_space);
    if (!space)
        space = make_space(metadata, name_space);
    if (!space)
        return -ENOMEM;
    struct cfg_value_field *field = find_field(&space->values, key);
    if (field) {
        field->value = copy;
        return 0;
    }
    field = make_field(metadata, space);
    if (!field || copy_text(metadata, key, &field->key) != 0)
        return -ENOMEM;
    field->value = copy;
    space->values.fields_count++;
    return 0;
}

int metadata_set_text(struct metadata *metadata, struct span name_space, struct span key,
                      struct span text) {
    struct cfg_value value = {.kind = CFG_VALUE_STRING, .string = text};
    return metadata_set(metadata, name_space, key, &value);
}

/* ---- finding ---- */

const struct cfg_value *metadata_find(const struct metadata *metadata, struct span name_space,
                                      const struct span *keys, size_t count) {
    const struct name_space *space = find_space(metadata, name_space);
    const struct cfg_value *value = space ? &space->values : NULL;
    for (size_t i = 0; value && i < count; i++) {
        const struct cfg_value_field *field = find_field(value, keys[i]);
        value = field ? &field->value : NULL;
    }
    return value;
}
