/* xxhash: after its specification (doc/xxhash_spec.md of the reference). Versions are short, and there are few: bytes are
 * read one at a time. */
#include "base/xxhash.h"

static const uint64_t P1 = 0x9e3779b185ebca87, P2 = 0xc2b2ae3d27d4eb4f, P3 = 0x165667b19e3779f9,
                      P4 = 0x85ebca77c2b2ae63, P5 = 0x27d4eb2f165667c5;

static uint64_t rotate(uint64_t x, unsigned bits) {
    return x << bits | x >> (64 - bits);
}

/* Little-endian. */
static uint64_t read_le(const char *at, unsigned size) {
    uint64_t value = 0;
    for (unsigned i = 0; i < size; i++)
        value |= (uint64_t)(unsigned char)at[i] << 8 * i;
    return value;
}

static uint64_t lane(uint64_t acc, uint64_t input) {
    return rotate(acc + input * P2, 31) * P1;
}

/* Stripes of 32 bytes, of which there is at least one. *at moves behind the last. */
static uint64_t stripes(const char **at, const char *end) {
    uint64_t acc[4] = {P1 + P2, P2, 0, -P1};
    for (; end - *at >= 32; *at += 32)
        for (unsigned i = 0; i < 4; i++)
            acc[i] = lane(acc[i], read_le(*at + 8 * i, 8));
    uint64_t hash = rotate(acc[0], 1) + rotate(acc[1], 7) + rotate(acc[2], 12) + rotate(acc[3], 18);
    for (unsigned i = 0; i < 4; i++)
        hash = (hash ^ lane(0, acc[i])) * P1 + P4;
    return hash;
}

uint64_t xxhash64(struct span bytes) {
    const char *at = bytes.ptr, *end = bytes.ptr + bytes.len;
    uint64_t hash = bytes.len >= 32 ? stripes(&at, end) : P5;
    hash += bytes.len;
    for (; end - at >= 8; at += 8)
        hash = rotate(hash ^ lane(0, read_le(at, 8)), 27) * P1 + P4;
    if (end - at >= 4) {
        hash = rotate(hash ^ read_le(at, 4) * P1, 23) * P2 + P3;
        at += 4;
    }
    for (; at < end; at++)
        hash = rotate(hash ^ (unsigned char)*at * P5, 11) * P1;
    hash = (hash ^ hash >> 33) * P2;
    hash = (hash ^ hash >> 29) * P3;
    return hash ^ hash >> 32;
}
