/* remote_wire: of what messages consist, for who writes and reads them (remote_message.c, remote_call.c,
 * remote_peer_message.c): numbers in the machine's byte order, texts with their length, header maps. Writing goes on after
 * memory was short, into nothing, and so does reading after the record's end, from nothing: who calls asks once, at the
 * end. Readers of both sides are the same code, so what the proxy must not trust is checked everywhere. */
#pragma once
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "ext/remote/remote_message.h"

/* ---- writing ---- */

static inline void grow(struct remote_out *out, size_t more) {
    size_t room = out->room ? out->room : 1024;
    while (room - out->len < more)
        room *= 2;
    char *data = realloc(out->data, room);
    if (!data) {
        out->failed = true;
        return;
    }
    out->data = data;
    out->room = room;
}

static inline void put(struct remote_out *out, const void *bytes, size_t len) {
    if (out->room - out->len < len)
        grow(out, len);
    if (out->failed || len == 0)
        return;
    memcpy(out->data + out->len, bytes, len);
    out->len += len;
}

static inline void put_8(struct remote_out *out, uint8_t value) {
    put(out, &value, sizeof value);
}
static inline void put_32(struct remote_out *out, uint32_t value) {
    put(out, &value, sizeof value);
}
static inline void put_64(struct remote_out *out, uint64_t value) {
    put(out, &value, sizeof value);
}

/* What borders of ours cannot have is refused before (EXT_BUFFER_BYTES_MAX, EXT_EDIT_BYTES_MAX). */
static inline void put_text(struct remote_out *out, struct span text) {
    ASSERT(text.len <= UINT32_MAX);
    put_32(out, (uint32_t)text.len);
    put(out, text.ptr, text.len);
}

enum { NO_MAP = UINT32_MAX };

/* A name that both sides know goes by its number. */
static inline void put_map(struct remote_out *out, const struct ext_view *view) {
    put_32(out, view->entries ? view->count : NO_MAP);
    for (uint32_t i = 0; view->entries && i < view->count; i++) {
        const struct header *entry = &view->entries[i];
        put_8(out, (uint8_t)entry->id);
        if (entry->id == HDR_OTHER)
            put_text(out, header_name(entry));
        put_text(out, header_value(entry));
    }
}

/* ---- reading ---- */

static inline const void *take(struct remote_in *in, size_t len) {
    const char *at = in->at;
    if (len > in->left) {
        in->bad = true;
        return NULL;
    }
    in->at += len;
    in->left -= len;
    return at;
}

static inline uint8_t take_8(struct remote_in *in) {
    uint8_t value = 0;
    const void *at = take(in, sizeof value);
    if (at)
        memcpy(&value, at, sizeof value);
    return value;
}
static inline uint32_t take_32(struct remote_in *in) {
    uint32_t value = 0;
    const void *at = take(in, sizeof value);
    if (at)
        memcpy(&value, at, sizeof value);
    return value;
}
static inline uint64_t take_64(struct remote_in *in) {
    uint64_t value = 0;
    const void *at = take(in, sizeof value);
    if (at)
        memcpy(&value, at, sizeof value);
    return value;
}

static inline struct span take_text(struct remote_in *in) {
    uint32_t len = take_32(in);
    const char *at = take(in, len);
    return at ? span_make(at, len) : span_make("", 0);
}

/* Up to and with max. */
static inline uint8_t take_enum(struct remote_in *in, uint8_t min, uint8_t max) {
    uint8_t value = take_8(in);
    if (value < min || value > max) {
        in->bad = true;
        return min;
    }
    return value;
}

static inline bool take_bool(struct remote_in *in) {
    return take_enum(in, 0, 1) != 0;
}

/* Room for the entries of all maps of a record. */
struct entries {
    struct header *at;
    uint32_t left;
};

static inline void take_map(struct remote_in *in, struct entries *room, struct ext_view *view) {
    static const struct header none;
    *view = (struct ext_view){0};
    uint32_t count = take_32(in);
    if (in->bad || count == NO_MAP)
        return;
    if (count > room->left) {
        in->bad = true;
        return;
    }
    struct header *entries = room->at;
    for (uint32_t i = 0; i < count && !in->bad; i++) {
        enum header_id id = (enum header_id)take_enum(in, HDR_OTHER, HDR_COUNT - 1);
        struct span name = id == HDR_OTHER ? take_text(in) : header_name_of(id);
        struct span value = take_text(in);
        in->bad |= name.len > HEADER_NAME_MAX;
        entries[i] = header_make(id, name, value);
        view->bytes += name.len + value.len;
    }
    view->entries = count ? entries : &none;
    view->count = count;
    room->at += count;
    room->left -= count;
}

static inline struct remote_in reading(struct span record) {
    return (struct remote_in){.at = record.ptr, .left = record.len};
}

/* All of it was used, and made sense. */
static inline int done(const struct remote_in *in) {
    return in->bad || in->left ? -EPROTO : 0;
}
