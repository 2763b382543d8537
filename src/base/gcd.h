/* gcd: the greatest common divisor, Euclid's. Threads: any. */
#pragma once
#include <stdint.h>

static inline uint64_t gcd(uint64_t a, uint64_t b) {
    while (b) {
        uint64_t rest = a % b;
        a = b;
        b = rest;
    }
    return a;
}
