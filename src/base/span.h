/* span: borrowed bytes, {pointer, length}.
 *
 * Ownership  A span borrows. It is valid until the event that the function handing it out names; one
 *            passed in, until the call returns, unless it is marked BORROWED_BY (base/check.h).
 * Threads    A value; reading it from two threads is as safe as reading the bytes it points at.
 * Shape      Bytes, not text: no terminating NUL, may hold any value. {NULL, 0} is the absent span,
 *            {non-NULL, 0} an empty one. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/check.h"

struct span {
    const char *ptr;
    size_t len;
};

#define SPAN_LIT(literal) ((struct span){"" literal, sizeof(literal) - 1})
/* A static initialiser's form of SPAN_LIT. */
#define SPAN_INIT(literal)                                                                         \
    { "" literal, sizeof(literal) - 1 }

static inline struct span span_make(const void *ptr, size_t len) {
    return (struct span){(const char *)ptr, len};
}

/* Borrows s, which ends in NUL; NULL gives the absent span. */
static inline struct span span_of(const char *s) {
    return (struct span){s, s ? strlen(s) : 0};
}

static inline struct span span_none(void) {
    return (struct span){NULL, 0};
}

static inline bool span_is_none(struct span s) {
    return s.ptr == NULL;
}

static inline bool span_eq(struct span a, struct span b) {
    return a.len == b.len && (a.len == 0 || memcmp(a.ptr, b.ptr, a.len) == 0);
}

/* As memcmp; of two that begin alike the shorter one comes first. */
static inline int span_compare(struct span a, struct span b) {
    size_t shorter = a.len < b.len ? a.len : b.len;
    int order = shorter ? memcmp(a.ptr, b.ptr, shorter) : 0;
    return order != 0 ? order : (a.len > b.len) - (a.len < b.len);
}

static inline struct span span_from(struct span s, size_t start) {
    return start >= s.len ? span_make(s.ptr + s.len, 0) : span_make(s.ptr + start, s.len - start);
}

static inline bool span_starts_with(struct span s, struct span prefix) {
    return s.len >= prefix.len && (prefix.len == 0 || memcmp(s.ptr, prefix.ptr, prefix.len) == 0);
}

static inline bool span_ends_with(struct span s, struct span suffix) {
    return s.len >= suffix.len &&
           (suffix.len == 0 || memcmp(s.ptr + s.len - suffix.len, suffix.ptr, suffix.len) == 0);
}

/* ASCII case folding only, as HTTP asks. */
bool span_eq_nocase(struct span a, struct span b);

/* Index of the first occurrence, or -1. */
ptrdiff_t span_find(struct span s, char byte);

/* Without leading and trailing SP and HTAB (RFC 9110 OWS). */
struct span span_trim(struct span s BORROWED_BY(result));

/* Next element of a separated list ("a, b ,c"), trimmed; false at the end. Advances *rest. */
bool span_next_token(struct span *rest BORROWED_BY(token), char separator, struct span *token);

/* FNV-1a, a byte at a time: for names, which are short. Start with SPAN_HASH, or go on from another's hash. Its
 * low bits are good. */
#define SPAN_HASH 0xcbf29ce484222325ULL
uint64_t span_hash(uint64_t hash, struct span s);

/* Decimal digits only, no sign, no blanks. False on anything else or on overflow. */
bool span_to_u64(struct span s, uint64_t *out);

/* value in decimal digits into out, without a NUL; returns how many. */
enum { SPAN_U64_DIGITS_MAX = 20 };
size_t span_put_u64(char out[SPAN_U64_DIGITS_MAX], uint64_t value);

/* Two digits for each byte, of small letters, without a NUL; returns how many. */
size_t span_put_hex(char *out, const void *bytes, size_t size);
