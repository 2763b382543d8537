/* decode: a node tree into the C structs, by the tables: protobuf's JSON mapping.
 *
 * Nothing stops at the first problem: a bad field is reported and left at zero, and the walk goes
 * on, so that one run tells everything that is wrong with a file.
 *
 * D1  A struct arrives zeroed, and each field is written at most once: writing one field under its
 *     two names (snake_case and lowerCamelCase), or two members of a oneof, is an error.
 * D2  null is absence, but for google.protobuf.Value, where it is a value.
 * D3  Recursion is bounded by the depth of the node tree (NODE_DEPTH_MAX), as every level of the
 *     tables consumes one level of nodes. */
#include "config/load.h"

static void *member(void *message, uint32_t offset) {
    return (char *)message + offset;
}

static void set_int(void *message, uint32_t at, int value) {
    if (at)
        memcpy(member(message, at - 1), &value, sizeof(value));
}

static void set_bool(void *message, uint32_t at, bool value) {
    if (at)
        memcpy(member(message, at - 1), &value, sizeof(value));
}

static void set_size(void *message, uint32_t at, size_t value) {
    ASSERT(at);
    memcpy(member(message, at - 1), &value, sizeof(value));
}

static void set_pointer(void *message, uint32_t offset, const void *value) {
    memcpy(member(message, offset), &value, sizeof(value));
}

void cfg_decode_value(struct cfg_loader *loader, const struct cfg_field *field,
                      const struct cfg_tree *node, const struct cfg_path *path, void *out) {
    switch (field->type) {
    case CFG_MESSAGE:
        cfg_decode_message(loader, field->schema, node, path, false, out);
        break;
    case CFG_ANY:
        cfg_decode_any(loader, field, node, path, out);
        break;
    case CFG_VALUE:
    case CFG_STRUCT:
    case CFG_LIST_VALUE:
        cfg_decode_json_value(loader, field, node, path, out);
        break;
    default:
        cfg_decode_scalar(loader, field, node, path, out);
        break;
    }
}

static void decode_list(struct cfg_loader *loader, const struct cfg_field *field,
                        const struct cfg_tree *node, const struct cfg_path *path, void *message) {
    /* A value in place of a list is a list of one, as Envoy's JSON reader has it. */
    struct cfg_tree *only[1] = {(struct cfg_tree *)(uintptr_t)node};
    struct cfg_tree single = {
        .kind = NODE_LIST, .line = node->line, .file = node->file, .items = only, .count = 1};
    if (node->kind != NODE_LIST)
        node = &single;
    if ((field->rules & CFG_REQUIRED) && node->count == 0) {
        cfg_report(loader, CFG_PROBLEM_INVALID, node, path, "needs at least one item");
        return;
    }
    if ((field->rules & CFG_MAX_ITEMS) && node->count > (size_t)field->max) {
        cfg_report(loader, CFG_PROBLEM_INVALID, node, path, "has %zu items, at most %lld may be",
                   node->count, (long long)field->max);
        return;
    }
    size_t stride = cfg_value_size(field);
    char *items = cfg_alloc_array(loader->arena, node->count, stride);
    set_pointer(message, field->offset, items);
    set_size(message, field->count_at, node->count);
    for (size_t i = 0; i < node->count; i++) {
        struct span text = span_none();
        const struct cfg_path at = {.up = path, .index = i, .text = &text};
        const struct cfg_tree *item = node->items[i];
        if (item->kind == NODE_NULL && field->type != CFG_VALUE) {
            cfg_report(loader, CFG_PROBLEM_INVALID, item, &at, "null cannot be an item of a list");
            continue;
        }
        cfg_decode_value(loader, field, item, &at, items + i * stride);
        cfg_check_value(loader, field, item, &at, items + i * stride);
    }
}

static void decode_map(struct cfg_loader *loader, const struct cfg_field *field,
                       const struct cfg_tree *node, const struct cfg_path *path, void *message) {
    if (node->kind != NODE_MAP) {
        cfg_report(loader, CFG_PROBLEM_INVALID, node, path, "expected an object (a map), found %s",
                   cfg_tree_kind_name(node));
        return;
    }
    const struct cfg_field *key_field = &field->schema->fields[0];
    const struct cfg_field *value_field = &field->schema->fields[1];
    size_t stride = field->schema->size;
    char *entries = cfg_alloc_array(loader->arena, node->count, stride);
    set_pointer(message, field->offset, entries);
    set_size(message, field->count_at, node->count);
    for (size_t i = 0; i < node->count; i++) {
        const struct cfg_tree_entry *entry = &node->entries[i];
        struct span text = span_none();
        const struct cfg_path at = {.up = path, .key = entry->key, .text = &text};
        char *slot = entries + i * stride;
        struct cfg_tree key = {.kind =
                                   NODE_STRING, /* keys are strings in JSON, whatever the type */
                               .is_json = true,
                               .line = entry->line,
                               .file = node->file,
                               .text = entry->key};
        cfg_decode_scalar(loader, key_field, &key, &at, slot + key_field->offset);
        cfg_check_value(loader, key_field, &key, &at, slot + key_field->offset);
        if (entry->value->kind == NODE_NULL && value_field->type != CFG_VALUE) {
            cfg_report(loader, CFG_PROBLEM_INVALID, entry->value, &at,
                       "null cannot be a value of a map");
            continue;
        }
        void *value = slot + value_field->offset;
        if (value_field->type == CFG_MESSAGE && !value_field->is_inline) {
            void *target = cfg_alloc(loader->arena, value_field->schema->size);
            set_pointer(slot, value_field->offset, target);
            value = target;
        }
        cfg_decode_value(loader, value_field, entry->value, &at, value);
        cfg_check_value(loader, value_field, entry->value, &at, value);
    }
}

static void decode_field(struct cfg_loader *loader, const struct cfg_field *field,
                         const struct cfg_tree *node, const struct cfg_path *path, void *message) {
    if (field->shape == CFG_REPEATED) {
        decode_list(loader, field, node, path, message);
        return;
    }
    if (field->shape == CFG_MAP) {
        decode_map(loader, field, node, path, message);
        return;
    }
    set_int(message, field->case_at, (int)field->number);
    set_bool(message, field->has_at, true);
    void *value = member(message, field->offset);
    if (field->type == CFG_MESSAGE && !field->is_inline) {
        void *target = cfg_alloc(loader->arena, field->schema->size);
        set_pointer(message, field->offset, target);
        value = target;
    }
    cfg_decode_value(loader, field, node, path, value);
    cfg_check_value(loader, field, node, path, value);
}

static void report_unknown(struct cfg_loader *loader, const struct cfg_schema *schema,
                           const struct cfg_tree *node, const struct cfg_tree_entry *entry,
                           const struct cfg_path *path) {
    enum cfg_problem_kind kind = loader->allow_unknown ? CFG_PROBLEM_WARNING : CFG_PROBLEM_UNKNOWN;
    const char *near = cfg_field_suggest(schema, entry->key);
    cfg_report_line(loader, kind, node, entry->line, path, "unknown field \"%.*s\" in %s%s%s%s%s",
                    (int)entry->key.len, entry->key.ptr, schema->name,
                    near ? "; did you mean \"" : "", near ? near : "", near ? "\"?" : "",
                    kind == CFG_PROBLEM_WARNING ? " (ignored)" : "");
}

/* The field already set in the same oneof, or NULL. */
static const struct cfg_field *oneof_rival(const struct cfg_schema *schema, const bool *seen,
                                           const struct cfg_field *field) {
    if (!field->oneof)
        return NULL;
    for (size_t i = 0; i < schema->fields_count; i++) {
        const struct cfg_field *other = &schema->fields[i];
        if (seen[i] && other != field && other->oneof && strcmp(other->oneof, field->oneof) == 0)
            return other;
    }
    return NULL;
}

/* For "one of a, b, c is required". */
static struct span oneof_members(struct cfg_loader *loader, const struct cfg_schema *schema,
                                 const char *oneof) {
    struct cfg_buf buf = {.arena = loader->scratch};
    for (size_t i = 0; i < schema->fields_count; i++) {
        const struct cfg_field *field = &schema->fields[i];
        if (!field->oneof || strcmp(field->oneof, oneof) != 0)
            continue;
        cfg_buf_text(&buf, buf.len ? ", " : "");
        cfg_buf_text(&buf, field->name);
    }
    return cfg_buf_view(&buf);
}

static void check_absent_fields(struct cfg_loader *loader, const struct cfg_schema *schema,
                                const struct cfg_tree *node, const struct cfg_path *path,
                                const bool *seen, bool had_unsupported) {
    for (size_t i = 0; i < schema->fields_count; i++) {
        const struct cfg_field *field = &schema->fields[i];
        if (seen[i])
            continue;
        if (!field->oneof) {
            cfg_check_absent(loader, schema, field, node, path);
            continue;
        }
        /* A oneof of which an unsupported member was written has its message already. */
        if (!(field->rules & CFG_ONEOF_REQUIRED) || had_unsupported ||
            oneof_rival(schema, seen, field))
            continue;
        bool reported = false;
        for (size_t k = 0; k < i && !reported; k++) {
            reported = schema->fields[k].oneof && (schema->fields[k].rules & CFG_ONEOF_REQUIRED) &&
                       strcmp(schema->fields[k].oneof, field->oneof) == 0;
        }
        if (reported)
            continue;
        struct span members = oneof_members(loader, schema, field->oneof);
        if (memchr(members.ptr, ',', members.len)) {
            cfg_report(loader, CFG_PROBLEM_INVALID, node, path, "one of %.*s is required",
                       (int)members.len, members.ptr);
        } else {
            cfg_report(loader, CFG_PROBLEM_INVALID, node, path, "%.*s is required",
                       (int)members.len, members.ptr);
        }
    }
}

void cfg_decode_message(struct cfg_loader *loader, const struct cfg_schema *schema,
                        const struct cfg_tree *node, const struct cfg_path *path, bool skip_type,
                        void *message) {
    if (schema->mark_at) {
        struct cfg_mark mark = cfg_mark_at(loader, node, path);
        memcpy(member(message, schema->mark_at - 1), &mark, sizeof(mark));
    }
    if (schema->is_well_known) {
        decode_field(loader, &schema->fields[0], node, path, message);
        return;
    }
    if (node->kind != NODE_MAP) {
        cfg_report(loader, CFG_PROBLEM_INVALID, node, path, "expected an object (%s), found %s",
                   schema->name, cfg_tree_kind_name(node));
        return;
    }
    bool *seen = cfg_alloc_array(loader->scratch, schema->fields_count, sizeof(*seen));
    bool had_unsupported = false;
    for (size_t i = 0; i < node->count; i++) {
        const struct cfg_tree_entry *entry = &node->entries[i];
        if (skip_type && span_eq(entry->key, SPAN_LIT("@type")))
            continue;
        const struct cfg_field *field = cfg_field_find(schema, entry->key);
        if (!field) {
            const struct cfg_missing *missing = cfg_missing_find(schema, entry->key);
            if (missing) {
                const struct cfg_path at = {.up = path, .name = missing->name, .within = node};
                cfg_report_line(loader, CFG_PROBLEM_UNSUPPORTED, node, entry->line, &at,
                                "not supported yet: Envoy has this field, this release does not");
                had_unsupported = true;
            } else {
                report_unknown(loader, schema, node, entry, path);
            }
            continue;
        }
        struct span text = span_none();
        const struct cfg_path at = {.up = path, .name = field->name, .within = node, .text = &text};
        bool is_null_value = field->type == CFG_VALUE && field->shape == CFG_SINGULAR;
        if (entry->value->kind == NODE_NULL && !is_null_value)
            continue;
        size_t index = (size_t)(field - schema->fields);
        if (seen[index]) {
            cfg_report_line(loader, CFG_PROBLEM_INVALID, node, entry->line, &at,
                            "written twice, in snake_case and in lowerCamelCase");
            continue;
        }
        const struct cfg_field *rival = oneof_rival(schema, seen, field);
        seen[index] = true;
        if (rival) {
            cfg_report_line(loader, CFG_PROBLEM_INVALID, node, entry->line, &at,
                            "%s and %s cannot both be set: they are one choice (%s)", rival->name,
                            field->name, field->oneof);
            continue;
        }
        decode_field(loader, field, entry->value, &at, message);
    }
    check_absent_fields(loader, schema, node, path, seen, had_unsupported);
    if (schema->check)
        schema->check(loader, node, path, message);
}
