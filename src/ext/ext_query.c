/* ext_query: what foreign code asks about an exchange, and notes of it.
 *
 * Nothing is copied out for it in advance but facts that the exchange has in one place anyway (stream_info, some hundred
 * bytes per loan): a request about which nothing is asked pays for no more. Everything else is looked up where it is,
 * in the caller's thread, under the stream's lock. Why that is safe, by what is looked at:
 *
 *  - The facts are copies, made by the coroutine that lends, and as of then. The other coroutine, timers and the
 *    hang-up of a client go on changing the original meanwhile. The bytes that its spans point at live until filters
 *    are destroyed, and are not written again.
 *  - Header maps. An exchange has two coroutines at most, main and pump, and while one of them lends it stands still. So
 *    when main lends, whatever only main writes stands still: the request's headers, and all of the response, which
 *    main reads and sends. When the pump lends, the request's headers stand still all the same: the router has written
 *    to them before it started the pump, and nobody does again before the pump has ended. The response's headers are
 *    main's, and may be anything until they are on the wire; from then on they do not change. Its trailers are main's to
 *    the end. So that is a side's sight; what is not in it is answered as absent, though the next one to ask may see
 *    it. With both sides lent, what either may see is seen.
 *    The log phase is main's, after the pump has ended. A log in between has copies of what stood still when it began.
 *  - What a plugin has changed in headers that it was lent are edits which are not applied yet; they count already, as
 *    on Envoy.
 *  - Route, route table, configuration: immutable, and the snapshot is leased for as long as the connection lives.
 *  - Of the downstream its number, addresses, socket's descriptor and connection_info: set before there was an exchange,
 *    and changed at its end at the earliest (exchange_notes.c). Facts of its TLS are taken by the first loan.
 *  - Metadata and filter state have locks of their own, because coroutines of the exchange, and several extensions at
 *    once, write to them. They are taken inside of the stream's, never the other way round.
 *
 * All of that ends with ext_side_take_back, ext_side_abandon, ext_stream_close_log or ext_stream_end, which take the
 * lock: so they wait for who is inside, and who comes later finds the gate closed.
 *
 * A stream whose log phase comes when its exchange is gone has copies and leases of all that (ext_past.c).
 *
 * Writes are done in place, so their order is the callers': what a goroutine sets before its Continue is there when the
 * exchange goes on, and what it sets and then gets is what it set.
 *
 * Rejected  To post the question to the exchange's P: a synchronous callback would wait for its own P to be handed on. */
#include <errno.h>

#include "ext/ext_stream.h"
#include "proxy/downstream.h"
#include "proxy/exchange.h"
#include "proxy/filter_state.h"
#include "proxy/metadata_wire.h"

static struct metadata *metadata_if(struct ext_stream *stream) {
    return stream->x ? exchange_metadata_if(stream->x) : stream->left.metadata;
}

static struct filter_state *state_if(struct ext_stream *stream) {
    return stream->x ? exchange_filter_state_if(stream->x) : stream->left.filter_state;
}

/* NULL: it may be gone. */
static const struct downstream *downstream_of(const struct ext_stream *stream) {
    return stream->x ? stream->x->downstream : NULL;
}

static const struct header_map *if_any(const struct header_map *a, const struct header_map *b) {
    const struct header_map *map = a ? a : b;
    return map && map->count ? map : NULL;
}

void ext_stream_subject_locked(struct ext_stream *stream, struct attribute_subject *out) {
    const struct ext_sight *a = &stream->sides[0].sight, *b = &stream->sides[1].sight;
    *out = (struct attribute_subject){
        .info = &stream->facts.info,
        .request = if_any(a->request, b->request),
        .response = if_any(a->response, b->response),
        .trailers = if_any(a->response_trailers, b->response_trailers),
        .route = stream->facts.route,
        .downstream = downstream_of(stream),
        .tls = stream->facts.has_tls ? &stream->facts.tls : NULL,
        .metadata = metadata_if(stream),
        .filter_state = state_if(stream),
    };
}

int ext_edited_init(struct ext_edited *edited, const struct ext_edit *edits,
                    enum ext_direction direction, const struct header *entries, uint32_t count) {
    block_cache_init(&edited->blocks);
    arena_init(&edited->arena, &edited->blocks,
               EXT_EDIT_BYTES_MAX + HEADER_COUNT_MAX * sizeof(struct header));
    header_map_init(&edited->map, &edited->arena);
    int err = 0;
    for (uint32_t i = 0; i < count && !err; i++)
        err = header_add(&edited->map, (enum header_id)entries[i].id, header_name(&entries[i]),
                         header_value(&entries[i]));
    return err ? err : ext_edits_apply(edits, direction, &edited->map, NULL);
}

void ext_edited_fini(struct ext_edited *edited) {
    arena_fini(&edited->arena);
    block_cache_fini(&edited->blocks);
}

/* With a map of our own, where it has edits that are not applied yet, or is only a copy of entries. */
static enum attribute_result text_of_edited(const struct ext_side *side,
                                            struct attribute_subject *of, struct span path,
                                            struct format_out *out) {
    struct ext_edited edited;
    enum attribute_result result = ATTRIBUTE_NO_MEMORY;
    if (ext_edited_init(&edited, side->edits, side->direction, side->headers.entries,
                        side->headers.count) == 0) {
        *(side->direction == EXT_REQUEST ? &of->request : &of->response) = &edited.map;
        result = attribute_text(of, path, out);
    }
    ext_edited_fini(&edited);
    return result;
}

enum attribute_result ext_stream_attribute_locked(struct ext_stream *stream, struct span path,
                                                  struct format_out *out) {
    struct attribute_subject of;
    struct ext_edited ends;
    ext_stream_subject_locked(stream, &of);
    bool asks_request = span_starts_with(path, SPAN_LIT("request."));
    if (!asks_request && !span_starts_with(path, SPAN_LIT("response.")))
        return attribute_text(&of, path, out);
    const struct ext_side *side = &stream->sides[asks_request ? EXT_REQUEST : EXT_RESPONSE];
    bool seen = asks_request ? of.request != NULL : of.response != NULL;
    bool there = side->headers.count && !side->headers_late;
    if (stream->x && !stream->aside)
        return there && seen && side->edits ? text_of_edited(side, &of, path, out)
                                            : attribute_text(&of, path, out);
    if (asks_request)
        return there ? text_of_edited(side, &of, path, out) : attribute_text(&of, path, out);
    enum attribute_result result = ATTRIBUTE_NO_MEMORY;
    if (ext_edited_init(&ends, NULL, EXT_RESPONSE, side->trailers.entries, side->trailers.count) ==
        0) {
        of.trailers = if_any(&ends.map, NULL);
        result = there ? text_of_edited(side, &of, path, out) : attribute_text(&of, path, out);
    }
    ext_edited_fini(&ends);
    return result;
}

bool ext_stream_metadata_locked(struct ext_stream *stream, struct span name_space,
                                struct cfg_buf *out) {
    const struct downstream *d = downstream_of(stream);
    return metadata_wire_space(metadata_if(stream), d ? d->info->metadata : NULL, name_space, out);
}

int ext_stream_set_metadata_locked(struct ext_stream *stream, struct span name_space,
                                   struct span key, const struct cfg_value *value) {
    struct metadata *metadata = stream->x ? exchange_metadata(stream->x) : stream->left.metadata;
    return metadata ? metadata_set(metadata, name_space, key, value) : -ENOMEM;
}

static struct filter_state *of_connection(const struct ext_stream *stream) {
    const struct downstream *d = downstream_of(stream);
    return d ? d->info->filter_state : NULL;
}

bool ext_stream_state_locked(struct ext_stream *stream, struct span key, struct format_out *out) {
    return filter_state_get(state_if(stream), of_connection(stream), key, false, out);
}

int ext_stream_set_state_locked(struct ext_stream *stream,
                                const struct filter_state_object *object) {
    struct filter_state *state =
        stream->x ? exchange_filter_state(stream->x) : stream->left.filter_state;
    return state ? filter_state_set(state, of_connection(stream), object) : -ENOMEM;
}
