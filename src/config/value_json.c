/* value_json: the loader's tree of the text, turned into values. A number that no double can hold is none. */
#include "config/value_json.h"

#include <errno.h>

#include "config/scalar.h"
#include "config/tree.h"

static bool fill(struct cfg_arena *arena, const struct cfg_tree *node, struct cfg_value *out);

static bool fill_scalar(const struct cfg_tree *node, struct cfg_value *out) {
    struct cfg_scalar scalar = cfg_scalar_of(node);
    switch (scalar.kind) {
    case CFG_SCALAR_BOOL:
        *out = (struct cfg_value){.kind = CFG_VALUE_BOOL, .boolean = scalar.boolean};
        return true;
    case CFG_SCALAR_NUMBER:
        out->kind = CFG_VALUE_NUMBER;
        return cfg_parse_double(scalar.text, &out->number);
    default:
        *out = (struct cfg_value){.kind = CFG_VALUE_STRING, .string = scalar.text};
        return true;
    }
}

static bool fill_map(struct cfg_arena *arena, const struct cfg_tree *node, struct cfg_value *out) {
    bool ok = true;
    out->kind = CFG_VALUE_STRUCT;
    out->fields_count = node->count;
    out->fields = cfg_alloc_array(arena, node->count, sizeof *out->fields);
    for (size_t i = 0; i < node->count && ok; i++) {
        out->fields[i].key = node->entries[i].key;
        ok = fill(arena, node->entries[i].value, &out->fields[i].value);
    }
    return ok;
}

static bool fill_list(struct cfg_arena *arena, const struct cfg_tree *node, struct cfg_value *out) {
    bool ok = true;
    out->kind = CFG_VALUE_LIST;
    out->items_count = node->count;
    out->items = cfg_alloc_array(arena, node->count, sizeof *out->items);
    for (size_t i = 0; i < node->count && ok; i++)
        ok = fill(arena, node->items[i], &out->items[i]);
    return ok;
}

static bool fill(struct cfg_arena *arena, const struct cfg_tree *node, struct cfg_value *out) {
    *out = (struct cfg_value){.kind = CFG_VALUE_NULL};
    switch (node->kind) {
    case NODE_NULL:
        return true;
    case NODE_MAP:
        return fill_map(arena, node, out);
    case NODE_LIST:
        return fill_list(arena, node, out);
    default:
        return fill_scalar(node, out);
    }
}

int value_json_read(struct cfg_arena *arena, struct span text, struct cfg_value *out) {
    jmp_buf no_memory;
    struct cfg_parse_error error;
    cfg_arena_init(arena, &no_memory);
    if (span_trim(text).len == 0) /* which the loader takes for an empty document */
        return -EINVAL;
    if (setjmp(no_memory) != 0)
        return -ENOMEM;
    const struct cfg_tree *tree =
        cfg_json_parse(arena, SPAN_LIT("value"), text, CFG_JSON_SCALARS, &error);
    bool ok = tree && fill(arena, tree, out);
    arena->on_failure = NULL; /* nothing more is allocated there */
    return ok ? 0 : -EINVAL;
}
