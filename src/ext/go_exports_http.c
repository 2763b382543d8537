/* go_exports_http: what a Go library may ask of a request.
 *
 * Every function is: keep what Go's address lies in (go_lent.h), lease the block that this has the handle
 * of, take the lock, pass the gates, act on the ext_stream, give all of it up.
 *
 *  - No address is followed before it is known to be lent. Go's collector may finalize the request while
 *    one of its last calls is still in here, its argument being all that is left of it (what
 *    runtime.KeepAlive is for, and the SDK has none): the lease makes Finalize wait for that call.
 *  - The block ends with the exchange, also while a call is at work with it: who has leased it finds
 *    `destroyed` under the lock, who comes later finds no block and is answered by what is left in lent.
 *  - What ends an exchange takes the same lock, so a call sees the exchange's memory or the gate, and
 *    never something in between. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "ext/ext_handles.h"
#include "ext/go_block.h"
#include "ext/go_exports.h"
#include "ext/go_log.h"
#include "ext/go_side.h"
#include "ext/go_stats.h"

/* ---- gates ---- */

struct gate {
    struct loan loan; /* of lent: Go's collector may give it back while we are at work */
    struct go_lent *lent;
    struct go_block *block;    /* leased; NULL when the exchange has ended */
    struct ext_stream *stream; /* locked, when there is a block */
    enum ext_direction direction;
    struct ext_side *side; /* NULL for calls on the request, and without a block */
};

static int leave(struct gate *gate, int code) {
    if (gate->block) {
        ext_unlock(gate->stream);
        handle_release(&ext_handles, gate->lent->block);
    }
    loan_let_go(&go_lent_requests, gate->loan);
    return code;
}

static int stale(struct gate *gate, int code) {
    stat_inc(go_stats.stale_calls, STATS_SHARD_FOREIGN);
    return leave(gate, code);
}

/* What the address lies in, if it is Go's to use: true with the loan kept and, if there still is one, the
 * block leased and its stream locked. */
static bool open_gate(const void *address, struct gate *gate) {
    *gate = (struct gate){.loan = loan_keep(&go_lent_requests, address)};
    gate->lent = gate->loan.memory;
    if (!gate->lent)
        return false;
    gate->block = handle_lease(&ext_handles, gate->lent->block, go_block_key);
    if (gate->block) {
        gate->stream = &gate->block->stream;
        ext_lock(gate->stream);
    }
    return true;
}

/* An address that was given back, or was never lent. */
static int not_lent(void) {
    stat_inc(go_stats.stale_calls, STATS_SHARD_FOREIGN);
    stat_inc(go_stats.stale_handles, STATS_SHARD_FOREIGN);
    return GO_FILTER_IS_GONE;
}

static bool was_in_go(const struct go_process_state *state) {
    int32_t now = atomic_load_explicit(&state->state, memory_order_relaxed);
    return now == GO_PROCESSING_HEADER || now == GO_PROCESSING_DATA || now == GO_PROCESSING_TRAILER;
}

/* Which of the two states it is, is told by where it lies: what is in there is Go's to read, and so
 * maybe to write. 0 with the gate open, or the code to answer. */
static int find_side(const void *s, struct gate *gate) {
    if (!s)
        return GO_NOT_IN_GO;
    if (!open_gate(s, gate))
        return not_lent();
    if (s != &gate->lent->states[EXT_REQUEST] && s != &gate->lent->states[EXT_RESPONSE]) {
        (void)leave(gate, 0);
        return not_lent();
    }
    gate->direction = s == &gate->lent->states[EXT_REQUEST] ? EXT_REQUEST : EXT_RESPONSE;
    if (gate->block)
        gate->side = &gate->stream->sides[gate->direction];
    return GO_OK;
}

/* Is it Go's turn? 0, or the gate is closed and the code is to be answered. */
static int pass_side(struct gate *gate) {
    if (!gate->block)
        return stale(gate, was_in_go(&gate->lent->states[gate->direction]) ? GO_FILTER_IS_DESTROYED
                                                                           : GO_NOT_IN_GO);
    bool logging = gate->stream->logging && gate->block->library->elf.level >= GO_LEVEL_32;
    if (gate->side->phase == EXT_NOT_LENT && !logging)
        return stale(gate, GO_NOT_IN_GO);
    if (gate->stream->destroyed || (gate->side->abandoned && !logging))
        return stale(gate, GO_FILTER_IS_DESTROYED);
    return GO_OK;
}

/* 0 with the lock held, or the code to answer. */
static int enter_side(const void *s, struct gate *gate) {
    int code = find_side(s, gate);
    return code ? code : pass_side(gate);
}

static int enter_request(const void *r, struct gate *gate) {
    if (!r)
        return GO_FILTER_IS_GONE;
    if (!open_gate(r, gate))
        return not_lent();
    if (r != &gate->lent->request) {
        (void)leave(gate, 0);
        return not_lent();
    }
    const struct go_process_state *states = gate->lent->states;
    if (!gate->block)
        return stale(gate, was_in_go(&states[0]) || was_in_go(&states[1]) ? GO_FILTER_IS_DESTROYED
                                                                          : GO_NOT_IN_GO);
    const struct ext_side *sides = gate->stream->sides;
    if (sides[0].phase == EXT_NOT_LENT && sides[1].phase == EXT_NOT_LENT && !gate->stream->logging)
        return stale(gate, GO_NOT_IN_GO);
    if (gate->stream->destroyed)
        return stale(gate, GO_FILTER_IS_DESTROYED);
    return GO_OK;
}

/* A negative length is a plugin's overflow; it is as good as no bytes. */
static struct span input(const void *bytes, int len) {
    return bytes && len > 0 ? span_make(bytes, (size_t)len) : span_make("", 0);
}

static struct span plugin_of(const struct gate *gate) {
    return span_make(gate->lent->request.plugin_name, gate->lent->request.plugin_name_len);
}

/* Lengths are ints at this border. */
static void lend_out(struct span from, uint64_t *value, int *len) {
    *value = (uint64_t)(uintptr_t)from.ptr;
    *len = (int)from.len;
}

/* ---- flow ---- */

/* For what decides about a side. Plugins reply and then continue, or reply again: whether the first
 * reply is on its way already is a race that they cannot see, so the answer is OK either way and
 * nothing happens. (Envoy answers -3 once it is, and the SDK then turns the next callback into a
 * panic's 500, in the middle of the plugin's own reply.) With *decided there is nothing to do, and the
 * gate is open. */
static int enter_to_decide(const void *s, struct gate *gate, bool *decided) {
    *decided = false;
    int code = find_side(s, gate);
    if (code)
        return code;
    *decided = gate->side ? gate->side->replied : gate->lent->replied[gate->direction];
    return *decided ? GO_OK : pass_side(gate);
}

int envoyGoFilterHttpContinue(void *s, int status) {
    struct gate gate;
    bool decided;
    int code = enter_to_decide(s, &gate, &decided);
    if (code)
        return code;
    if (decided)
        return leave(&gate, GO_OK);
    /* One that does not fit is dropped here: waiting in the only slot it would keep out the one that
     * does, which a confused plugin may well post next. */
    if (status >= 0 && go_status_fits(gate.side->phase, (uint64_t)status))
        ext_side_continue_locked(gate.side, status);
    else if (gate.side->phase != EXT_NOT_LENT && status != GO_LOCAL_REPLY)
        LOG(log_golang, LOG_ERROR, "plugin %.*s: Continue(%d) does not fit its phase; ignored",
            (int)plugin_of(&gate).len, plugin_of(&gate).ptr, status);
    return leave(&gate, GO_OK);
}

/* headers: key, value, key, ... as C strings. The list is malloc'ed, NULL when there is none. */
static struct ext_reply_header *reply_headers(void *headers, int strings, size_t *count) {
    char *const *text = headers;
    size_t pairs = strings > 1 && text ? (size_t)strings / 2 : 0;
    struct ext_reply_header *list = pairs ? calloc(pairs, sizeof(*list)) : NULL;
    *count = list ? pairs : 0;
    for (size_t i = 0; i < *count; i++)
        list[i] = (struct ext_reply_header){span_of(text[2 * i]), span_of(text[2 * i + 1])};
    return list;
}

int envoyGoFilterHttpSendLocalReply(void *s, int status, void *body, int body_len, void *headers,
                                    int header_count, long long grpc_status, void *details,
                                    int details_len) {
    struct gate gate;
    bool decided;
    int code = enter_to_decide(s, &gate, &decided);
    if (code)
        return code;
    if (decided)
        return leave(&gate, GO_OK);
    if (status < 200 || status > 599) {
        LOG(log_golang, LOG_ERROR, "plugin %.*s: local reply with status %d becomes 500",
            (int)plugin_of(&gate).len, plugin_of(&gate).ptr, status);
        status = 500;
    }
    size_t count;
    /* borrow-ok: ext_reply_new copies what the list points at, and the list is freed here. */
    struct ext_reply_header *list = reply_headers(headers, header_count, &count);
    unsigned refused = 0;
    struct ext_reply *reply = ext_reply_new((unsigned)status, input(body, body_len),
                                            input(details, details_len), list, count, &refused);
    free(list);
    if (refused) {
        stat_add(go_stats.refused_edits, STATS_SHARD_FOREIGN, refused);
        LOG(log_golang, LOG_DEBUG, "plugin %.*s: %u headers of its local reply left out",
            (int)plugin_of(&gate).len, plugin_of(&gate).ptr, refused);
    }
    if (!reply)
        return leave(&gate, GO_INTERNAL_FAILURE);
    reply->grpc_status = grpc_status;
    ext_side_reply_locked(gate.side, reply);
    return leave(&gate, GO_OK);
}

int envoyGoFilterHttpSendPanicReply(void *s, void *details, int details_len) {
    struct gate gate;
    bool decided;
    int code = enter_to_decide(s, &gate, &decided);
    if (code)
        return code;
    struct span why = input(details, details_len);
    LOG(log_golang, LOG_ERROR, "plugin %.*s panicked: %.*s", (int)plugin_of(&gate).len,
        plugin_of(&gate).ptr, (int)why.len, why.ptr);
    if (decided)
        return leave(&gate, GO_OK);
    unsigned refused = 0;
    struct ext_reply *reply = ext_reply_new(500, SPAN_LIT("error happened in filter\r\n"),
                                            span_none(), NULL, 0, &refused);
    if (!reply)
        return leave(&gate, GO_INTERNAL_FAILURE);
    reply->panic = true;
    reply->grpc_status = 13; /* INTERNAL; Envoy's 0 would read as success */
    ext_side_reply_locked(gate.side, reply);
    return leave(&gate, GO_OK);
}

/* streaming only chooses what a full buffer does; ours are bounded by memory held in all. */
int envoyGoFilterHttpAddData(void *s, void *data, int len, bool streaming) {
    struct gate gate;
    int code = enter_side(s, &gate);
    if (code)
        return code;
    if (gate.side->phase == EXT_BODY || gate.side->phase == EXT_NOT_LENT)
        return leave(&gate, GO_INVALID_PHASE);
    int err = ext_side_add_data_locked(gate.side, input(data, len));
    if (err)
        LOG(log_golang, LOG_ERROR, "plugin %.*s: AddData of %d bytes: %s",
            (int)plugin_of(&gate).len, plugin_of(&gate).ptr, len, strerror(-err));
    return leave(&gate, err ? GO_INTERNAL_FAILURE : GO_OK);
}

/* ---- headers and trailers ---- */

int envoyGoFilterHttpGetHeader(void *s, void *key, int key_len, uint64_t *value, int *value_len) {
    struct gate gate;
    int code = enter_side(s, &gate);
    if (code)
        return code;
    const struct ext_side *side = gate.side;
    /* GetRaw of a trailer map comes here too. */
    bool has_trailers = side->phase == EXT_TRAILERS && side->trailers.entries;
    if (!side->headers.entries && !has_trailers)
        return leave(&gate, GO_INVALID_PHASE);
    struct span name = input(key, key_len), found = span_none();
    if (has_trailers)
        found = ext_side_get_locked(side, true, name);
    if (span_is_none(found) && side->headers.entries) {
        if (side->direction == EXT_REQUEST && span_eq(name, SPAN_LIT("host")))
            name = SPAN_LIT(":authority");
        found = ext_side_get_locked(side, false, name);
    }
    if (!span_is_none(found)) {
        found = go_lent_keep_locked(gate.lent, found);
        if (span_is_none(found))
            return leave(&gate, GO_INTERNAL_FAILURE);
        lend_out(found, value, value_len);
    }
    return leave(&gate, GO_OK);
}

/* Go made room for what was announced and passes no sizes: never write more than that. */
static void copy_map(const struct ext_view *view, const struct ext_room *room,
                     struct go_string *strings, char *bytes) {
    size_t left = room->bytes;
    uint32_t count = view->count < room->count ? view->count : room->count;
    for (uint32_t i = 0; i < count; i++) {
        const struct span parts[2] = {header_name(&view->entries[i]),
                                      header_value(&view->entries[i])};
        if (parts[0].len + parts[1].len > left)
            return;
        for (int k = 0; k < 2; k++) {
            struct go_string *out = &strings[2 * i + (uint32_t)k];
            out->len = (int64_t)parts[k].len;
            out->ptr = parts[k].len ? bytes : NULL;
            if (parts[k].len)
                memcpy(bytes, parts[k].ptr, parts[k].len);
            bytes += parts[k].len;
        }
        left -= parts[0].len + parts[1].len;
    }
}

static int copy_out(void *s, bool trailers, void *strings, void *bytes) {
    struct gate gate;
    int code = enter_side(s, &gate);
    if (code)
        return code;
    const struct ext_view *view = trailers ? &gate.side->trailers : &gate.side->headers;
    if (!view->entries)
        return leave(&gate, GO_INVALID_PHASE);
    copy_map(view, trailers ? &gate.side->trailer_room : &gate.side->header_room, strings, bytes);
    return leave(&gate, GO_OK);
}

int envoyGoFilterHttpCopyHeaders(void *s, void *strings, void *bytes) {
    return copy_out(s, false, strings, bytes);
}

int envoyGoFilterHttpCopyTrailers(void *s, void *strings, void *bytes) {
    return copy_out(s, true, strings, bytes);
}

/* A change that is refused answers OK: the SDK ignores other codes anyway, and the request is better
 * served without the header than not at all. */
static int edit(void *s, bool trailers, enum ext_edit_kind kind, struct span name,
                struct span value) {
    struct gate gate;
    int code = enter_side(s, &gate);
    if (code)
        return code;
    const struct ext_view *view = trailers ? &gate.side->trailers : &gate.side->headers;
    if (!view->entries)
        return leave(&gate, GO_INVALID_PHASE);
    int err = ext_side_edit_locked(gate.side, trailers, kind, name, value);
    if (err) {
        stat_inc(go_stats.refused_edits, STATS_SHARD_FOREIGN);
        LOG(log_golang, LOG_WARN, "plugin %.*s: change of header %.*s refused: %s",
            (int)plugin_of(&gate).len, plugin_of(&gate).ptr, (int)(name.len < 200 ? name.len : 200),
            name.ptr, strerror(-err));
    }
    return leave(&gate, err == -ENOMEM ? GO_INTERNAL_FAILURE : GO_OK);
}

static int set_or_add(void *s, bool trailers, struct span name, struct span value, int action) {
    if (action != GO_HEADER_SET && action != GO_HEADER_ADD)
        return GO_INTERNAL_FAILURE;
    return edit(s, trailers, action == GO_HEADER_SET ? EXT_EDIT_SET : EXT_EDIT_ADD, name, value);
}

int envoyGoFilterHttpSetHeaderHelper(void *s, void *key, int key_len, void *value, int value_len,
                                     int action) {
    return set_or_add(s, false, input(key, key_len), input(value, value_len), action);
}

int envoyGoFilterHttpRemoveHeader(void *s, void *key, int key_len) {
    return edit(s, false, EXT_EDIT_REMOVE, input(key, key_len), span_none());
}

int envoyGoFilterHttpSetTrailer(void *s, void *key, int key_len, void *value, int value_len,
                                int action) {
    return set_or_add(s, true, input(key, key_len), input(value, value_len), action);
}

int envoyGoFilterHttpRemoveTrailer(void *s, void *key, int key_len) {
    return edit(s, true, EXT_EDIT_REMOVE, input(key, key_len), span_none());
}

/* ---- body ---- */

static int enter_buffer(void *s, uint64_t handle, struct gate *gate, struct ext_buffer **out) {
    int code = enter_side(s, gate);
    if (code)
        return code;
    *out = ext_side_buffer_locked(gate->side, handle);
    if (*out)
        return GO_OK;
    stat_inc(go_stats.stale_handles, STATS_SHARD_FOREIGN);
    return leave(gate, GO_INVALID_PHASE);
}

/* Go's room is the length it was told and has kept by the same arithmetic since. */
int envoyGoFilterHttpGetBuffer(void *s, uint64_t handle, void *out) {
    struct gate gate;
    struct ext_buffer *buffer;
    int code = enter_buffer(s, handle, &gate, &buffer);
    if (code)
        return code;
    if (buffer->len)
        memcpy(out, buffer->data, buffer->len);
    return leave(&gate, GO_OK);
}

int envoyGoFilterHttpDrainBuffer(void *s, uint64_t handle, uint64_t n) {
    struct gate gate;
    struct ext_buffer *buffer;
    int code = enter_buffer(s, handle, &gate, &buffer);
    if (code)
        return code;
    ext_buffer_drain(buffer, n);
    return leave(&gate, GO_OK);
}

int envoyGoFilterHttpSetBufferHelper(void *s, uint64_t handle, void *data, int len, int action) {
    struct gate gate;
    struct ext_buffer *buffer;
    int code = enter_buffer(s, handle, &gate, &buffer);
    if (code)
        return code;
    struct span bytes = input(data, len);
    int err = -EINVAL;
    if (action == GO_BUFFER_SET)
        err = ext_buffer_set(buffer, bytes);
    else if (action == GO_BUFFER_APPEND)
        err = ext_buffer_append(buffer, bytes);
    else if (action == GO_BUFFER_PREPEND)
        err = ext_buffer_prepend(buffer, bytes);
    return leave(&gate, err ? GO_INTERNAL_FAILURE : GO_OK);
}

/* ---- the request ---- */

/* Callers older than 1.33 leave the refresh register to chance. */
int envoyGoFilterHttpClearRouteCache(void *r, bool refresh) {
    struct gate gate;
    int code = enter_request(r, &gate);
    if (code)
        return code;
    ext_stream_clear_route_locked(gate.stream,
                                  gate.block->library->elf.level >= GO_LEVEL_33 && refresh);
    return leave(&gate, GO_OK);
}

static struct span text_value(const struct ext_info *info, int id) {
    switch (id) {
    case GO_VALUE_ROUTE_NAME: /* these two are never absent */
        return span_is_none(info->route_name) ? span_make("", 0) : info->route_name;
    case GO_VALUE_FILTER_CHAIN_NAME:
        return span_is_none(info->filter_chain) ? span_make("", 0) : info->filter_chain;
    case GO_VALUE_RESPONSE_CODE_DETAILS:
        return info->details;
    case GO_VALUE_DOWNSTREAM_LOCAL:
        return info->downstream_local;
    case GO_VALUE_DOWNSTREAM_REMOTE:
        return info->downstream_remote;
    case GO_VALUE_UPSTREAM_LOCAL:
        return info->upstream_local;
    case GO_VALUE_UPSTREAM_REMOTE:
        return info->upstream_remote;
    case GO_VALUE_UPSTREAM_CLUSTER:
        return info->upstream_cluster;
    default: /* virtual clusters are not configurable yet; other ids are not text */
        return span_none();
    }
}

int envoyGoFilterHttpGetStringValue(void *r, int id, uint64_t *value, int *value_len) {
    struct gate gate;
    int code = enter_request(r, &gate);
    if (code)
        return code;
    struct span text = text_value(&gate.stream->info, id);
    if (span_is_none(text))
        return leave(&gate, GO_VALUE_NOT_FOUND);
    text = go_lent_value_locked(gate.lent, text);
    if (span_is_none(text))
        return leave(&gate, GO_VALUE_NOT_FOUND);
    lend_out(text, value, value_len);
    return leave(&gate, GO_OK);
}

int envoyGoFilterHttpGetIntegerValue(void *r, int id, uint64_t *value) {
    struct gate gate;
    int code = enter_request(r, &gate);
    if (code)
        return code;
    const struct ext_info *info = &gate.stream->info;
    if (id == GO_VALUE_PROTOCOL)
        *value = info->protocol;
    else if (id == GO_VALUE_RESPONSE_CODE && info->response_code)
        *value = info->response_code;
    else if (id == GO_VALUE_ATTEMPT_COUNT && info->upstream_attempts)
        *value = info->upstream_attempts;
    else
        code = GO_VALUE_NOT_FOUND;
    return leave(&gate, code);
}

void envoyGoFilterHttpFinalize(void *r, int reason) {
    go_lent_finalize(&go_lent_requests, r);
}
