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

bool cfg_utf8_valid(struct span text) {
    const unsigned char *p = (const unsigned char *)text.ptr;
    size_t i = 0;
    while (i < text.len) {
        unsigned lead = p[i];
        if (lead < 0x80) {
            i++;
            continue;
        }
        size_t extra = lead >= 0xF0 ? 3 : lead >= 0xE0 ? 2 : 1;
        if (lead < 0xC2 || lead > 0xF4 || text.len - i <= extra)
            return false;
        /* The second byte's range excludes overlong forms, surrogates and what is past U+10FFFF. */
        unsigned low = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
        unsigned high = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
        if (p[i + 1] < low || p[i + 1] > high)
            return false;
        for (size_t k = 2; k <= extra; k++) {
            if ((p[i + k] & 0xC0) != 0x80)
                return false;
        }
        i += extra + 1;
    }
    return true;
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
