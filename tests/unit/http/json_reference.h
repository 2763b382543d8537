/* json_reference: what a document holds at given paths, and where it stops being one, told by the plainest parser
 * there could be: recursive descent over the whole text, a byte at a time. Shares nothing with the scanner
 * but the compiled paths. */
#pragma once
#include <stdlib.h>

#include "http/json_scan.h"

struct reference_event {
    size_t at; /* with this byte it is known */
    struct json_value value;
    char *text; /* owned */
};

struct reference {
    const unsigned char *s;
    size_t n, i;
    const struct json_paths *paths;
    struct {
        bool is_key;
        char key[256]; /* cut: no path asks for so much */
        size_t key_len;
        uint32_t index;
    } steps[JSON_DEPTH_MAX];
    unsigned depth;
    struct reference_event events[512];
    size_t count;
    bool bad; /* at i */
};

static inline int ref_peek(struct reference *r) {
    return r->i < r->n ? r->s[r->i] : -1;
}
static inline bool ref_fail(struct reference *r) {
    r->bad = true;
    return false;
}
static inline void ref_blanks(struct reference *r) {
    while (r->i < r->n && strchr(" \t\r\n", r->s[r->i]) && r->s[r->i])
        r->i++;
}

static inline bool ref_is_at(const struct reference *r, const struct json_path *path) {
    if (path->count != r->depth)
        return false;
    for (unsigned d = 0; d < r->depth; d++) {
        const struct json_segment *want = &path->segments[d];
        if (r->steps[d].is_key != (want->kind == JSON_SEGMENT_KEY))
            return false;
        if (want->kind == JSON_SEGMENT_INDEX && want->index != r->steps[d].index)
            return false;
        if (want->kind == JSON_SEGMENT_KEY &&
            (want->key.len != r->steps[d].key_len ||
             (want->key.len && memcmp(want->key.ptr, r->steps[d].key, want->key.len) != 0)))
            return false;
    }
    return true;
}

static inline void ref_event(struct reference *r, size_t at, enum json_kind kind, const char *text,
                             size_t len) {
    for (uint32_t p = 0; p < r->paths->count; p++)
        if (ref_is_at(r, &r->paths->paths[p]) && r->count < 512) {
            struct reference_event *e = &r->events[r->count++];
            e->at = at;
            e->value = (struct json_value){.path = p, .kind = kind};
            e->text = malloc(len + 1);
            if (len)
                memcpy(e->text, text, len);
            e->value.text = span_make(e->text, len);
        }
}

static inline bool ref_hex(struct reference *r, uint32_t *code, unsigned digits) {
    for (unsigned k = 0; k < digits; k++, r->i++) {
        int c = ref_peek(r);
        unsigned v;
        if (c >= '0' && c <= '9')
            v = (unsigned)c - '0';
        else if (c >= 'a' && c <= 'f')
            v = (unsigned)c - 'a' + 10;
        else if (c >= 'A' && c <= 'F')
            v = (unsigned)c - 'A' + 10;
        else
            return ref_fail(r);
        *code = *code << 4 | v;
    }
    return true;
}

static inline size_t ref_encode(char *out, uint32_t code) {
    if (code < 0x80)
        return (size_t)sprintf(out, "%c", (int)code);
    if (code < 0x800)
        return (size_t)sprintf(out, "%c%c", (int)(0xc0 | code >> 6), (int)(0x80 | code % 64));
    if (code < 0x10000)
        return (size_t)sprintf(out, "%c%c%c", (int)(0xe0 | code >> 12),
                               (int)(0x80 | code / 64 % 64), (int)(0x80 | code % 64));
    return (size_t)sprintf(out, "%c%c%c%c", (int)(0xf0 | code >> 18),
                           (int)(0x80 | code / 4096 % 64), (int)(0x80 | code / 64 % 64),
                           (int)(0x80 | code % 64));
}

/* Behind the u. A pair's second half is judged where its second digit stands. */
static inline bool ref_unit(struct reference *r, char *out, size_t *len) {
    uint32_t top = 0, code, low = 0;
    if (!ref_hex(r, &top, 2))
        return false;
    if (top >= 0xdc && top <= 0xdf) {
        r->i--;
        return ref_fail(r);
    }
    code = top;
    if (!ref_hex(r, &code, 2))
        return false;
    if (top >= 0xd8 && top <= 0xdb) {
        for (const char *mark = "\\u"; *mark; mark++, r->i++)
            if (ref_peek(r) != *mark)
                return ref_fail(r);
        if (!ref_hex(r, &low, 2))
            return false;
        if (low < 0xdc || low > 0xdf) {
            r->i--;
            return ref_fail(r);
        }
        if (!ref_hex(r, &low, 2))
            return false;
        code = 0x10000 + ((code - 0xd800) << 10 | (low - 0xdc00));
    }
    *len += ref_encode(out + *len, code);
    return true;
}

static inline bool ref_utf8(struct reference *r, char *out, size_t *len) {
    unsigned lead = r->s[r->i], more = lead >= 0xf0 ? 3 : lead >= 0xe0 ? 2 : 1;
    if (lead < 0xc2 || lead > 0xf4)
        return ref_fail(r);
    uint32_t code = lead & (0x3fu >> more);
    out[(*len)++] = (char)lead;
    for (unsigned k = 0; k < more; k++) {
        r->i++;
        int c = ref_peek(r);
        if (c < 0x80 || c > 0xbf)
            return ref_fail(r);
        code = code << 6 | ((unsigned)c & 63);
        if (k == 0 && more == 2 &&
            (code < 0x800 >> 6 || (code >= 0xd800 >> 6 && code < 0xe000 >> 6)))
            return ref_fail(r);
        if (k == 0 && more == 3 && (code < 0x10000 >> 12 || code > 0x10ffff >> 12))
            return ref_fail(r);
        out[(*len)++] = (char)c;
    }
    r->i++;
    return true;
}

/* At the quote; behind the other one afterwards. */
static inline bool ref_string(struct reference *r, char *out, size_t *len) {
    *len = 0;
    r->i++;
    for (;;) {
        int c = ref_peek(r);
        if (c < 0x20)
            return ref_fail(r);
        if (c == '"') {
            r->i++;
            return true;
        }
        if (c >= 0x80) {
            if (!ref_utf8(r, out, len))
                return false;
            continue;
        }
        r->i++;
        if (c != '\\') {
            out[(*len)++] = (char)c;
            continue;
        }
        static const char names[] = "\"\\/bfnrt", values[] = "\"\\/\b\f\n\r\t";
        c = ref_peek(r);
        if (c == 'u') {
            r->i++;
            if (!ref_unit(r, out, len))
                return false;
            continue;
        }
        const char *name = c > 0 ? strchr(names, c) : NULL;
        if (!name)
            return ref_fail(r);
        out[(*len)++] = values[name - names];
        r->i++;
    }
}

static inline bool ref_digits(struct reference *r) {
    if (ref_peek(r) < '0' || ref_peek(r) > '9')
        return ref_fail(r);
    while (ref_peek(r) >= '0' && ref_peek(r) <= '9')
        r->i++;
    return true;
}

static inline bool ref_ends(struct reference *r) {
    int c = ref_peek(r);
    return c < 0 || strchr(" \t\r\n[]{},:\"", c) ? true : ref_fail(r);
}

static inline bool ref_number(struct reference *r) {
    if (ref_peek(r) == '-')
        r->i++;
    if (ref_peek(r) == '0')
        r->i++;
    else if (!ref_digits(r))
        return false;
    if (ref_peek(r) == '.') {
        r->i++;
        if (!ref_digits(r))
            return false;
    }
    if (ref_peek(r) == 'e' || ref_peek(r) == 'E') {
        r->i++;
        if (ref_peek(r) == '+' || ref_peek(r) == '-')
            r->i++;
        if (!ref_digits(r))
            return false;
    }
    return ref_ends(r);
}

static inline bool ref_literal(struct reference *r, const char *word) {
    for (; *word; word++, r->i++)
        if (ref_peek(r) != *word)
            return ref_fail(r);
    return ref_ends(r);
}

static inline bool ref_value(struct reference *r);

static inline bool ref_container(struct reference *r, char *text) {
    bool object = ref_peek(r) == '{';
    if (r->depth == JSON_DEPTH_MAX)
        return ref_fail(r);
    ref_event(r, r->i, object ? JSON_OBJECT : JSON_ARRAY, "", 0);
    unsigned at = r->depth++;
    r->i++;
    ref_blanks(r);
    if (ref_peek(r) == (object ? '}' : ']')) {
        r->i++;
        r->depth--;
        return true;
    }
    for (uint32_t index = 0;; index++) {
        r->steps[at].is_key = object;
        r->steps[at].index = index;
        if (object) {
            if (ref_peek(r) != '"' || !ref_string(r, text, &r->steps[at].key_len))
                return ref_fail(r);
            if (r->steps[at].key_len > sizeof r->steps[at].key)
                r->steps[at].key_len = sizeof r->steps[at].key;
            memcpy(r->steps[at].key, text, r->steps[at].key_len);
            ref_blanks(r);
            if (ref_peek(r) != ':')
                return ref_fail(r);
            r->i++;
            ref_blanks(r);
        }
        if (!ref_value(r))
            return false;
        ref_blanks(r);
        int c = ref_peek(r);
        if (c != ',' && c != (object ? '}' : ']'))
            return ref_fail(r);
        r->i++;
        if (c != ',')
            break;
        ref_blanks(r);
    }
    r->depth--;
    return true;
}

static inline bool ref_value(struct reference *r) {
    char *text = malloc(r->n + 8);
    size_t len = 0, start = r->i;
    bool ok;
    switch (ref_peek(r)) {
    case '{':
    case '[':
        ok = ref_container(r, text);
        break;
    case '"':
        ok = ref_string(r, text, &len);
        if (ok)
            ref_event(r, r->i - 1, JSON_STRING, text, len);
        break;
    case 't':
        ok = ref_literal(r, "true");
        if (ok)
            ref_event(r, r->i, JSON_TRUE, "true", 4);
        break;
    case 'f':
        ok = ref_literal(r, "false");
        if (ok)
            ref_event(r, r->i, JSON_FALSE, "false", 5);
        break;
    case 'n':
        ok = ref_literal(r, "null");
        if (ok)
            ref_event(r, r->i, JSON_NULL, "null", 4);
        break;
    case '-':
    case '0' ... '9':
        ok = ref_number(r);
        if (ok)
            ref_event(r, r->i, JSON_NUMBER, (const char *)r->s + start, r->i - start);
        break;
    default:
        ok = ref_fail(r);
    }
    free(text);
    return ok;
}

/* Owned: reference_free. */
static inline struct reference *reference_run(const struct json_paths *paths, struct span input) {
    struct reference *r = calloc(1, sizeof *r);
    r->s = (const unsigned char *)input.ptr;
    r->n = input.len;
    r->paths = paths;
    ref_blanks(r);
    if (ref_value(r)) {
        ref_blanks(r);
        r->bad = r->i < r->n;
    }
    return r;
}

static inline void reference_free(struct reference *r) {
    for (size_t i = 0; i < r->count; i++)
        free(r->events[i].text);
    free(r);
}
