/* field_name: reads a short name in one vector: checks it, lower-cases it in place, finds its id.
 *
 * A store followed by a wider load of the same bytes waits until the store has left the core, so
 * the order is: load, decide everything in registers, and store last, only bytes of the name (what
 * follows is loaded next, for the value). Against the byte loop this takes 20 ns off a head of six
 * fields, of 200. */
#pragma once
#include "http/header_id.h"

enum { FIELD_NAME_VECTOR = 16 };

#ifdef __SSE2__
#include <emmintrin.h>

/* Which of 16 bytes are in [first, first + count): x - first - 128 < count - 128, signed. */
static inline __m128i field_name_range(__m128i v, unsigned first, int count) {
    return _mm_cmplt_epi8(_mm_sub_epi8(v, _mm_set1_epi8((char)(first + 128))),
                          _mm_set1_epi8((char)(count - 128)));
}

/* Length of a name of letters, digits and '-' that a colon ends within the 16 bytes at p; *id is
 * its id. 0 for anything else, and then nothing was changed: the byte loop decides. */
static inline uint32_t field_name_read(char *p, enum header_id *id) {
    const __m128i iota = _mm_setr_epi8(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    __m128i v = _mm_loadu_si128((const __m128i *)(const void *)p);
    __m128i upper = field_name_range(v, 'A', 26);
    __m128i low = _mm_or_si128(v, _mm_and_si128(upper, _mm_set1_epi8(0x20)));
    __m128i good =
        _mm_or_si128(_mm_or_si128(field_name_range(low, 'a', 26), field_name_range(v, '0', 10)),
                     _mm_cmpeq_epi8(v, _mm_set1_epi8('-')));
    uint32_t len = (uint32_t)__builtin_ctz(~(unsigned)_mm_movemask_epi8(good));
    if (len == 0 || len >= FIELD_NAME_VECTOR || p[len] != ':')
        return 0;

    __m128i name = _mm_and_si128(low, _mm_cmplt_epi8(iota, _mm_set1_epi8((char)len)));
    /* '-' and digits have bit 5 set already. */
    unsigned slot =
        header_hash(len, p[0] | 0x20, p[len / 2] | 0x20, p[len * 3 / 4] | 0x20, p[len - 1] | 0x20);
    unsigned at;
    while ((at = header_slots[slot]) != 0) {
        __m128i known = _mm_load_si128((const __m128i *)(const void *)header_names[at].text);
        if (_mm_movemask_epi8(_mm_cmpeq_epi8(name, known)) == 0xffff)
            break;
        slot = (slot + 1) % HEADER_SLOTS;
    }
    *id = (enum header_id)at;

    if (len >= 8) {
        _mm_storel_epi64((__m128i *)(void *)p, name);
        uint64_t text[2];
        _mm_storeu_si128((__m128i *)(void *)text, name);
        memcpy(p + len - 8, (char *)text + len - 8, 8);
    } else {
        uint64_t text = (uint64_t)_mm_cvtsi128_si64(name);
        uint32_t head = (uint32_t)text;
        if (len >= 4) {
            uint32_t tail = (uint32_t)(text >> 8 * (len - 4));
            memcpy(p, &head, 4);
            memcpy(p + len - 4, &tail, 4);
        } else {
            p[0] = (char)head;
            p[len / 2] = (char)(head >> 8 * (len / 2));
            p[len - 1] = (char)(head >> 8 * (len - 1));
        }
    }
    return len;
}

#else

static inline uint32_t field_name_read(char *p, enum header_id *id) {
    return 0;
}

#endif
