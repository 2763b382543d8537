/* same: whether two messages say the same, by the tables: without a byte being written, and over at the first difference.
 *
 * Where something stands in its file is no part of what it says, nor is the order of a map's entries. What an Any holds is
 * compared as it is on the wire, where it stands in full and in one order. */
#include "config/load.h"

static bool same_message(const struct cfg_schema *schema, const void *a, const void *b);

/* ---- google.protobuf.Value ---- */

static bool same_tree(const struct cfg_value *a, const struct cfg_value *b);

static bool same_struct(const struct cfg_value *a, const struct cfg_value *b) {
    for (size_t i = 0; i < a->fields_count; i++) {
        const struct cfg_value_field *field = &a->fields[i], *other = &b->fields[i];
        for (size_t k = 0; !span_eq(field->key, other->key) && k < b->fields_count; k++)
            other = &b->fields[k];
        if (!span_eq(field->key, other->key) || !same_tree(&field->value, &other->value))
            return false;
    }
    return true;
}

static bool same_tree(const struct cfg_value *a, const struct cfg_value *b) {
    if (!a || !b)
        return a == b;
    if (a->kind != b->kind || a->fields_count != b->fields_count ||
        a->items_count != b->items_count)
        return false;
    for (size_t i = 0; i < a->items_count; i++)
        if (!same_tree(&a->items[i], &b->items[i]))
            return false;
    /* As bits: what is not a number is as it was. */
    return memcmp(&a->number, &b->number, sizeof a->number) == 0 && a->boolean == b->boolean &&
           span_eq(a->string, b->string) && same_struct(a, b);
}

/* ---- values ---- */

static bool same_masks(const struct cfg_field_mask *a, const struct cfg_field_mask *b) {
    bool same = a->set == b->set && a->paths_count == b->paths_count;
    for (size_t i = 0; same && i < a->paths_count; i++)
        same = span_eq(a->paths[i], b->paths[i]);
    return same;
}

bool cfg_value_is_same(const struct cfg_field *field, const void *a, const void *b) {
    const struct cfg_any *any = a, *other_any = b;
    const struct cfg_duration *duration = a, *other_duration = b;
    const struct cfg_timestamp *time = a, *other_time = b;
    if (field->wrapped) {
        const struct cfg_field inner = {.type = field->type};
        size_t at = cfg_wrapped_offset(field->type);
        return *(const bool *)a == *(const bool *)b &&
               cfg_value_is_same(&inner, (const char *)a + at, (const char *)b + at);
    }
    switch (field->type) {
    case CFG_STRING:
    case CFG_BYTES:
        return span_eq(*(const struct span *)a, *(const struct span *)b);
    case CFG_MESSAGE:
        return same_message(field->schema, a, b);
    case CFG_ANY:
        return span_eq(any->type_url, other_any->type_url) && span_eq(any->value, other_any->value);
    case CFG_DURATION:
        return duration->set == other_duration->set && duration->ns == other_duration->ns;
    case CFG_WIDE_DURATION:
    case CFG_TIMESTAMP:
        return time->set == other_time->set && time->seconds == other_time->seconds &&
               time->nanos == other_time->nanos;
    case CFG_FIELD_MASK:
        return same_masks(a, b);
    case CFG_VALUE:
    case CFG_STRUCT:
    case CFG_LIST_VALUE:
        return same_tree(*(const struct cfg_value *const *)a, *(const struct cfg_value *const *)b);
    default:
        return memcmp(a, b, cfg_scalar_size(field->type)) == 0;
    }
}

/* ---- fields ---- */

static bool same_singular(const struct cfg_field *field, const void *a, const void *b) {
    if (field->has_at || field->case_at) { /* else the value says whether it is there */
        bool is_set = cfg_field_is_set(field, a);
        if (!is_set || !cfg_field_is_set(field, b))
            return is_set == cfg_field_is_set(field, b);
    }
    const void *value = cfg_singular(field, a), *other = cfg_singular(field, b);
    return value && other ? cfg_value_is_same(field, value, other) : value == other;
}

static bool same_list(const struct cfg_field *field, const char *a, const char *b, size_t count) {
    size_t stride = cfg_value_size(field);
    for (size_t at = 0; at < count * stride; at += stride)
        if (!cfg_value_is_same(field, a + at, b + at))
            return false;
    return true;
}

/* Keys are there once. One that is not where it was is looked for. */
static bool same_map(const struct cfg_field *field, const char *a, const char *b, size_t count) {
    const struct cfg_field *key = &field->schema->fields[0], *value = &field->schema->fields[1];
    size_t size = field->schema->size;
    for (size_t i = 0; i < count; i++) {
        const char *entry = a + i * size, *other = b + i * size;
        for (size_t k = 0; !same_singular(key, entry, other) && k < count; k++)
            other = b + k * size;
        if (!same_singular(key, entry, other) || !same_singular(value, entry, other))
            return false;
    }
    return true;
}

static bool same_message(const struct cfg_schema *schema, const void *a, const void *b) {
    for (size_t i = 0; i < schema->fields_count; i++) {
        const struct cfg_field *field = &schema->fields[i];
        if (field->shape == CFG_SINGULAR) {
            if (!same_singular(field, a, b))
                return false;
            continue;
        }
        size_t count, other_count;
        const char *items = cfg_items(field, a, &count),
                   *others = cfg_items(field, b, &other_count);
        if (count != other_count ||
            !(field->shape == CFG_MAP ? same_map(field, items, others, count)
                                      : same_list(field, items, others, count)))
            return false;
    }
    return true;
}

bool cfg_is_same(const struct cfg_schema *schema, const void *a, const void *b) {
    return a && b ? same_message(schema, a, b) : a == b;
}
