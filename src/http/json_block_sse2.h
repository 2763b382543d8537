/* json_block_sse2: 64 bytes in four vectors; what every x86-64 has. */
#pragma once
#include <emmintrin.h>
#include <immintrin.h>
#include <stdbool.h>
#include <stdint.h>

/* Written out: as a loop the vectors would live in memory. */
#define BLOCK_EACH(i) _Pragma("GCC unroll 4") for (int i = 0; i < 4; i++)

struct json_block {
    __m128i v[4];
};

static inline struct json_block block_load(const char *bytes) {
    struct json_block b;
    BLOCK_EACH(i) {
        b.v[i] = _mm_loadu_si128((const __m128i *)(const void *)(bytes + (ptrdiff_t)16 * i));
    }
    return b;
}

static inline uint64_t block_bits(struct json_block b) {
    uint64_t bits = 0;
    BLOCK_EACH(i) {
        bits |= (uint64_t)(uint32_t)_mm_movemask_epi8(b.v[i]) << 16 * i;
    }
    return bits;
}

static inline uint64_t block_eq(struct json_block b, char c) {
    BLOCK_EACH(i) {
        b.v[i] = _mm_cmpeq_epi8(b.v[i], _mm_set1_epi8(c));
    }
    return block_bits(b);
}

/* With bit 5 of each byte set. */
static inline struct json_block block_fold(struct json_block b) {
    BLOCK_EACH(i) {
        b.v[i] = _mm_or_si128(b.v[i], _mm_set1_epi8(0x20));
    }
    return b;
}

/* byte >= first, unsigned. */
static inline uint64_t block_from(struct json_block b, uint8_t first) {
    BLOCK_EACH(i) {
        b.v[i] = _mm_cmpeq_epi8(_mm_max_epu8(b.v[i], _mm_set1_epi8((char)first)), b.v[i]);
    }
    return block_bits(b);
}

/* first <= byte <= first + more, unsigned. */
static inline uint64_t block_range(struct json_block b, uint8_t first, uint8_t more) {
    BLOCK_EACH(i) {
        __m128i v = _mm_sub_epi8(b.v[i], _mm_set1_epi8((char)first));
        b.v[i] = _mm_cmpeq_epi8(_mm_min_epu8(v, _mm_set1_epi8((char)more)), v);
    }
    return block_bits(b);
}

static inline uint64_t block_controls(struct json_block b) {
    BLOCK_EACH(i) {
        b.v[i] = _mm_cmpeq_epi8(_mm_min_epu8(b.v[i], _mm_set1_epi8(0x1f)), b.v[i]);
    }
    return block_bits(b);
}

/* Neither control characters nor the top bit in any byte. */
static inline bool block_is_plain(struct json_block b) {
    BLOCK_EACH(i) {
        b.v[i] =
            _mm_cmplt_epi8(b.v[i], _mm_set1_epi8(0x20)); /* signed: the top bit is less than all */
    }
    return _mm_movemask_epi8(
               _mm_or_si128(_mm_or_si128(b.v[0], b.v[1]), _mm_or_si128(b.v[2], b.v[3]))) == 0;
}

static inline bool block_has_high(struct json_block b) {
    return _mm_movemask_epi8(
               _mm_or_si128(_mm_or_si128(b.v[0], b.v[1]), _mm_or_si128(b.v[2], b.v[3]))) != 0;
}

static inline uint64_t block_high(struct json_block b) {
    return block_bits(b);
}

static inline uint64_t block_blanks(struct json_block b) {
    BLOCK_EACH(i) {
        __m128i v = b.v[i];
        __m128i lines = _mm_or_si128(_mm_cmpeq_epi8(v, _mm_set1_epi8('\n')),
                                     _mm_cmpeq_epi8(v, _mm_set1_epi8('\r')));
        __m128i gaps = _mm_or_si128(_mm_cmpeq_epi8(v, _mm_set1_epi8(' ')),
                                    _mm_cmpeq_epi8(v, _mm_set1_epi8('\t')));
        b.v[i] = _mm_or_si128(lines, gaps);
    }
    return block_bits(b);
}

/* Bit i: how many bits up to i are set, modulo 2. */
static inline uint64_t block_parity(uint64_t bits) {
    for (int shift = 1; shift < 64; shift *= 2)
        bits ^= bits << shift;
    return bits;
}

/* *carry is added, and what is carried out is left there. */
static inline uint64_t block_add(uint64_t x, uint64_t y, uint8_t *carry) {
    unsigned long long sum;
    *carry = _addcarry_u64(*carry, x, y, &sum);
    return sum;
}
