/* go_exports_http: what a Go library may do with the messages of a request. go_gate.c says what each call goes
 * through first. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "ext/go/go_copy_out.h"
#include "ext/go/go_exports.h"
#include "ext/go/go_gate.h"
#include "ext/go/go_log.h"
#include "ext/go/go_side.h"
#include "ext/go/go_stats.h"

/* ---- flow ---- */

/* For what decides about a side. Plugins reply and then continue, or reply again: whether the first
 * reply is on its way already is a race that they cannot see, so the answer is OK either way and
 * nothing happens. (Envoy answers -3 once it is, and the SDK then turns the next callback into a
 * panic's 500, in the middle of the plugin's own reply.) With *decided there is nothing to do, and the
 * gate is open. */
static int enter_to_decide(const void *s, struct go_gate *gate, bool *decided) {
    *decided = false;
    int code = go_gate_find_side(s, gate);
    if (code)
        return code;
    *decided = gate->side ? gate->side->replied : gate->lent->replied[gate->direction];
    return *decided ? GO_OK : go_gate_pass_side(gate);
}

int envoyGoFilterHttpContinue(void *s, int status) {
    struct go_gate gate;
    bool decided;
    int code = enter_to_decide(s, &gate, &decided);
    if (code)
        return code;
    if (decided)
        return go_gate_leave(&gate, GO_OK);
    /* One that does not fit is dropped here: waiting in the only slot it would keep out the one that
     * does, which a confused plugin may well post next. */
    if (status >= 0 && go_status_fits(gate.side->phase, (uint64_t)status))
        ext_side_continue_locked(gate.side, status);
    else if (gate.side->phase != EXT_NOT_LENT && status != GO_LOCAL_REPLY)
        LOG(log_golang, LOG_ERROR, "plugin %.*s: Continue(%d) does not fit its phase; ignored",
            (int)go_gate_plugin(&gate).len, go_gate_plugin(&gate).ptr, status);
    go_gate_decided(&gate);
    return go_gate_leave(&gate, GO_OK);
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
    struct go_gate gate;
    bool decided;
    int code = enter_to_decide(s, &gate, &decided);
    if (code)
        return code;
    if (decided)
        return go_gate_leave(&gate, GO_OK);
    if (status < 200 || status > 599) {
        LOG(log_golang, LOG_ERROR, "plugin %.*s: local reply with status %d becomes 500",
            (int)go_gate_plugin(&gate).len, go_gate_plugin(&gate).ptr, status);
        status = 500;
    }
    size_t count;
    /* borrow-ok: ext_reply_new copies what the list points at, and the list is freed here. */
    struct ext_reply_header *list = reply_headers(headers, header_count, &count);
    unsigned refused = 0;
    struct ext_reply *reply =
        ext_reply_new((unsigned)status, go_gate_input(body, body_len),
                      go_gate_input(details, details_len), list, count, &refused);
    free(list);
    if (refused) {
        go_stats_count(GO_REFUSED_EDITS, refused);
        LOG(log_golang, LOG_DEBUG, "plugin %.*s: %u headers of its local reply left out",
            (int)go_gate_plugin(&gate).len, go_gate_plugin(&gate).ptr, refused);
    }
    if (!reply)
        return go_gate_leave(&gate, GO_INTERNAL_FAILURE);
    reply->grpc_status = grpc_status;
    gate.block->counts.local_replies++;
    gate.block->counts.body_bytes_from_go += reply->body.len;
    ext_side_reply_locked(gate.side, reply);
    go_gate_decided(&gate);
    return go_gate_leave(&gate, GO_OK);
}

int envoyGoFilterHttpSendPanicReply(void *s, void *details, int details_len) {
    struct go_gate gate;
    bool decided;
    int code = enter_to_decide(s, &gate, &decided);
    if (code)
        return code;
    struct span why = go_gate_input(details, details_len);
    LOG(log_golang, LOG_ERROR, "plugin %.*s panicked: %.*s", (int)go_gate_plugin(&gate).len,
        go_gate_plugin(&gate).ptr, (int)why.len, why.ptr);
    if (gate.block)
        gate.block->counts.panics++;
    if (decided)
        return go_gate_leave(&gate, GO_OK);
    unsigned refused = 0;
    struct ext_reply *reply = ext_reply_new(500, SPAN_LIT("error happened in filter\r\n"),
                                            span_none(), NULL, 0, &refused);
    if (!reply)
        return go_gate_leave(&gate, GO_INTERNAL_FAILURE);
    reply->panic = true;
    reply->grpc_status = 13; /* INTERNAL; Envoy's 0 would read as success */
    ext_side_reply_locked(gate.side, reply);
    go_gate_decided(&gate);
    return go_gate_leave(&gate, GO_OK);
}

/* streaming only chooses what a full buffer does; ours are bounded by memory held in all. */
int envoyGoFilterHttpAddData(void *s, void *data, int len, bool streaming) {
    struct go_gate gate;
    int code = go_gate_side(s, &gate);
    if (code)
        return code;
    if (gate.side->phase == EXT_BODY || gate.side->phase == EXT_NOT_LENT)
        return go_gate_leave(&gate, GO_INVALID_PHASE);
    int err = ext_side_add_data_locked(gate.side, go_gate_input(data, len));
    if (err)
        LOG(log_golang, LOG_ERROR, "plugin %.*s: AddData of %d bytes: %s",
            (int)go_gate_plugin(&gate).len, go_gate_plugin(&gate).ptr, len, strerror(-err));
    else
        gate.block->counts.body_bytes_from_go += go_gate_input(data, len).len;
    return go_gate_leave(&gate, err ? GO_INTERNAL_FAILURE : GO_OK);
}

/* ---- headers and trailers ---- */

int envoyGoFilterHttpGetHeader(void *s, void *key, int key_len, uint64_t *value, int *value_len) {
    struct go_gate gate;
    int code = go_gate_side(s, &gate);
    if (code)
        return code;
    const struct ext_side *side = gate.side;
    /* GetRaw of a trailer map comes here too. */
    bool has_trailers = side->phase == EXT_TRAILERS && side->trailers.entries;
    if (!side->headers.entries && !has_trailers)
        return go_gate_leave(&gate, GO_INVALID_PHASE);
    struct span name = go_gate_input(key, key_len), found = span_none();
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
            return go_gate_leave(&gate, GO_INTERNAL_FAILURE);
        go_gate_lend_out(found, value, value_len);
        gate.block->counts.header_bytes_to_go += found.len;
    }
    return go_gate_leave(&gate, GO_OK);
}

/* Go made room for what it was told and passes no sizes: never write more than that. How many bytes. */
static size_t copy_map(const struct ext_view *view, const struct ext_room *room,
                       struct go_string *strings, char *bytes) {
    size_t left = room->bytes;
    uint32_t count = view->count < room->count ? view->count : room->count;
    for (uint32_t i = 0; i < count; i++) {
        const struct span parts[2] = {header_name(&view->entries[i]),
                                      header_value(&view->entries[i])};
        if (parts[0].len + parts[1].len > left)
            break;
        for (int k = 0; k < 2; k++) {
            const struct go_string out = {.ptr = parts[k].len ? bytes : NULL,
                                          .len = (int64_t)parts[k].len};
            go_copy_out(&strings[2 * i + (uint32_t)k], &out, sizeof out);
            if (parts[k].len)
                go_copy_out(bytes, parts[k].ptr, parts[k].len);
            bytes += parts[k].len;
        }
        left -= parts[0].len + parts[1].len;
    }
    return room->bytes - left;
}

static int copy_out(void *s, bool trailers, void *strings, void *bytes) {
    struct go_gate gate;
    int code = go_gate_side(s, &gate);
    if (code)
        return code;
    const struct ext_view *view = trailers ? &gate.side->trailers : &gate.side->headers;
    if (!view->entries)
        return go_gate_leave(&gate, GO_INVALID_PHASE);
    struct ext_room *room = trailers ? &gate.side->trailer_room : &gate.side->header_room;
    /* A log in between has a map of its own, which knows nothing of what was changed through the lent one. */
    if (__builtin_expect(!trailers && gate.stream->aside, false))
        view = &gate.stream->aside[gate.direction][0];
    struct go_counts *counts = &gate.block->counts;
    counts->header_copies++;
    counts->header_bytes_to_go += copy_map(view, room, strings, bytes);
    ext_room_filled(room);
    return go_gate_leave(&gate, GO_OK);
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
    struct go_gate gate;
    int code = go_gate_side(s, &gate);
    if (code)
        return code;
    const struct ext_view *view = trailers ? &gate.side->trailers : &gate.side->headers;
    if (!view->entries)
        return go_gate_leave(&gate, GO_INVALID_PHASE);
    int err = ext_side_edit_locked(gate.side, trailers, kind, name, value);
    if (err) {
        go_stats_count(GO_REFUSED_EDITS, 1);
        LOG(log_golang, LOG_WARN, "plugin %.*s: change of header %.*s refused: %s",
            (int)go_gate_plugin(&gate).len, go_gate_plugin(&gate).ptr,
            (int)(name.len < 200 ? name.len : 200), name.ptr, strerror(-err));
    } else {
        gate.block->counts.header_bytes_from_go += name.len + value.len;
    }
    return go_gate_leave(&gate, err == -ENOMEM ? GO_INTERNAL_FAILURE : GO_OK);
}

static int set_or_add(void *s, bool trailers, struct span name, struct span value, int action) {
    if (action != GO_HEADER_SET && action != GO_HEADER_ADD)
        return GO_INTERNAL_FAILURE;
    return edit(s, trailers, action == GO_HEADER_SET ? EXT_EDIT_SET : EXT_EDIT_ADD, name, value);
}

int envoyGoFilterHttpSetHeaderHelper(void *s, void *key, int key_len, void *value, int value_len,
                                     int action) {
    return set_or_add(s, false, go_gate_input(key, key_len), go_gate_input(value, value_len),
                      action);
}

int envoyGoFilterHttpRemoveHeader(void *s, void *key, int key_len) {
    return edit(s, false, EXT_EDIT_REMOVE, go_gate_input(key, key_len), span_none());
}

int envoyGoFilterHttpSetTrailer(void *s, void *key, int key_len, void *value, int value_len,
                                int action) {
    return set_or_add(s, true, go_gate_input(key, key_len), go_gate_input(value, value_len),
                      action);
}

int envoyGoFilterHttpRemoveTrailer(void *s, void *key, int key_len) {
    return edit(s, true, EXT_EDIT_REMOVE, go_gate_input(key, key_len), span_none());
}

/* ---- body ---- */

static int enter_buffer(void *s, uint64_t handle, struct go_gate *gate, struct ext_buffer **out) {
    int code = go_gate_side(s, gate);
    if (code)
        return code;
    *out = ext_side_buffer_locked(gate->side, handle);
    if (*out) {
        (*out)->looked_at = true;
        return GO_OK;
    }
    go_stats_count(GO_STALE_HANDLES, 1);
    return go_gate_leave(gate, GO_INVALID_PHASE);
}

/* 0 once its bytes are here. */
static int look(const struct go_gate *gate, struct ext_buffer *buffer) {
    struct ext_far *far = go_gate_far(gate);
    return far ? far->itab->look(far, gate->side, buffer) : ext_buffer_look(buffer);
}

static int change(const struct go_gate *gate, struct ext_buffer *buffer,
                  enum go_buffer_action action, struct span bytes) {
    struct ext_far *far = go_gate_far(gate);
    if (far)
        return far->itab->change(far, gate->side, buffer, (enum remote_buffer_action)action, bytes,
                                 0);
    return action == GO_BUFFER_SET      ? ext_buffer_set(buffer, bytes)
           : action == GO_BUFFER_APPEND ? ext_buffer_append(buffer, bytes)
                                        : ext_buffer_prepend(buffer, bytes);
}

/* Go's room is the length it was told and has kept by the same arithmetic since. */
int envoyGoFilterHttpGetBuffer(void *s, uint64_t handle, void *out) {
    struct go_gate gate;
    struct ext_buffer *buffer;
    int code = enter_buffer(s, handle, &gate, &buffer);
    if (code)
        return code;
    if (look(&gate, buffer) != 0)
        return go_gate_leave(&gate, GO_INTERNAL_FAILURE);
    if (buffer->len)
        go_copy_out(out, buffer->data, buffer->len);
    gate.block->counts.body_bytes_to_go += buffer->len;
    return go_gate_leave(&gate, GO_OK);
}

int envoyGoFilterHttpDrainBuffer(void *s, uint64_t handle, uint64_t n) {
    struct go_gate gate;
    struct ext_buffer *buffer;
    int code = enter_buffer(s, handle, &gate, &buffer);
    if (code)
        return code;
    struct ext_far *far = go_gate_far(&gate);
    if (far)
        (void)far->itab->change(far, gate.side, buffer, REMOTE_BUFFER_DRAIN, span_make("", 0), n);
    else
        ext_buffer_drain(buffer, n);
    return go_gate_leave(&gate, GO_OK);
}

int envoyGoFilterHttpSetBufferHelper(void *s, uint64_t handle, void *data, int len, int action) {
    struct go_gate gate;
    struct ext_buffer *buffer;
    int code = enter_buffer(s, handle, &gate, &buffer);
    if (code)
        return code;
    struct span bytes = go_gate_input(data, len);
    int err = action >= GO_BUFFER_SET && action <= GO_BUFFER_PREPEND
                  ? change(&gate, buffer, (enum go_buffer_action)action, bytes)
                  : -EINVAL;
    if (!err)
        gate.block->counts.body_bytes_from_go += bytes.len;
    return go_gate_leave(&gate, err ? GO_INTERNAL_FAILURE : GO_OK);
}
