#include "config/tree.h"

struct cfg_tree *cfg_tree_get(const struct cfg_tree *map, struct span key) {
    if (map->kind != NODE_MAP)
        return NULL;
    for (size_t i = 0; i < map->count; i++) {
        if (span_eq(map->entries[i].key, key))
            return map->entries[i].value;
    }
    return NULL;
}

const char *cfg_tree_kind_name(const struct cfg_tree *node) {
    switch (node->kind) {
    case NODE_NULL:
        return "null";
    case NODE_STRING:
        return "a string";
    case NODE_PLAIN:
        return "a plain value";
    case NODE_LIST:
        return "a list";
    case NODE_MAP:
        return "an object";
    }
    return "?";
}

bool cfg_tree_is_zero(const struct cfg_tree *node) {
    if (node->kind != NODE_PLAIN && node->kind != NODE_STRING)
        return false;
    bool has_zero = false;
    for (size_t i = 0; i < node->text.len; i++) {
        char c = node->text.ptr[i];
        has_zero = has_zero || c == '0';
        if (c != '0' && !strchr("+-.xX", c))
            return false;
    }
    return has_zero;
}
