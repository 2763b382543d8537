#include "proxy/local_reply.h"

#include <errno.h>
#include <stdio.h>

#include "http/status.h"

int local_reply_copy(struct arena *arena, const struct local_reply *reply,
                     struct local_reply *out) {
    *out = *reply;
    out->body = arena_copy(arena, reply->body);
    out->details = reply->details.len ? arena_copy(arena, reply->details) : span_none();
    struct header *headers = arena_alloc(arena, (reply->header_count + 1) * sizeof *headers);
    if (!headers || (reply->body.len && span_is_none(out->body)) ||
        (reply->details.len && span_is_none(out->details)))
        return -ENOMEM;
    for (size_t i = 0; i < reply->header_count; i++) {
        const struct header *from = &reply->headers[i];
        struct span name = arena_copy(arena, header_name(from));
        struct span value = arena_copy(arena, header_value(from));
        if (span_is_none(name) || span_is_none(value))
            return -ENOMEM;
        headers[i] = header_make((enum header_id)from->id, name, value);
    }
    out->headers = headers;
    return 0;
}

/* grpc-message: percent-encoding of bytes outside 0x20..0x7e and of '%'. */
static struct span grpc_message(struct arena *arena, struct span text) {
    static const char digits[] = "0123456789ABCDEF";
    char *out = arena_alloc(arena, text.len * 3 + 1);
    if (!out)
        return span_none();
    size_t n = 0;
    for (size_t i = 0; i < text.len; i++) {
        unsigned char c = (unsigned char)text.ptr[i];
        if (c >= 0x20 && c <= 0x7e && c != '%') {
            out[n++] = (char)c;
            continue;
        }
        out[n++] = '%';
        out[n++] = digits[c >> 4];
        out[n++] = digits[c & 15];
    }
    return span_make(out, n);
}

static int set_number(struct exchange *x, enum header_id id, int64_t number) {
    struct span text = number >= 0 ? arena_decimal(&x->arena, (uint64_t)number)
                                   : arena_printf(&x->arena, "%lld", (long long)number);
    return span_is_none(text) ? -ENOMEM : header_set_id(&x->response.headers, id, text);
}

/* The filter's own fields are added, not set; a bad one is left out rather than sent. */
static int add_headers(struct exchange *x, const struct local_reply *reply) {
    for (size_t i = 0; i < reply->header_count; i++) {
        const struct header *h = &reply->headers[i];
        if (h->value_len == 0)
            continue;
        struct span name = header_name(h);
        int rc = header_add(&x->response.headers, header_id_of(name), name, header_value(h));
        if (rc != 0 && rc != -EINVAL)
            return rc;
    }
    return 0;
}

static int fill_grpc(struct exchange *x, const struct local_reply *reply) {
    struct header_map *headers = &x->response.headers;
    int64_t status = reply->grpc_status != GRPC_STATUS_UNSET
                         ? reply->grpc_status
                         : (int64_t)status_to_grpc(reply->status);
    int rc = header_set_id(headers, HDR_STATUS, SPAN_LIT("200"));
    if (rc == 0)
        rc = header_set_id(headers, HDR_CONTENT_TYPE, SPAN_LIT("application/grpc"));
    if (rc == 0)
        rc = add_headers(x, reply);
    if (rc == 0 && !header_has(headers, HDR_GRPC_STATUS))
        rc = set_number(x, HDR_GRPC_STATUS, status);
    if (rc == 0 && reply->body.len && !header_has(headers, HDR_GRPC_MESSAGE)) {
        struct span message = grpc_message(&x->arena, reply->body);
        rc = span_is_none(message) ? -ENOMEM : header_set_id(headers, HDR_GRPC_MESSAGE, message);
    }
    return rc;
}

int local_reply_fill(struct exchange *x, const struct local_reply *reply) {
    struct header_map *headers = &x->response.headers;
    x->info.response_code_details =
        reply->details.len ? reply->details : SPAN_LIT("direct_response");
    x->info.response_code = (uint16_t)(x->is_grpc ? 200 : reply->status);
    if (x->is_grpc)
        return fill_grpc(x, reply);
    int rc = set_number(x, HDR_STATUS, reply->status);
    if (rc == 0)
        rc = add_headers(x, reply);
    if (rc != 0)
        return rc;
    if (reply->body.len == 0) {
        header_remove_id(headers, HDR_CONTENT_TYPE);
        header_remove_id(headers, HDR_CONTENT_LENGTH);
        return 0;
    }
    rc = set_number(x, HDR_CONTENT_LENGTH, (int64_t)reply->body.len);
    if (rc == 0 && !header_has(headers, HDR_CONTENT_TYPE))
        rc = header_set_id(headers, HDR_CONTENT_TYPE, SPAN_LIT("text/plain"));
    if (rc == 0 && !x->is_head)
        rc = message_set_body(&x->response, reply->body);
    return rc;
}
