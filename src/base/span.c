#include "base/span.h"

static unsigned char fold(unsigned char c) {
    return c >= 'A' && c <= 'Z' ? (unsigned char)(c + 32) : c;
}

bool span_eq_nocase(struct span a, struct span b) {
    if (a.len != b.len)
        return false;
    for (size_t i = 0; i < a.len; i++)
        if (fold((unsigned char)a.ptr[i]) != fold((unsigned char)b.ptr[i]))
            return false;
    return true;
}

ptrdiff_t span_find(struct span s, char byte) {
    const char *at = s.len ? memchr(s.ptr, byte, s.len) : NULL;
    return at ? at - s.ptr : -1;
}

struct span span_trim(struct span s) {
    while (s.len && (s.ptr[0] == ' ' || s.ptr[0] == '\t'))
        s = span_make(s.ptr + 1, s.len - 1);
    while (s.len && (s.ptr[s.len - 1] == ' ' || s.ptr[s.len - 1] == '\t'))
        s.len--;
    return s;
}

bool span_next_token(struct span *rest, char separator, struct span *token) {
    if (span_is_none(*rest))
        return false;
    ptrdiff_t at = span_find(*rest, separator);
    if (at < 0) {
        *token = span_trim(*rest);
        *rest = span_none();
    } else {
        *token = span_trim(span_make(rest->ptr, (size_t)at));
        *rest = span_make(rest->ptr + at + 1, rest->len - (size_t)at - 1);
    }
    return true;
}

uint64_t span_hash(uint64_t hash, struct span s) {
    for (size_t i = 0; i < s.len; i++)
        hash = (hash ^ (unsigned char)s.ptr[i]) * 0x100000001b3ULL;
    return hash;
}

bool span_to_u64(struct span s, uint64_t *out) {
    uint64_t value = 0;
    if (s.len == 0)
        return false;
    for (size_t i = 0; i < s.len; i++) {
        unsigned digit = (unsigned)((unsigned char)s.ptr[i] - '0');
        if (digit > 9)
            return false;
        /* Only from the 20th digit on can it overflow. */
        if (i >= SPAN_U64_DIGITS_MAX - 1 && value > (UINT64_MAX - digit) / 10)
            return false;
        value = value * 10 + digit;
    }
    *out = value;
    return true;
}

size_t span_put_u64(char out[SPAN_U64_DIGITS_MAX], uint64_t value) {
    char digits[SPAN_U64_DIGITS_MAX];
    size_t at = sizeof digits;
    do {
        digits[--at] = (char)('0' + value % 10);
        value /= 10;
    } while (value);
    memcpy(out, digits + at, sizeof digits - at);
    return sizeof digits - at;
}

size_t span_put_hex(char *out, const void *bytes, size_t size) {
    static const char digits[] = "0123456789abcdef";
    const unsigned char *at = bytes;
    for (size_t i = 0; i < size; i++) {
        out[2 * i] = digits[at[i] >> 4];
        out[2 * i + 1] = digits[at[i] & 15];
    }
    return 2 * size;
}
