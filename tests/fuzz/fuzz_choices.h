/* fuzz_choices: an input that is read as choices, one after the other. Behind its end all of them are 0. */
#pragma once
#include "base/span.h"

struct fuzz_choices {
    const uint8_t *at, *end;
    const uint64_t *far; /* 8 numbers beyond which something changes, for fuzz_word */
};

static inline unsigned fuzz_byte(struct fuzz_choices *choices) {
    return choices->at < choices->end ? *choices->at++ : 0;
}

/* Mostly small; else one of `far`, or one less. */
static inline uint64_t fuzz_word(struct fuzz_choices *choices) {
    uint64_t n = fuzz_byte(choices);
    return n < 0xf0 ? n : choices->far[n % 8] - (n >> 3 & 1);
}

static inline struct span fuzz_bytes(struct fuzz_choices *choices, size_t max) {
    size_t len = fuzz_byte(choices), left = (size_t)(choices->end - choices->at);
    len = len < max ? len : max;
    len = len < left ? len : left;
    struct span bytes = span_make((const char *)choices->at, len);
    choices->at += len;
    return bytes;
}
