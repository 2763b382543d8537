/* stream_pattern: what stream_origin.c sends and stream_load.c expects. */
#pragma once
#include <stddef.h>

enum {
    MESSAGE_BYTES = 64, /* of a ping, a pong, and a request for bytes */
    PATTERN_PERIOD =
        65521, /* a prime: bytes that are lost, doubled or moved by whole pages are seen */
};

static inline void fill_pattern(char *bytes, size_t count) {
    unsigned state = 1;
    for (size_t i = 0; i < count; i++) {
        if (i % PATTERN_PERIOD == 0)
            state = 1;
        state = state * 1103515245u + 12345u;
        bytes[i] = (char)(state >> 16);
    }
}
