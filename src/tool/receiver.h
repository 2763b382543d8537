/* receiver: takes what a connection brings for one HTTP/1.1 message.
 *
 * Ownership  The message is the arena's. receiver_fini gives the rest back.
 * Limits     MESSAGE_BYTES_MAX of body: then it is bad. */
#pragma once
#include "config/cfg_buf.h"
#include "http/http1.h"
#include "tool/message.h"

struct receiver {
    struct message message; /* start line and fields are there with has_head */
    bool has_head, is_done;
    const char *bad; /* why it is no message, or NULL */
    /* private */
    struct cfg_arena *strings;
    struct span request_method;
    struct cfg_buf in, body;
    struct http1_parser parser;
    struct http1_head head;
    struct http1_chunked chunked;
    struct header_map fields, trailers;
    struct arena arena;
    struct block_cache cache;
    uint64_t left;
};

/* request_method: of the request that a response answers. */
void receiver_init(struct receiver *r, struct cfg_arena *arena BORROWED_BY(r),
                   enum message_kind kind, struct span request_method BORROWED_BY(r));
void receiver_fini(struct receiver *r);
/* Borrows the bytes for the call. */
void receiver_take(struct receiver *r, struct span bytes);
/* The connection brings no more. */
void receiver_end(struct receiver *r);
/* What has come of the body so far. */
static inline size_t receiver_body_bytes(const struct receiver *r) {
    return r->body.len;
}
