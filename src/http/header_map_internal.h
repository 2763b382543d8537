/* header_map_internal: what the codecs of this layer do to a map that filters may not. */
#pragma once
#include "http/header_map.h"

/* Room for `count` more entries. 0, -ENOMEM or -E2BIG. */
MUST_CHECK int header_map_grow(struct header_map *map, uint32_t count);
MUST_CHECK static inline int header_map_reserve(struct header_map *map, uint32_t count) {
    return map->capacity - map->count >= count ? 0 : header_map_grow(map, count);
}

/* Notes that entry `index`, the last one so far, has that id. */
static inline void header_map_note(struct header_map *map, enum header_id id, uint32_t index) {
    if (id == HDR_OTHER)
        return;
    uint64_t bit = UINT64_C(1) << id;
    if (map->known & bit)
        map->repeated |= bit;
    else
        map->first[id] = (uint8_t)(index < HEADER_INDEX_FAR ? index : HEADER_INDEX_FAR);
    map->known |= bit;
}

/* Appends without validation or room check: the caller has reserved, and parsed the bytes. */
static inline struct header *header_map_push(struct header_map *map, enum header_id id,
                                             struct span name, struct span value, unsigned flags) {
    struct header *entry = &map->entries[map->count];
    *entry = header_make(id, name, value);
    entry->flags = flags & 7;
    header_map_note(map, id, map->count++);
    map->bytes += name.len + value.len;
    return entry;
}

/* Index of the first entry with that id (not HDR_OTHER), which the map has. */
static inline uint32_t header_map_first(const struct header_map *map, enum header_id id) {
    uint32_t at = map->first[id];
    if (at == HEADER_INDEX_FAR)
        while (map->entries[at].id != id)
            at++;
    return at;
}

/* Another value for an entry: it no longer stands on the wire so. */
static inline void header_map_change(struct header_map *map, struct header *entry,
                                     struct span value) {
    map->bytes += value.len - entry->value_len;
    entry->value_ptr = value.ptr;
    entry->value_len = (uint32_t)value.len;
    entry->flags = 0;
}

/* Removes the entry at index; `known` and the index of ids follow. */
void header_map_remove_at(struct header_map *map, uint32_t index);
/* After entries moved: finds out anew what the map knows of its ids. */
void header_map_reindex(struct header_map *map);

static inline bool header_id_is_pseudo(enum header_id id) {
    return id >= HDR_METHOD && id <= HDR_PROTOCOL;
}

/* A pseudo header's value becomes part of a start line or of `host`: a blank in it would make two
 * elements of one. */
bool header_pseudo_is_valid(enum header_id id, struct span value);
