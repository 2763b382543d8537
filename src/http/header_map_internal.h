/* header_map_internal: what the codecs of this layer do to a map that filters may not. */
#pragma once
#include "http/header_map.h"

/* Room for `count` more entries. 0, -ENOMEM or -E2BIG. */
MUST_CHECK int header_map_reserve(struct header_map *map, uint32_t count);

/* Appends without validation or room check: the caller has reserved, and parsed the bytes. */
static inline struct header *header_map_push(struct header_map *map, enum header_id id,
                                             struct span name, struct span value, unsigned flags) {
    struct header *entry = &map->entries[map->count++];
    *entry = (struct header){name, value, (uint16_t)id, (uint16_t)flags};
    map->known |= UINT64_C(1) << id;
    map->bytes += name.len + value.len;
    return entry;
}

/* Removes the entry at index; `known` follows. */
void header_map_remove_at(struct header_map *map, uint32_t index);

static inline bool header_id_is_pseudo(enum header_id id) {
    return id >= HDR_METHOD && id <= HDR_PROTOCOL;
}

/* A pseudo header's value becomes part of a start line or of `host`: a blank in it would make two
 * elements of one. */
bool header_pseudo_is_valid(enum header_id id, struct span value);
