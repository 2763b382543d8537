/* chars_search: searches as inline functions, for the one loop that runs them on every field line;
 * everybody else calls chars_find_*. */
#pragma once
#include "http/chars.h"

#ifdef __SSE2__
#include <emmintrin.h>
#endif

static inline bool chars_is_control(char byte) {
    uint8_t c = (uint8_t)byte;
    return (c < 0x20 && c != '\t') || c == 0x7f;
}

static inline bool chars_is_not_target(char byte) {
    return byte < '!' || byte > '~' || byte == '#'; /* a signed char: 0x80.. is below '!' too */
}

#ifdef __SSE2__

static inline unsigned chars_control_mask(__m128i v) {
    __m128i low = _mm_cmpeq_epi8(_mm_min_epu8(v, _mm_set1_epi8(0x1f)), v);
    __m128i tab = _mm_cmpeq_epi8(v, _mm_set1_epi8('\t'));
    __m128i del = _mm_cmpeq_epi8(v, _mm_set1_epi8(0x7f));
    return (unsigned)_mm_movemask_epi8(_mm_or_si128(_mm_andnot_si128(tab, low), del));
}

static inline unsigned chars_not_target_mask(__m128i v) {
    __m128i low = _mm_cmplt_epi8(v, _mm_set1_epi8('!')); /* signed: 0x80.. as well */
    __m128i del = _mm_cmpeq_epi8(v, _mm_set1_epi8(0x7f));
    __m128i hash = _mm_cmpeq_epi8(v, _mm_set1_epi8('#'));
    return (unsigned)_mm_movemask_epi8(_mm_or_si128(_mm_or_si128(low, del), hash));
}

/* One loop for every search: `mask_of` is a constant, so the compiler makes a loop of each. */
static inline __attribute__((always_inline)) const char *
chars_search(const char *floor, const char *p, const char *end, unsigned (*mask_of)(__m128i),
             bool (*is_hit)(char)) {
    while (end - p >= 16) {
        unsigned mask = mask_of(_mm_loadu_si128((const __m128i *)(const void *)p));
        if (mask)
            return p + __builtin_ctz(mask);
        p += 16;
    }
    if (p == end)
        return end;
    if (end - floor >= 16) {
        /* The bytes before p were found good, or belong to somebody else: shift them out. */
        const char *last = end - 16;
        unsigned mask = mask_of(_mm_loadu_si128((const __m128i *)(const void *)last)) >> (p - last);
        return mask ? p + __builtin_ctz(mask) : end;
    }
    if (end - p >= 8) { /* a short string by itself: both its ends in one vector */
        __m128i first = _mm_loadl_epi64((const __m128i *)(const void *)p);
        __m128i last = _mm_loadl_epi64((const __m128i *)(const void *)(end - 8));
        unsigned mask = mask_of(_mm_unpacklo_epi64(first, last));
        unsigned hit = (unsigned)__builtin_ctz(mask | 1u << 16);
        return hit < 8 ? p + hit : end - 16 + hit;
    }
    if (end - p >= 4) {
        uint32_t first, last;
        memcpy(&first, p, 4);
        memcpy(&last, end - 4, 4);
        unsigned mask = mask_of(_mm_cvtsi64_si128((int64_t)((uint64_t)last << 32 | first))) & 0xff;
        unsigned hit = (unsigned)__builtin_ctz(mask | 1u << 8);
        return hit < 4 ? p + hit : end - 8 + hit;
    }
    while (p < end && !is_hit(*p))
        p++;
    return p;
}

#else

/* Eight bytes at a time: a word is clean when no byte is below `low` nor equal to 0x7f or `other`.
 * The test may also fail for a byte >= 0x80 or HTAB; then the bytes are looked at one by one. */
static inline bool chars_word_is_clean(uint64_t v, uint8_t low, uint8_t other) {
    const uint64_t ones = ~UINT64_C(0) / 255, tops = ones * 128;
    uint64_t below = (v - ones * low) & ~v;
    uint64_t del = v ^ ones * 0x7f, equal = v ^ ones * other;
    return (((v | below) | ((del - ones) & ~del) | ((equal - ones) & ~equal)) & tops) == 0;
}

static inline __attribute__((always_inline)) const char *
chars_search(const char *p, const char *end, uint8_t low, uint8_t other, bool (*is_hit)(char)) {
    for (;;) {
        uint64_t v;
        while (end - p >= 8 && (memcpy(&v, p, 8), chars_word_is_clean(v, low, other)))
            p += 8;
        const char *stop = end - p >= 8 ? p + 8 : end;
        while (p < stop && !is_hit(*p))
            p++;
        if (p < stop || p == end)
            return p;
    }
}

#endif

static inline const char *chars_search_control(const char *floor, const char *p, const char *end) {
#ifdef __SSE2__
    return chars_search(floor, p, end, chars_control_mask, chars_is_control);
#else
    return chars_search(p, end, 0x20, 0x7f, chars_is_control);
#endif
}
