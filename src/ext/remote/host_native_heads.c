/* host_native_heads: heads of exchanges in a host process: copies of the proxy's. */
#include <errno.h>

#include "ext/remote/host_native.h"
#include "http/header_id.h"

bool host_native_shows(const struct header_map *map, const struct ext_view *view) {
    if (map->count != view->count || map->bytes != view->bytes)
        return false;
    for (uint32_t i = 0; i < view->count; i++)
        if (!span_eq(header_name(&map->entries[i]), header_name(&view->entries[i])) ||
            !span_eq(header_value(&map->entries[i]), header_value(&view->entries[i])))
            return false;
    return true;
}

int host_native_show(struct header_map *map, const struct ext_view *view) {
    if (host_native_shows(map, view))
        return 0;
    header_map_clear(map);
    for (uint32_t i = 0; i < view->count; i++) {
        const struct header *entry = &view->entries[i];
        struct span name = entry->id == HDR_OTHER ? arena_copy(map->arena, header_name(entry))
                                                  : header_name(entry);
        struct span value = arena_copy(map->arena, header_value(entry));
        if (span_is_none(name) || span_is_none(value) ||
            header_add(map, entry->id, name, value) != 0)
            return -ENOMEM;
    }
    return 0;
}
