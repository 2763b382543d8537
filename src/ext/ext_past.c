/* ext_past: see the header. The routes are not copied: a snapshot may end before its streams have been
 * told, and nobody chooses a route any more. */
#include "ext/ext_past.h"

#include <stdlib.h>

#include "ext/ext_stream_internal.h"

struct ext_past {
    struct ext_info info;
    struct ext_view maps[2][2];
    struct header entries[]; /* then the bytes */
};

/* The spans of an info. */
enum { INFO_SPANS = 8 };
static void info_spans(struct ext_info *info, struct span *out[INFO_SPANS]) {
    struct span *const all[INFO_SPANS] = {
        &info->route_name,       &info->filter_chain,     &info->details,
        &info->upstream_cluster, &info->downstream_local, &info->downstream_remote,
        &info->upstream_local,   &info->upstream_remote,
    };
    memcpy(out, all, sizeof(all));
}

static struct span put(char **at, struct span from) {
    if (span_is_none(from))
        return from;
    char *to = *at;
    if (from.len)
        memcpy(to, from.ptr, from.len);
    *at += from.len;
    return span_make(to, from.len);
}

static struct ext_past *copy_of(const struct ext_info *now, const struct header_map *maps[2][2]) {
    struct ext_info info = *now;
    struct span *spans[INFO_SPANS];
    info_spans(&info, spans);
    size_t entries = 0, bytes = 1; /* an empty span has an address, too */
    for (unsigned i = 0; i < 4; i++) {
        const struct header_map *map = maps[i / 2][i % 2];
        entries += map ? map->count : 0;
        bytes += map ? map->bytes : 0;
    }
    for (unsigned i = 0; i < INFO_SPANS; i++)
        bytes += spans[i]->len;
    struct ext_past *past = malloc(sizeof(*past) + entries * sizeof(struct header) + bytes);
    if (!past)
        return NULL;
    struct header *entry = past->entries;
    char *at = (char *)(past->entries + entries);
    for (unsigned i = 0; i < 4; i++) {
        const struct header_map *map = maps[i / 2][i % 2];
        struct ext_view *view = &past->maps[i / 2][i % 2];
        *view = map ? (struct ext_view){entry, map->count, map->bytes} : (struct ext_view){0};
        for (uint32_t k = 0; k < view->count; k++, entry++) {
            *entry = map->entries[k];
            entry->name_ptr = put(&at, header_name(entry)).ptr;
            entry->value_ptr = put(&at, header_value(entry)).ptr;
        }
    }
    for (unsigned i = 0; i < INFO_SPANS; i++)
        *spans[i] = put(&at, *spans[i]);
    info.routes = NULL;
    past->info = info;
    return past;
}

struct ext_past *ext_past_take(struct ext_stream *stream, struct exchange *x,
                               const struct header_map *maps[2][2]) {
    ext_lock(stream);
    ext_info_snapshot_locked(stream, x);
    struct ext_info info = stream->info;
    ext_unlock(stream);
    /* Nobody but this coroutine changes what info and maps borrow. */
    struct ext_past *past = copy_of(&info, maps);
    if (!past)
        return NULL;
    ext_lock(stream);
    stream->info = past->info;
    ext_sides_abandon_locked(stream);
    ext_unlock(stream);
    return past;
}

void ext_past_open(struct ext_stream *stream, const struct ext_past *past) {
    ext_lock(stream);
    ext_views_log_locked(stream, past->maps);
    ext_unlock(stream);
}

void ext_past_close(struct ext_stream *stream) {
    struct ext_edit *edits[2];
    ext_stream_close_log(stream, edits);
    ext_edits_free(edits[0]);
    ext_edits_free(edits[1]);
}

void ext_past_free(struct ext_past *past) {
    free(past);
}

struct ext_past_size ext_past_size(const struct ext_past *past, enum ext_direction direction,
                                   bool trailers) {
    const struct ext_view *view = &past->maps[direction][trailers];
    return (struct ext_past_size){view->count, view->bytes};
}
