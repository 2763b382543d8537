/* json_block_words: 64 bytes in eight words; what every machine has. */
#pragma once
#include <endian.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

/* Written out: as a loop the words would live in memory. */
#define BLOCK_EACH(i) _Pragma("GCC unroll 8") for (int i = 0; i < 8; i++)

struct json_block {
    uint64_t v[8]; /* the first byte in the lowest bits */
};

#define BLOCK_ONES (~UINT64_C(0) / 255)
#define BLOCK_TOPS (BLOCK_ONES * 128)

static inline struct json_block block_load(const char *bytes) {
    struct json_block b;
    memcpy(b.v, bytes, sizeof b.v);
    BLOCK_EACH(i) {
        b.v[i] = le64toh(b.v[i]);
    }
    return b;
}

/* The top bit of each byte. The product has them side by side in its top byte: no two of them meet in it. */
static inline uint64_t block_bits(struct json_block b) {
    uint64_t bits = 0;
    BLOCK_EACH(i) {
        bits |= ((b.v[i] & BLOCK_TOPS) >> 7) * UINT64_C(0x0102040810204080) >> 56 << 8 * i;
    }
    return bits;
}

/* Top bits of the bytes that are 0. */
static inline uint64_t block_zeros(uint64_t v) {
    return ~(((v & ~BLOCK_TOPS) + ~BLOCK_TOPS) | v);
}

static inline uint64_t block_eq(struct json_block b, char c) {
    BLOCK_EACH(i) {
        b.v[i] = block_zeros(b.v[i] ^ BLOCK_ONES * (uint8_t)c);
    }
    return block_bits(b);
}

/* With bit 5 of each byte set. */
static inline struct json_block block_fold(struct json_block b) {
    BLOCK_EACH(i) {
        b.v[i] |= BLOCK_ONES * 0x20;
    }
    return b;
}

/* Top bits of the bytes that are `from` or more, unsigned. */
static inline uint64_t block_not_less(uint64_t v, unsigned from) {
    if (from == 0)
        return BLOCK_TOPS;
    if (from > 255)
        return 0;
    uint64_t low =
        v & ~BLOCK_TOPS; /* a sum of 7 bits each, so that none goes over to its neighbour */
    if (from <= 128)
        return ((low + BLOCK_ONES * (128 - from)) | v) & BLOCK_TOPS;
    return (low + BLOCK_ONES * (256 - from)) & v & BLOCK_TOPS;
}

/* byte >= first, unsigned. */
static inline uint64_t block_from(struct json_block b, uint8_t first) {
    BLOCK_EACH(i) {
        b.v[i] = block_not_less(b.v[i], first);
    }
    return block_bits(b);
}

/* first <= byte <= first + more, unsigned. */
static inline uint64_t block_range(struct json_block b, uint8_t first, uint8_t more) {
    BLOCK_EACH(i) {
        b.v[i] = block_not_less(b.v[i], first) & ~block_not_less(b.v[i], first + more + 1u);
    }
    return block_bits(b);
}

static inline uint64_t block_controls(struct json_block b) {
    return block_range(b, 0, 0x1f);
}

/* Neither control characters nor the top bit in any byte. */
static inline bool block_is_plain(struct json_block b) {
    uint64_t high = 0, low = BLOCK_TOPS;
    BLOCK_EACH(i) {
        high |= b.v[i];
        low &= block_not_less(b.v[i], 0x20);
    }
    return !(high & BLOCK_TOPS) && low == BLOCK_TOPS;
}

static inline bool block_has_high(struct json_block b) {
    uint64_t all = 0;
    BLOCK_EACH(i) {
        all |= b.v[i];
    }
    return (all & BLOCK_TOPS) != 0;
}

static inline uint64_t block_high(struct json_block b) {
    return block_bits(b);
}

static inline uint64_t block_blanks(struct json_block b) {
    BLOCK_EACH(i) {
        b.v[i] = block_zeros(b.v[i] ^ BLOCK_ONES * ' ') | block_zeros(b.v[i] ^ BLOCK_ONES * '\t') |
                 block_zeros(b.v[i] ^ BLOCK_ONES * '\n') | block_zeros(b.v[i] ^ BLOCK_ONES * '\r');
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
    uint64_t sum;
    bool first = __builtin_add_overflow(x, y, &sum),
         second = __builtin_add_overflow(sum, *carry, &sum);
    *carry = first | second;
    return sum;
}
