#include "http/path.h"

#include <errno.h>

#include "http/chars.h"

struct span path_only(struct span path) {
    ptrdiff_t at = span_find(path, '?');
    return at < 0 ? path : span_make(path.ptr, (size_t)at);
}

struct span path_query(struct span path) {
    ptrdiff_t at = span_find(path, '?');
    return at < 0 ? span_none() : span_from(path, (size_t)at + 1);
}

struct span path_query_suffix(struct span path) {
    return span_from(path, path_only(path).len);
}

bool query_get(struct span query, struct span name, struct span *value) {
    while (query.len) {
        ptrdiff_t end = span_find(query, '&');
        struct span pair = end < 0 ? query : span_make(query.ptr, (size_t)end);
        ptrdiff_t equals = span_find(pair, '=');
        struct span key = equals < 0 ? pair : span_make(pair.ptr, (size_t)equals);
        if (span_eq(key, name)) {
            *value = span_from(pair, equals < 0 ? pair.len : (size_t)equals + 1);
            return true;
        }
        query = span_from(query, end < 0 ? query.len : (size_t)end + 1);
    }
    return false;
}

/* Value of the escape "%xy" at text[at], or -1. */
static int escape_at(struct span text, size_t at) {
    if (at + 2 >= text.len || text.ptr[at] != '%')
        return -1;
    int high = chars_hex(text.ptr[at + 1]), low = chars_hex(text.ptr[at + 2]);
    return high < 0 || low < 0 ? -1 : high << 4 | low;
}

bool path_escapes_are_valid(struct span path) {
    for (size_t i = 0; i < path.len; i++)
        if (path.ptr[i] == '%' && escape_at(path, i) < 0)
            return false;
    return true;
}

/* ---- normalisation, after the URL canonicaliser of Chromium that Envoy uses ---- */

/* Length of a dot in any form at text[at]: 1, 3 ("%2e") or 0. */
static size_t dot_at(struct span text, size_t at) {
    if (at < text.len && text.ptr[at] == '.')
        return 1;
    return escape_at(text, at) == '.' ? 3 : 0;
}

static bool is_slash(char c) {
    return c == '/' || c == '\\';
}

/* Bytes that go out escaped; the rest stands for itself. */
static bool needs_escape(char c) {
    return (uint8_t)c <= ' ' || (uint8_t)c >= 0x7f || memchr("\"#<>?^`{|}", c, 10) != NULL;
}

/* Drops the last segment: [begin, out) ends in '/', the leading one stays. */
static char *back_up(const char *begin, char *out) {
    if (out - begin <= 1)
        return out;
    out--;
    while (out[-1] != '/')
        out--;
    return out;
}

static char *put_escaped(char *out, uint8_t byte) {
    static const char digits[] = "0123456789ABCDEF";
    *out++ = '%';
    *out++ = digits[byte >> 4];
    *out++ = digits[byte & 15];
    return out;
}

/* Whether normalisation would leave the path as it is: no dot behind a slash, no escape, no byte
 * that needs one. Most paths are so. */
static bool is_plain(struct span path) {
    for (size_t i = 0; i < path.len; i++) {
        char c = path.ptr[i];
        if (c == '%' || c == '\\' || needs_escape(c) || (c == '.' && path.ptr[i - 1] == '/'))
            return false;
    }
    return true;
}

int path_normalize(struct arena *arena, struct span path, struct span *result) {
    struct span in = path_only(path), query = path_query_suffix(path);
    if (in.len == 0 || in.ptr[0] != '/')
        return -EINVAL;
    if (is_plain(in)) {
        *result = path;
        return 0;
    }
    char *begin = arena_alloc(arena, in.len * 3 + query.len); /* every byte may need an escape */
    if (!begin)
        return -ENOMEM;
    char *out = begin;
    for (size_t i = 0; i < in.len;) {
        char c = in.ptr[i];
        size_t dot = dot_at(in, i);
        if (dot) {
            size_t after = i + dot, second = dot_at(in, after), last = after + second;
            bool at_segment = out > begin && out[-1] == '/';
            if (at_segment && (last == in.len || is_slash(in.ptr[last]))) {
                if (second)
                    out = back_up(begin, out);
                i = last == in.len ? last : last + 1;
                continue;
            }
            *out++ = '.';
            i = after;
        } else if (is_slash(c)) {
            *out++ = '/';
            i++;
        } else if (c == '%') {
            int byte = escape_at(in, i);
            if (byte == 0)
                return -EINVAL;
            if (byte > 0 && chars_is((char)byte, CHAR_UNRESERVED)) {
                *out++ = (char)byte;
                i += 3;
            } else { /* kept as written, the case of its digits too; a lone '%' passes */
                *out++ = '%';
                i++;
            }
        } else if (c == '\0') {
            return -EINVAL;
        } else if (needs_escape(c)) {
            out = put_escaped(out, (uint8_t)c);
            i++;
        } else {
            *out++ = c;
            i++;
        }
    }
    if (query.len)
        memcpy(out, query.ptr, query.len);
    *result = span_make(begin, (size_t)(out - begin) + query.len);
    return 0;
}

int path_merge_slashes(struct arena *arena, struct span path, struct span *result) {
    struct span in = path_only(path);
    size_t i = 1;
    while (i < in.len && !(in.ptr[i] == '/' && in.ptr[i - 1] == '/'))
        i++;
    if (i >= in.len) {
        *result = path;
        return 0;
    }
    char *begin = arena_alloc(arena, path.len), *out = begin;
    if (!begin)
        return -ENOMEM;
    for (i = 0; i < path.len; i++)
        if (i == 0 || i >= in.len || path.ptr[i] != '/' || path.ptr[i - 1] != '/')
            *out++ = path.ptr[i];
    *result = span_make(begin, (size_t)(out - begin));
    return 0;
}

static bool is_escaped_slash(int byte) {
    return byte == '/' || byte == '\\';
}

bool path_has_escaped_slashes(struct span path) {
    struct span in = path_only(path);
    for (size_t i = 0; i < in.len; i++)
        if (is_escaped_slash(escape_at(in, i)))
            return true;
    return false;
}

int path_unescape_slashes(struct arena *arena, struct span path, struct span *result) {
    if (!path_has_escaped_slashes(path)) {
        *result = path;
        return 0;
    }
    struct span in = path_only(path);
    char *begin = arena_alloc(arena, path.len), *out = begin;
    if (!begin)
        return -ENOMEM;
    for (size_t i = 0; i < path.len; i++) {
        int byte = i < in.len ? escape_at(in, i) : -1;
        if (is_escaped_slash(byte)) {
            *out++ = (char)byte;
            i += 2;
        } else {
            *out++ = path.ptr[i];
        }
    }
    *result = span_make(begin, (size_t)(out - begin));
    return 0;
}
