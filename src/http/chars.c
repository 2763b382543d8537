#include "http/chars.h"

#ifdef __SSE2__
#include <emmintrin.h>
#endif

#define T CHAR_TOKEN
#define A CHAR_AUTHORITY
#define U (CHAR_UNRESERVED | CHAR_AUTHORITY)
#define Q CHAR_QUOTED
#define H CHAR_HEX
const uint8_t chars_class[256] = {
    ['\t'] = Q,
    [' '] = Q,
    ['!'] = T | A | Q,
    ['"'] = 0,
    ['#'] = T | Q,
    ['$'] = T | A | Q,
    ['%'] = T | A | Q,
    ['&'] = T | A | Q,
    ['\''] = T | A | Q,
    ['('] = A | Q,
    [')'] = A | Q,
    ['*'] = T | A | Q,
    ['+'] = T | A | Q,
    [','] = A | Q,
    ['-'] = T | U | Q,
    ['.'] = T | U | Q,
    ['/'] = Q,
    ['0' ... '9'] = T | U | Q | H,
    [':'] = Q,
    [';'] = A | Q,
    ['<'] = Q,
    ['='] = A | Q,
    ['>'] = Q,
    ['?'] = Q,
    ['@'] = Q,
    ['A' ... 'F'] = T | U | Q | H,
    ['G' ... 'Z'] = T | U | Q,
    ['['] = Q,
    ['\\'] = 0,
    [']'] = Q,
    ['^'] = T | Q,
    ['_'] = T | U | Q,
    ['`'] = T | Q,
    ['a' ... 'f'] = T | U | Q | H,
    ['g' ... 'z'] = T | U | Q,
    ['{'] = Q,
    ['|'] = T | Q,
    ['}'] = Q,
    ['~'] = T | U | Q,
    [0x80 ... 0xff] = Q,
};
#undef T
#undef A
#undef U
#undef Q
#undef H

#define SELF(c) [c] = c
#define FOLD(upper, lower) [upper] = lower, [lower] = lower
const uint8_t chars_token_lower[256] = {
    SELF('!'),      SELF('#'),      SELF('$'),      SELF('%'),      SELF('&'),      SELF('\''),
    SELF('*'),      SELF('+'),      SELF('-'),      SELF('.'),      SELF('^'),      SELF('_'),
    SELF('`'),      SELF('|'),      SELF('~'),      SELF('0'),      SELF('1'),      SELF('2'),
    SELF('3'),      SELF('4'),      SELF('5'),      SELF('6'),      SELF('7'),      SELF('8'),
    SELF('9'),      FOLD('A', 'a'), FOLD('B', 'b'), FOLD('C', 'c'), FOLD('D', 'd'), FOLD('E', 'e'),
    FOLD('F', 'f'), FOLD('G', 'g'), FOLD('H', 'h'), FOLD('I', 'i'), FOLD('J', 'j'), FOLD('K', 'k'),
    FOLD('L', 'l'), FOLD('M', 'm'), FOLD('N', 'n'), FOLD('O', 'o'), FOLD('P', 'p'), FOLD('Q', 'q'),
    FOLD('R', 'r'), FOLD('S', 's'), FOLD('T', 't'), FOLD('U', 'u'), FOLD('V', 'v'), FOLD('W', 'w'),
    FOLD('X', 'x'), FOLD('Y', 'y'), FOLD('Z', 'z'),
};
#undef SELF
#undef FOLD

static inline bool is_control(char byte) {
    uint8_t c = (uint8_t)byte;
    return (c < 0x20 && c != '\t') || c == 0x7f;
}

static inline bool is_not_target(char byte) {
    return byte < '!' || byte > '~' || byte == '#'; /* a signed char: 0x80.. is below '!' too */
}

#ifdef __SSE2__

static inline unsigned control_mask(__m128i v) {
    __m128i low = _mm_cmpeq_epi8(_mm_min_epu8(v, _mm_set1_epi8(0x1f)), v);
    __m128i tab = _mm_cmpeq_epi8(v, _mm_set1_epi8('\t'));
    __m128i del = _mm_cmpeq_epi8(v, _mm_set1_epi8(0x7f));
    return (unsigned)_mm_movemask_epi8(_mm_or_si128(_mm_andnot_si128(tab, low), del));
}

static inline unsigned not_target_mask(__m128i v) {
    __m128i low = _mm_cmplt_epi8(v, _mm_set1_epi8('!')); /* signed: 0x80.. as well */
    __m128i del = _mm_cmpeq_epi8(v, _mm_set1_epi8(0x7f));
    __m128i hash = _mm_cmpeq_epi8(v, _mm_set1_epi8('#'));
    return (unsigned)_mm_movemask_epi8(_mm_or_si128(_mm_or_si128(low, del), hash));
}

/* One loop for every search: `mask_of` is a constant, so the compiler makes a loop of each. */
static inline __attribute__((always_inline)) const char *find(const char *floor, const char *p,
                                                              const char *end,
                                                              unsigned (*mask_of)(__m128i),
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
    while (p < end && !is_hit(*p))
        p++;
    return p;
}

#else

/* Eight bytes at a time: a word is clean when no byte is below `low` nor equal to 0x7f or `other`.
 * The test may also fail for a byte >= 0x80 or HTAB; then the bytes are looked at one by one. */
static inline bool word_is_clean(uint64_t v, uint8_t low, uint8_t other) {
    const uint64_t ones = ~UINT64_C(0) / 255, tops = ones * 128;
    uint64_t below = (v - ones * low) & ~v;
    uint64_t del = v ^ ones * 0x7f, equal = v ^ ones * other;
    return (((v | below) | ((del - ones) & ~del) | ((equal - ones) & ~equal)) & tops) == 0;
}

static inline __attribute__((always_inline)) const char *
find(const char *p, const char *end, uint8_t low, uint8_t other, bool (*is_hit)(char)) {
    for (;;) {
        uint64_t v;
        while (end - p >= 8 && (memcpy(&v, p, 8), word_is_clean(v, low, other)))
            p += 8;
        const char *stop = end - p >= 8 ? p + 8 : end;
        while (p < stop && !is_hit(*p))
            p++;
        if (p < stop || p == end)
            return p;
    }
}

#endif

const char *chars_find_control(const char *floor, const char *p, const char *end) {
#ifdef __SSE2__
    return find(floor, p, end, control_mask, is_control);
#else
    return find(p, end, 0x20, 0x7f, is_control);
#endif
}

const char *chars_find_not_target(const char *floor, const char *p, const char *end) {
#ifdef __SSE2__
    return find(floor, p, end, not_target_mask, is_not_target);
#else
    return find(p, end, '!', '#', is_not_target);
#endif
}
