/* receiver: the proxy's own parsers over one growing buffer. What they borrow from it is copied before the
 * buffer moves: the head when it is whole, each run of the body as it is found. */
#include "tool/receiver.h"

#include "http/status.h"

static const struct http1_limits limits = {.head_bytes = 1 << 20,
                                           .header_count = MESSAGE_FIELDS_MAX};

void receiver_init(struct receiver *r, struct cfg_arena *arena, enum message_kind kind,
                   struct span request_method BORROWED_BY(r)) {
    *r =
        (struct receiver){.message.kind = kind, .strings = arena, .request_method = request_method};
    block_cache_init(&r->cache);
    arena_init(&r->arena, &r->cache, 16 << 20);
    header_map_init(&r->fields, &r->arena);
    header_map_init(&r->trailers, &r->arena);
    r->head.headers = &r->fields;
    http1_parser_init(&r->parser, &limits);
}

void receiver_fini(struct receiver *r) {
    arena_fini(&r->arena);
    block_cache_fini(&r->cache);
    cfg_buf_fini(&r->in);
    cfg_buf_fini(&r->body);
}

static void drop(struct receiver *r, size_t count) {
    memmove(r->in.ptr, r->in.ptr + count, r->in.len - count);
    r->in.len -= count;
}

static void keep_fields(struct receiver *r, const struct header_map *map,
                        struct message_field **fields, size_t *count) {
    *fields = cfg_alloc_array(r->strings, (size_t)map->count + 1, sizeof(**fields));
    *count = 0;
    struct span host = header_get(map, HDR_AUTHORITY);
    if (host.ptr)
        (*fields)[(*count)++] =
            (struct message_field){SPAN_LIT("host"), cfg_copy(r->strings, host)};
    for (uint32_t i = 0; i < map->count; i++) {
        struct span name = header_name(&map->entries[i]);
        if (name.ptr[0] != ':')
            (*fields)[(*count)++] = (struct message_field){
                cfg_copy(r->strings, name), cfg_copy(r->strings, header_value(&map->entries[i]))};
    }
}

static void keep_head(struct receiver *r) {
    struct message *message = &r->message;
    if (message->kind == MESSAGE_REQUEST) {
        struct span method = header_get(&r->fields, HDR_METHOD);
        struct span path = header_get(&r->fields, HDR_PATH);
        message->method = cfg_copy(r->strings, method);
        message->start = cfg_printf(r->strings, "%.*s %.*s HTTP/1.1", (int)method.len, method.ptr,
                                    (int)path.len, path.ptr);
    } else {
        struct span reason = http1_reason(r->head.status);
        message->status = r->head.status;
        message->start =
            cfg_printf(r->strings, "HTTP/1.1 %u %.*s", r->head.status, (int)reason.len, reason.ptr);
    }
    keep_fields(r, &r->fields, &message->fields, &message->fields_count);
    message->chunked = r->head.framing == HTTP1_BODY_CHUNKED;
    r->left = r->head.content_length;
    http1_chunked_init(&r->chunked, &limits);
    r->has_head = true;
}

/* An interim response (100 Continue, 103 Early Hints) is passed over: the one that counts follows. */
static bool is_interim(const struct receiver *r) {
    return r->message.kind == MESSAGE_RESPONSE && r->head.status < 200 && r->head.status != 101;
}

static bool read_head(struct receiver *r) {
    enum http1_verdict verdict =
        r->message.kind == MESSAGE_REQUEST
            ? http1_parse_request(&r->parser, r->in.ptr, r->in.len, &r->head)
            : http1_parse_response(&r->parser, r->in.ptr, r->in.len, r->request_method, &r->head);
    if (verdict == HTTP1_BAD)
        r->bad = r->parser.details;
    if (verdict != HTTP1_DONE)
        return false;
    if (is_interim(r)) {
        header_map_clear(&r->fields);
        http1_parser_init(&r->parser, &limits);
    } else {
        keep_head(r);
    }
    drop(r, r->head.head_bytes);
    return r->in.len > 0 || r->has_head;
}

static void finish(struct receiver *r) {
    r->is_done = true;
    r->message.body = cfg_copy(r->strings, cfg_buf_view(&r->body));
}

static void add_body(struct receiver *r, const char *bytes, size_t count) {
    if (r->body.len + count > MESSAGE_BYTES_MAX)
        r->bad = "its body is larger than 64 MiB";
    else
        cfg_buf_add(&r->body, bytes, count);
}

static void read_chunks(struct receiver *r) {
    for (;;) {
        size_t consumed;
        struct span data;
        enum http1_verdict verdict =
            http1_chunked_next(&r->chunked, r->in.ptr, r->in.len, &consumed, &data, &r->trailers);
        if (verdict == HTTP1_BAD) {
            r->bad = "its chunks are malformed";
            return;
        }
        if (data.len)
            add_body(r, data.ptr, data.len);
        if (verdict == HTTP1_DONE) {
            keep_fields(r, &r->trailers, &r->message.trailers, &r->message.trailers_count);
            finish(r);
            return;
        }
        if (consumed + data.len == 0)
            return;
        drop(r, consumed + data.len);
    }
}

static void read_body(struct receiver *r) {
    size_t count = r->in.len;
    switch (r->head.framing) {
    case HTTP1_BODY_NONE:
        finish(r);
        break;
    case HTTP1_BODY_CHUNKED:
        read_chunks(r);
        break;
    case HTTP1_BODY_LENGTH:
        count = count < r->left ? count : (size_t)r->left;
        add_body(r, r->in.ptr, count);
        r->left -= count;
        drop(r, count);
        if (r->left == 0)
            finish(r);
        break;
    case HTTP1_BODY_UNTIL_CLOSE:
        add_body(r, r->in.ptr, count);
        drop(r, count);
        break;
    }
}

void receiver_take(struct receiver *r, struct span bytes) {
    if (r->bad || r->is_done)
        return;
    cfg_buf_add(&r->in, bytes.ptr, bytes.len);
    while (!r->has_head && read_head(r))
        ;
    if (r->has_head && !r->bad)
        read_body(r);
}

void receiver_end(struct receiver *r) {
    if (r->bad || r->is_done || !r->has_head)
        return;
    if (r->head.framing == HTTP1_BODY_UNTIL_CLOSE)
        finish(r);
    else
        r->message.body = cfg_copy(r->strings, cfg_buf_view(&r->body)); /* as far as it came */
}
