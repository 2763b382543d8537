/* json_block_avx2: 64 bytes in two vectors, asked for masks. Bit i of a mask is byte i. */
#pragma once
#include <immintrin.h>
#include <stdbool.h>
#include <stdint.h>

#include "http/json_bytes.h"

struct json_block {
    __m256i lo, hi;
};

static inline struct json_block block_load(const char *bytes) {
    return (struct json_block){_mm256_loadu_si256((const __m256i *)(const void *)bytes),
                               _mm256_loadu_si256((const __m256i *)(const void *)(bytes + 32))};
}

static inline uint64_t block_bits(__m256i lo, __m256i hi) {
    return (uint32_t)_mm256_movemask_epi8(lo) | (uint64_t)(uint32_t)_mm256_movemask_epi8(hi) << 32;
}

static inline __m256i block_all(uint8_t byte) {
    return *(const __m256i *)(const void *)json_bytes[byte];
}

static inline uint64_t block_eq(struct json_block b, char c) {
    __m256i v = block_all((uint8_t)c);
    return block_bits(_mm256_cmpeq_epi8(b.lo, v), _mm256_cmpeq_epi8(b.hi, v));
}

/* With bit 5 of each byte set. */
static inline struct json_block block_fold(struct json_block b) {
    __m256i bit = block_all(0x20);
    return (struct json_block){_mm256_or_si256(b.lo, bit), _mm256_or_si256(b.hi, bit)};
}

/* byte >= first, unsigned. */
static inline uint64_t block_from(struct json_block b, uint8_t first) {
    __m256i from = block_all(first);
    return block_bits(_mm256_cmpeq_epi8(_mm256_max_epu8(b.lo, from), b.lo),
                      _mm256_cmpeq_epi8(_mm256_max_epu8(b.hi, from), b.hi));
}

/* first <= byte <= first + more, unsigned. */
static inline uint64_t block_range(struct json_block b, uint8_t first, uint8_t more) {
    __m256i from = block_all(first), width = block_all(more);
    __m256i lo = _mm256_sub_epi8(b.lo, from), hi = _mm256_sub_epi8(b.hi, from);
    return block_bits(_mm256_cmpeq_epi8(_mm256_min_epu8(lo, width), lo),
                      _mm256_cmpeq_epi8(_mm256_min_epu8(hi, width), hi));
}

static inline uint64_t block_controls(struct json_block b) {
    __m256i last = block_all(0x1f);
    return block_bits(_mm256_cmpeq_epi8(_mm256_min_epu8(b.lo, last), b.lo),
                      _mm256_cmpeq_epi8(_mm256_min_epu8(b.hi, last), b.hi));
}

/* Neither control characters nor the top bit in any byte. */
static inline bool block_is_plain(struct json_block b) {
    __m256i least = _mm256_min_epi8(b.lo, b.hi); /* signed: the top bit is less than all */
    return _mm256_movemask_epi8(_mm256_cmpgt_epi8(block_all(0x20), least)) == 0;
}

static inline bool block_has_high(struct json_block b) {
    return _mm256_movemask_epi8(_mm256_or_si256(b.lo, b.hi)) != 0;
}

static inline uint64_t block_high(struct json_block b) {
    return block_bits(b.lo, b.hi);
}

static inline uint64_t block_blanks(struct json_block b) {
    /* The low nibble says which blank a byte could be; a byte with the top bit set finds 0. */
    const __m256i table =
        _mm256_setr_epi8(' ', -1, -1, -1, -1, -1, -1, -1, -1, '\t', '\n', -1, -1, '\r', -1, -1, ' ',
                         -1, -1, -1, -1, -1, -1, -1, -1, '\t', '\n', -1, -1, '\r', -1, -1);
    return block_bits(_mm256_cmpeq_epi8(_mm256_shuffle_epi8(table, b.lo), b.lo),
                      _mm256_cmpeq_epi8(_mm256_shuffle_epi8(table, b.hi), b.hi));
}

/* Bit i: how many bits up to i are set, modulo 2. */
static inline uint64_t block_parity(uint64_t bits) {
    __m128i product = _mm_clmulepi64_si128(_mm_cvtsi64_si128((int64_t)bits), _mm_set1_epi8(-1), 0);
    return (uint64_t)_mm_cvtsi128_si64(product);
}

/* *carry is added, and what is carried out is left there. */
static inline uint64_t block_add(uint64_t x, uint64_t y, uint8_t *carry) {
    unsigned long long sum;
    *carry = _addcarry_u64(*carry, x, y, &sum);
    return sum;
}
