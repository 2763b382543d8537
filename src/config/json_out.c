/* json_out: C structs as JSON in protobuf's mapping with the names of the .proto, for /config_dump. */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <time.h>

#include "config/load.h"

struct printer {
    struct cfg_buf *buf;
    unsigned indent; /* spaces per level; 0: one line */
    unsigned level;
    bool is_first; /* nothing yet in the innermost object or list */
    bool hides;    /* what is secret */
    bool secret;   /* that is within such a message */
};

static void new_line(struct printer *p) {
    if (!p->indent)
        return;
    cfg_buf_byte(p->buf, '\n');
    for (unsigned i = 0; i < p->indent * p->level; i++)
        cfg_buf_byte(p->buf, ' ');
}

static void open(struct printer *p, char bracket) {
    cfg_buf_byte(p->buf, bracket);
    p->level++;
    p->is_first = true;
}

static void close(struct printer *p, char bracket) {
    p->level--;
    if (!p->is_first)
        new_line(p);
    cfg_buf_byte(p->buf, bracket);
    p->is_first = false;
}

static void separate(struct printer *p) {
    if (!p->is_first)
        cfg_buf_byte(p->buf, ',');
    p->is_first = false;
    new_line(p);
}

void cfg_json_string(struct cfg_buf *buf, struct span s) {
    cfg_buf_byte(buf, '"');
    for (size_t i = 0; i < s.len; i++) {
        unsigned char c = (unsigned char)s.ptr[i];
        if (c == '"' || c == '\\')
            cfg_buf_printf(buf, "\\%c", c);
        else if (c == '\n')
            cfg_buf_text(buf, "\\n");
        else if (c == '\t')
            cfg_buf_text(buf, "\\t");
        else if (c < 0x20 || c == 0x7F)
            cfg_buf_printf(buf, "\\u%04x", c);
        else
            cfg_buf_byte(buf, (char)c);
    }
    cfg_buf_byte(buf, '"');
}

static void key(struct printer *p, struct span name) {
    separate(p);
    cfg_json_string(p->buf, name);
    cfg_buf_text(p->buf, p->indent ? ": " : ":");
}

/* A fraction of a second in 3, 6 or 9 digits, as protobuf prints it. */
static void print_fraction(struct cfg_buf *buf, uint32_t nanos) {
    if (nanos % 1000)
        cfg_buf_printf(buf, ".%09" PRIu32, nanos);
    else if (nanos % 1000000)
        cfg_buf_printf(buf, ".%06" PRIu32, nanos / 1000);
    else if (nanos)
        cfg_buf_printf(buf, ".%03" PRIu32, nanos / 1000000);
}

void cfg_json_duration(struct cfg_buf *buf, int64_t seconds, int32_t nanos) {
    if (seconds < 0 || nanos < 0)
        cfg_buf_byte(buf, '-');
    uint64_t whole = seconds < 0 ? 0 - (uint64_t)seconds : (uint64_t)seconds;
    cfg_buf_printf(buf, "%" PRIu64, whole);
    print_fraction(buf, nanos < 0 ? 0 - (uint32_t)nanos : (uint32_t)nanos);
    cfg_buf_byte(buf, 's');
}

static void print_timestamp(struct cfg_buf *buf, const struct cfg_timestamp *t) {
    time_t seconds = (time_t)t->seconds;
    struct tm tm;
    /* Written out, as strftime pads the years before 1000 in its own way. */
    if (!gmtime_r(&seconds, &tm))
        tm = (struct tm){.tm_mday = 1, .tm_year = 70};
    cfg_buf_printf(buf, "\"%04d-%02d-%02dT%02d:%02d:%02d", tm.tm_year + 1900, tm.tm_mon + 1,
                   tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec);
    print_fraction(buf, (uint32_t)t->nanos);
    cfg_buf_text(buf, "Z\"");
}

/* The shortest form that reads back as the same number: a float needs up to 9 digits, a double 17. */
static void print_real(struct cfg_buf *buf, double value, bool is_float) {
    char text[64];
    if (isnan(value)) {
        cfg_buf_text(buf, "\"NaN\"");
        return;
    }
    if (isinf(value)) {
        cfg_buf_text(buf, value < 0 ? "\"-Infinity\"" : "\"Infinity\"");
        return;
    }
    for (int digits = is_float ? 6 : 15; digits <= (is_float ? 9 : 17); digits++) {
        snprintf(text, sizeof(text), "%.*g", digits, value);
        if (is_float ? strtof(text, NULL) == (float)value : strtod(text, NULL) == value)
            break;
    }
    cfg_buf_text(buf, text);
}

static void print_base64(struct cfg_buf *buf, struct span s) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const unsigned char *p = (const unsigned char *)s.ptr;
    cfg_buf_byte(buf, '"');
    for (size_t i = 0; i < s.len; i += 3) {
        size_t left = s.len - i;
        uint32_t bits = (uint32_t)p[i] << 16 | (left > 1 ? (uint32_t)p[i + 1] << 8 : 0) |
                        (left > 2 ? p[i + 2] : 0);
        cfg_buf_byte(buf, digits[bits >> 18]);
        cfg_buf_byte(buf, digits[bits >> 12 & 63]);
        cfg_buf_byte(buf, left > 1 ? digits[bits >> 6 & 63] : '=');
        cfg_buf_byte(buf, left > 2 ? digits[bits & 63] : '=');
    }
    cfg_buf_byte(buf, '"');
}

static void print_tree(struct printer *p, const struct cfg_value *value) {
    switch (value->kind) {
    case CFG_VALUE_NULL:
        cfg_buf_text(p->buf, "null");
        break;
    case CFG_VALUE_NUMBER:
        print_real(p->buf, value->number, false);
        break;
    case CFG_VALUE_STRING:
        cfg_json_string(p->buf, value->string);
        break;
    case CFG_VALUE_BOOL:
        cfg_buf_text(p->buf, value->boolean ? "true" : "false");
        break;
    case CFG_VALUE_STRUCT:
        open(p, '{');
        for (size_t i = 0; i < value->fields_count; i++) {
            key(p, value->fields[i].key);
            print_tree(p, &value->fields[i].value);
        }
        close(p, '}');
        break;
    case CFG_VALUE_LIST:
        open(p, '[');
        for (size_t i = 0; i < value->items_count; i++) {
            separate(p);
            print_tree(p, &value->items[i]);
        }
        close(p, ']');
        break;
    }
}

static void print_fields(struct printer *p, const struct cfg_schema *schema, const void *message);
static void print_value(struct printer *p, const struct cfg_field *field, const void *value);

static void print_any(struct printer *p, const struct cfg_any *any) {
    open(p, '{');
    if (any->type_url.len) {
        key(p, SPAN_LIT("@type"));
        cfg_json_string(p->buf, any->type_url);
    }
    if (any->shown_schema && any->shown_schema->is_well_known) {
        key(p, SPAN_LIT("value"));
        print_value(p, &any->shown_schema->fields[0], any->shown);
    } else if (any->shown_schema) {
        print_fields(p, any->shown_schema, any->shown);
    }
    close(p, '}');
}

/* Where it is kept may be known: the name of a file or of an environment variable. */
static bool is_hidden(const struct printer *p, const struct cfg_field *field) {
    return p->secret &&
           (strcmp(field->name, "inline_string") == 0 || strcmp(field->name, "inline_bytes") == 0);
}

static void print_scalar(struct printer *p, const struct cfg_field *field, const void *value) {
    struct cfg_buf *buf = p->buf;
    if (is_hidden(p, field)) {
        cfg_json_string(buf, SPAN_LIT("[redacted]"));
        return;
    }
    int32_t i32 = 0;
    uint32_t u32 = 0;
    int64_t i64 = 0;
    uint64_t u64 = 0;
    float narrow;
    double wide;
    switch (field->type) {
    case CFG_BOOL:
        cfg_buf_text(buf, *(const bool *)value ? "true" : "false");
        return;
    case CFG_I32:
    case CFG_SINT32:
    case CFG_SFIXED32:
        memcpy(&i32, value, sizeof(i32));
        cfg_buf_printf(buf, "%" PRId32, i32);
        return;
    case CFG_U32:
    case CFG_FIXED32:
        memcpy(&u32, value, sizeof(u32));
        cfg_buf_printf(buf, "%" PRIu32, u32);
        return;
    case CFG_I64:
    case CFG_SINT64:
    case CFG_SFIXED64:
        memcpy(&i64, value, sizeof(i64));
        cfg_buf_printf(buf, "\"%" PRId64 "\"", i64);
        return;
    case CFG_U64:
    case CFG_FIXED64:
        memcpy(&u64, value, sizeof(u64));
        cfg_buf_printf(buf, "\"%" PRIu64 "\"", u64);
        return;
    case CFG_FLOAT:
        memcpy(&narrow, value, sizeof(narrow));
        print_real(buf, (double)narrow, true);
        return;
    case CFG_DOUBLE:
        memcpy(&wide, value, sizeof(wide));
        print_real(buf, wide, false);
        return;
    case CFG_ENUM: {
        memcpy(&i32, value, sizeof(i32));
        const struct cfg_enum_value *known = cfg_enum_at(field->enumeration, i32);
        if (known)
            cfg_json_string(buf, span_of(known->name));
        else
            cfg_buf_printf(buf, "%" PRId32, i32);
        return;
    }
    case CFG_STRING:
        cfg_json_string(buf, *(const struct span *)value);
        return;
    default:
        print_base64(buf, *(const struct span *)value);
        return;
    }
}

static void print_value(struct printer *p, const struct cfg_field *field, const void *value) {
    struct cfg_timestamp wide;
    if (field->wrapped) {
        struct cfg_field inner = *field;
        inner.wrapped = false;
        print_scalar(p, &inner, (const char *)value + cfg_wrapped_offset(field->type));
        return;
    }
    switch (field->type) {
    case CFG_MESSAGE:
        p->secret |= p->hides && (field->rules & CFG_SECRET);
        if (field->schema->is_well_known) {
            print_value(p, &field->schema->fields[0], value);
            break;
        }
        open(p, '{');
        print_fields(p, field->schema, value);
        close(p, '}');
        p->secret &= !(field->rules & CFG_SECRET);
        break;
    case CFG_ANY:
        print_any(p, value);
        break;
    case CFG_DURATION: {
        int64_t ns = ((const struct cfg_duration *)value)->ns;
        cfg_buf_byte(p->buf, '"');
        cfg_json_duration(p->buf, ns / 1000000000, (int32_t)(ns % 1000000000));
        cfg_buf_byte(p->buf, '"');
        break;
    }
    case CFG_WIDE_DURATION:
        memcpy(&wide, value, sizeof(wide));
        cfg_buf_byte(p->buf, '"');
        cfg_json_duration(p->buf, wide.seconds, wide.nanos);
        cfg_buf_byte(p->buf, '"');
        break;
    case CFG_TIMESTAMP:
        print_timestamp(p->buf, value);
        break;
    case CFG_FIELD_MASK: {
        const struct cfg_field_mask *mask = value;
        struct cfg_buf text = {0};
        for (size_t i = 0; i < mask->paths_count; i++) {
            char camel[256];
            cfg_buf_text(&text, i ? "," : "");
            cfg_buf_span(&text, cfg_camel_name(mask->paths[i].ptr, camel, sizeof(camel)));
        }
        cfg_json_string(p->buf, cfg_buf_view(&text));
        p->buf->failed = p->buf->failed || text.failed;
        cfg_buf_fini(&text);
        break;
    }
    case CFG_VALUE:
    case CFG_STRUCT:
    case CFG_LIST_VALUE: {
        const struct cfg_value *tree = *(const struct cfg_value *const *)value;
        if (tree)
            print_tree(p, tree);
        else
            cfg_buf_text(p->buf, field->type == CFG_STRUCT       ? "{}"
                                 : field->type == CFG_LIST_VALUE ? "[]"
                                                                 : "null");
        break;
    }
    default:
        print_scalar(p, field, value);
        break;
    }
}

static void print_map(struct printer *p, const struct cfg_field *field, const char *entries,
                      size_t count) {
    const struct cfg_field *key_field = &field->schema->fields[0];
    const struct cfg_field *value_field = &field->schema->fields[1];
    open(p, '{');
    for (size_t i = 0; i < count; i++) {
        const char *entry = entries + i * field->schema->size;
        if (key_field->type == CFG_STRING) {
            key(p, *(const struct span *)(const void *)(entry + key_field->offset));
        } else {
            /* 64-bit keys bring their own quotes. */
            bool quoted = cfg_scalar_size(key_field->type) == 8;
            separate(p);
            cfg_buf_text(p->buf, quoted ? "" : "\"");
            print_scalar(p, key_field, entry + key_field->offset);
            cfg_buf_text(p->buf, quoted ? "" : "\"");
            cfg_buf_text(p->buf, p->indent ? ": " : ":");
        }
        const void *value = cfg_singular(value_field, entry);
        if (value)
            print_value(p, value_field, value);
        else
            cfg_buf_text(p->buf, "{}");
    }
    close(p, '}');
}

static bool has_field(const struct cfg_field *field, const void *message) {
    size_t count;
    if (field->shape == CFG_SINGULAR)
        return cfg_field_is_set(field, message);
    (void)cfg_items(field, message, &count);
    return count > 0;
}

static void print_field(struct printer *p, const struct cfg_field *field, const void *message) {
    size_t count = 0;
    const char *items = field->shape == CFG_SINGULAR ? NULL : cfg_items(field, message, &count);
    key(p, span_of(field->name));
    if (field->shape == CFG_SINGULAR) {
        print_value(p, field, cfg_singular(field, message));
    } else if (field->shape == CFG_MAP) {
        print_map(p, field, items, count);
    } else {
        open(p, '[');
        for (size_t k = 0; k < count; k++) {
            separate(p);
            print_value(p, field, items + k * cfg_value_size(field));
        }
        close(p, ']');
    }
}

static void print_fields(struct printer *p, const struct cfg_schema *schema, const void *message) {
    for (size_t i = 0; i < schema->fields_count; i++)
        if (has_field(&schema->fields[i], message))
            print_field(p, &schema->fields[i], message);
}

/* ---- two at a time: p[0] prints a and p[1] prints b, and of lists what is not the same at their ends ---- */

static void print_two_messages(struct printer p[2], const struct cfg_schema *schema, const void *a,
                               const void *b);

static void print_two_values(struct printer p[2], const struct cfg_field *field, const void *a,
                             const void *b) {
    const struct cfg_any *any = a, *other_any = b;
    const struct cfg_schema *schema = NULL;
    if (field->type == CFG_MESSAGE && !field->wrapped)
        schema = field->schema;
    else if (field->type == CFG_ANY && span_eq(any->type_url, other_any->type_url) &&
             any->shown_schema == other_any->shown_schema)
        schema = any->shown_schema;
    if (!schema || schema->is_well_known) {
        print_value(&p[0], field, a);
        print_value(&p[1], field, b);
        return;
    }
    const bool was_secret = p->secret;
    for (int side = 0; side < 2; side++) {
        p[side].secret |= p[side].hides && (field->rules & CFG_SECRET);
        open(&p[side], '{');
    }
    if (field->type == CFG_ANY)
        print_two_messages(p, schema, any->shown, other_any->shown);
    else
        print_two_messages(p, schema, a, b);
    for (int side = 0; side < 2; side++) {
        close(&p[side], '}');
        p[side].secret = was_secret;
    }
}

static void print_two_lists(struct printer p[2], const struct cfg_field *field, const void *a,
                            const void *b) {
    size_t from = 0, to[2], stride = cfg_value_size(field);
    const char *items[2] = {cfg_items(field, a, &to[0]), cfg_items(field, b, &to[1])};
    while (from < to[0] && from < to[1] &&
           cfg_value_is_same(field, items[0] + from * stride, items[1] + from * stride))
        from++;
    /* As long as there is more than the pair that is known to differ. */
    while (to[0] > from && to[1] > from && to[0] + to[1] > 2 * from + 2 &&
           cfg_value_is_same(field, items[0] + (to[0] - 1) * stride,
                             items[1] + (to[1] - 1) * stride)) {
        to[0]--;
        to[1]--;
    }
    open(&p[0], '[');
    open(&p[1], '[');
    for (size_t i = from; i < to[0] || i < to[1]; i++) {
        for (int side = 0; side < 2; side++)
            if (i < to[side])
                separate(&p[side]);
        if (i < to[0] && i < to[1])
            print_two_values(p, field, items[0] + i * stride, items[1] + i * stride);
        else if (i < to[0])
            print_value(&p[0], field, items[0] + i * stride);
        else
            print_value(&p[1], field, items[1] + i * stride);
    }
    for (int side = 0; side < 2; side++) {
        p[side].is_first = false; /* its brackets are lines of their own, whatever was left out */
        close(&p[side], ']');
    }
}

static void print_two_messages(struct printer p[2], const struct cfg_schema *schema, const void *a,
                               const void *b) {
    for (size_t i = 0; i < schema->fields_count; i++) {
        const struct cfg_field *field = &schema->fields[i];
        bool in_a = has_field(field, a), in_b = has_field(field, b);
        if (!in_a || !in_b || field->shape == CFG_MAP) {
            if (in_a)
                print_field(&p[0], field, a);
            if (in_b)
                print_field(&p[1], field, b);
            continue;
        }
        key(&p[0], span_of(field->name));
        key(&p[1], span_of(field->name));
        if (field->shape == CFG_REPEATED)
            print_two_lists(p, field, a, b);
        else
            print_two_values(p, field, cfg_singular(field, a), cfg_singular(field, b));
    }
}

void cfg_to_json_of_differences(const struct cfg_schema *schema, const void *const messages[2],
                                unsigned indent, char *out[2]) {
    struct cfg_buf bufs[2] = {0};
    struct printer p[2];
    for (int side = 0; side < 2; side++) {
        p[side] = (struct printer){.buf = &bufs[side], .indent = indent, .hides = true};
        open(&p[side], '{');
    }
    print_two_messages(p, schema, messages[0], messages[1]);
    for (int side = 0; side < 2; side++) {
        close(&p[side], '}');
        out[side] = cfg_buf_take(&bufs[side]);
    }
}

/* ---- one ---- */

void cfg_json_message(struct cfg_buf *buf, const struct cfg_schema *schema, const void *message,
                      unsigned indent, unsigned level) {
    struct printer p = {.buf = buf, .indent = indent, .level = level};
    open(&p, '{');
    print_fields(&p, schema, message);
    close(&p, '}');
}

void cfg_json_tree(struct cfg_buf *buf, const struct cfg_value *value) {
    struct printer p = {.buf = buf};
    print_tree(&p, value);
}

char *cfg_to_json_without_secrets(const struct cfg_schema *schema, const void *message,
                                  unsigned indent) {
    struct cfg_buf buf = {0};
    struct printer p = {.buf = &buf, .indent = indent, .hides = true};
    open(&p, '{');
    print_fields(&p, schema, message);
    close(&p, '}');
    return cfg_buf_take(&buf);
}

char *cfg_to_json(const struct cfg_schema *schema, const void *message, unsigned indent) {
    struct cfg_buf buf = {0};
    struct printer p = {.buf = &buf, .indent = indent};
    if (schema->is_well_known)
        print_value(&p, &schema->fields[0], message);
    else
        cfg_json_message(&buf, schema, message, indent, 0);
    return cfg_buf_take(&buf);
}
