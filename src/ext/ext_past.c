/* ext_past: see the header. What is the configuration's or the connection's is not copied, as both may end before
 * their streams have been told: attributes of them are absent then. Metadata and filter state are leased: who sets
 * something finds it, though nobody else does. */
#include "ext/ext_past.h"

#include <stdlib.h>

#include "ext/ext_stream_internal.h"
#include "proxy/exchange.h"
#include "proxy/filter_state.h"
#include "proxy/metadata.h"
#include "proxy/route.h"

/* What a log in between put aside. */
struct kept {
    struct ext_view frozen; /* of late headers */
    bool headers_late;
};

struct ext_past {
    struct kept kept[2];
    struct ext_edited
        edited[2]; /* maps of a log in between, of headers that are lent and were changed */
    bool has_edited[2];
    struct ext_facts facts;
    struct ext_notes notes; /* leased; NULL: memory was short */
    struct ext_view maps[2][2];
    struct header entries[]; /* then the bytes */
};

/* The spans of the facts. */
enum { FACTS_SPANS = 16 };
static void facts_spans(struct stream_info *info, struct span *out[FACTS_SPANS]) {
    struct span *const all[FACTS_SPANS] = {
        &info->response_code_details,
        &info->connection_termination_details,
        &info->downstream_local,
        &info->downstream_remote,
        &info->downstream_direct_remote,
        &info->upstream_local,
        &info->upstream_remote,
        &info->upstream_cluster,
        &info->upstream_host_name,
        &info->upstream_transport_failure,
        &info->virtual_cluster,
        &info->route_name,
        &info->virtual_host,
        &info->filter_chain,
        &info->listener_name,
        &info->original_path,
    };
    memcpy(out, all, sizeof(all));
}

/* What will not be there any more is taken out. */
static void forget_others(struct ext_facts *facts, const struct exchange *x) {
    if (facts->route)
        facts->info.route_name = facts->route->name;
    facts->info.connection_id = exchange_connection_id(x);
    facts->info.cluster = NULL;
    facts->info.upstream_tls = NULL;
    facts->route = NULL;
    facts->routes = NULL;
    facts->tls.local = facts->tls.peer = NULL;
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

/* facts NULL: none. */
static struct ext_past *copy_of(struct ext_facts *facts, const struct ext_view maps[2][2]) {
    struct span *spans[FACTS_SPANS];
    unsigned span_count = facts ? FACTS_SPANS : 0;
    if (facts)
        facts_spans(&facts->info, spans);
    size_t entries = 0, bytes = 1; /* an empty span has an address, too */
    for (unsigned i = 0; i < 4; i++) {
        entries += maps[i / 2][i % 2].count;
        bytes += maps[i / 2][i % 2].bytes;
    }
    for (unsigned i = 0; i < span_count; i++)
        bytes += spans[i]->len;
    struct ext_past *past = malloc(sizeof(*past) + entries * sizeof(struct header) + bytes);
    if (!past)
        return NULL;
    struct header *entry = past->entries;
    char *at = (char *)(past->entries + entries);
    for (unsigned i = 0; i < 4; i++) {
        const struct ext_view *map = &maps[i / 2][i % 2];
        struct ext_view *view = &past->maps[i / 2][i % 2];
        *view =
            map->entries ? (struct ext_view){entry, map->count, map->bytes} : (struct ext_view){0};
        for (uint32_t k = 0; k < view->count; k++, entry++) {
            *entry = map->entries[k];
            entry->name_ptr = put(&at, header_name(entry)).ptr;
            entry->value_ptr = put(&at, header_value(entry)).ptr;
        }
    }
    for (unsigned i = 0; i < span_count; i++)
        *spans[i] = put(&at, *spans[i]);
    if (facts)
        past->facts = *facts;
    past->notes = (struct ext_notes){0};
    past->has_edited[0] = past->has_edited[1] = false;
    return past;
}

static struct ext_past *copy_of_maps(struct ext_facts *facts, const struct header_map *maps[2][2]) {
    struct ext_view views[2][2];
    for (unsigned i = 0; i < 4; i++)
        views[i / 2][i % 2] = ext_view_of(maps[i / 2][i % 2]);
    return copy_of(facts, (const struct ext_view(*)[2])views);
}

struct ext_past *ext_past_take(struct ext_stream *stream, struct exchange *x,
                               const struct header_map *maps[2][2]) {
    (void)exchange_downstream_local(x); /* written now: later there is nobody to ask */
    (void)exchange_downstream_remote(x);
    ext_lock(stream);
    ext_facts_note_locked(stream, x);
    struct ext_facts facts = stream->facts;
    ext_unlock(stream);
    forget_others(&facts, x);
    /* Nobody but this coroutine changes what facts and maps borrow. */
    struct ext_past *past = copy_of_maps(&facts, maps);
    if (!past)
        return NULL;
    struct metadata *metadata = exchange_metadata(x);
    struct filter_state *state = exchange_filter_state(x);
    past->notes = (struct ext_notes){.metadata = metadata ? metadata_ref(metadata) : NULL,
                                     .filter_state = state ? filter_state_ref(state) : NULL};
    ext_lock(stream);
    stream->facts = past->facts;
    stream->x = NULL;
    stream->left = past->notes;
    ext_sides_abandon_locked(stream);
    ext_unlock(stream);
    return past;
}

void ext_past_open(struct ext_stream *stream, const struct ext_past *past, bool told) {
    ext_lock(stream);
    ext_views_log_locked(stream, past->maps, told);
    ext_unlock(stream);
}

void ext_past_close(struct ext_stream *stream) {
    struct ext_edit *edits[2];
    ext_stream_close_log(stream, edits);
    ext_edits_free(edits[0]);
    ext_edits_free(edits[1]);
}

/* ---- a log in between ---- */

struct ext_past *ext_past_look(struct ext_stream *stream, struct exchange *x,
                               const struct header_map *maps[2][2]) {
    ext_lock(stream);
    const struct route_entry *route = stream->facts.route;
    struct span route_name = stream->facts.info.route_name;
    ext_facts_note_locked(stream, x);
    if (stream->refresh_route) { /* chosen by foreign code; the exchange does not know yet */
        stream->facts.route = route;
        stream->facts.info.route_name = route_name;
    }
    struct ext_facts facts = stream->facts;
    ext_unlock(stream);
    return copy_of_maps(&facts, maps);
}

struct ext_past *ext_past_of(const struct ext_view maps[2][2]) {
    return copy_of(NULL, maps);
}

static bool is_lent(const struct ext_side *side) {
    return side->phase != EXT_NOT_LENT && !side->abandoned;
}

/* The copy gets what was changed since the loan began. Without memory it stays as it is. */
static void copy_edits(struct ext_past *past, struct ext_side *side) {
    struct ext_edited *edited = &past->edited[side->direction];
    const struct ext_view *lent = &side->headers;
    past->has_edited[side->direction] = true;
    if (ext_edited_init(edited, side->edits, side->direction, lent->entries, lent->count) != 0)
        return;
    past->maps[side->direction][0] =
        (struct ext_view){edited->map.entries, edited->map.count, edited->map.bytes};
}

void ext_past_show(struct ext_stream *stream, struct ext_past *past, bool told) {
    ext_lock(stream);
    ASSERT(!stream->logging);
    stream->logging = true;
    stream->aside = past->maps;
    for (int i = 0; i < 2; i++) {
        struct ext_side *side = &stream->sides[i];
        const struct ext_view *maps = past->maps[i];
        past->kept[i] = (struct kept){side->headers, side->headers_late};
        if (!is_lent(side) || !side->headers.entries) {
            side->headers = maps[0];
            side->headers_late = false;
        } else if (side->edits) {
            copy_edits(past, side);
        }
        if (!is_lent(side) || !side->trailers.entries)
            side->trailers = maps[1];
        ext_room_show_locked(&side->header_room, &maps[0], told);
        ext_room_show_locked(&side->trailer_room, &side->trailers, told);
    }
    ext_unlock(stream);
}

static void put_back_locked(struct ext_side *side, const struct ext_view maps[2],
                            const struct kept *kept) {
    if (side->headers.entries == maps[0].entries) {
        side->headers_late = kept->headers_late && side->frozen;
        side->headers = side->headers_late ? kept->frozen : (struct ext_view){0};
    }
    if (side->trailers.entries == maps[1].entries)
        side->trailers = (struct ext_view){0};
    if (is_lent(side))
        return;
    ext_edits_free(side->edits);
    side->edits = side->last_edit = NULL;
    side->edit_count = 0;
    side->edit_bytes = 0;
    ext_buffers_clear(&side->added);
    side->added_bytes = 0;
}

void ext_past_hide(struct ext_stream *stream, struct ext_past *past) {
    ext_lock(stream);
    stream->logging = false;
    stream->aside = NULL;
    for (int i = 0; i < 2; i++)
        put_back_locked(&stream->sides[i], past->maps[i], &past->kept[i]);
    ext_unlock(stream);
}

void ext_past_free(struct ext_past *past) {
    if (!past)
        return;
    for (int i = 0; i < 2; i++)
        if (past->has_edited[i])
            ext_edited_fini(&past->edited[i]);
    metadata_unref(past->notes.metadata);
    filter_state_unref(past->notes.filter_state);
    free(past);
}
