#include "proxy/message.h"

#include <errno.h>

struct memory_body {
    struct span rest;
};

static ssize_t memory_next(void *data, size_t max, struct span *out) {
    struct memory_body *body = data;
    size_t n = body->rest.len < max ? body->rest.len : max;
    *out = span_make(body->rest.ptr, n);
    body->rest = span_from(body->rest, n);
    return (ssize_t)n;
}

static enum reader_peek memory_peek(void *data) {
    const struct memory_body *body = data;
    return body->rest.len ? READER_READY : READER_END;
}

int message_set_body(struct message *message, struct span bytes) {
    static const struct reader_itab itab = {.next = memory_next, .peek = memory_peek};
    message->body = (struct reader){0};
    if (bytes.len == 0)
        return 0;
    struct memory_body *body = arena_alloc(message->headers.arena, sizeof *body);
    if (!body)
        return -ENOMEM;
    body->rest = bytes;
    message->body = (struct reader){&itab, body};
    return 0;
}
