/* text: a growing buffer of bytes that a page is written into.
 *
 * Ownership  The buffer is malloc memory: text_fini frees it.
 * Errors     When memory is short, `failed` is set and all later writes do nothing, so a page
 *            checks once, at its end. */
#pragma once
#include "base/check.h"
#include "base/span.h"

struct text {
    char *data; /* not NUL-terminated */
    size_t len, capacity;
    bool failed;
};

void text_fini(struct text *text);

void text_put(struct text *text, struct span bytes);
void text_printf(struct text *text, const char *format, ...) PRINTF_LIKE(2, 3);
void text_put_double(struct text *text, double value);
/* So that a page of HTML shows it; not for attributes, quotes are themselves. */
void text_put_html(struct text *text, struct span bytes);
/* Wall clock time as RFC 3339 has it: "2026-01-31T08:00:00.000Z". */
void text_put_time(struct text *text, int64_t wall_ns);
enum { TIME_TEXT_MAX = 64 };
void time_format(int64_t wall_ns, char out[TIME_TEXT_MAX]);

static inline void text_puts(struct text *text, const char *s) {
    text_put(text, span_of(s));
}
static inline void text_putc(struct text *text, char c) {
    text_put(text, span_make(&c, 1));
}
static inline struct span text_span(const struct text *text) {
    return span_make(text->data ? text->data : "", text->len);
}

/* The shortest decimal that reads back as value, NUL-terminated: "0.5", "3600000", "nan". */
enum { DOUBLE_TEXT_MAX = 40 };
void double_format(double value, char out[DOUBLE_TEXT_MAX]);
