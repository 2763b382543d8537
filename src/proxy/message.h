/* message: a request or a response on its way through the filters.
 *
 * end of stream  A message without body and trailers has body.itab == NULL. Else trailers are known
 *                once body has returned 0; an empty map means none.
 * Ownership      Headers and trailers live in the exchange's arena; body is owned by the message:
 *                a filter that wraps it owns what it wraps and is closed in its place. */
#pragma once
#include "http/header_map.h"
#include "io/reader.h"

struct message {
    struct header_map headers;
    struct header_map trailers;
    struct reader body;
};

/* Without fields and body. */
static inline void message_init(struct message *message, struct arena *arena) {
    header_map_init(&message->headers, arena);
    header_map_init(&message->trailers, arena);
    message->body = (struct reader){0};
}

static inline bool message_has_body(const struct message *message) {
    return message->body.itab != NULL;
}

/* A body that is bytes in memory, borrowed for the exchange's life. Empty bytes give no body.
 * -ENOMEM when the arena is at its limit. */
MUST_CHECK int message_set_body(struct message *message, struct span bytes BORROWED_BY(message));
