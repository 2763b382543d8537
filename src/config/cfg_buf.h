/* cfg_buf: bytes that grow at the end; what the encoders write into.
 *
 * Ownership  With an arena the bytes are the arena's; without one cfg_buf_fini frees them, or
 *            cfg_buf_take transfers them to the caller, who calls free().
 * Errors     Sticky: once memory is short `failed` is set and appends do nothing. With an arena
 *            the arena's own way of failing comes first. */
#pragma once
#include "config/cfg_arena.h"

struct cfg_buf {
    struct cfg_arena *arena; /* or NULL: malloc */
    char *ptr;
    size_t len, capacity;
    bool failed;
};

void cfg_buf_add(struct cfg_buf *buf, const void *bytes, size_t count);
void cfg_buf_byte(struct cfg_buf *buf, char byte);
void cfg_buf_text(struct cfg_buf *buf, const char *text);
void cfg_buf_span(struct cfg_buf *buf, struct span s);
void cfg_buf_printf(struct cfg_buf *buf, const char *format, ...) PRINTF_LIKE(2, 3);
void cfg_buf_fini(struct cfg_buf *buf);

static inline struct span cfg_buf_view(const struct cfg_buf *buf) {
    return span_make(buf->ptr ? buf->ptr : "", buf->len);
}

/* NUL-terminated, NUL not counted; NULL after a failure. Only without an arena. */
MUST_CHECK char *cfg_buf_take(struct cfg_buf *buf);
