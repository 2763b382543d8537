/* json_tree: strict JSON (RFC 8259) as the same nodes that YAML gives.
 *
 * JSON is nearly a subset of YAML, but not to libyaml, which refuses surrogate pairs in \u escapes
 * and tabs in some places, and whose errors speak of block mappings. A .json file is read here. */
#include <stdio.h>
#include <stdlib.h>

#include "base/utf8.h"

#include "config/tree.h"

struct json_reader {
    struct cfg_arena *arena;
    struct span file;
    struct cfg_parse_error *error;
    const char *at, *end;
    enum cfg_json_scalars scalars;
    uint32_t line; /* from 1 */
    unsigned depth;
};

static void *fail(struct json_reader *r, struct span text) {
    if (!r->error->text.ptr)
        *r->error = (struct cfg_parse_error){.line = r->line, .text = text};
    return NULL;
}

static void *fail_expected(struct json_reader *r, const char *expected) {
    if (r->at == r->end)
        return fail(r,
                    cfg_printf(r->arena, "not valid JSON: expected %s, found the end", expected));
    unsigned char c = (unsigned char)*r->at;
    if (c < 0x20 || c >= 0x7F)
        return fail(
            r, cfg_printf(r->arena, "not valid JSON: expected %s, found byte 0x%02X", expected, c));
    return fail(r, cfg_printf(r->arena, "not valid JSON: expected %s, found '%c'", expected, c));
}

static void skip_space(struct json_reader *r) {
    for (; r->at < r->end; r->at++) {
        if (*r->at == '\n')
            r->line++;
        else if (*r->at != ' ' && *r->at != '\t' && *r->at != '\r')
            return;
    }
}

static struct cfg_tree *new_node(struct json_reader *r, enum cfg_tree_kind kind) {
    struct cfg_tree *node = cfg_alloc(r->arena, sizeof(*node));
    *node = (struct cfg_tree){.kind = kind,
                              .is_json = r->scalars == CFG_JSON_SCALARS,
                              .line = r->line,
                              .weight = 1,
                              .file = r->file};
    return node;
}

static bool read_hex4(struct json_reader *r, unsigned *out) {
    unsigned value = 0;
    for (int i = 0; i < 4; i++, r->at++) {
        char c = r->at < r->end ? *r->at : '\0';
        if (c >= '0' && c <= '9')
            value = value * 16 + (unsigned)(c - '0');
        else if (c >= 'a' && c <= 'f')
            value = value * 16 + (unsigned)(c - 'a') + 10;
        else if (c >= 'A' && c <= 'F')
            value = value * 16 + (unsigned)(c - 'A') + 10;
        else
            return fail_expected(r, "four hexadecimal digits after \\u") != NULL;
    }
    *out = value;
    return true;
}

static size_t put_utf8(char *out, unsigned code) {
    if (code < 0x80) {
        out[0] = (char)code;
        return 1;
    }
    if (code < 0x800) {
        out[0] = (char)(0xC0 | code >> 6);
        out[1] = (char)(0x80 | (code & 0x3F));
        return 2;
    }
    if (code < 0x10000) {
        out[0] = (char)(0xE0 | code >> 12);
        out[1] = (char)(0x80 | (code >> 6 & 0x3F));
        out[2] = (char)(0x80 | (code & 0x3F));
        return 3;
    }
    out[0] = (char)(0xF0 | code >> 18);
    out[1] = (char)(0x80 | (code >> 12 & 0x3F));
    out[2] = (char)(0x80 | (code >> 6 & 0x3F));
    out[3] = (char)(0x80 | (code & 0x3F));
    return 4;
}

/* After "\u": one code point, of one or two escapes. */
static bool read_unicode(struct json_reader *r, char *out, size_t *len) {
    unsigned code, low;
    if (!read_hex4(r, &code))
        return false;
    if (code >= 0xD800 && code <= 0xDFFF) {
        bool has_low = code < 0xDC00 && r->end - r->at >= 2 && r->at[0] == '\\' && r->at[1] == 'u';
        if (has_low) {
            r->at += 2;
            if (!read_hex4(r, &low))
                return false;
            has_low = low >= 0xDC00 && low <= 0xDFFF;
        }
        if (!has_low)
            return fail(r, span_of("not valid JSON: half of a surrogate pair")) != NULL;
        code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00);
    }
    *len += put_utf8(out + *len, code);
    return true;
}

static bool read_escape(struct json_reader *r, char *out, size_t *len) {
    static const char names[] = "\"\\/bfnrt", values[] = "\"\\/\b\f\n\r\t";
    if (r->at < r->end && *r->at == 'u') {
        r->at++;
        return read_unicode(r, out, len);
    }
    const char *found = r->at < r->end && *r->at ? strchr(names, *r->at) : NULL;
    if (!found)
        return fail_expected(r, "an escape (one of \" \\ / b f n r t u)") != NULL;
    out[(*len)++] = values[found - names];
    r->at++;
    return true;
}

static bool read_string(struct json_reader *r, struct span *out) {
    const char *start = ++r->at; /* past the quote */
    const char *p = start;
    while (p < r->end && *p != '"')
        p += *p == '\\' && r->end - p > 1 ? 2 : 1;
    /* No escape is shorter than what it stands for. */
    char *text = cfg_alloc(r->arena, (size_t)(p - start) + 4);
    size_t len = 0;
    while (r->at < r->end && *r->at != '"') {
        unsigned char c = (unsigned char)*r->at;
        if (c < 0x20)
            return fail(r, cfg_printf(r->arena,
                                      "not valid JSON: control byte 0x%02X in a string, or its "
                                      "closing quote is missing",
                                      c)) != NULL;
        r->at++;
        if (c != '\\')
            text[len++] = (char)c;
        else if (!read_escape(r, text, &len))
            return false;
    }
    if (r->at == r->end)
        return fail_expected(r, "the closing quote of a string") != NULL;
    r->at++;
    text[len] = '\0';
    *out = span_make(text, len);
    if (!utf8_is_valid(*out))
        return fail(r, span_of("not valid JSON: a string that is not UTF-8")) != NULL;
    return true;
}

static bool digits(struct json_reader *r) {
    const char *start = r->at;
    while (r->at < r->end && *r->at >= '0' && *r->at <= '9')
        r->at++;
    return r->at > start;
}

static struct cfg_tree *read_number(struct json_reader *r) {
    struct cfg_tree *node = new_node(r, NODE_PLAIN);
    const char *start = r->at;
    if (*r->at == '-')
        r->at++;
    const char *first = r->at;
    if (!digits(r))
        return fail_expected(r, "a digit");
    if (*first == '0' && r->at - first > 1)
        return fail(r, span_of("not valid JSON: a number does not begin with 0"));
    if (r->at < r->end && *r->at == '.') {
        r->at++;
        if (!digits(r))
            return fail_expected(r, "a digit after the point");
    }
    if (r->at < r->end && (*r->at == 'e' || *r->at == 'E')) {
        r->at++;
        if (r->at < r->end && (*r->at == '+' || *r->at == '-'))
            r->at++;
        if (!digits(r))
            return fail_expected(r, "a digit in the exponent");
    }
    node->text = cfg_copy(r->arena, span_make(start, (size_t)(r->at - start)));
    return node;
}

static struct cfg_tree *read_word(struct json_reader *r) {
    static const struct span words[] = {SPAN_INIT("null"), SPAN_INIT("true"), SPAN_INIT("false")};
    struct span rest = span_make(r->at, (size_t)(r->end - r->at));
    for (size_t i = 0; i < 3; i++) {
        if (!span_starts_with(rest, words[i]))
            continue;
        struct cfg_tree *node = new_node(r, i == 0 ? NODE_NULL : NODE_PLAIN);
        node->text = words[i];
        r->at += words[i].len;
        return node;
    }
    return fail_expected(r, "a value");
}

static struct cfg_tree *read_value(struct json_reader *r);

struct member {
    struct member *prev;
    struct cfg_tree_entry entry;
};

static bool read_member(struct json_reader *r, struct cfg_tree_entry *entry) {
    skip_space(r);
    if (r->at == r->end || *r->at != '"')
        return fail_expected(r, "a key in double quotes") != NULL;
    entry->line = r->line;
    if (!read_string(r, &entry->key))
        return false;
    skip_space(r);
    if (r->at == r->end || *r->at != ':')
        return fail_expected(r, "':' after a key") != NULL;
    r->at++;
    entry->value = read_value(r);
    return entry->value != NULL;
}

static int compare_members(const void *a, const void *b) {
    const struct cfg_tree_entry *x = *(const struct cfg_tree_entry *const *)a;
    const struct cfg_tree_entry *y = *(const struct cfg_tree_entry *const *)b;
    size_t len = x->key.len < y->key.len ? x->key.len : y->key.len;
    int order = len ? memcmp(x->key.ptr, y->key.ptr, len) : 0;
    if (order == 0)
        order = (x->key.len > y->key.len) - (x->key.len < y->key.len);
    return order ? order : (x > y) - (x < y);
}

static bool refuse_duplicates(struct json_reader *r, const struct cfg_tree *node) {
    const struct cfg_tree_entry **sorted = cfg_alloc_array(r->arena, node->count, sizeof(*sorted));
    for (size_t i = 0; i < node->count; i++)
        sorted[i] = &node->entries[i];
    if (node->count > 1)
        qsort(sorted, node->count, sizeof(*sorted), compare_members);
    for (size_t i = 1; i < node->count; i++) {
        if (span_eq(sorted[i]->key, sorted[i - 1]->key)) {
            r->line = sorted[i]->line;
            return fail(r, cfg_printf(r->arena, "the key \"%.*s\" is there twice, first on line %u",
                                      (int)sorted[i]->key.len, sorted[i]->key.ptr,
                                      sorted[i - 1]->line)) != NULL;
        }
    }
    return true;
}

/* An object or a list: items between brackets, with commas between them. */
static struct cfg_tree *read_collection(struct json_reader *r, enum cfg_tree_kind kind) {
    char close = kind == NODE_MAP ? '}' : ']';
    struct cfg_tree *node = new_node(r, kind);
    if (++r->depth > NODE_DEPTH_MAX)
        return fail(r, cfg_printf(r->arena, "nested deeper than %d levels", (int)NODE_DEPTH_MAX));
    r->at++;
    struct member *last = NULL;
    skip_space(r);
    if (r->at < r->end && *r->at == close) {
        r->at++;
    } else {
        for (;;) {
            struct member *m = cfg_alloc(r->arena, sizeof(*m));
            *m = (struct member){.prev = last};
            if (kind == NODE_MAP) {
                if (!read_member(r, &m->entry))
                    return NULL;
            } else {
                m->entry.value = read_value(r);
                if (!m->entry.value)
                    return NULL;
            }
            last = m;
            node->count++;
            skip_space(r);
            char c = r->at < r->end ? *r->at : '\0';
            if (c != ',' && c != close)
                return fail_expected(r, kind == NODE_MAP ? "',' or '}'" : "',' or ']'");
            r->at++;
            if (c == close)
                break;
        }
    }
    if (kind == NODE_MAP)
        node->entries = cfg_alloc_array(r->arena, node->count, sizeof(*node->entries));
    else
        node->items = cfg_alloc_array(r->arena, node->count, sizeof(struct cfg_tree *));
    for (size_t i = node->count; i-- > 0; last = last->prev) {
        const struct cfg_tree *value = last->entry.value;
        node->weight += value->weight;
        node->height = value->height > node->height ? value->height : node->height;
        if (kind == NODE_MAP)
            node->entries[i] = last->entry;
        else
            node->items[i] = last->entry.value;
    }
    node->height++;
    r->depth--;
    if (kind == NODE_MAP && !refuse_duplicates(r, node))
        return NULL;
    return node;
}

static struct cfg_tree *read_value(struct json_reader *r) {
    skip_space(r);
    if (r->at == r->end)
        return fail_expected(r, "a value");
    char c = *r->at;
    if (c == '{')
        return read_collection(r, NODE_MAP);
    if (c == '[')
        return read_collection(r, NODE_LIST);
    if (c == '"') {
        struct cfg_tree *node = new_node(r, NODE_STRING);
        return read_string(r, &node->text) ? node : NULL;
    }
    if (c == '-' || (c >= '0' && c <= '9'))
        return read_number(r);
    return read_word(r);
}

struct cfg_tree *cfg_json_parse(struct cfg_arena *arena, struct span file, struct span text,
                                enum cfg_json_scalars scalars, struct cfg_parse_error *error) {
    *error = (struct cfg_parse_error){0};
    if (span_starts_with(text, SPAN_LIT("\xEF\xBB\xBF")))
        text = span_from(text, 3);
    struct json_reader reader = {.arena = arena,
                                 .file = file,
                                 .error = error,
                                 .scalars = scalars,
                                 .at = text.ptr,
                                 .end = text.ptr + text.len,
                                 .line = 1};
    struct cfg_tree *root = read_value(&reader);
    if (!root)
        return NULL;
    skip_space(&reader);
    if (reader.at != reader.end)
        return fail_expected(&reader, "the end of the document");
    return root;
}
