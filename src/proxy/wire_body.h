/* wire_body: the body of an HTTP/1 message as it arrives on a connection, as a reader.
 *
 * Lends the bytes where the socket put them. Reads more only when asked and only once what it lent
 * is used up, so a slow consumer slows its sender down. What is not in memory yet it also splices.
 *
 * Ownership  Borrows the socket and the buffer until close or the end. It lives in the exchange.
 * Threads    The connection's P.
 * Parks      next() and splice(), for bytes. */
#pragma once
#include "http/http1.h"
#include "io/inbuf.h"
#include "io/reader.h"
#include "io/socket.h"

struct wire_body {
    struct socket *socket;
    struct inbuf *in;
    enum http1_framing framing;
    uint64_t left;               /* of HTTP1_BODY_LENGTH */
    struct header_map *trailers; /* NULL: dropped */
    struct arena *arena;         /* takes a lease on the block that trailers stand in */
    size_t lent;                 /* bytes of `in` that the last span covered */
    size_t run;                  /* data bytes of the current chunk that lie ahead in `in` */
    uint64_t bytes;              /* of body so far */
    int error;                   /* sticky, negative errno; 0: none */
    bool done;                   /* the end was seen: the connection may serve another message */
    const char *reason;          /* of the park */
    /* Called once, before the first wait for bytes: a server's chance to say 100 Continue. */
    int (*before_wait)(void *arg);
    void *before_wait_arg;
    struct http1_chunked chunked; /* of HTTP1_BODY_CHUNKED only, else not even initialised */
};

void wire_body_init(struct wire_body *body, struct socket *socket, struct inbuf *in,
                    const struct http1_head *head, const struct http1_limits *limits);
struct reader wire_body_reader(struct wire_body *body);
/* Whether all of it is in memory. False also where only reading would tell. */
bool wire_body_is_here(const struct wire_body *body);
/* Uses up what is in memory already, without waiting; true when that was the rest. */
bool wire_body_skip_rest(struct wire_body *body);
