/* ext_room: how much of a header map foreign code has room for. It is told the size of a map when it is shown one, makes
 * room for as much when it first looks, and asks for a copy without saying for which of the maps that it was shown.
 *
 *    headers: 5, 180 bytes ──► told 5        not looked at, kept
 *    the log: 7, 300 bytes ──► told 7        asks for a copy: into which?
 *
 * So a copy fits into the smallest room that may be meant: of all that were told and not asked for yet. To be told less
 * than there is, is the exception: everybody makes room for ROOM_ENTRIES and ROOM_SPARE more bytes than there are, which
 * is more than proxies add; and once a map was asked for nothing of it is left to be confused with.
 *
 * Threads  The stream's lock; count and bytes are changed by the exchange's coroutine only, which reads them without. */
#pragma once
#include "http/header_map.h"

/* A header map that may be looked at now. */
struct ext_view {
    const struct header *entries; /* NULL: not to be seen now */
    uint32_t count;
    size_t bytes; /* sum of name and value lengths */
};

enum {
    EXT_ROOM_ENTRIES = 16, /* the SDK's least */
    EXT_ROOM_SPARE = 256,
};

struct ext_room {
    uint32_t
        count; /* told last: so many entries, no more and no less, unless the view has changed */
    uint32_t entries_max;
    size_t bytes; /* told, too: the sum, and what is spare */
    uint32_t open;
};

/* How many of the first entries find room. */
static inline uint32_t ext_room_fit(const struct ext_room *room, const struct ext_view *view) {
    if (view->count <= room->entries_max && view->bytes <= room->bytes)
        return view->count;
    size_t left = room->bytes;
    uint32_t count = 0;
    for (; count < view->count && count < room->entries_max; count++) {
        const struct header *entry = &view->entries[count];
        size_t size = header_name(entry).len + header_value(entry).len;
        if (size > left)
            break;
        left -= size;
    }
    return count;
}

/* A map is shown; what is to be told of it is in the room then. */
static inline void ext_room_tell(struct ext_room *room, const struct ext_view *view) {
    uint32_t entries_max = view->count > EXT_ROOM_ENTRIES ? view->count : EXT_ROOM_ENTRIES;
    size_t bytes = view->bytes + EXT_ROOM_SPARE;
    if (!view->entries) {
        room->count = 0;
        return;
    }
    if (room->open == 0 || entries_max < room->entries_max)
        room->entries_max = entries_max;
    if (room->open == 0 || bytes < room->bytes)
        room->bytes = bytes;
    room->count = ext_room_fit(room, view);
    room->open++;
}

/* It was asked for. */
static inline void ext_room_filled(struct ext_room *room) {
    if (room->open)
        room->open--;
}
