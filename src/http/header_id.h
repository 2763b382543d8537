/* header_id: the tables behind header_id_of, for the field parser that has a name in a register. */
#pragma once
#include "http/header_map.h"

enum { HEADER_SLOTS = 256, HEADER_NAME_BYTES = 32 };

/* Padded with zeros, so that comparing reads whole words or vectors. */
struct header_name {
    _Alignas(16) char text[HEADER_NAME_BYTES];
};
extern const struct header_name header_names[HDR_COUNT];
extern const uint8_t header_name_lens[HDR_COUNT];
extern uint8_t header_slots[HEADER_SLOTS]; /* written once, before main */

/* Four characters at fixed fractions of the name, in lower case. */
static inline unsigned header_hash(size_t len, char first, char middle, char third, char last) {
    return ((unsigned)len * 5 + (uint8_t)first + (uint8_t)middle + (uint8_t)third +
            (uint8_t)last * 4u) %
           HEADER_SLOTS;
}
