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

/* Of the last two characters, the middle one and the length, for names of two characters and more in
 * any case. The multiplier was searched for: it leads no two names to the same slot. */
static inline unsigned header_hash(const char *name, size_t len) {
    uint16_t tail;
    memcpy(&tail, name + len - 2, 2);
    uint32_t text = (tail | 0x2020u) + ((name[len / 2] | 0x20u) << 16);
    return (text + (uint32_t)len * 8) * 527282315u >> 24;
}
static_assert(HEADER_SLOTS == 1 << 8, "the eight bits that header_hash leaves");
