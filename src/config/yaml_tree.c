/* yaml_tree: libyaml's events composed into nodes.
 *
 * libyaml has a composer of its own; this one exists because of what it leaves open: duplicate
 * keys, merge keys ("<<"), how far aliases may multiply, and which line a key stood on.
 *
 * Y1  An anchor is entered into the table when its node is complete, so an alias inside its own
 *     anchor finds nothing and cannot make a cycle.
 * Y2  A collection's weight and height are final when it closes; an alias adds its target's to the
 *     collection it stands in. Checking both there bounds whatever walks the tree later.
 * Y3  yaml_parser_t is the only thing here that is not the arena's. An allocation that fails leaves
 *     by longjmp, so the parser hangs on the arena's failure path: see cfg_yaml_parse. */
#include <stdio.h>
#include <yaml.h>

#include "config/tree.h"

struct anchor {
    struct anchor *next;
    struct span name;
    struct cfg_tree *node;
};

struct composer {
    struct cfg_arena *arena;
    struct span file;
    struct cfg_parse_error *error;
    yaml_parser_t parser;
    yaml_event_t event; /* deleted by next() and at the end */
    bool has_event;
    struct anchor *anchors;
    uint64_t alias_weight;
    unsigned depth;
};

static bool fail(struct composer *c, size_t line_index, struct span text) {
    if (!c->error->text.ptr)
        *c->error = (struct cfg_parse_error){.line = (uint32_t)line_index + 1, .text = text};
    return false;
}

static bool next(struct composer *c) {
    if (c->has_event)
        yaml_event_delete(&c->event);
    c->has_event = false;
    if (!yaml_parser_parse(&c->parser, &c->event)) {
        const char *problem = c->parser.problem ? c->parser.problem : "cannot be read";
        /* A reader problem (bad UTF-8) has a byte offset and no mark. */
        size_t line = c->parser.problem_mark.line;
        if (c->parser.error == YAML_READER_ERROR)
            line = c->parser.mark.line;
        return fail(c, line, cfg_printf(c->arena, "not valid YAML: %s", problem));
    }
    c->has_event = true;
    return true;
}

static struct cfg_tree *new_node(struct composer *c, enum cfg_tree_kind kind, size_t line_index) {
    struct cfg_tree *node = cfg_alloc(c->arena, sizeof(*node));
    *node = (struct cfg_tree){
        .kind = kind, .line = (uint32_t)line_index + 1, .weight = 1, .file = c->file};
    return node;
}

static struct span event_text(struct composer *c, const yaml_char_t *text, size_t len) {
    return cfg_copy(c->arena, span_make(text, len));
}

static void add_anchor(struct composer *c, struct span name, struct cfg_tree *node) {
    if (name.len == 0)
        return;
    struct anchor *anchor = cfg_alloc(c->arena, sizeof(*anchor));
    *anchor = (struct anchor){.next = c->anchors, .name = name, .node = node};
    c->anchors = anchor; /* found first: YAML lets a later anchor take over a name */
}

static struct cfg_tree *find_alias(struct composer *c) {
    struct span name = span_of((const char *)c->event.data.alias.anchor);
    size_t line = c->event.start_mark.line;
    for (const struct anchor *a = c->anchors; a; a = a->next) {
        if (!span_eq(a->name, name))
            continue;
        c->alias_weight += a->node->weight;
        if (c->alias_weight > NODE_ALIAS_WEIGHT_MAX) {
            fail(c, line,
                 cfg_printf(c->arena, "aliases expand to more than %d nodes",
                            (int)NODE_ALIAS_WEIGHT_MAX));
            return NULL;
        }
        return a->node;
    }
    fail(c, line,
         cfg_printf(c->arena, "alias *%.*s: no such anchor before it (or it is inside it)",
                    (int)name.len, name.ptr));
    return NULL;
}

static bool plain_is_null(struct span text) {
    return text.len == 0 || span_eq(text, SPAN_LIT("~")) || span_eq(text, SPAN_LIT("null")) ||
           span_eq(text, SPAN_LIT("Null")) || span_eq(text, SPAN_LIT("NULL"));
}

static struct cfg_tree *compose_scalar(struct composer *c) {
    const yaml_event_t *event = &c->event;
    struct span tag = span_of((const char *)event->data.scalar.tag);
    bool is_plain = event->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
    if (tag.len) {
        struct span core = SPAN_LIT("tag:yaml.org,2002:");
        struct span type = span_starts_with(tag, core) ? span_from(tag, core.len) : tag;
        if (span_eq(type, SPAN_LIT("!"))) {
            is_plain = false;
        } else if (span_eq(type, SPAN_LIT("str"))) {
            /* Envoy types !!str 5 as a number. To do otherwise would change a file's meaning. */
            fail(c, event->start_mark.line,
                 span_of("the YAML tag !!str has no effect on Envoy: put the value in quotes"));
            return NULL;
        } else if (span_eq(type, SPAN_LIT("int")) || span_eq(type, SPAN_LIT("float")) ||
                   span_eq(type, SPAN_LIT("bool")) || span_eq(type, SPAN_LIT("null"))) {
            is_plain = true;
        } else {
            fail(c, event->start_mark.line,
                 cfg_printf(c->arena, "the YAML tag %.*s is not supported", (int)tag.len, tag.ptr));
            return NULL;
        }
    }
    struct span text = event_text(c, event->data.scalar.value, event->data.scalar.length);
    enum cfg_tree_kind kind = !is_plain             ? NODE_STRING
                              : plain_is_null(text) ? NODE_NULL
                                                    : NODE_PLAIN;
    struct cfg_tree *node = new_node(c, kind, event->start_mark.line);
    node->text = text;
    return node;
}

/* ---- collections ---- */

struct item_list { /* of items, or of entries, while their number is not known */
    struct item_list *prev;
    struct cfg_tree *value;
    struct span key;
    uint32_t line;
    bool from_merge;
};

static struct cfg_tree *compose(struct composer *c);

static bool open_collection(struct composer *c, size_t line, const yaml_char_t *tag_text) {
    struct span tag = span_of((const char *)tag_text);
    if (tag.len && !span_eq(tag, SPAN_LIT(YAML_SEQ_TAG)) && !span_eq(tag, SPAN_LIT(YAML_MAP_TAG))) {
        return fail(
            c, line,
            cfg_printf(c->arena, "the YAML tag %.*s is not supported", (int)tag.len, tag.ptr));
    }
    if (++c->depth > NODE_DEPTH_MAX) {
        return fail(c, line,
                    cfg_printf(c->arena, "nested deeper than %d levels", (int)NODE_DEPTH_MAX));
    }
    return true;
}

static bool close_collection(struct composer *c, struct cfg_tree *node, uint32_t height) {
    c->depth--;
    node->height = height + 1;
    if (c->depth + node->height > NODE_DEPTH_MAX) {
        return fail(c, node->line - 1,
                    cfg_printf(c->arena, "nested deeper than %d levels", (int)NODE_DEPTH_MAX));
    }
    return true;
}

static struct cfg_tree *compose_list(struct composer *c) {
    struct cfg_tree *node = new_node(c, NODE_LIST, c->event.start_mark.line);
    if (!open_collection(c, c->event.start_mark.line, c->event.data.sequence_start.tag))
        return NULL;
    struct item_list *last = NULL;
    uint32_t height = 0;
    for (;;) {
        if (!next(c))
            return NULL;
        if (c->event.type == YAML_SEQUENCE_END_EVENT)
            break;
        struct cfg_tree *value = compose(c);
        if (!value)
            return NULL;
        struct item_list *item = cfg_alloc(c->arena, sizeof(*item));
        *item = (struct item_list){.prev = last, .value = value};
        last = item;
        node->count++;
        node->weight += value->weight;
        height = value->height > height ? value->height : height;
    }
    node->items = cfg_alloc_array(c->arena, node->count, sizeof(*node->items));
    for (size_t i = node->count; i-- > 0; last = last->prev)
        node->items[i] = last->value;
    return close_collection(c, node, height) ? node : NULL;
}

/* Finding duplicates among n keys by sorting: a map<string, ...> may be long. */
static int compare_entries(const void *a, const void *b) {
    const struct cfg_tree_entry *x = *(const struct cfg_tree_entry *const *)a;
    const struct cfg_tree_entry *y = *(const struct cfg_tree_entry *const *)b;
    size_t len = x->key.len < y->key.len ? x->key.len : y->key.len;
    int order = len ? memcmp(x->key.ptr, y->key.ptr, len) : 0;
    if (order == 0)
        order = (x->key.len > y->key.len) - (x->key.len < y->key.len);
    /* Keep what was written first in front, so that the later one is the duplicate. */
    return order ? order : (x > y) - (x < y);
}

/* Entries of merged maps stand behind the written ones, so the first of equals wins: a written key
 * over a merged one, an earlier merge over a later one (the YAML 1.1 merge rule). */
static bool settle_keys(struct composer *c, struct cfg_tree *node, const bool *from_merge) {
    const struct cfg_tree_entry **sorted = cfg_alloc_array(c->arena, node->count, sizeof(*sorted));
    bool *dropped = cfg_alloc_array(c->arena, node->count, sizeof(*dropped));
    for (size_t i = 0; i < node->count; i++)
        sorted[i] = &node->entries[i];
    if (node->count > 1)
        qsort(sorted, node->count, sizeof(*sorted), compare_entries);
    for (size_t i = 1; i < node->count; i++) {
        if (!span_eq(sorted[i]->key, sorted[i - 1]->key))
            continue;
        size_t index = (size_t)(sorted[i] - node->entries);
        if (!from_merge[index]) {
            struct span key = sorted[i]->key;
            return fail(c, sorted[i]->line - 1,
                        cfg_printf(c->arena, "the key \"%.*s\" is there twice, first on line %u",
                                   (int)key.len, key.ptr, sorted[i - 1]->line));
        }
        dropped[index] = true;
    }
    size_t kept = 0;
    for (size_t i = 0; i < node->count; i++) {
        if (!dropped[i])
            node->entries[kept++] = node->entries[i];
    }
    node->count = kept;
    return true;
}

/* Appends the maps that a merge key names, in order, to *merged. */
static bool collect_merges(struct composer *c, const struct cfg_tree *value, size_t line,
                           struct item_list **merged, size_t *count) {
    if (value->kind == NODE_LIST) {
        for (size_t i = 0; i < value->count; i++) {
            if (value->items[i]->kind != NODE_MAP)
                return fail(c, line, span_of("a merge key (<<) takes objects"));
            if (!collect_merges(c, value->items[i], line, merged, count))
                return false;
        }
        return true;
    }
    if (value->kind != NODE_MAP)
        return fail(c, line, span_of("a merge key (<<) takes an object or a list of objects"));
    for (size_t i = 0; i < value->count; i++) {
        c->alias_weight += value->entries[i].value->weight;
        if (c->alias_weight > NODE_ALIAS_WEIGHT_MAX) {
            return fail(c, line,
                        cfg_printf(c->arena, "aliases expand to more than %d nodes",
                                   (int)NODE_ALIAS_WEIGHT_MAX));
        }
        struct item_list *item = cfg_alloc(c->arena, sizeof(*item));
        *item = (struct item_list){.prev = *merged,
                                   .value = value->entries[i].value,
                                   .key = value->entries[i].key,
                                   .line = value->entries[i].line,
                                   .from_merge = true};
        *merged = item;
        ++*count;
    }
    return true;
}

static bool fill_map(struct composer *c, struct cfg_tree *node, const struct item_list *written,
                     size_t written_count, const struct item_list *merged, size_t merged_count) {
    node->count = written_count + merged_count;
    node->entries = cfg_alloc_array(c->arena, node->count, sizeof(*node->entries));
    bool *from_merge = cfg_alloc_array(c->arena, node->count, sizeof(*from_merge));
    for (size_t i = node->count; i-- > 0;) {
        const struct item_list **from = i >= written_count ? &merged : &written;
        const struct item_list *item = *from;
        *from = item->prev;
        node->entries[i] =
            (struct cfg_tree_entry){.key = item->key, .line = item->line, .value = item->value};
        from_merge[i] = item->from_merge;
    }
    if (!settle_keys(c, node, from_merge))
        return false;
    uint32_t height = 0;
    for (size_t i = 0; i < node->count; i++) {
        const struct cfg_tree *value = node->entries[i].value;
        node->weight += value->weight;
        height = value->height > height ? value->height : height;
    }
    return close_collection(c, node, height);
}

static struct cfg_tree *compose_map(struct composer *c) {
    struct cfg_tree *node = new_node(c, NODE_MAP, c->event.start_mark.line);
    if (!open_collection(c, c->event.start_mark.line, c->event.data.mapping_start.tag))
        return NULL;
    struct item_list *written = NULL, *merged = NULL;
    size_t written_count = 0, merged_count = 0;
    for (;;) {
        if (!next(c))
            return NULL;
        if (c->event.type == YAML_MAPPING_END_EVENT)
            break;
        size_t line = c->event.start_mark.line;
        bool may_merge = c->event.type == YAML_SCALAR_EVENT &&
                         c->event.data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
        struct cfg_tree *key = compose(c);
        if (!key)
            return NULL;
        if (key->kind == NODE_LIST || key->kind == NODE_MAP) {
            fail(c, line, span_of("a key must be a string, not a list or an object"));
            return NULL;
        }
        if (!next(c))
            return NULL;
        struct cfg_tree *value = compose(c);
        if (!value)
            return NULL;
        if (may_merge && span_eq(key->text, SPAN_LIT("<<"))) {
            if (!collect_merges(c, value, line, &merged, &merged_count))
                return NULL;
            continue;
        }
        struct item_list *item = cfg_alloc(c->arena, sizeof(*item));
        *item = (struct item_list){
            .prev = written, .value = value, .key = key->text, .line = (uint32_t)line + 1};
        written = item;
        written_count++;
    }
    return fill_map(c, node, written, written_count, merged, merged_count) ? node : NULL;
}

/* The node that begins with the current event; leaves its last event current. */
static struct cfg_tree *compose(struct composer *c) {
    struct cfg_tree *node;
    struct span anchor;
    switch (c->event.type) {
    case YAML_ALIAS_EVENT:
        return find_alias(c);
    case YAML_SCALAR_EVENT:
        anchor = cfg_copy(c->arena, span_of((const char *)c->event.data.scalar.anchor));
        node = compose_scalar(c);
        break;
    case YAML_SEQUENCE_START_EVENT:
        anchor = cfg_copy(c->arena, span_of((const char *)c->event.data.sequence_start.anchor));
        node = compose_list(c);
        break;
    case YAML_MAPPING_START_EVENT:
        anchor = cfg_copy(c->arena, span_of((const char *)c->event.data.mapping_start.anchor));
        node = compose_map(c);
        break;
    default:
        fail(c, c->event.start_mark.line, span_of("not valid YAML: unexpected end"));
        return NULL;
    }
    if (node)
        add_anchor(c, anchor, node);
    return node;
}

static struct cfg_tree *compose_document(struct composer *c) {
    if (!next(c)) /* the stream's start */
        return NULL;
    if (!next(c))
        return NULL;
    if (c->event.type == YAML_STREAM_END_EVENT)
        return new_node(c, NODE_NULL, 0);
    if (!next(c))
        return NULL;
    struct cfg_tree *root = compose(c);
    if (!root || !next(c)) /* the document's end */
        return NULL;
    if (!next(c)) /* the stream's */
        return NULL;
    if (c->event.type != YAML_STREAM_END_EVENT) {
        fail(c, c->event.start_mark.line, span_of("a second document: a config is one document"));
        return NULL;
    }
    return root;
}

static void composer_fini(struct composer *c) {
    if (c->has_event)
        yaml_event_delete(&c->event);
    yaml_parser_delete(&c->parser);
}

struct cfg_tree *cfg_yaml_parse(struct cfg_arena *arena, struct span file, struct span text,
                                struct cfg_parse_error *error) {
    struct composer *c = cfg_alloc(arena, sizeof(*c));
    *c = (struct composer){.arena = arena, .file = file, .error = error};
    *error = (struct cfg_parse_error){0};
    if (!yaml_parser_initialize(&c->parser)) {
        fail(c, 0, span_of("out of memory"));
        return NULL;
    }
    yaml_parser_set_encoding(&c->parser, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&c->parser, (const unsigned char *)text.ptr, text.len);

    /* Y3: come back here first when an allocation fails, then pass the failure on. */
    jmp_buf *outer = arena->on_failure;
    jmp_buf here;
    struct cfg_tree *root;
    if (setjmp(here) == 0) {
        arena->on_failure = &here;
        root = compose_document(c);
    } else {
        composer_fini(c);
        arena->on_failure = outer;
        ASSERT(outer);
        longjmp(*outer, 1);
    }
    arena->on_failure = outer;
    composer_fini(c);
    return root;
}
