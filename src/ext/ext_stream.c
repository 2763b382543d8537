/* ext_stream: who may touch what, and why nobody is hurt.
 *
 * Three parties meet here: C, a coroutine of the exchange (up to two: one drives the request body,
 * one everything else); F, foreign code inside a call that C made, whose P may have been handed on
 * meanwhile; and T, any thread of the extension's own runtime, which may call at any time and long
 * after the request.
 *
 * I1  Every field but nothing else is guarded by `lock`. It is held for a look-up, a copy or a
 *     list operation, never over a park, a callback or a call out. So it cannot deadlock, and what a
 *     P may lose to it is a memcpy.
 * I2  A view's entries array belongs to a header map of the exchange. C changes that map only while
 *     the side is not lent (before ext_side_lend, after ext_side_take_back). F and T look at it only
 *     under the lock while phase != EXT_NOT_LENT (or during the log phase, when C is inside the call
 *     and both maps stand still). Names and values are immutable bytes that live as long as the
 *     exchange.
 * I3  Nothing of the exchange is freed before ext_stream_end has run: it takes the lock, so it waits
 *     for a reader that is inside, and the next one finds `destroyed`.
 * I4  Writes of F and T are lists of malloc'ed nodes. C applies them, on its own P, after the loan.
 *
 * The races
 *  - Continue against a client that vanishes: T posts under the lock and readies `waiter`, which is
 *    set only while C is parked and cleared by C under the lock before it leaves. The coroutine that
 *    is woken therefore exists. If C was cancelled first, T finds `abandoned` and is told so.
 *  - Continue against the status that the callback returns: whichever C sees first ends the loan,
 *    and ext_side_take_back drops the other, so that it cannot release the next chunk unseen.
 *  - Reply against Continue: a reply that came before the loan ended wins (a filter that replies
 *    from one goroutine and continues from another has replied).
 *  - A setter against the end of its loan: its edit is in the list before the lock is released, or
 *    the gate finds the side not lent.
 *  - Two sides at once: they have separate structs under one lock; the coroutines of one exchange
 *    never run at the same moment, and each touches its own side's maps only.
 *  - After a continue from elsewhere (T) the header map goes on and the router may change it, while
 *    filters commonly look at their headers once more: ext_side_freeze gives them a copy of the
 *    array (the bytes it points at are immutable, I2).
 *  - A coroutine that leaves while its side is lent (a reply by the other coroutine replaces the
 *    response, say) abandons the side first: from then on its map may be changed, as the gate
 *    answers "destroyed" and the view is gone.
 *
 * Rejected: applying header edits in place under the lock. It would need C to take the lock for
 * every header access of every other filter, or a second kind of map; a list costs one malloc. */
#include "ext/ext_stream.h"

#include <errno.h>
#include <stdlib.h>

#include "ext/ext_handles.h"
#include "ext/ext_stream_internal.h"
#include "proxy/downstream.h"
#include "proxy/exchange.h"
#include "proxy/hcm.h"
#include "proxy/route.h"
#include "proxy/tls_info.h"

void ext_stream_init(struct ext_stream *stream) {
    memset(stream, 0, sizeof(*stream));
    /* Cannot fail with default attributes on Linux. */
    (void)pthread_mutex_init(&stream->lock, NULL);
    stream->sides[EXT_RESPONSE].direction = EXT_RESPONSE;
}

void ext_edits_free(struct ext_edit *edits) {
    while (edits) {
        struct ext_edit *next = edits->next;
        free(edits);
        edits = next;
    }
}

/* The handle of a shown buffer ends, under the lock that those who use it have. */
static void end_handle_locked(const struct ext_side *side, struct ext_buffer *buffer) {
    int err = handle_destroy(&ext_handles, buffer->handle, side);
    ASSERT(err == 0); /* foreign code has no way to end it */
    buffer->handle = 0;
}

static void end_handles_locked(const struct ext_side *side) {
    for (struct ext_buffer *buffer = side->shown.head; buffer; buffer = buffer->next)
        end_handle_locked(side, buffer);
}

/* Everything malloc'ed of a side. */
static void side_clear_locked(struct ext_side *side) {
    side->headers = side->trailers = (struct ext_view){0};
    free(side->frozen);
    side->frozen = NULL;
    side->headers_late = false;
    ext_edits_free(side->edits);
    side->edits = side->last_edit = NULL;
    side->edit_count = 0;
    side->edit_bytes = 0;
    end_handles_locked(side);
    ext_buffers_clear(&side->shown);
    ext_buffers_clear(&side->added);
    side->added_bytes = 0;
    ext_reply_free(side->reply);
    side->reply = NULL;
    side->continued = false;
}

void ext_stream_fini(struct ext_stream *stream) {
    side_clear_locked(&stream->sides[EXT_REQUEST]);
    side_clear_locked(&stream->sides[EXT_RESPONSE]);
    (void)pthread_mutex_destroy(&stream->lock); /* nobody can hold it: nobody can reach it */
}

void ext_sides_abandon_locked(struct ext_stream *stream) {
    for (int i = 0; i < 2; i++) {
        side_clear_locked(&stream->sides[i]);
        stream->sides[i].abandoned = true;
    }
}

bool ext_stream_end(struct ext_stream *stream) {
    ext_lock(stream);
    bool lent = stream->sides[0].phase != EXT_NOT_LENT || stream->sides[1].phase != EXT_NOT_LENT;
    stream->destroyed = true;
    stream->logging = false;
    memset(&stream->info, 0, sizeof(stream->info));
    side_clear_locked(&stream->sides[EXT_REQUEST]);
    side_clear_locked(&stream->sides[EXT_RESPONSE]);
    ext_unlock(stream);
    return lent;
}

static struct ext_view view_of(const struct header_map *map) {
    static const struct header none; /* an empty map is there, though it has no array */
    if (!map)
        return (struct ext_view){0};
    return (struct ext_view){map->count ? map->entries : &none, map->count, map->bytes};
}

void ext_info_snapshot_locked(struct ext_stream *stream, struct exchange *x) {
    const struct stream_info *from = &x->info;
    struct ext_info *info = &stream->info;
    info->route_name = x->route ? x->route->name : from->route_name;
    info->filter_chain = from->filter_chain;
    info->protocol = from->protocol;
    info->response_code = from->response_code;
    info->details = from->response_code_details;
    if (!info->response_code) { /* the router has it in the head; it is counted when sent */
        uint64_t status;
        if (span_to_u64(header_get(&x->response.headers, HDR_STATUS), &status) && status < 1000)
            info->response_code = (uint16_t)status;
    }
    if (span_is_none(info->details) && info->response_code)
        info->details = span_of("via_upstream");
    info->upstream_attempts = from->upstream_attempts;
    info->upstream_cluster = from->upstream_cluster;
    info->downstream_local = exchange_downstream_local(x);
    info->downstream_remote = exchange_downstream_remote(x);
    info->upstream_local = from->upstream_local;
    info->upstream_remote = from->upstream_remote;
    info->routes = x->hcm->routes;
    info->random = x->random;
    info->peer = x->downstream ? tls_peer_bits(&x->downstream->socket) : 0;
}

int ext_side_lend(struct ext_stream *stream, struct exchange *x, enum ext_direction direction,
                  const struct ext_loan *loan, uint64_t *handle) {
    struct ext_side *side = &stream->sides[direction];
    struct ext_buffer *buffer = loan->buffer;
    uint64_t made = 0;
    if (buffer) {
        made = handle_make(&ext_handles, x->shard,
                           &(struct handle_object){.object = buffer, .key = side});
        if (!made)
            return -ENOMEM;
    }
    *handle = made;
    ext_lock(stream);
    ASSERT(side->phase == EXT_NOT_LENT);
    ASSERT(!stream->destroyed);
    ext_info_snapshot_locked(stream, x);
    if (loan->headers || !side->headers_late)
        side->headers = view_of(loan->headers);
    side->trailers = view_of(loan->trailers);
    if (loan->phase == EXT_HEADERS)
        side->header_room = (struct ext_room){side->headers.count, side->headers.bytes};
    if (loan->phase == EXT_TRAILERS)
        side->trailer_room = (struct ext_room){side->trailers.count, side->trailers.bytes};
    side->abandoned = false;
    side->continued = false;
    if (buffer) {
        buffer->handle = made;
        ext_buffers_push(&side->shown, buffer);
    }
    side->phase = loan->phase;
    ext_unlock(stream);
    return 0;
}

int ext_side_await(struct ext_stream *stream, struct exchange *x, enum ext_direction direction,
                   int *status) {
    struct ext_side *side = &stream->sides[direction];
    int result = 0;
    while (result == 0) {
        ext_lock(stream);
        side->waiter = NULL;
        if (!exchange_alive(x)) {
            result = -ECANCELED;
        } else if (side->reply) {
            result = 2;
        } else if (side->continued) {
            side->continued = false;
            *status = side->status;
            result = 1;
        } else {
            side->waiter = rt_self();
        }
        ext_unlock(stream);
        if (result == 0 && rt_park("extension", RT_FOREVER) == -ECANCELED) {
            ext_lock(stream);
            side->waiter = NULL;
            ext_unlock(stream);
            result = -ECANCELED;
        }
    }
    return result;
}

void ext_side_take_back(struct ext_stream *stream, enum ext_direction direction,
                        struct ext_taken *taken) {
    struct ext_side *side = &stream->sides[direction];
    ext_lock(stream);
    ASSERT(side->phase != EXT_NOT_LENT);
    side->phase = EXT_NOT_LENT;
    side->continued = false;
    if (!side->headers_late)
        side->headers = (struct ext_view){0};
    side->trailers = (struct ext_view){0};
    *taken = (struct ext_taken){
        .edits = side->edits,
        .added = side->added,
        .reply = side->reply,
        .clear_route = stream->clear_route,
        .refresh_route = stream->refresh_route,
    };
    side->edits = side->last_edit = NULL;
    side->edit_count = 0;
    side->edit_bytes = 0;
    side->added = (struct ext_buffers){0};
    side->added_bytes = 0;
    side->reply = NULL;
    stream->clear_route = stream->refresh_route = false;
    ext_unlock(stream);
}

void ext_taken_fini(struct ext_taken *taken) {
    ext_edits_free(taken->edits);
    ext_buffers_clear(&taken->added);
    ext_reply_free(taken->reply);
    *taken = (struct ext_taken){0};
}

void ext_side_abandon(struct ext_stream *stream, enum ext_direction direction) {
    struct ext_side *side = &stream->sides[direction];
    ext_lock(stream);
    side->abandoned = true;
    side->waiter = NULL;
    side_clear_locked(side);
    ext_unlock(stream);
}

void ext_side_freeze(struct ext_stream *stream, enum ext_direction direction,
                     const struct header_map *headers) {
    struct ext_side *side = &stream->sides[direction];
    size_t size = (headers->count ? headers->count : 1) * sizeof(struct header);
    struct header *copy = malloc(size);
    if (copy && headers->count)
        memcpy(copy, headers->entries, headers->count * sizeof(struct header));
    ext_lock(stream);
    free(side->frozen);
    side->frozen = copy;
    side->headers_late = copy != NULL;
    side->headers =
        copy ? (struct ext_view){copy, headers->count, headers->bytes} : (struct ext_view){0};
    ext_unlock(stream);
}

void ext_side_release(struct ext_stream *stream, enum ext_direction direction,
                      struct ext_buffers *to) {
    struct ext_side *side = &stream->sides[direction];
    struct ext_buffers dropped = {0};
    ext_lock(stream);
    end_handles_locked(side);
    ext_buffers_move(to ? to : &dropped, &side->shown);
    ext_unlock(stream);
    ext_buffers_clear(&dropped);
}

void ext_side_drop_newest(struct ext_stream *stream, enum ext_direction direction) {
    struct ext_side *side = &stream->sides[direction];
    ext_lock(stream);
    struct ext_buffer *newest = ext_buffers_pop_last(&side->shown);
    if (newest)
        end_handle_locked(side, newest);
    ext_unlock(stream);
    ext_buffer_free(newest);
}

int ext_side_keep_newest(struct ext_stream *stream, enum ext_direction direction, size_t *held) {
    struct ext_side *side = &stream->sides[direction];
    ext_lock(stream);
    ASSERT(side->shown.last);
    int err = ext_buffer_own(side->shown.last);
    if (!err)
        *held = ext_buffers_bytes(&side->shown);
    ext_unlock(stream);
    return err;
}

void ext_views_log_locked(struct ext_stream *stream, const struct ext_view maps[2][2]) {
    stream->logging = true;
    for (int i = 0; i < 2; i++) {
        struct ext_side *side = &stream->sides[i];
        side->headers_late = false;
        side->headers = maps[i][0];
        side->trailers = maps[i][1];
        side->header_room = (struct ext_room){side->headers.count, side->headers.bytes};
        side->trailer_room = (struct ext_room){side->trailers.count, side->trailers.bytes};
    }
}

void ext_stream_open_log(struct ext_stream *stream, struct exchange *x,
                         const struct header_map *maps[2][2]) {
    const struct ext_view views[2][2] = {{view_of(maps[0][0]), view_of(maps[0][1])},
                                         {view_of(maps[1][0]), view_of(maps[1][1])}};
    ext_lock(stream);
    ext_info_snapshot_locked(stream, x);
    ext_views_log_locked(stream, views);
    ext_unlock(stream);
}

void ext_stream_close_log(struct ext_stream *stream, struct ext_edit *edits[2]) {
    ext_lock(stream);
    stream->logging = false;
    for (int i = 0; i < 2; i++) {
        struct ext_side *side = &stream->sides[i];
        edits[i] = side->edits;
        side->edits = side->last_edit = NULL;
        side->edit_count = 0;
        side->edit_bytes = 0;
        side->headers = side->trailers = (struct ext_view){0};
    }
    ext_unlock(stream);
}

/* ---- foreign code ---- */

/* The lock keeps the buffer, as its handle ends under it; the lease is needed only to look. The handle of
 * another stream's buffer, whose lock we do not have, is not opened by this side. */
struct ext_buffer *ext_side_buffer_locked(const struct ext_side *side, uint64_t handle) {
    struct ext_buffer *buffer = handle_lease(&ext_handles, handle, side);
    if (buffer)
        handle_release(&ext_handles, handle);
    return buffer;
}

static void wake_locked(struct ext_side *side) {
    if (side->waiter)
        rt_ready(side->waiter);
}

void ext_side_continue_locked(struct ext_side *side, int status) {
    if (side->phase == EXT_NOT_LENT || side->abandoned || side->continued || side->reply)
        return;
    side->continued = true;
    side->status = status;
    wake_locked(side);
}

void ext_side_reply_locked(struct ext_side *side, struct ext_reply *reply) {
    if (side->phase == EXT_NOT_LENT || side->abandoned || side->reply) {
        ext_reply_free(reply);
        return;
    }
    side->reply = reply;
    side->replied = true;
    wake_locked(side);
}

void ext_stream_clear_route_locked(struct ext_stream *stream, bool refresh) {
    stream->clear_route = true;
    const struct ext_side *side = &stream->sides[EXT_REQUEST];
    if (!refresh)
        return;
    stream->refresh_route = true;
    if (!side->headers.entries || side->headers_late || !stream->info.routes)
        return;
    /* A map of our own, on this thread. Without memory the name stays the old one. */
    struct block_cache blocks;
    struct arena arena;
    struct header_map map;
    block_cache_init(&blocks);
    arena_init(&arena, &blocks, EXT_EDIT_BYTES_MAX + HEADER_COUNT_MAX * sizeof(struct header));
    header_map_init(&map, &arena);
    int err = 0;
    for (uint32_t i = 0; i < side->headers.count && !err; i++) {
        const struct header *header = &side->headers.entries[i];
        err =
            header_add(&map, (enum header_id)header->id, header_name(header), header_value(header));
    }
    if (!err)
        err = ext_edits_apply(side->edits, EXT_REQUEST, &map, NULL);
    if (!err) {
        const struct route_entry *route =
            route_match(stream->info.routes, &map, stream->info.random, stream->info.peer);
        stream->info.route_name = route ? route->name : span_make("", 0);
    }
    arena_fini(&arena);
    block_cache_fini(&blocks);
}

int ext_side_add_data_locked(struct ext_side *side, struct span bytes) {
    if (bytes.len == 0)
        return 0;
    if (bytes.len > EXT_ADDED_BYTES_MAX - side->added_bytes)
        return -E2BIG;
    struct ext_buffer *buffer = ext_buffer_new(bytes);
    if (!buffer || ext_buffer_own(buffer) != 0) {
        ext_buffer_free(buffer);
        return -ENOMEM;
    }
    ext_buffers_push(&side->added, buffer);
    side->added_bytes += bytes.len;
    return 0;
}
