/* host_stream: see the header.
 *
 * Who may touch what: the seat's thread S, and threads of Go's, T, which come by go_gate.c.
 *
 * I1  A mirror is found by S alone (the table is S's), and T reaches it by the block's ext_stream, under that one's
 *     lock and before ext_stream_end: so after it S is alone with the mirror, and may give it to the next stream.
 * I2  What T reads of header maps is the mirror's own copies (host_maps; late ones: ext_side's frozen). S overwrites
 *     them under the lock, in the same critical section that shows the new ones.
 * I3  One loan is decided once: with the lock, whoever finds the callback returned and something that decides, takes
 *     the side back (phase NOT_LENT) and has sent the RESULT before the lock is free. The proxy's next LEND of the side
 *     follows that RESULT, and S needs the lock to show it.
 * I4  Continue or reply while the callback is going on: T only notes it, and S finds it when the callback returns, as
 *     the coroutine of go_side.c does.
 * I5  A message is written to its ring with the stream's lock held, so those of a stream are in the order of what they
 *     tell. The ring's own lock is inside of it. Who waits for room there waits for a P, which waits for nobody of us.
 *
 * A stream whose exchange went away while it was lent stays lent until LOG or END come: its calls are answered OK
 * meanwhile, and what they change goes to nobody, as it does in process a moment later. */
#include "ext/remote/host_stream.h"

#include <stdlib.h>

#include "base/clock.h"
#include "ext/ext_handles.h"
#include "ext/ext_past.h"
#include "ext/ext_stream_internal.h"
#include "ext/go/go_log.h"
#include "ext/go/go_side.h"
#include "ext/remote/host_seat.h"

static struct ext_stream *stream_of(struct host_stream *s) {
    return &s->block->stream;
}

static void *or_die(void *memory) {
    if (!memory)
        host_die("out of memory");
    return memory;
}

/* ---- the seat's table ---- */

static struct host_stream **place_of(const struct host_seat *seat, uint64_t number) {
    struct host_stream **place = &seat->table[number & (seat->table_size - 1)];
    while (*place && (*place)->number != number)
        place = &(*place)->next;
    return place;
}

static struct host_stream *find(const struct host_seat *seat, uint64_t number) {
    return seat->table_size ? *place_of(seat, number) : NULL;
}

static void grow_table(struct host_seat *seat) {
    uint32_t old_size = seat->table_size;
    struct host_stream **old = seat->table;
    seat->table_size = old_size ? 2 * old_size : 64;
    seat->table = or_die(calloc(seat->table_size, sizeof(struct host_stream *)));
    for (uint32_t i = 0; i < old_size; i++)
        for (struct host_stream *s = old[i], *next; s; s = next) {
            next = s->next;
            struct host_stream **place = place_of(seat, s->number);
            s->next = NULL;
            *place = s;
        }
    free(old);
}

static void find_config(struct host_seat *seat, uint64_t id) {
    if (seat->latest.id != id && !host_config_find(id, &seat->latest))
        host_die("the proxy speaks of a configuration that it has not told of");
}

static void set_state(struct host_stream *s, enum ext_direction direction, enum go_state state) {
    s->sides[direction].state = state;
    atomic_store_explicit(&s->block->lent->states[direction].state, (int32_t)state,
                          memory_order_release); /* for goroutines, which read it at any time */
}

static struct host_stream *make(struct host_seat *seat, const struct remote_stream *from) {
    struct host_stream *s = seat->free;
    find_config(seat, from->config_id);
    if (s)
        seat->free = s->next;
    else
        s = or_die(calloc(1, sizeof(*s)));
    if (seat->stream_count == seat->table_size)
        grow_table(seat);
    s->far.itab = &host_far_itab;
    s->host = seat->host;
    s->number = from->number;
    s->p = remote_number_p(from->number);
    if (s->p >= seat->host->p_count)
        host_die("the proxy speaks of a P that it has not told of");
    s->block = or_die(go_block_new(seat->latest.plugin, seat->shard));
    stream_of(s)->far = &s->far;
    s->block->lent->lenient = from->lenient;
    if (!from->lenient)
        atomic_store_explicit(&go_lent_strict, true, memory_order_relaxed);
    go_block_enter(s->block, seat->latest.go_id, from->worker_id);
    s->next = NULL;
    *place_of(seat, from->number) = s;
    seat->stream_count++;
    return s;
}

static struct host_stream *find_or_make(struct host_seat *seat, const struct remote_stream *from) {
    struct host_stream *s = find(seat, from->number);
    return s ? s : make(seat, from);
}

static void forget_side(struct host_side *side) {
    ext_buffer_free(side->coming);
    *side = (struct host_side){.maps = side->maps};
}

/* After the block is let go: nobody else knows it. */
static void put_back(struct host_seat *seat, struct host_stream *s) {
    *place_of(seat, s->number) = s->next;
    seat->stream_count--;
    forget_side(&s->sides[EXT_REQUEST]);
    forget_side(&s->sides[EXT_RESPONSE]);
    remote_out_clear(&s->ops);
    s->block = NULL;
    s->next = seat->free;
    seat->free = s;
}

/* ---- what is shown ---- */

static size_t bytes_of(const struct ext_view *view) {
    size_t bytes = 0;
    for (uint32_t i = 0; i < view->count; i++)
        bytes += (view->entries[i].id == HDR_OTHER ? header_name(&view->entries[i]).len : 0) +
                 header_value(&view->entries[i]).len;
    return bytes;
}

static struct span put_bytes(char **at, struct span from) {
    char *to = *at;
    if (from.len)
        memcpy(to, from.ptr, from.len);
    *at += from.len;
    return span_make(to, from.len);
}

/* Entries and their bytes are copied to where there is room for them. Names that have a number are static. */
static struct ext_view copy_view(const struct ext_view *from, struct header *entries,
                                 char **bytes) {
    if (!from->count)
        return *from; /* none, or an empty one */
    for (uint32_t i = 0; i < from->count; i++) {
        const struct header *entry = &from->entries[i];
        enum header_id id = (enum header_id)entry->id;
        struct span name = header_name(entry);
        if (id == HDR_OTHER)
            name = put_bytes(bytes, name);
        entries[i] = header_make(id, name, put_bytes(bytes, header_value(entry)));
    }
    return (struct ext_view){entries, from->count, from->bytes};
}

static void make_room(struct host_maps *maps, size_t entries, size_t bytes) {
    if (maps->entry_room < entries) {
        free(maps->entries);
        maps->entry_room = 2 * entries;
        maps->entries = or_die(malloc(maps->entry_room * sizeof(struct header)));
    }
    if (maps->byte_room < bytes) {
        free(maps->bytes);
        maps->byte_room = 2 * bytes;
        maps->bytes = or_die(malloc(maps->byte_room));
    }
}

static void copy_maps_locked(struct host_maps *maps, const struct remote_lend *lend,
                             struct ext_showing *showing) {
    make_room(maps, lend->headers.count + lend->trailers.count,
              bytes_of(&lend->headers) + bytes_of(&lend->trailers));
    char *at = maps->bytes;
    showing->headers = copy_view(&lend->headers, maps->entries, &at);
    showing->trailers =
        copy_view(&lend->trailers, maps->entries ? maps->entries + lend->headers.count : NULL, &at);
}

static void give_handle(const struct host_seat *seat, const struct ext_side *side,
                        struct ext_buffer *buffer) {
    buffer->handle = handle_make(&ext_handles, seat->shard,
                                 &(struct handle_object){.object = buffer, .key = side});
    if (!buffer->handle)
        host_die("there are too many pieces of bodies");
}

/* The piece that a loan shows, or has ahead, with its handle. */
static struct ext_buffer *make_buffer(const struct host_seat *seat, struct host_stream *s,
                                      const struct remote_lend *lend) {
    struct host_side *side = &s->sides[lend->direction];
    struct ext_buffer *buffer = side->coming;
    side->coming = NULL;
    if (!buffer)
        buffer = or_die(ext_buffer_new(span_make("", 0)));
    if (lend->carried && ext_buffer_append(buffer, lend->bytes) != 0)
        host_die("out of memory");
    if (!lend->carried) {
        buffer->data = lend->size ? NULL : "";
        buffer->len = lend->size;
    }
    if (buffer->len != lend->size)
        host_die("a piece of body is not as long as the proxy says");
    buffer->far = lend->buffer;
    give_handle(seat, &stream_of(s)->sides[lend->direction], buffer);
    return buffer;
}

/* The empty one that ends a body. */
static struct ext_buffer *make_end(const struct host_seat *seat, struct host_stream *s,
                                   const struct remote_lend *lend) {
    struct ext_buffer *buffer = or_die(ext_buffer_new(span_make("", 0)));
    buffer->far = lend->end_buffer;
    give_handle(seat, &stream_of(s)->sides[lend->direction], buffer);
    return buffer;
}

/* ---- what decides ---- */

static enum go_state state_after(const struct host_side *side, enum ext_direction direction,
                                 enum ext_phase phase, int status, bool replied) {
    if (replied)
        return direction == EXT_REQUEST ? GO_WAITING_HEADER : GO_DONE;
    if (phase == EXT_TRAILERS ||
        side->end) /* what is kept at the end, the proxy ends with an error */
        return GO_DONE;
    if (phase == EXT_HEADERS)
        return status == GO_STOP_AND_BUFFER ? GO_WAITING_ALL_DATA : GO_WAITING_DATA;
    if (side->whole)
        return GO_WAITING_TRAILER;
    return status == GO_STOP_AND_BUFFER ? GO_WAITING_ALL_DATA : GO_WAITING_DATA;
}

/* Headers that go on, as they do, for who looks once more: one allocation. NULL: no memory, and they are gone. */
static struct header *late_copy(const struct ext_view *headers, const struct ext_edit *edits,
                                enum ext_direction direction, struct ext_view *out) {
    struct ext_edited edited;
    struct header *copy = NULL;
    struct ext_view now = *headers;
    int err = 0;
    if (edits) {
        err = ext_edited_init(&edited, edits, direction, headers->entries, headers->count);
        now = (struct ext_view){edited.map.entries, edited.map.count, edited.map.bytes};
    }
    size_t entries = now.count ? now.count : 1;
    if (!err)
        copy = malloc(entries * sizeof(struct header) + bytes_of(&now));
    if (copy) {
        char *at = (char *)(copy + entries);
        (void)copy_view(&now, copy, &at);
        *out = (struct ext_view){copy, now.count, now.bytes};
    }
    if (edits)
        ext_edited_fini(&edited);
    return copy;
}

/* As go_side.c goes on after a loan. */
static void settle_locked(struct host_stream *s, struct ext_side *side, int status, bool async) {
    struct ext_stream *stream = stream_of(s);
    struct host_side *mine = &s->sides[side->direction];
    const enum ext_phase phase = side->phase;
    const struct ext_view headers = side->headers;
    const bool was_late = side->headers_late;
    struct ext_buffers gone = {0};
    struct ext_taken taken;
    ext_side_take_back_locked(stream, side, &taken);
    mine->sent = NULL;
    const bool replied = taken.reply != NULL;
    enum go_state state = state_after(mine, side->direction, phase, status, replied);
    set_state(s, side->direction, state);
    bool let_go =
        !replied && (phase == EXT_TRAILERS || (phase == EXT_BODY && status == GO_CONTINUE));
    bool keep = phase == EXT_BODY && !let_go && state != GO_DONE;
    bool late = phase == EXT_HEADERS ? async && status == GO_CONTINUE : let_go && mine->held;
    mine->held = phase == EXT_HEADERS ? status != GO_CONTINUE : mine->held && !let_go;
    if (late && !replied && state != GO_DONE && headers.entries && !was_late) {
        struct ext_view view;
        struct header *copy = late_copy(&headers, taken.edits, side->direction, &view);
        ext_side_freeze_locked(side, copy, &view);
    }
    if (!keep)
        ext_side_release_locked(side, &gone);
    else if (status == GO_STOP_NO_BUFFER)
        ext_buffers_push(&gone, ext_side_pop_newest_locked(side));
    ext_taken_fini(&taken);
    ext_buffers_clear(&gone);
}

static void decide_locked(struct host_stream *s, struct ext_side *side,
                          struct remote_result *result, int status, bool async) {
    const struct ext_reply *reply = side->reply;
    result->direction = (uint8_t)side->direction;
    result->decided = !reply;
    result->status = reply ? GO_LOCAL_REPLY : status;
    host_result_send_locked(s, REMOTE_RESULT, result, reply);
    settle_locked(s, side, status, async);
}

void host_stream_decided_locked(struct host_stream *s, struct ext_side *side) {
    if (side->phase == EXT_NOT_LENT || s->sides[side->direction].in_call ||
        (!side->continued && !side->reply))
        return;
    decide_locked(s, side, &(struct remote_result){0}, side->status, true);
}

static void returned_locked(struct host_stream *s, struct ext_side *side, uint64_t status,
                            uint64_t took_ns) {
    struct remote_result result = {
        .direction = (uint8_t)side->direction, .returned = true, .took_ns = took_ns};
    s->sides[side->direction].in_call = false;
    if (go_status_fits(side->phase, status)) {
        decide_locked(s, side, &result, (int)status, false);
        return;
    }
    if (status != GO_RUNNING && status != GO_LOCAL_REPLY)
        LOG(log_golang, LOG_ERROR, "plugin %.*s: status %d does not fit its phase; still waiting",
            (int)s->block->plugin->name.len, s->block->plugin->name.ptr, (int)status);
    if (side->reply || side->continued)
        decide_locked(s, side, &result, side->status, true);
    else
        host_result_send_locked(s, REMOTE_RESULT, &result, NULL);
}

/* ---- messages ---- */

struct call {
    enum ext_phase phase;
    bool end;
    uint64_t handle, size; /* of a piece */
    struct ext_room told;  /* of headers or trailers */
};

static uint64_t call_go(struct host_seat *seat, const struct host_stream *s, uint8_t direction,
                        const struct call *call, int64_t *took_ns) {
    const struct go_functions *fn = &s->block->library->fn;
    struct go_process_state *state = &s->block->lent->states[direction];
    const int64_t began_ns = host_seat_begin_call(seat);
    uint64_t status = call->phase == EXT_BODY
                          ? fn->on_data(state, call->end, call->handle, call->size)
                          : fn->on_header(state, call->end, call->told.count, call->told.bytes);
    *took_ns += host_seat_end_call(seat, began_ns);
    return status;
}

/* Does the exchange go on as what is ahead takes for given? Whatever is not, the proxy hears at once; so it does of a call
 * that took long, as others wait for what it said, and the proxy for a sign of life. */
static bool goes_on_locked(struct host_stream *s, const struct ext_side *side,
                           const struct remote_lend *lend, uint64_t status, int64_t took_ns) {
    enum { LONG_NS = NS_PER_MS };
    const struct host_side *mine = &s->sides[side->direction];
    const enum go_status wanted =
        lend->ahead == REMOTE_AHEAD_WHOLE ? GO_STOP_AND_BUFFER : GO_CONTINUE;
    return mine->calls < remote_ahead_calls((enum remote_ahead)lend->ahead) && status == wanted &&
           took_ns < LONG_NS && !side->reply && !side->continued && !side->added.head &&
           !stream_of(s)->clear_route;
}

/* The next call of those ahead. Headers that wait stay shown, and their changes are told with the rest. */
static void go_on_locked(const struct host_seat *seat, struct host_stream *s, struct ext_side *side,
                         const struct remote_lend *lend, struct call *call) {
    struct host_side *mine = &s->sides[side->direction];
    struct ext_buffer *buffer = mine->calls ? make_end(seat, s, lend) : make_buffer(seat, s, lend);
    mine->whole = lend->ahead == REMOTE_AHEAD_WHOLE;
    *call = (struct call){.phase = EXT_BODY,
                          .end = mine->whole || mine->calls,
                          .handle = buffer->handle,
                          .size = buffer->len};
    if (mine->whole) {
        mine->held = true;
        ext_buffers_push(&side->shown, buffer);
        side->phase = EXT_BODY;
    } else {
        host_result_note_locked(s);
        settle_locked(s, side, GO_CONTINUE, false);
        ext_side_show_locked(side, &(struct ext_showing){.phase = EXT_BODY, .buffer = buffer});
    }
    mine->end = call->end;
    mine->calls++;
    set_state(s, side->direction, GO_PROCESSING_DATA);
}

void host_stream_lend(struct host_seat *seat, const struct remote_lend *lend) {
    struct host_stream *s = find_or_make(seat, &lend->stream);
    struct ext_stream *stream = stream_of(s);
    struct ext_side *side = &stream->sides[lend->direction];
    struct host_side *mine = &s->sides[lend->direction];
    struct ext_showing showing = {.phase = (enum ext_phase)lend->phase};
    struct call call = {.phase = showing.phase, .end = lend->end, .size = lend->size};
    int64_t took_ns = 0;
    if (lend->phase == EXT_BODY) {
        showing.buffer = make_buffer(seat, s, lend);
        call.handle = showing.buffer->handle;
    }

    ext_lock(stream);
    copy_maps_locked(&mine->maps, lend, &showing);
    mine->whole = mine->state == GO_WAITING_ALL_DATA;
    mine->end = lend->end;
    mine->calls = 0;
    mine->in_call = true;
    set_state(s, (enum ext_direction)lend->direction, (enum go_state)lend->state);
    ext_side_show_locked(side, &showing);
    call.told = lend->phase == EXT_TRAILERS ? side->trailer_room : side->header_room;
    ext_unlock(stream);

    uint64_t status = call_go(seat, s, lend->direction, &call, &took_ns);
    ext_lock(stream);
    while (goes_on_locked(s, side, lend, status, took_ns)) {
        go_on_locked(seat, s, side, lend, &call);
        ext_unlock(stream);
        status = call_go(seat, s, lend->direction, &call, &took_ns);
        ext_lock(stream);
    }
    returned_locked(s, side, status, (uint64_t)took_ns);
    ext_unlock(stream);
}

void host_stream_body(struct host_seat *seat, const struct remote_body *body) {
    struct host_stream *s = find(seat, body->number);
    if (!s)
        host_die("the proxy sends a body of a stream that has not begun");
    struct host_side *side = &s->sides[body->direction];
    if (!side->coming)
        side->coming = or_die(ext_buffer_new(span_make("", 0)));
    if (ext_buffer_append(side->coming, body->bytes) != 0)
        host_die("out of memory");
}

static void call_log(struct host_seat *seat, const struct host_stream *s,
                     const struct remote_log *log, uint64_t *took_ns) {
    const struct go_functions *fn = &s->block->library->fn;
    struct go_lent *lent = s->block->lent;
    const struct ext_side *sides = s->block->stream.sides;
    const struct ext_room *request[] = {&sides[EXT_REQUEST].header_room,
                                        &sides[EXT_REQUEST].trailer_room};
    const struct ext_room *response[] = {&sides[EXT_RESPONSE].header_room,
                                         &sides[EXT_RESPONSE].trailer_room};
    const int64_t began_ns = host_seat_begin_call(seat);
    if (log->complete && fn->on_stream_complete)
        fn->on_stream_complete(&lent->request);
    if (fn->on_log_31)
        fn->on_log_31(&lent->request, log->type);
    else
        fn->on_log_32(&lent->request, log->type, &lent->states[0], &lent->states[1],
                      request[0]->count, request[0]->bytes, request[1]->count, request[1]->bytes,
                      response[0]->count, response[0]->bytes, response[1]->count,
                      response[1]->bytes);
    *took_ns = (uint64_t)host_seat_end_call(seat, began_ns);
}

/* Of the maps' sizes, as a callback of its SDK has them. The proxy cannot say: it may have taken another file meanwhile. */
static bool is_told(const struct host_stream *s) {
    return s->block->library->elf.level >= GO_LEVEL_32;
}

/* What is left of the loans at the end is gone, as in process, where their coroutines have left. */
static void open_log_locked(struct host_stream *s, const struct remote_log *log) {
    if (log->type == GO_LOG_END) {
        ext_sides_abandon_locked(stream_of(s));
        s->sides[0].sent = s->sides[1].sent = NULL;
    }
    ext_views_log_locked(stream_of(s), log->maps, is_told(s));
}

static void close_log(struct host_stream *s) {
    struct ext_edit *edits[2];
    ext_stream_close_log(stream_of(s), edits);
    for (int i = 0; i < 2; i++) {
        s->sides[i].sent = NULL;
        ext_edits_free(edits[i]);
    }
}

/* Nobody waits for OnDestroy, but it is a call as others are: it is counted, and it may hang. */
static void tell_ended(struct host_seat *seat, uint64_t number, int64_t took_ns) {
    const struct remote_result result = {
        .number = number, .returned = true, .took_ns = (uint64_t)took_ns};
    char room[256]; /* more than it takes: never grown */
    struct remote_out out = {.data = room, .room = sizeof room};
    remote_put_result(&out, &result);
    ASSERT(out.data == room);
    host_send(seat->host, remote_number_p(number), REMOTE_RESULT, span_make(out.data, out.len),
              span_make("", 0), HOST_BATCHED);
}

static void end(struct host_seat *seat, struct host_stream *s, uint64_t reason) {
    (void)ext_stream_end(stream_of(s));
    const int64_t began_ns = host_seat_begin_call(seat);
    s->block->library->fn.on_destroy(&s->block->lent->request, reason);
    tell_ended(seat, s->number, host_seat_end_call(seat, began_ns));
    go_block_end(s->block, seat->shard);
    put_back(seat, s);
}

void host_stream_log(struct host_seat *seat, const struct remote_log *log) {
    struct host_stream *s = find_or_make(seat, &log->stream);
    struct ext_stream *stream = stream_of(s);
    struct remote_result result = {.returned = true};
    struct ext_past *past = NULL;
    if (log->type == GO_LOG_PERIODIC) {
        past = or_die(ext_past_of(log->maps));
        ext_past_show(stream, past, is_told(s));
    } else {
        ext_lock(stream);
        open_log_locked(s, log);
        ext_unlock(stream);
    }
    call_log(seat, s, log, &result.took_ns);
    ext_lock(stream);
    host_result_send_locked(s, REMOTE_LOGGED, &result, NULL);
    ext_unlock(stream);
    if (past)
        ext_past_hide(stream, past);
    else
        close_log(s);
    ext_past_free(past);
    if (log->ends)
        end(seat, s, log->reason);
}

void host_stream_end(struct host_seat *seat, const struct remote_end *told) {
    struct host_stream *s = find(seat, told->number);
    if (s)
        end(seat, s, told->reason);
    else /* Go has not heard of it */
        tell_ended(seat, told->number, 0);
}
