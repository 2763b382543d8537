/* body_out: a message on its way to a peer: its head, then its body with the framing, then trailers.
 *
 * The head waits until body bytes can go with it in one system call; the last chunk takes the end
 * marker along when the body says that it ends there. A large rest that nobody looks at is spliced.
 *
 * Ownership  Borrows the socket, the message and the head's pieces until the end.
 * Threads    One coroutine of the exchange at a time. Parks in writes, and for body bytes if allowed.
 * Length     A filter that changed a body without its content-length must not corrupt the framing: a
 *            byte too much or too few is -EPROTO with length_is_wrong, and the connection must end. */
#pragma once
#include "http/http1.h"
#include "io/socket.h"
#include "proxy/exchange.h"

struct body_out {
    struct exchange *x;
    struct socket *socket;
    const char *reason; /* of the park in a write */
    const struct message *message;
    enum http1_transfer transfer;
    uint64_t length_left; /* of HTTP1_SEND_LENGTH */
    uint64_t body_bytes;  /* sent so far */
    bool body_allowed;    /* false: a HEAD response, 204, 304: only the head goes out */
    bool send_trailers;
    bool length_is_wrong, write_failed;
    bool comes_large, splices; /* the body's bytes, by the last of them */
    uint8_t copies;            /* runs that are not to be spliced */
    uint32_t step;             /* to be spliced at a time */
    int count;                 /* pieces that wait to be sent */
    struct iovec iov[HTTP1_IOV_MAX + 3];
};

/* The head's pieces wait. -EINVAL when content-length is no number. */
MUST_CHECK int body_out_init(struct body_out *out, struct exchange *x, struct socket *socket,
                             const struct message *message, enum http1_transfer transfer,
                             const struct http1_writer *head);
/* Sends what there is. 1: the message is sent whole. 0, only without may_park: the next step has to
 * wait for body bytes; what waits to be sent still waits. -errno: of the body, the framing or the
 * socket. */
MUST_CHECK int body_out_send(struct body_out *out, bool may_park);
/* Sends the pieces that wait. */
MUST_CHECK int body_out_flush(struct body_out *out);
