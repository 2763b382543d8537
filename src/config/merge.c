/* merge: --config-yaml over the file, as protobuf's MergeFrom would merge the two messages.
 *
 * It works on the node trees, before decoding: each node keeps its own file and line, and rules
 * such as "required" see the merged whole. Both spellings of a name are the same field. What the
 * tables do not know is kept, for the decoder to report. */
#include "config/load.h"

static const struct cfg_field *field_of(const struct cfg_schema *schema, struct span key) {
    return schema ? cfg_field_find(schema, key) : NULL;
}

/* Do two keys name the same thing, or two members of one oneof? */
static bool same_field(const struct cfg_schema *schema, struct span a, struct span b) {
    const struct cfg_field *x = field_of(schema, a), *y = field_of(schema, b);
    return x && y ? x == y : span_eq(a, b);
}

static bool same_oneof(const struct cfg_schema *schema, struct span a, struct span b) {
    const struct cfg_field *x = field_of(schema, a), *y = field_of(schema, b);
    return x && y && x != y && x->oneof && y->oneof && strcmp(x->oneof, y->oneof) == 0;
}

/* A scalar without presence that is zero says nothing to MergeFrom. */
static bool says_nothing(const struct cfg_field *field, const struct cfg_tree *over) {
    if (over->kind == NODE_NULL)
        return true;
    bool implicit =
        field && field->shape == CFG_SINGULAR && !field->wrapped && !field->oneof && !field->has_at;
    if (!implicit || (over->kind != NODE_PLAIN && over->kind != NODE_STRING))
        return false;
    switch (field->type) {
    case CFG_STRING:
    case CFG_BYTES:
        return over->text.len == 0;
    case CFG_BOOL:
        return span_eq(over->text, SPAN_LIT("false"));
    case CFG_ENUM: {
        const struct cfg_enum_value *first = cfg_enum_at(field->enumeration, 0);
        return (first && span_eq(over->text, span_of(first->name))) || cfg_tree_is_zero(over);
    }
    case CFG_U32:
    case CFG_U64:
    case CFG_I32:
    case CFG_I64:
    case CFG_DOUBLE:
        return cfg_tree_is_zero(over);
    default:
        return false;
    }
}

static struct cfg_tree *append(struct cfg_loader *loader, const struct cfg_tree *base,
                               const struct cfg_tree *over) {
    struct cfg_tree *both = cfg_alloc(loader->scratch, sizeof(*both));
    *both = *base;
    both->count = base->count + over->count;
    both->items = cfg_alloc_array(loader->scratch, both->count, sizeof(struct cfg_tree *));
    for (size_t i = 0; i < both->count; i++)
        both->items[i] = i < base->count ? base->items[i] : over->items[i - base->count];
    return both;
}

/* A value in place of a list is a list of one. */
static const struct cfg_tree *as_list(struct cfg_loader *loader, struct cfg_tree *node) {
    if (node->kind == NODE_LIST)
        return node;
    struct cfg_tree *list = cfg_alloc(loader->scratch, sizeof(*list));
    *list =
        (struct cfg_tree){.kind = NODE_LIST, .line = node->line, .file = node->file, .count = 1};
    list->items = cfg_alloc(loader->scratch, sizeof(struct cfg_tree *));
    list->items[0] = node;
    return list;
}

static struct cfg_tree *merge_value(struct cfg_loader *loader, const struct cfg_field *field,
                                    struct cfg_tree *base, struct cfg_tree *over) {
    if (base->kind == NODE_NULL)
        return over;
    if (field && field->shape == CFG_REPEATED)
        return append(loader, as_list(loader, base), as_list(loader, over));
    bool both_maps = base->kind == NODE_MAP && over->kind == NODE_MAP;
    /* Entries of a map and fields of a Struct are taken over whole: no table, no recursion. */
    if (both_maps && field && (field->shape == CFG_MAP || field->type == CFG_STRUCT))
        return cfg_merge(loader, NULL, base, over);
    if (both_maps && field && field->shape == CFG_SINGULAR && field->type == CFG_MESSAGE)
        return cfg_merge(loader, field->schema, base, over);
    return over;
}

struct cfg_tree *cfg_merge(struct cfg_loader *loader, const struct cfg_schema *schema,
                           struct cfg_tree *base, struct cfg_tree *over) {
    if (base->kind != NODE_MAP || over->kind != NODE_MAP)
        return over->kind == NODE_NULL ? base : over;
    struct cfg_tree *merged = cfg_alloc(loader->scratch, sizeof(*merged));
    *merged = *base;
    merged->entries =
        cfg_alloc_array(loader->scratch, base->count + over->count, sizeof(*merged->entries));
    merged->count = 0;
    bool *taken = cfg_alloc_array(loader->scratch, over->count, sizeof(*taken));
    for (size_t i = 0; i < base->count; i++) {
        struct cfg_tree_entry entry = base->entries[i];
        bool dropped = false;
        for (size_t k = 0; k < over->count; k++) {
            struct cfg_tree_entry *other = &over->entries[k];
            const struct cfg_field *field = field_of(schema, other->key);
            if (same_field(schema, entry.key, other->key)) {
                taken[k] = true;
                if (!says_nothing(field, other->value))
                    entry.value = merge_value(loader, field, entry.value, other->value);
            } else if (same_oneof(schema, entry.key, other->key) &&
                       other->value->kind != NODE_NULL) {
                dropped = true;
            }
        }
        if (!dropped)
            merged->entries[merged->count++] = entry;
    }
    for (size_t k = 0; k < over->count; k++) {
        if (!taken[k])
            merged->entries[merged->count++] = over->entries[k];
    }
    return merged;
}
