/* message: one HTTP/1.1 message as text has it: what a file says is to be sent, or what has arrived.
 *
 * Ownership  Everything is the arena's that it was made in.
 * Limits     MESSAGE_FIELDS_MAX fields, and as many trailers. */
#pragma once
#include "config/cfg_arena.h"

enum message_kind { MESSAGE_REQUEST, MESSAGE_RESPONSE };
enum { MESSAGE_FIELDS_MAX = 1000, MESSAGE_BYTES_MAX = 64 << 20 };

struct message_field {
    struct span name, value; /* name in small letters */
};
struct message {
    enum message_kind kind;
    struct span start; /* "GET / HTTP/1.1", "HTTP/1.1 200 OK" */
    struct span method;
    unsigned status; /* of a response */
    struct message_field *fields, *trailers;
    size_t fields_count, trailers_count;
    struct span body;
    bool chunked;
};

/* The n-th value of the name, or the absent span. */
struct span message_field(const struct message_field *fields, size_t count, struct span name,
                          size_t n);

struct message_error {
    unsigned line; /* from 1 */
    struct span text;
};
/* Reads the form that docs/test-a-filter.md describes: a start line, fields, an empty line, the body as it is;
 * with "transfer-encoding: chunked" perhaps a line "--trailers--" and fields. content-length and, in requests,
 * host are added where they are missing. text is borrowed for as long as the message. False: error is set. */
MUST_CHECK bool message_read(struct cfg_arena *arena, enum message_kind kind,
                             struct span text BORROWED_BY(out), struct message *out,
                             struct message_error *error);

/* Start line and fields, with the empty line, as they go out. */
struct span message_head(struct cfg_arena *arena, const struct message *message);
/* What ends a chunked body: the last chunk and the trailers. */
struct span message_chunked_end(struct cfg_arena *arena, const struct message *message);
