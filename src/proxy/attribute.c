/* attribute: a path is walked name by name, as Envoy's Go host walks values of CEL:
 *
 *     "request"  .  "headers"  .  "x-user"          a group, one of its fields, a name in that
 *     GROUP         HEADERS       TEXT
 *
 * Nothing is made before it is asked for: a step looks at one field. A value at which the path ends becomes text; one
 * that has no names in it, where the path goes on, has no such attribute. A dot at the end counts for nothing.
 *
 * Differences to Envoy are for the better: a key of metadata or filter state that has dots in it, as the names of
 * filters do, is found although its dots separate names; and filter state of Go filters is found at all. */
#include <stdlib.h>

#include "proxy/attribute_internal.h"
#include "proxy/downstream.h"
#include "proxy/filter_state.h"
#include "proxy/metadata_wire.h"
#include "proxy/stream_info.h"

static struct metadata *inherited(const struct attribute_subject *of) {
    return of->downstream ? of->downstream->info->metadata : NULL;
}

static struct value root(struct span name) {
    if (span_eq(name, SPAN_LIT("metadata")))
        return (struct value){.kind = VALUE_DYNAMIC};
    if (span_eq(name, SPAN_LIT("filter_state")))
        return (struct value){.kind = VALUE_STATE, .number = false};
    if (span_eq(name, SPAN_LIT("upstream_filter_state")))
        return (struct value){.kind = VALUE_STATE, .number = true};
    return value_of_group(name);
}

/* ---- the walk ---- */

/* What rest begins with, if a dot or nothing follows: how long that is with its dot. 0: no. */
static size_t begins_with(struct span rest, struct span key) {
    if (!span_starts_with(rest, key))
        return 0;
    return rest.len == key.len ? key.len : rest.ptr[key.len] == '.' ? key.len + 1 : 0;
}

/* The longest key of those offered that the rest of the path begins with. */
struct best {
    const struct cfg_value *tree;
    size_t len; /* 0: none does */
};

static void offer(struct best *best, const struct walk *walk, struct span key,
                  const struct cfg_value *tree) {
    size_t len = begins_with(walk->rest, key);
    if (len > best->len)
        *best = (struct best){tree, len};
}

static struct value take_best(struct walk *walk, struct best best) {
    if (!best.len)
        return value_absent;
    walk->rest = span_from(walk->rest, best.len);
    return (struct value){.kind = VALUE_TREE, .tree = best.tree};
}

static struct value longest(struct walk *walk, const struct cfg_value *tree) {
    struct best best = {0};
    for (size_t i = 0; tree && i < tree->fields_count; i++)
        offer(&best, walk, tree->fields[i].key, &tree->fields[i].value);
    return take_best(walk, best);
}

static struct value in_spaces(struct walk *walk, const struct cfg_metadata *metadata) {
    struct best best = {0};
    for (size_t i = 0; metadata && i < metadata->filter_metadata_count; i++)
        offer(&best, walk, metadata->filter_metadata[i].key, metadata->filter_metadata[i].value);
    return take_best(walk, best);
}

static bool index_of(struct span name, size_t count, uint64_t *index) {
    return span_to_u64(name, index) && *index < count;
}

static struct value in_state(struct walk *walk, bool only_shared) {
    const struct attribute_subject *of = walk->of;
    struct filter_state *connections = of->downstream ? of->downstream->info->filter_state : NULL;
    struct span key = walk->rest;
    if (only_shared && !of->info->upstream_local.len)
        return value_absent; /* there is no upstream yet that it could be shown to */
    while (!filter_state_get(of->filter_state, connections, key, only_shared, &walk->made)) {
        while (key.len && key.ptr[key.len - 1] != '.')
            key.len--;
        if (key.len == 0)
            return value_absent;
        key.len--;
    }
    walk->rest = span_from(walk->rest, key.len);
    if (walk->rest.len)
        walk->rest = span_from(walk->rest, 1);
    return value_made(walk);
}

/* Up to the next dot, which is passed. */
static struct span next_name(struct walk *walk) {
    ptrdiff_t dot = span_find(walk->rest, '.');
    struct span name = dot < 0 ? walk->rest : span_make(walk->rest.ptr, (size_t)dot);
    walk->rest = span_from(walk->rest, dot < 0 ? name.len : name.len + 1);
    return name;
}

static struct value in_tree(struct walk *walk, const struct cfg_value *tree) {
    uint64_t index;
    if (tree->kind == CFG_VALUE_STRUCT)
        return longest(walk, tree);
    if (tree->kind != CFG_VALUE_LIST || !index_of(next_name(walk), tree->items_count, &index))
        return value_absent;
    return (struct value){.kind = VALUE_TREE, .tree = &tree->items[index]};
}

/* Typed metadata is not to be had, but its field is there, empty. */
static struct value in_message(struct walk *walk, struct value message) {
    struct span field = next_name(walk);
    bool dynamic = message.kind == VALUE_DYNAMIC;
    if (span_eq(field, SPAN_LIT("filter_metadata")))
        return dynamic ? (struct value){.kind = VALUE_SPACES}
                       : (struct value){.kind = VALUE_CONFIG_SPACES, .config = message.config};
    return span_eq(field, SPAN_LIT("typed_filter_metadata"))
               ? (struct value){.kind = VALUE_CONFIG_SPACES}
               : value_absent;
}

static struct value step(struct walk *walk, struct value at, const struct cfg_value *spaces) {
    switch (at.kind) {
    case VALUE_GROUP:
        return at.group(walk, next_name(walk));
    case VALUE_HEADERS:
        return value_of_header(walk, at.headers, next_name(walk));
    case VALUE_TREE:
        return in_tree(walk, at.tree);
    case VALUE_DYNAMIC:
    case VALUE_CONFIG:
        return in_message(walk, at);
    case VALUE_SPACES:
        return longest(walk, spaces);
    case VALUE_CONFIG_SPACES:
        return in_spaces(walk, at.config);
    case VALUE_STATE:
        return in_state(walk, at.number);
    default:
        return value_absent;
    }
}

/* ---- the end of it ---- */

static enum attribute_result put_tree(const struct cfg_value *tree, struct format_out *out) {
    switch (tree->kind) {
    case CFG_VALUE_STRING:
        format_out_put(out, tree->string);
        return ATTRIBUTE_TEXT;
    case CFG_VALUE_NUMBER:
        attribute_put_double(out, tree->number);
        return ATTRIBUTE_TEXT;
    case CFG_VALUE_BOOL:
        format_out_put(out, tree->boolean ? SPAN_LIT("true") : SPAN_LIT("false"));
        return ATTRIBUTE_TEXT;
    default:
        return ATTRIBUTE_NO_TEXT;
    }
}

static void put_message(const struct attribute_subject *of, struct value message,
                        struct format_out *out) {
    struct cfg_buf wire = {0};
    if (message.kind == VALUE_DYNAMIC)
        metadata_wire_all(of->metadata, inherited(of), &wire);
    else
        metadata_wire_config(message.config, &wire);
    format_out_put(out, cfg_buf_view(&wire));
    out->failed |= wire.failed;
    cfg_buf_fini(&wire);
}

static enum attribute_result put_value(const struct attribute_subject *of, struct value value,
                                       struct format_out *out) {
    switch (value.kind) {
    case VALUE_ABSENT:
        return ATTRIBUTE_ABSENT;
    case VALUE_TEXT:
        format_out_put(out, value.text);
        return ATTRIBUTE_TEXT;
    case VALUE_INTEGER:
        attribute_put_integer(out, value.number);
        return ATTRIBUTE_TEXT;
    case VALUE_BOOLEAN:
        format_out_put(out, value.number ? SPAN_LIT("true") : SPAN_LIT("false"));
        return ATTRIBUTE_TEXT;
    case VALUE_DURATION:
        attribute_put_duration(out, value.number);
        return ATTRIBUTE_TEXT;
    case VALUE_TIME:
        attribute_put_time(out, value.number);
        return ATTRIBUTE_TEXT;
    case VALUE_TREE:
        return put_tree(value.tree, out);
    case VALUE_DYNAMIC:
    case VALUE_CONFIG:
        put_message(of, value, out);
        return ATTRIBUTE_TEXT;
    default:
        return ATTRIBUTE_NO_TEXT;
    }
}

/* spaces: what the dynamic metadata is taken to be, locked. */
static enum attribute_result walk_with(struct walk *walk, const struct cfg_value *spaces,
                                       struct format_out *out) {
    struct value value = root(next_name(walk));
    while (walk->rest.len && value.kind != VALUE_ABSENT)
        value = step(walk, value, spaces);
    return put_value(walk->of, value, out);
}

/* The exchange's own, and where that says nothing, its connection's. The message as a whole is of both. */
static enum attribute_result walk_metadata(const struct attribute_subject *of, struct span path,
                                           struct format_out *out) {
    struct metadata *const both[] = {of->metadata, inherited(of)};
    enum attribute_result result = ATTRIBUTE_ABSENT;
    struct walk whole = {.of = of, .rest = path};
    (void)next_name(&whole);
    if (!whole.rest.len) {
        put_message(of, (struct value){.kind = VALUE_DYNAMIC}, out);
        return ATTRIBUTE_TEXT;
    }
    for (int i = 0; i < 2 && result == ATTRIBUTE_ABSENT; i++) {
        struct walk walk = {.of = of, .rest = path};
        metadata_lock(both[i]);
        result = walk_with(&walk, both[i] ? metadata_all(both[i]) : NULL, out);
        metadata_unlock(both[i]);
    }
    return result;
}

enum attribute_result attribute_text(const struct attribute_subject *of, struct span path,
                                     struct format_out *out) {
    enum attribute_result result;
    if (path.len == 0)
        return ATTRIBUTE_NO_TEXT; /* as Envoy has it */
    if (path.len > ATTRIBUTE_PATH_MAX)
        return ATTRIBUTE_ABSENT;
    if (begins_with(path, SPAN_LIT("metadata"))) {
        result = walk_metadata(of, path, out);
    } else {
        struct walk walk = {.of = of, .rest = path};
        result = walk_with(&walk, NULL, out);
        out->failed |= walk.made.failed;
        free(walk.made.data);
    }
    return out->failed ? ATTRIBUTE_NO_MEMORY : result;
}
