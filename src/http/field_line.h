/* field_line: reads a field line that is all there and has nothing odd about it: finds its colon and
 * its end, checks every byte, lower-cases the name in place and finds its id.
 *
 *     p                                                    32 bytes are looked at at once; of what is
 *     Content-Type: text/plain\r\nContent-Len               behind them only the value's end is looked
 *                 ^ colons    ^ ^ controls                  for, 16 bytes at a time
 *
 * Whatever it does not like it leaves untouched to the byte machine in http1_fields.c, which alone
 * decides what is an error and what is only incomplete.
 *
 * A name that is one of ours once bit 5 of its letters is set needs no further check. A store followed
 * by a wider load of the same bytes waits until the store has left the core: so everything is loaded
 * and decided in registers before the name is stored, and no byte but those of the name is. */
#pragma once
#include "http/chars_search.h"
#include "http/header_id.h"

struct field_line {
    uint32_t name_len;
    enum header_id id;
    const char *end; /* its CR */
};

enum {
    FIELD_LINE_MIN = 16, /* bytes that must be readable at the line's start */
    FIELD_LINE_CRLF = __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__ ? 0x0a0d : 0x0d0a,
};

#ifdef __SSE2__

static inline __m128i field_line_load(const char *p) {
    return _mm_loadu_si128((const __m128i *)(const void *)p);
}

static inline unsigned field_line_equal(__m128i a, __m128i b) {
    return (unsigned)_mm_movemask_epi8(_mm_cmpeq_epi8(a, b));
}

/* Bit 5 set where bit 6 is: of letters the lower-case one. No other byte becomes a letter, a digit or
 * '-' by that. */
static inline __m128i field_line_fold(__m128i v) {
    return _mm_or_si128(v, _mm_srli_epi16(_mm_and_si128(v, _mm_set1_epi8(0x40)), 1));
}

/* Which of 16 bytes are in [first, first + count): x - first - 128 < count - 128, signed. */
static inline __m128i field_line_range(__m128i v, unsigned first, int count) {
    return _mm_cmplt_epi8(_mm_sub_epi8(v, _mm_set1_epi8((char)(first + 128))),
                          _mm_set1_epi8((char)(count - 128)));
}

/* Which of 16 folded bytes are letters, digits or '-'. */
static inline unsigned field_line_plain(__m128i fold) {
    __m128i good = _mm_or_si128(field_line_range(fold, 'a', 26), field_line_range(fold, '0', 10));
    good = _mm_or_si128(good, _mm_cmpeq_epi8(fold, _mm_set1_epi8('-')));
    return (unsigned)_mm_movemask_epi8(good);
}

/* Copies len bytes, 2 to 31, by loads and stores that overlap. */
static inline void field_line_store(char *to, const char *from, uint32_t len) {
    if (len >= 16) {
        _mm_storeu_si128((__m128i *)(void *)to, field_line_load(from));
        _mm_storeu_si128((__m128i *)(void *)(to + len - 16), field_line_load(from + len - 16));
    } else if (len >= 8) {
        memcpy(to, from, 8);
        memcpy(to + len - 8, from + len - 8, 8);
    } else if (len >= 4) {
        memcpy(to, from, 4);
        memcpy(to + len - 4, from + len - 4, 4);
    } else {
        memcpy(to, from, 2);
        to[len - 1] = from[len - 1];
    }
}

/* The id of the name in a and b, folded, of which name_mask's bits are. */
static inline unsigned field_line_id(const char *p, uint32_t len, uint32_t name_mask, __m128i a,
                                     __m128i b) {
    unsigned id;
    for (unsigned slot = header_hash(p, len); (id = header_slots[slot]) != 0;
         slot = (slot + 1) % HEADER_SLOTS) {
        const __m128i *known = (const __m128i *)(const void *)header_names[id].text;
        uint32_t equal = field_line_equal(a, _mm_load_si128(known));
        if (len >= 16)
            equal |= field_line_equal(b, _mm_load_si128(known + 1)) << 16;
        if ((~equal & name_mask) == 0 && header_name_lens[id] == len)
            break;
    }
    return id;
}

/* False, and nothing was changed, unless a whole plain line stands at p; end - p >= FIELD_LINE_MIN. */
static inline bool field_line_read(char *p, const char *end, struct field_line *line) {
    size_t there = (size_t)(end - p);
    unsigned shift = there < 32 ? (unsigned)there - 16 : 16; /* with less than 32 they overlap */
    __m128i a = field_line_load(p), b = field_line_load(p + shift);
    const __m128i colon = _mm_set1_epi8(':');
    uint32_t colons = field_line_equal(a, colon) | field_line_equal(b, colon) << shift;
    uint32_t controls = chars_control_mask(a) | chars_control_mask(b) << shift;
    uint32_t len = (uint32_t)__builtin_ctz(colons | UINT32_C(1) << 31);
    if (len < 2 || len == 31) /* as a name of 31 bytes is, which nobody has, or no colon */
        return false;

    const char *cr =
        controls ? p + __builtin_ctz(controls) : chars_find_control(p, p + shift + 16, end);
    uint16_t crlf;
    if (end - cr < 2 || cr < p + len || (memcpy(&crlf, cr, 2), crlf != FIELD_LINE_CRLF))
        return false;

    uint32_t name_mask = (UINT32_C(1) << len) - 1;
    a = field_line_fold(a);
    if (len >= 16) {
        if (shift < 16)
            return false;
        b = field_line_fold(b);
    }
    unsigned id = field_line_id(p, len, name_mask, a, b);
    const char *text = header_names[id].text;
    _Alignas(16) char folded[32];
    if (id == HDR_OTHER) {
        uint32_t plain = field_line_plain(a);
        if (len >= 16)
            plain |= field_line_plain(b) << 16;
        if (~plain & name_mask)
            return false;
        _mm_store_si128((__m128i *)(void *)folded, a);
        _mm_store_si128((__m128i *)(void *)(folded + 16), b);
        text = folded;
    }
    field_line_store(p, text, len);
    line->name_len = len;
    line->id = (enum header_id)id;
    line->end = cr;
    return true;
}

#else

static inline bool field_line_read(char *p, const char *end, struct field_line *line) {
    return false;
}

#endif
