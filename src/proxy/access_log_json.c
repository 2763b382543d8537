/* access_log_json: json_format, compiled to a tree that is walked per line.
 *
 * As on Envoy: keys are sorted; a string that is one operator keeps the operator's type (a number
 * stays a number, an absent value is null); a string with more in it is a string, in which absent
 * values print "-". With omit_empty_values null members vanish, and with them objects that have none
 * left; in strings absent values print nothing. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "proxy/access_log_internal.h"
#include "proxy/format_internal.h"

enum { DEPTH_MAX = 64 }; /* of nested objects: walking them recurses on a coroutine's stack */

struct json_node {
    enum { NODE_CONSTANT, NODE_FORMAT, NODE_OBJECT, NODE_LIST } kind;
    bool null;               /* CONSTANT null */
    struct span key;         /* of a member, encoded with quotes and colon; owned */
    struct span text;        /* CONSTANT: encoded; owned */
    struct format *format;   /* FORMAT */
    struct json_node *items; /* OBJECT, LIST */
    size_t count;
};

struct json_template {
    struct json_node root;
    bool omit_empty;
};

/* ---- strings ---- */

/* Length of the UTF-8 character at text.ptr[i], or 0 when there is none. */
static size_t utf8_length(struct span text, size_t i) {
    const unsigned char *p = (const unsigned char *)text.ptr + i;
    size_t left = text.len - i;
    if (p[0] < 0x80)
        return 1;
    if (p[0] >= 0xc2 && p[0] <= 0xdf)
        return left >= 2 && (p[1] & 0xc0) == 0x80 ? 2 : 0;
    if (p[0] >= 0xe0 && p[0] <= 0xef) {
        if (left < 3 || (p[1] & 0xc0) != 0x80 || (p[2] & 0xc0) != 0x80)
            return 0;
        bool overlong = p[0] == 0xe0 && p[1] < 0xa0;
        bool surrogate = p[0] == 0xed && p[1] >= 0xa0;
        return overlong || surrogate ? 0 : 3;
    }
    if (p[0] >= 0xf0 && p[0] <= 0xf4) {
        if (left < 4 || (p[1] & 0xc0) != 0x80 || (p[2] & 0xc0) != 0x80 || (p[3] & 0xc0) != 0x80)
            return 0;
        bool overlong = p[0] == 0xf0 && p[1] < 0x90;
        bool too_high = p[0] == 0xf4 && p[1] >= 0x90;
        return overlong || too_high ? 0 : 4;
    }
    return 0;
}

static void put_escape(struct format_out *out, unsigned char byte) {
    static const char names[] = "btn?fr"; /* of 8 to 13 */
    char buf[8];
    int len;
    if (byte == '"' || byte == '\\')
        len = snprintf(buf, sizeof(buf), "\\%c", byte);
    else if (byte >= 8 && byte <= 13 && byte != 11)
        len = snprintf(buf, sizeof(buf), "\\%c", names[byte - 8]);
    else
        len = snprintf(buf, sizeof(buf), "\\u%04x", byte);
    format_out_put(out, span_make(buf, (size_t)len));
}

/* Without quotes. A byte that is no UTF-8 becomes the character of its value: the line stays JSON. */
static void put_encoded(struct format_out *out, struct span text) {
    size_t start = 0;
    for (size_t i = 0; i < text.len;) {
        unsigned char byte = (unsigned char)text.ptr[i];
        size_t length = byte < 0x20 || byte == '"' || byte == '\\' ? 0 : utf8_length(text, i);
        if (length > 0) {
            i += length;
            continue;
        }
        format_out_put(out, span_make(text.ptr + start, i - start));
        put_escape(out, byte);
        start = ++i;
    }
    format_out_put(out, span_from(text, start));
}

static bool is_plain(struct span text) {
    for (size_t i = 0; i < text.len; i++) {
        unsigned char byte = (unsigned char)text.ptr[i];
        if (byte < 0x20 || byte >= 0x80 || byte == '"' || byte == '\\')
            return false;
    }
    return true;
}

/* Encodes what was appended behind start. Nearly always there is nothing to do. */
void format_encode_json(struct format_out *out, size_t start) {
    struct span tail = span_make(out->data + start, out->len - start);
    if (out->len == start || is_plain(tail))
        return;
    char *raw = malloc(tail.len);
    if (!raw) {
        out->failed = true;
        return;
    }
    memcpy(raw, tail.ptr, tail.len);
    out->len = start;
    put_encoded(out, span_make(raw, tail.len));
    free(raw);
}

/* ---- building ---- */

static void node_fini(struct json_node *node) {
    free((void *)(uintptr_t)node->key.ptr);
    free((void *)(uintptr_t)node->text.ptr);
    format_free(node->format);
    for (size_t i = 0; i < node->count; i++)
        node_fini(&node->items[i]);
    free(node->items);
}

/* What out holds, transferred; the absent span when memory was short. */
static struct span take(struct format_out *out) {
    if (out->failed || !out->data) {
        free(out->data);
        return span_none();
    }
    return span_make(out->data, out->len);
}

static struct span encoded(struct span text, struct span behind) {
    struct format_out out = {0};
    format_out_put(&out, SPAN_LIT("\""));
    put_encoded(&out, text);
    format_out_put(&out, SPAN_LIT("\""));
    format_out_put(&out, behind);
    return take(&out);
}

void format_put_number(struct format_out *out, double number) {
    char buf[40];
    int len;
    if (number == floor(number) && fabs(number) < 1e15)
        len = snprintf(buf, sizeof(buf), "%.0f", number);
    else
        len = snprintf(buf, sizeof(buf), "%.17g", number);
    for (int digits = 1; digits < 17 && number != floor(number); digits++) {
        len = snprintf(buf, sizeof(buf), "%.*g", digits, number); /* the shortest that reads back */
        if (strtod(buf, NULL) == number)
            break;
    }
    format_out_put(out, span_make(buf, (size_t)len));
}

static struct span encoded_number(double number) {
    struct format_out out = {0};
    format_put_number(&out, number);
    return take(&out);
}

static int by_key(const void *a, const void *b) {
    const struct cfg_value_field *x = *(const struct cfg_value_field *const *)a;
    const struct cfg_value_field *y = *(const struct cfg_value_field *const *)b;
    size_t shorter = x->key.len < y->key.len ? x->key.len : y->key.len;
    int order = shorter > 0 ? memcmp(x->key.ptr, y->key.ptr, shorter) : 0;
    return order != 0 ? order : x->key.len < y->key.len ? -1 : x->key.len > y->key.len;
}

struct build {
    const struct cfg_mark *mark;
    struct cfg_problems *problems;
    unsigned depth;
    bool memory_short;
};

static void build_node(struct build *b, const struct cfg_value *value, struct json_node *node);

static void build_object(struct build *b, const struct cfg_value *value, struct json_node *node) {
    node->kind = NODE_OBJECT;
    size_t count = value->fields_count;
    node->items = calloc(count + 1, sizeof(*node->items));
    const struct cfg_value_field **sorted =
        calloc(count + 1, sizeof(const struct cfg_value_field *));
    if (!node->items || !sorted) {
        b->memory_short = true;
    } else {
        node->count = count;
        for (size_t i = 0; i < count; i++)
            sorted[i] = &value->fields[i];
        qsort(sorted, count, sizeof(const struct cfg_value_field *), by_key);
        for (size_t i = 0; i < count; i++) {
            build_node(b, &sorted[i]->value, &node->items[i]);
            node->items[i].key = encoded(sorted[i]->key, SPAN_LIT(":"));
            b->memory_short |= span_is_none(node->items[i].key);
        }
    }
    free(sorted);
}

static void build_list(struct build *b, const struct cfg_value *value, struct json_node *node) {
    node->kind = NODE_LIST;
    node->items = calloc(value->items_count + 1, sizeof(*node->items));
    if (!node->items) {
        b->memory_short = true;
        return;
    }
    node->count = value->items_count;
    for (size_t i = 0; i < node->count; i++)
        build_node(b, &value->items[i], &node->items[i]);
}

static struct span constant(const char *text) {
    struct format_out out = {0};
    format_out_put(&out, span_of(text));
    return take(&out);
}

static void build_node(struct build *b, const struct cfg_value *value, struct json_node *node) {
    if (++b->depth > DEPTH_MAX) {
        cfg_problem_add(b->problems, CFG_PROBLEM_INVALID, b->mark,
                        "json_format: nested deeper than %d levels", DEPTH_MAX);
        node->kind = NODE_LIST;
        b->depth--;
        return;
    }
    node->kind = NODE_CONSTANT;
    switch (value->kind) {
    case CFG_VALUE_STRUCT:
        build_object(b, value, node);
        break;
    case CFG_VALUE_LIST:
        build_list(b, value, node);
        break;
    case CFG_VALUE_STRING:
        if (span_find(value->string, '%') >= 0) {
            node->kind = NODE_FORMAT;
            node->format = format_compile(value->string, b->mark, b->problems);
        } else {
            node->text = encoded(value->string, SPAN_LIT(""));
        }
        break;
    case CFG_VALUE_NUMBER:
        node->text = encoded_number(value->number);
        break;
    case CFG_VALUE_BOOL:
        node->text = constant(value->boolean ? "true" : "false");
        break;
    case CFG_VALUE_NULL:
        node->null = true;
        node->text = constant("null");
        break;
    }
    if (node->kind == NODE_CONSTANT)
        b->memory_short |= span_is_none(node->text);
    b->depth--;
}

struct json_template *json_template_build(const struct cfg_value *value, bool omit_empty,
                                          const struct cfg_mark *mark,
                                          struct cfg_problems *problems) {
    size_t before = problems->count;
    struct build b = {.mark = mark, .problems = problems};
    struct json_template *json = calloc(1, sizeof(*json));
    if (json) {
        json->omit_empty = omit_empty;
        build_object(&b, value, &json->root);
    }
    if (!json || b.memory_short)
        cfg_problem_add(problems, CFG_PROBLEM_INVALID, mark, "json_format: out of memory");
    if (problems->count > before) {
        json_template_free(json);
        return NULL;
    }
    return json;
}

void json_template_free(struct json_template *json) {
    if (!json)
        return;
    node_fini(&json->root);
    free(json);
}

/* ---- writing ---- */

/* False when the value is null and nothing was written. */
static bool write_node(const struct json_node *node, bool omit, const struct format_subject *of,
                       struct format_out *out);

static bool write_format(const struct format *format, bool omit, const struct format_subject *of,
                         struct format_out *out) {
    size_t start = out->len;
    format_out_put(out, SPAN_LIT("\""));
    if (format->count == 1) {
        enum format_value_kind kind = format_op_write(&format->ops[0], of, out);
        if (out->failed)
            return false;
        if (kind == FORMAT_ABSENT) {
            out->len = start;
            return false;
        }
        if (kind == FORMAT_JSON) { /* without the quote */
            memmove(out->data + start, out->data + start + 1, out->len - start - 1);
            out->len--;
            return true;
        }
        format_encode_json(out, start + 1);
    } else {
        for (size_t i = 0; i < format->count; i++) {
            size_t at = out->len;
            if (format_op_write(&format->ops[i], of, out) == FORMAT_ABSENT)
                format_out_put(out, omit ? SPAN_LIT("") : SPAN_LIT("-"));
            else if (!out->failed)
                format_encode_json(out, at);
        }
    }
    format_out_put(out, SPAN_LIT("\""));
    return true;
}

static bool write_items(const struct json_node *node, bool omit, const struct format_subject *of,
                        struct format_out *out) {
    size_t start = out->len;
    bool first = true;
    format_out_put(out, node->kind == NODE_OBJECT ? SPAN_LIT("{") : SPAN_LIT("["));
    for (size_t i = 0; i < node->count; i++) {
        size_t item_start = out->len;
        if (!first)
            format_out_put(out, SPAN_LIT(","));
        format_out_put(out, node->items[i].key);
        if (!write_node(&node->items[i], omit, of, out)) {
            if (omit) {
                out->len = item_start;
                continue;
            }
            format_out_put(out, SPAN_LIT("null"));
        }
        first = false;
    }
    if (omit && first && node->kind == NODE_OBJECT) {
        out->len = start;
        return false;
    }
    format_out_put(out, node->kind == NODE_OBJECT ? SPAN_LIT("}") : SPAN_LIT("]"));
    return true;
}

static bool write_node(const struct json_node *node, bool omit, const struct format_subject *of,
                       struct format_out *out) {
    switch (node->kind) {
    case NODE_CONSTANT:
        if (node->null)
            return false;
        format_out_put(out, node->text);
        return true;
    case NODE_FORMAT:
        return write_format(node->format, omit, of, out);
    default:
        return write_items(node, omit, of, out);
    }
}

void json_template_write(const struct json_template *json, const struct format_subject *of,
                         struct format_out *out) {
    if (!write_items(&json->root, json->omit_empty, of, out))
        format_out_put(out, SPAN_LIT("{}"));
    format_out_put(out, SPAN_LIT("\n"));
}
