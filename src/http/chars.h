/* chars: which bytes may stand where in a message, and fast searches for the first that may not.
 *
 * Ownership  Everything borrows for the call.
 * Threads    Pure functions over constant tables.
 * Searches   They read only [floor, end). `floor` <= p is the start of the readable bytes: with 16
 *            of them in all, the last partial vector is loaded so that it ends at `end`. */
#pragma once
#include "base/span.h"

enum char_class {
    CHAR_TOKEN = 1,     /* RFC 9110 5.6.2 tchar */
    CHAR_AUTHORITY = 2, /* RFC 3986 reg-name: unreserved, sub-delims, '%' */
    CHAR_HEX = 4,
    CHAR_UNRESERVED = 8, /* RFC 3986 2.3 */
    CHAR_QUOTED = 16,    /* RFC 9110 5.6.4 qdtext */
};
extern const uint8_t chars_class[256];
/* The lower-case form of a tchar, 0 for any other byte. */
extern const uint8_t chars_token_lower[256];

static inline bool chars_is(char c, enum char_class class) {
    return (chars_class[(uint8_t)c] & class) != 0;
}

/* Value of a hexadecimal digit, -1 for another byte. */
static inline int chars_hex(char c) {
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* First byte that is no field text: a control byte other than HTAB, or DEL. `end` when none. */
const char *chars_find_control(const char *floor, const char *p, const char *end);
/* First byte outside '!'..'~', or '#': what no request target holds. `end` when none. */
const char *chars_find_not_target(const char *floor, const char *p, const char *end);

/* Whether s is `lower` in any case. For bytes without control characters, as parsed values are:
 * there a byte equals a lower-case letter, digit or '-' once bit 5 is set only if it is that
 * character in either case. */
static inline bool chars_eq_lower(struct span s, struct span lower) {
    const uint64_t bits = 0x2020202020202020;
    uint64_t a, b, c, d;
    if (s.len != lower.len)
        return false;
    if (s.len >= 8 && s.len <= 16) { /* both ends, which may overlap */
        memcpy(&a, s.ptr, 8);
        memcpy(&b, lower.ptr, 8);
        memcpy(&c, s.ptr + s.len - 8, 8);
        memcpy(&d, lower.ptr + lower.len - 8, 8);
        return (((a | bits) ^ b) | ((c | bits) ^ d)) == 0;
    }
    for (size_t i = 0; i < s.len; i++)
        if ((s.ptr[i] | 0x20) != lower.ptr[i])
            return false;
    return true;
}
