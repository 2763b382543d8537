/* value: google.protobuf.Struct, Value and ListValue.
 *
 * A plain YAML scalar becomes what it becomes on Envoy, which is worth knowing: only integers that
 * fit 32 bits are numbers. Floats and larger integers are strings, because Envoy's YAML loader
 * leaves them to the field's type and a Value has none. In JSON, numbers are numbers. */
#include <inttypes.h>

#include "config/load.h"
#include "config/scalar.h"

static void fill(struct cfg_loader *loader, const struct cfg_tree *node,
                 const struct cfg_path *path, struct cfg_value *out);

static void fill_scalar(struct cfg_loader *loader, const struct cfg_tree *node,
                        const struct cfg_path *path, struct cfg_value *out) {
    struct cfg_scalar s = cfg_scalar_of(node);
    switch (s.kind) {
    case CFG_SCALAR_BOOL:
        out->kind = CFG_VALUE_BOOL;
        out->boolean = s.boolean;
        return;
    case CFG_SCALAR_NUMBER:
        out->kind = CFG_VALUE_NUMBER;
        if (!cfg_parse_double(s.text, &out->number))
            cfg_report(loader, CFG_PROBLEM_INVALID, node, path, "the number %.*s is out of range",
                       (int)s.text.len, s.text.ptr);
        return;
    case CFG_SCALAR_INTEGER:
        if (s.integer >= INT32_MIN && s.integer <= INT32_MAX) {
            out->kind = CFG_VALUE_NUMBER;
            out->number = (double)s.integer;
        } else {
            out->kind = CFG_VALUE_STRING;
            out->string = cfg_printf(loader->arena, "%" PRId64, s.integer);
        }
        return;
    case CFG_SCALAR_STRING:
        out->kind = CFG_VALUE_STRING;
        out->string = cfg_copy(loader->arena, s.text);
        return;
    }
}

static void fill_struct(struct cfg_loader *loader, const struct cfg_tree *node,
                        const struct cfg_path *path, struct cfg_value *out) {
    out->kind = CFG_VALUE_STRUCT;
    out->fields = cfg_alloc_array(loader->arena, node->count, sizeof(*out->fields));
    for (size_t i = 0; i < node->count; i++) {
        const struct cfg_path at = {.up = path, .key = node->entries[i].key};
        struct cfg_value_field *field = &out->fields[out->fields_count++];
        field->key = cfg_copy(loader->arena, node->entries[i].key);
        fill(loader, node->entries[i].value, &at, &field->value);
    }
}

static void fill(struct cfg_loader *loader, const struct cfg_tree *node,
                 const struct cfg_path *path, struct cfg_value *out) {
    switch (node->kind) {
    case NODE_NULL:
        out->kind = CFG_VALUE_NULL;
        break;
    case NODE_STRING:
    case NODE_PLAIN:
        fill_scalar(loader, node, path, out);
        break;
    case NODE_MAP:
        fill_struct(loader, node, path, out);
        break;
    case NODE_LIST:
        out->kind = CFG_VALUE_LIST;
        out->items = cfg_alloc_array(loader->arena, node->count, sizeof(*out->items));
        out->items_count = node->count;
        for (size_t i = 0; i < node->count; i++) {
            const struct cfg_path at = {.up = path, .index = i};
            fill(loader, node->items[i], &at, &out->items[i]);
        }
        break;
    }
}

void cfg_decode_json_value(struct cfg_loader *loader, const struct cfg_field *field,
                           const struct cfg_tree *node, const struct cfg_path *path,
                           struct cfg_value **out) {
    if (field->type == CFG_STRUCT && node->kind != NODE_MAP) {
        cfg_report(loader, CFG_PROBLEM_INVALID, node, path, "expected an object, found %s",
                   cfg_tree_kind_name(node));
        return;
    }
    if (field->type == CFG_LIST_VALUE && node->kind != NODE_LIST) {
        cfg_report(loader, CFG_PROBLEM_INVALID, node, path, "expected a list, found %s",
                   cfg_tree_kind_name(node));
        return;
    }
    *out = cfg_alloc(loader->arena, sizeof(**out));
    fill(loader, node, path, *out);
}
