/* ext_edit: header changes that foreign code asks for and the exchange's coroutine applies, and the
 * headers of its replies. All checks are made when the change is asked for, so that a bad one is
 * refused where it came from and what is applied is known to be fit for the wire. */
#include <errno.h>
#include <stdlib.h>

#include "ext/ext_stream.h"

/* Headers that hold one value on Envoy: adding joins with a comma. */
static const uint64_t single_valued =
    1ull << HDR_METHOD | 1ull << HDR_PATH | 1ull << HDR_AUTHORITY | 1ull << HDR_SCHEME |
    1ull << HDR_STATUS | 1ull << HDR_PROTOCOL | 1ull << HDR_CONNECTION | 1ull << HDR_KEEP_ALIVE |
    1ull << HDR_PROXY_CONNECTION | 1ull << HDR_TE | 1ull << HDR_TRANSFER_ENCODING |
    1ull << HDR_UPGRADE | 1ull << HDR_CONTENT_LENGTH | 1ull << HDR_CONTENT_TYPE |
    1ull << HDR_EXPECT | 1ull << HDR_VIA | 1ull << HDR_USER_AGENT | 1ull << HDR_GRPC_STATUS |
    1ull << HDR_GRPC_MESSAGE | 1ull << HDR_GRPC_TIMEOUT | 1ull << HDR_X_REQUEST_ID |
    1ull << HDR_X_FORWARDED_FOR | 1ull << HDR_X_FORWARDED_PROTO | 1ull << HDR_X_FORWARDED_HOST |
    1ull << HDR_X_FORWARDED_PORT | 1ull << HDR_X_FORWARDED_CLIENT_CERT |
    1ull << HDR_X_ENVOY_EXTERNAL_ADDRESS | 1ull << HDR_X_ENVOY_INTERNAL |
    1ull << HDR_X_ENVOY_ORIGINAL_PATH | 1ull << HDR_X_ENVOY_EXPECTED_RQ_TIMEOUT_MS |
    1ull << HDR_X_ENVOY_UPSTREAM_SERVICE_TIME | 1ull << HDR_X_ENVOY_UPSTREAM_RQ_TIMEOUT_MS |
    1ull << HDR_X_ENVOY_ATTEMPT_COUNT | 1ull << HDR_X_ENVOY_DECORATOR_OPERATION;

static const uint64_t request_pseudo = 1ull << HDR_METHOD | 1ull << HDR_PATH |
                                       1ull << HDR_AUTHORITY | 1ull << HDR_SCHEME |
                                       1ull << HDR_PROTOCOL;
static const uint64_t response_pseudo = 1ull << HDR_STATUS;
/* Without these there is no message to send on. */
static const uint64_t mandatory = 1ull << HDR_METHOD | 1ull << HDR_PATH | 1ull << HDR_AUTHORITY |
                                  1ull << HDR_SCHEME | 1ull << HDR_STATUS;
/* Of a reply: framing and the connection are ours. */
static const uint64_t framing = 1ull << HDR_CONNECTION | 1ull << HDR_KEEP_ALIVE |
                                1ull << HDR_PROXY_CONNECTION | 1ull << HDR_TE |
                                1ull << HDR_TRAILER | 1ull << HDR_TRANSFER_ENCODING |
                                1ull << HDR_UPGRADE | 1ull << HDR_CONTENT_LENGTH | 1ull << HDR_HOST;

static bool id_in(uint64_t set, enum header_id id) {
    return id != HDR_OTHER && (set >> id & 1) != 0;
}

static void lower(char *out, struct span in) {
    for (size_t i = 0; i < in.len; i++)
        out[i] = in.ptr[i] >= 'A' && in.ptr[i] <= 'Z' ? (char)(in.ptr[i] + 32) : in.ptr[i];
}

/* Pseudo headers become parts of a start line, so a blank in them is as bad as a line end. */
static bool pseudo_value_is_valid(enum header_id id, struct span value) {
    if (value.len == 0)
        return false;
    for (size_t i = 0; i < value.len; i++)
        if ((unsigned char)value.ptr[i] <= ' ' || value.ptr[i] == 0x7f)
            return false;
    if (id != HDR_STATUS)
        return true;
    uint64_t status;
    return value.len == 3 && span_to_u64(value, &status) && status >= 200 && status <= 599;
}

static bool edit_is_valid(const struct ext_side *side, bool trailers, enum ext_edit_kind kind,
                          enum header_id id, struct span name, struct span value) {
    if (name.len > 0 && name.ptr[0] == ':') {
        uint64_t pseudo = side->direction == EXT_REQUEST ? request_pseudo : response_pseudo;
        if (trailers || !id_in(pseudo, id))
            return false;
        return kind == EXT_EDIT_REMOVE ? !id_in(mandatory, id) : pseudo_value_is_valid(id, value);
    }
    if (!header_name_is_valid(name))
        return false;
    return kind == EXT_EDIT_REMOVE || header_value_is_valid(value);
}

int ext_side_edit_locked(struct ext_side *side, bool trailers, enum ext_edit_kind kind,
                         struct span name, struct span value) {
    if (side->headers_late && !trailers)
        return 0;
    if (kind == EXT_EDIT_REMOVE)
        value = span_make("", 0);
    if (name.len > EXT_EDIT_BYTES_MAX || value.len > EXT_EDIT_BYTES_MAX ||
        side->edit_count >= EXT_EDITS_MAX ||
        name.len + value.len > EXT_EDIT_BYTES_MAX - side->edit_bytes)
        return -E2BIG;
    if (side->direction == EXT_REQUEST && !trailers && span_eq_nocase(name, SPAN_LIT("host")))
        name = SPAN_LIT(":authority");
    struct ext_edit *edit = malloc(sizeof(*edit) + name.len + value.len);
    if (!edit)
        return -ENOMEM;
    *edit = (struct ext_edit){.kind = kind,
                              .trailers = trailers,
                              .name_len = (uint32_t)name.len,
                              .value_len = (uint32_t)value.len};
    lower(edit->bytes, name);
    if (value.len)
        memcpy(edit->bytes + name.len, value.ptr, value.len);
    struct span own_name = span_make(edit->bytes, name.len);
    struct span own_value = span_make(edit->bytes + name.len, value.len);
    if (!edit_is_valid(side, trailers, kind, header_id_of(own_name), own_name, own_value)) {
        free(edit);
        return -EINVAL;
    }
    if (side->last_edit)
        side->last_edit->next = edit;
    else
        side->edits = edit;
    side->last_edit = edit;
    side->edit_count++;
    side->edit_bytes += name.len + value.len;
    return 0;
}

struct span ext_side_get_locked(const struct ext_side *side, bool trailers, struct span name) {
    const struct ext_view *view = trailers ? &side->trailers : &side->headers;
    struct span value = span_none();
    for (uint32_t i = 0; i < view->count && span_is_none(value); i++)
        if (span_eq(header_name(&view->entries[i]), name))
            value = header_value(&view->entries[i]);
    for (const struct ext_edit *edit = side->edits; edit; edit = edit->next) {
        if (edit->trailers != trailers || !span_eq(span_make(edit->bytes, edit->name_len), name))
            continue;
        struct span edited = span_make(edit->bytes + edit->name_len, edit->value_len);
        if (edit->kind == EXT_EDIT_REMOVE)
            value = span_none();
        else if (edit->kind == EXT_EDIT_SET || span_is_none(value))
            value = edited;
    }
    return value;
}

static int edit_apply(const struct ext_edit *edit, struct header_map *map) {
    struct span name = span_make(edit->bytes, edit->name_len);
    enum header_id id = header_id_of(name);
    if (edit->kind == EXT_EDIT_REMOVE) {
        (void)header_remove(map, id, name); /* how many there were does not matter */
        return 0;
    }
    name = id == HDR_OTHER ? arena_copy(map->arena, name) : header_name_of(id);
    struct span value =
        arena_copy(map->arena, span_make(edit->bytes + edit->name_len, edit->value_len));
    if (span_is_none(name) || span_is_none(value))
        return -ENOMEM;
    if (edit->kind == EXT_EDIT_SET)
        return header_set(map, id, name, value);
    return id_in(single_valued, id) ? header_append(map, id, name, value)
                                    : header_add(map, id, name, value);
}

int ext_edits_apply(const struct ext_edit *edits, enum ext_direction direction,
                    struct header_map *headers, struct header_map *trailers) {
    for (const struct ext_edit *edit = edits; edit; edit = edit->next) {
        struct header_map *map = edit->trailers ? trailers : headers;
        int err = map ? edit_apply(edit, map) : 0;
        if (err == -ENOMEM)
            return err; /* -EINVAL cannot be: checked when it was queued. -E2BIG drops one header */
    }
    return 0;
}

/* One allocation: the struct, its header array, then all bytes. */
struct ext_reply *ext_reply_new(unsigned status, struct span body, struct span details,
                                const struct ext_reply_header *headers, size_t count,
                                unsigned *refused) {
    size_t bytes = body.len + details.len;
    if (count > HEADER_COUNT_MAX) {
        *refused += (unsigned)(count - HEADER_COUNT_MAX);
        count = HEADER_COUNT_MAX;
    }
    for (size_t i = 0; i < count; i++)
        bytes += headers[i].name.len + headers[i].value.len;
    struct ext_reply *reply = malloc(sizeof(*reply) + count * sizeof(struct header) + bytes);
    if (!reply)
        return NULL;
    *reply = (struct ext_reply){.status = status, .headers = (struct header *)(reply + 1)};
    char *at = (char *)(reply->headers + count);
    reply->body = span_make(at, body.len);
    if (body.len)
        memcpy(at, body.ptr, body.len);
    at += body.len;
    reply->details = span_make(at, details.len);
    if (details.len)
        memcpy(at, details.ptr, details.len);
    at += details.len;
    for (size_t i = 0; i < count; i++) {
        struct span name = span_make(at, headers[i].name.len);
        lower(at, headers[i].name);
        at += name.len;
        struct span value = span_make(at, headers[i].value.len);
        if (value.len)
            memcpy(at, headers[i].value.ptr, value.len);
        at += value.len;
        enum header_id id = header_id_of(name);
        if (!header_name_is_valid(name) || !header_value_is_valid(value) || id_in(framing, id)) {
            ++*refused;
            continue;
        }
        reply->headers[reply->header_count++] = header_make(id, name, value);
    }
    return reply;
}

void ext_reply_free(struct ext_reply *reply) {
    free(reply);
}
