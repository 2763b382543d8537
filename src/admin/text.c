#include "admin/text.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/clock.h"

void text_fini(struct text *text) {
    free(text->data);
    *text = (struct text){0};
}

static bool make_room(struct text *text, size_t more) {
    if (text->failed)
        return false;
    if (more <= text->capacity - text->len)
        return true;
    size_t capacity = text->capacity ? text->capacity : 4096;
    while (capacity - text->len < more && capacity <= SIZE_MAX / 4)
        capacity *= 2;
    char *bigger = capacity - text->len < more ? NULL : realloc(text->data, capacity);
    if (!bigger) {
        text->failed = true;
        return false;
    }
    text->data = bigger;
    text->capacity = capacity;
    return true;
}

void text_put(struct text *text, struct span bytes) {
    if (bytes.len == 0 || !make_room(text, bytes.len))
        return;
    memcpy(text->data + text->len, bytes.ptr, bytes.len);
    text->len += bytes.len;
}

void text_printf(struct text *text, const char *format, ...) {
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    int len = vsnprintf(NULL, 0, format, args);
    va_end(args);
    if (len < 0)
        text->failed = true;
    else if (make_room(text, (size_t)len + 1)) { /* vsnprintf ends with a NUL */
        vsnprintf(text->data + text->len, (size_t)len + 1, format, again);
        text->len += (size_t)len;
    }
    va_end(again);
}

void double_format(double value, char out[DOUBLE_TEXT_MAX]) {
    for (int precision = 1; precision <= 17; precision++) {
        snprintf(out, DOUBLE_TEXT_MAX, "%.*g", precision, value);
        if (strtod(out, NULL) == value)
            break;
    }
    if (strchr(out, 'e') && value > -1e15 && value < 1e15 && value == (double)(int64_t)value)
        snprintf(out, DOUBLE_TEXT_MAX, "%.0f", value); /* not 3.6e+06 */
}

void text_put_double(struct text *text, double value) {
    char digits[DOUBLE_TEXT_MAX];
    double_format(value, digits);
    text_puts(text, digits);
}

void time_format(int64_t wall_ns, char out[TIME_TEXT_MAX]) {
    time_t seconds = (time_t)(wall_ns / NS_PER_S);
    struct tm tm;
    gmtime_r(&seconds, &tm);
    size_t len = strftime(out, TIME_TEXT_MAX, "%Y-%m-%dT%H:%M:%S", &tm);
    snprintf(out + len, TIME_TEXT_MAX - len, ".%03dZ", (int)(wall_ns % NS_PER_S / NS_PER_MS));
}

void text_put_time(struct text *text, int64_t wall_ns) {
    char written[TIME_TEXT_MAX];
    time_format(wall_ns, written);
    text_puts(text, written);
}

void text_put_html(struct text *text, struct span bytes) {
    for (size_t i = 0; i < bytes.len; i++) {
        switch (bytes.ptr[i]) {
        case '&':
            text_puts(text, "&amp;");
            break;
        case '<':
            text_puts(text, "&lt;");
            break;
        default:
            text_putc(text, bytes.ptr[i]);
        }
    }
}
