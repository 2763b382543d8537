#include "config/cfg_buf.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

static NOINLINE bool grow(struct cfg_buf *buf, size_t count) {
    if (buf->failed)
        return false;
    size_t wanted;
    if (__builtin_add_overflow(buf->len, count, &wanted) || wanted > SIZE_MAX / 2) {
        buf->failed = true;
        return false;
    }
    size_t capacity = wanted < 64 ? 64 : wanted * 2;
    char *grown;
    if (buf->arena) {
        grown = cfg_alloc(buf->arena, capacity);
        if (buf->len)
            memcpy(grown, buf->ptr, buf->len);
    } else {
        grown = realloc(buf->ptr, capacity);
        if (!grown) {
            buf->failed = true;
            return false;
        }
    }
    buf->ptr = grown;
    buf->capacity = capacity;
    return true;
}

static bool reserve(struct cfg_buf *buf, size_t count) {
    return (!buf->failed && buf->capacity - buf->len >= count) || grow(buf, count);
}

void cfg_buf_add(struct cfg_buf *buf, const void *bytes, size_t count) {
    if (count && reserve(buf, count)) {
        memcpy(buf->ptr + buf->len, bytes, count);
        buf->len += count;
    }
}

void cfg_buf_byte(struct cfg_buf *buf, char byte) {
    cfg_buf_add(buf, &byte, 1);
}

void cfg_buf_text(struct cfg_buf *buf, const char *text) {
    cfg_buf_add(buf, text, strlen(text));
}

void cfg_buf_span(struct cfg_buf *buf, struct span s) {
    cfg_buf_add(buf, s.ptr, s.len);
}

void cfg_buf_printf(struct cfg_buf *buf, const char *format, ...) {
    va_list args;
    va_start(args, format);
    int len = vsnprintf(NULL, 0, format, args);
    va_end(args);
    ASSERT(len >= 0);
    if (!reserve(buf, (size_t)len + 1))
        return;
    va_start(args, format);
    (void)vsnprintf(buf->ptr + buf->len, (size_t)len + 1, format, args); /* measured above */
    va_end(args);
    buf->len += (size_t)len;
}

void cfg_buf_fini(struct cfg_buf *buf) {
    if (!buf->arena)
        free(buf->ptr);
    *buf = (struct cfg_buf){.arena = buf->arena};
}

char *cfg_buf_take(struct cfg_buf *buf) {
    ASSERT(!buf->arena);
    cfg_buf_byte(buf, '\0');
    char *text = NULL;
    if (!buf->failed) {
        text = buf->ptr;
        buf->ptr = NULL;
    }
    cfg_buf_fini(buf);
    return text;
}
