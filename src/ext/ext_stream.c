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
 *     The sight of a side (other maps of the exchange, for who asks about them) is what stands still as
 *     long as the side is lent: see ext_query.c.
 * I4  Writes of F and T are lists of malloc'ed nodes. C applies them, on its own P, after the loan.
 *
 * A side's states, and who has what of it
 *
 *              lend                  take_back
 *     NOT LENT ─────► LENT ──────────────────────► NOT LENT       C goes on with its maps
 *        │              │ cancelled: abandon; too slow: cut, of both sides
 *        │              └──────────────► ABANDONED ──┐
 *        └──────────── the log phase: LOGGING ───────┴─► DESTROYED (ext_stream_end), for both sides
 *
 *     state       maps      shown buffers  edits, added, reply   F and T may              answered else
 *     NOT LENT    C's       C's to let go  none                  nothing                  not in Go
 *     LENT        to read   theirs         theirs to add to      everything of the phase
 *     ABANDONED   C's       gone           gone                  nothing                  destroyed
 *     LOGGING     to read   gone or C's    edits                 look, edit; continues    (over: as NOT
 *                                                                and replies are void      LENT was)
 *     DESTROYED   -         gone           gone                  nothing                  destroyed
 *
 * Each arrow is one critical section, and so is each call of T from its look at the state to its last
 * touch. So a call is wholly before or wholly after each arrow, and all that is left to argue is what it
 * finds there. What every call goes through before it has the lock is in go_gate.c.
 *
 * The races, of C with one call
 *  - Continue, the coroutine parks: C looks for `continued` and `reply` and sets `waiter` in one
 *    critical section. T's is before it, and C does not park, or after it, and T readies the waiter. The
 *    token of rt_ready is remembered, so C may still be on its way into the park.
 *  - Continue, the client vanishes: `waiter` is set only while C waits, and C clears it under the
 *    lock before it leaves, however it was woken. T readies under the lock: who is woken exists. If C was
 *    first, T finds ABANDONED.
 *  - Continue, the callback's own status: whichever C sees first ends the loan, and take_back drops the
 *    other, as lend does, so that it cannot release the next chunk unseen. A continue that comes when
 *    the next loan has begun is that one's: nothing tells them apart, on Envoy neither.
 *  - Reply: as Continue. One that came before the loan ended wins over any status, posted or returned (a
 *    filter that replies from one goroutine and continues from another has replied): take_back hands it out.
 *    From then on the side has `replied`, and what else T decides is void.
 *  - Edit, add data, clear route: in the list before the arrow that ends the loan, and then C, which takes
 *    the list in that arrow, applies it; or refused. They are applied in the order of their critical
 *    sections. An abandoned side's are dropped, answered OK or not: there is no message for them any more.
 *  - Buffer: from lend on in the list of the shown, its handle made before. C moves it on only in
 *    ext_side_release, which ends the handle and takes it off in one critical section; before, T finds the
 *    handle and the buffer cannot go, as the lock holds C up; after, the handle opens nothing. Bytes
 *    that a buffer borrows die with the reader's next step, which C takes when nothing borrowed is shown.
 *  - Get, copy: what they find is copied under the lock, to where it outlives the stream (go_lent.h). A copy to
 *    T's memory is bounded by what T was told (ext_room.h), however the view has grown since.
 *  - Any call, the end of the exchange: ext_stream_end is an arrow, too. Memory that holds the lock itself
 *    is counted (go_block.h), and the address that T has of it is checked before it is followed and held for
 *    the call (go_lent.h): so no call touches what is freed, Finalize may come before, in or after a
 *    call, and the second one finds nothing. Which code a late call gets is go_gate.c's.
 *
 * of two calls
 *  - Two continues: the first counts, the second finds `continued`, or the loan ended.
 *  - A continue and a reply: above. Two replies: the first counts, the other is freed where it came.
 *  - Edits by two goroutines: one list, in some order; each reads its own (ext_side_get_locked).
 *
 * of both sides
 *  - They have separate structs under one lock; the coroutines of one exchange never run at the same
 *    moment, and each touches its own side's maps only. While one lends, what the other may change is
 *    not in its sight (ext_query.c).
 *  - A side that takes too long cuts the other as well (ext_stream_cut), in one critical section: what is late is late on
 *    both, also on one that is not lent, where a call would else be out of turn. The coroutine of the other leaves like
 *    one that was cancelled, which it is.
 *  - A reply by one side's coroutine ends the exchange for the other, which is cancelled and abandons its
 *    side: from then on its map may be changed, as the gate answers "destroyed" and the view is gone.
 *  - clear_route is the stream's, and the request's take_back takes it.
 *
 * of calls into Go
 *  - One thread per seat: who calls holds it (go_filter_begin), from before lend until the callback has
 *    returned, though its P may have been handed on. A parked C holds none. seat.c has the hand-over.
 *  - A log in between (ext_past_show) is such a call, while the exchange goes on. It has the seat, so nothing is lent and
 *    no other call begins before it is over; but what is lent may be taken back, abandoned, or end with its exchange.
 *    The views of a side that is lent stay; whenever one is not, or no longer, what it shows are the log's own copies
 *    (views_end_locked), so I2 holds without the exchange's maps. Continues, replies and edits of a side that is lent
 *    are that loan's, whoever made them; edits of the copies are dropped when the log closes.
 *  - OnDestroy comes last, once: go_end.c takes the block away from the filter first. That Go
 *    may be blocked in the stream's seat then, is why the end can outlive its exchange (ext_past.c): the
 *    stream then shows copies, under the same lock.
 *
 * After a continue from elsewhere (T) the header map goes on and the router may change it, while filters
 * commonly look at their headers once more: ext_side_freeze gives them a copy of the array (the bytes it
 * points at are immutable, I2).
 *
 * Checked  tests/unit/ext/model runs this file and its neighbours in every order of these critical sections
 * within a bound of preemptions; tests/unit/ext/test_go_storm.c in whatever order threads take, under TSan.
 *
 * Rejected: applying header edits in place under the lock. It would need C to take the lock for
 * every header access of every other filter, or a second kind of map; a list costs one malloc. */
#include "ext/ext_stream.h"

#include <errno.h>
#include <stdlib.h>

#include "ext/ext_far.h"
#include "ext/ext_handles.h"
#include "ext/ext_stream_internal.h"
#include "proxy/downstream.h"
#include "proxy/exchange.h"
#include "proxy/hcm.h"
#include "proxy/route.h"
#include "proxy/route_rollout.h"
#include "proxy/tls_info.h"

void ext_stream_init(struct ext_stream *stream) {
    memset(stream, 0, offsetof(struct ext_stream, facts));
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
    side->sight = (struct ext_sight){0};
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

/* The loan is over, or never was: what is left to see is what a log in between shows, if there is one. */
static void views_end_locked(const struct ext_stream *stream, struct ext_side *side) {
    const struct ext_view *aside = stream->aside ? stream->aside[side->direction] : NULL;
    if (!side->headers_late)
        side->headers = aside ? aside[0] : (struct ext_view){0};
    side->trailers = aside ? aside[1] : (struct ext_view){0};
}

void ext_sides_abandon_locked(struct ext_stream *stream) {
    for (int i = 0; i < 2; i++) {
        side_clear_locked(&stream->sides[i]);
        views_end_locked(stream, &stream->sides[i]);
        stream->sides[i].abandoned = true;
    }
}

bool ext_stream_end(struct ext_stream *stream) {
    ext_lock(stream);
    bool lent = stream->sides[0].phase != EXT_NOT_LENT || stream->sides[1].phase != EXT_NOT_LENT;
    stream->destroyed = true;
    stream->logging = false;
    stream->aside = NULL;
    stream->x = NULL;
    stream->left = (struct ext_notes){0};
    side_clear_locked(&stream->sides[EXT_REQUEST]);
    side_clear_locked(&stream->sides[EXT_RESPONSE]);
    ext_unlock(stream);
    return lent;
}

struct ext_view ext_view_of(const struct header_map *map) {
    static const struct header none; /* an empty map is there, though it has no array */
    if (!map)
        return (struct ext_view){0};
    return (struct ext_view){map->count ? map->entries : &none, map->count, map->bytes};
}

/* Once: a connection's TLS is what it is when its handshake is over, and OpenSSL is for the P to ask. */
static COLD void note_tls(struct ext_facts *facts, struct socket *socket) {
    facts->has_tls = attribute_tls_of(socket, &facts->tls);
    if (facts->has_tls)
        facts->peer = tls_peer_bits(socket);
}

void ext_facts_note_locked(struct ext_stream *stream, struct exchange *x) {
    struct ext_facts *facts = &stream->facts;
    facts->info = x->info;
    facts->route = x->route;
    facts->routes = exchange_routes(x);
    facts->random = x->random;
    if (!stream->x) {
        stream->x = x;
        facts->has_tls = false;
        facts->peer = 0;
        if (x->downstream && x->downstream->socket.transport)
            note_tls(facts, &x->downstream->socket);
    }
}

/* By the coroutine that is about to stand still. */
static struct ext_sight sight_of(struct exchange *x) {
    bool by_pump = x->pump && x->pump == rt_self();
    bool sent = x->state >= EXCHANGE_HEADERS_SENT;
    return (struct ext_sight){
        .request = &x->request.headers,
        .response = !by_pump || sent ? &x->response.headers : NULL,
        .response_trailers = by_pump ? NULL : &x->response.trailers,
    };
}

void ext_side_show_locked(struct ext_side *side, const struct ext_showing *showing) {
    ASSERT(side->phase == EXT_NOT_LENT);
    if (showing->headers.entries || !side->headers_late)
        side->headers = showing->headers;
    side->trailers = showing->trailers;
    if (showing->phase == EXT_HEADERS)
        ext_room_tell(&side->header_room, &side->headers);
    if (showing->phase == EXT_TRAILERS)
        ext_room_tell(&side->trailer_room, &side->trailers);
    side->abandoned = false;
    side->continued = false;
    if (showing->buffer)
        ext_buffers_push(&side->shown, showing->buffer);
    side->phase = showing->phase;
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
    if (buffer)
        buffer->handle = made;
    const struct ext_showing showing = {loan->phase, ext_view_of(loan->headers),
                                        ext_view_of(loan->trailers), buffer};
    ext_lock(stream);
    ASSERT(!stream->destroyed);
    ext_facts_note_locked(stream, x);
    side->sight = sight_of(x);
    ext_side_show_locked(side, &showing);
    ext_unlock(stream);
    return 0;
}

int ext_side_lend_more(struct ext_stream *stream, unsigned shard, enum ext_direction direction,
                       struct ext_buffer *buffer) {
    struct ext_side *side = &stream->sides[direction];
    uint64_t handle =
        handle_make(&ext_handles, shard, &(struct handle_object){.object = buffer, .key = side});
    if (!handle)
        return -ENOMEM;
    ext_lock(stream);
    ASSERT(side->phase != EXT_NOT_LENT);
    buffer->handle = handle;
    ext_buffers_push(&side->shown, buffer);
    ext_unlock(stream);
    return 0;
}

int ext_side_await(struct ext_stream *stream, struct exchange *x, enum ext_direction direction,
                   int64_t deadline_ns, int *status, bool *prompt) {
    struct ext_side *side = &stream->sides[direction];
    int result = 0, woken = 0;
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
            *prompt = side->prompt;
            result = 1;
        } else if (woken == -ETIMEDOUT) {
            result = woken;
        } else {
            side->waiter = rt_self();
        }
        ext_unlock(stream);
        if (result == 0)
            woken = rt_park("extension", deadline_ns);
        if (result == 0 && woken == -ECANCELED) {
            ext_lock(stream);
            side->waiter = NULL;
            ext_unlock(stream);
            result = -ECANCELED;
        }
    }
    return result;
}

void ext_side_take_back_locked(struct ext_stream *stream, struct ext_side *side,
                               struct ext_taken *taken) {
    ASSERT(side->phase != EXT_NOT_LENT);
    side->phase = EXT_NOT_LENT;
    side->continued = false;
    views_end_locked(stream, side);
    side->sight = (struct ext_sight){0};
    const struct ext_buffer *newest = side->shown.last;
    *taken = (struct ext_taken){.edits = side->edits,
                                .added = side->added,
                                .reply = side->reply,
                                .looked_at = newest && newest->looked_at};
    side->edits = side->last_edit = NULL;
    side->edit_count = 0;
    side->edit_bytes = 0;
    side->added = (struct ext_buffers){0};
    side->added_bytes = 0;
    side->reply = NULL;
    /* A route is chosen by the request. The other side may come back while Go still has that. */
    if (side->direction == EXT_REQUEST) {
        taken->clear_route = stream->clear_route;
        taken->refresh_route = stream->refresh_route;
        stream->clear_route = stream->refresh_route = false;
    }
}

void ext_side_take_back(struct ext_stream *stream, enum ext_direction direction,
                        struct ext_taken *taken) {
    ext_lock(stream);
    ext_side_take_back_locked(stream, &stream->sides[direction], taken);
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
    views_end_locked(stream, side);
    ext_unlock(stream);
}

void ext_stream_cut(struct ext_stream *stream) {
    ext_lock(stream);
    stream->cut = true;
    ext_sides_abandon_locked(stream);
    ext_unlock(stream);
}

void ext_side_freeze_locked(struct ext_side *side, struct header *entries,
                            const struct ext_view *view) {
    free(side->frozen);
    side->frozen = entries;
    side->headers_late = entries != NULL;
    side->headers =
        entries ? (struct ext_view){entries, view->count, view->bytes} : (struct ext_view){0};
}

void ext_side_freeze(struct ext_stream *stream, enum ext_direction direction,
                     const struct header_map *headers) {
    size_t size = (headers->count ? headers->count : 1) * sizeof(struct header);
    struct header *copy = malloc(size);
    if (copy && headers->count)
        memcpy(copy, headers->entries, headers->count * sizeof(struct header));
    const struct ext_view view = ext_view_of(headers);
    ext_lock(stream);
    ext_side_freeze_locked(&stream->sides[direction], copy, &view);
    ext_unlock(stream);
}

void ext_side_release_locked(struct ext_side *side, struct ext_buffers *to) {
    end_handles_locked(side);
    ext_buffers_move(to, &side->shown);
}

void ext_side_release(struct ext_stream *stream, enum ext_direction direction,
                      struct ext_buffers *to) {
    struct ext_buffers dropped = {0};
    ext_lock(stream);
    ext_side_release_locked(&stream->sides[direction], to ? to : &dropped);
    ext_unlock(stream);
    ext_buffers_clear(&dropped);
}

struct ext_buffer *ext_side_pop_newest_locked(struct ext_side *side) {
    struct ext_buffer *newest = ext_buffers_pop_last(&side->shown);
    if (newest)
        end_handle_locked(side, newest);
    return newest;
}

struct ext_buffer *ext_side_recall_newest(struct ext_stream *stream, enum ext_direction direction) {
    ext_lock(stream);
    struct ext_buffer *newest = ext_side_pop_newest_locked(&stream->sides[direction]);
    ext_unlock(stream);
    return newest;
}

void ext_side_drop_newest(struct ext_stream *stream, enum ext_direction direction) {
    ext_buffer_free(ext_side_recall_newest(stream, direction));
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

void ext_room_show_locked(struct ext_room *room, const struct ext_view *view, bool told) {
    if (told)
        ext_room_tell(room, view);
    else
        room->count = ext_room_fit(room, view);
}

void ext_views_log_locked(struct ext_stream *stream, const struct ext_view maps[2][2], bool told) {
    stream->logging = true;
    for (int i = 0; i < 2; i++) {
        struct ext_side *side = &stream->sides[i];
        side->headers_late = false;
        side->headers = maps[i][0];
        side->trailers = maps[i][1];
        ext_room_show_locked(&side->header_room, &side->headers, told);
        ext_room_show_locked(&side->trailer_room, &side->trailers, told);
    }
}

void ext_stream_open_log(struct ext_stream *stream, struct exchange *x,
                         const struct header_map *maps[2][2], bool told) {
    const struct ext_view views[2][2] = {{ext_view_of(maps[0][0]), ext_view_of(maps[0][1])},
                                         {ext_view_of(maps[1][0]), ext_view_of(maps[1][1])}};
    ext_lock(stream);
    ext_facts_note_locked(stream, x);
    ext_views_log_locked(stream, views, told);
    stream->sides[EXT_REQUEST].sight = sight_of(x);
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
        side->sight = (struct ext_sight){0};
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
    side->prompt = false;
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
    if (stream->far) {
        stream->far->itab->refreshed(stream->far);
        return;
    }
    if (!side->headers.entries || side->headers_late || !stream->facts.routes)
        return;
    /* Without memory the route stays the old one. */
    struct ext_edited edited;
    if (ext_edited_init(&edited, side->edits, EXT_REQUEST, side->headers.entries,
                        side->headers.count) == 0) {
        stream->facts.route = route_match(stream->facts.routes, &edited.map, stream->facts.random,
                                          stream->facts.peer);
        stream->facts.info.route_name =
            stream->facts.route ? stream->facts.route->name : span_make("", 0);
    }
    ext_edited_fini(&edited);
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
