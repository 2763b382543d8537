#include "admin/json.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>

#include "base/utf8.h"

static void new_line(struct json *json) {
    if (json->style == JSON_PRETTY)
        text_printf(json->out, "\n%*s", (int)json->depth, "");
}

/* What stands between the previous item and this one. */
static void before_item(struct json *json) {
    if (json->after_key) {
        json->after_key = false;
        return;
    }
    if (json->has_items)
        text_putc(json->out, ',');
    if (json->depth > 0)
        new_line(json);
    json->has_items = true;
}

void json_open(struct json *json, char open) {
    before_item(json);
    text_putc(json->out, open);
    json->depth++;
    json->has_items = false;
}

void json_close(struct json *json, char close) {
    json->depth--;
    if (json->has_items)
        new_line(json);
    text_putc(json->out, close);
    json->has_items = true; /* the parent has at least this one */
    if (json->depth == 0 && json->style == JSON_PRETTY)
        text_putc(json->out, '\n');
}

static void put_quoted(struct text *out, struct span value) {
    text_putc(out, '"');
    while (value.len > 0) {
        size_t plain = 0; /* the run that needs nothing is put in one go */
        while (plain < value.len && (unsigned char)value.ptr[plain] >= 0x20 &&
               (unsigned char)value.ptr[plain] < 0x7f && value.ptr[plain] != '"' &&
               value.ptr[plain] != '\\')
            plain++;
        text_put(out, span_make(value.ptr, plain));
        value = span_from(value, plain);
        if (value.len == 0)
            break;
        unsigned char c = (unsigned char)value.ptr[0];
        size_t sequence = utf8_sequence(value);
        if (c == '"' || c == '\\')
            text_printf(out, "\\%c", c);
        else if (c == '\n')
            text_puts(out, "\\n");
        else if (c < 0x20 || c == 0x7f)
            text_printf(out, "\\u%04x", c);
        else if (sequence > 0)
            text_put(out, span_make(value.ptr, sequence));
        else
            text_puts(out, "\\ufffd");
        value = span_from(value, sequence ? sequence : 1);
    }
    text_putc(out, '"');
}

void json_key(struct json *json, const char *name) {
    before_item(json);
    put_quoted(json->out, span_of(name));
    text_puts(json->out, json->style == JSON_PRETTY ? ": " : ":");
    json->after_key = true;
}

void json_string(struct json *json, struct span value) {
    before_item(json);
    put_quoted(json->out, value);
}

void json_u64(struct json *json, uint64_t value) {
    before_item(json);
    text_printf(json->out, "%" PRIu64, value);
}

void json_i64(struct json *json, int64_t value) {
    before_item(json);
    text_printf(json->out, "%" PRId64, value);
}

void json_double(struct json *json, double value) {
    before_item(json);
    if (isfinite(value))
        text_put_double(json->out, value);
    else
        text_puts(json->out, "null");
}

void json_bool(struct json *json, bool value) {
    before_item(json);
    text_puts(json->out, value ? "true" : "false");
}

void json_raw(struct json *json, struct span value) {
    before_item(json);
    while (value.len > 0 && value.ptr[value.len - 1] == '\n')
        value.len--;
    while (value.len > 0) { /* strings hold no bare line ends, so each one here is layout */
        ptrdiff_t end = span_find(value, '\n');
        text_put(json->out, end < 0 ? value : span_make(value.ptr, (size_t)end));
        if (end < 0)
            break;
        new_line(json);
        value = span_from(value, (size_t)end + 1);
    }
}

void json_field(struct json *json, const char *name, struct span value) {
    json_key(json, name);
    json_string(json, value);
}

void json_field_u64(struct json *json, const char *name, uint64_t value) {
    json_key(json, name);
    json_u64(json, value);
}

void json_field_u64_string(struct json *json, const char *name, uint64_t value) {
    char digits[24];
    snprintf(digits, sizeof digits, "%" PRIu64, value);
    json_field(json, name, span_of(digits));
}

void json_field_time(struct json *json, const char *name, int64_t wall_ns) {
    char text[TIME_TEXT_MAX];
    time_format(wall_ns, text);
    json_field(json, name, span_of(text));
}
