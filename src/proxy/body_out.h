/* body_out: a message on its way to a peer: its head, then its body with the framing, then trailers.
 *
 * The head is rendered when it is sent, which is at the first flush, so nothing that it says may change
 * in between.
 * The head waits until body bytes can go with it in one system call; the last chunk takes the end
 * marker along when the body says that it ends there. A large rest that nobody looks at is spliced.
 *
 * Ownership  Borrows the socket and the message until the end.
 * Threads    One coroutine of the exchange at a time. Parks in writes, and for body bytes if allowed.
 * Length     A filter that changed a body without its content-length must not corrupt the framing: a
 *            byte too much or too few is -EPROTO with length_is_wrong, and the connection must end. */
#pragma once
#include "http/http1.h"
#include "io/socket.h"
#include "io/splice_pace.h"
#include "proxy/exchange.h"

enum { BODY_OUT_PIECES = 3 }; /* a chunk's size, its bytes, its end */

struct body_out {
    struct exchange *x;
    struct socket *socket;
    const char *reason; /* of the park in a write */
    const struct message *message;
    enum http1_transfer transfer;
    struct span connection; /* as http1_render_request has it */
    uint64_t length_left;   /* of HTTP1_SEND_LENGTH */
    uint64_t body_bytes;    /* sent so far */
    bool body_allowed;      /* false: a HEAD response, 204, 304: only the head goes out */
    bool send_trailers;
    bool length_is_wrong, write_failed;
    struct splice_pace pace;
    bool head_waits;     /* to be sent */
    bool head_failed;    /* there is none to be had */
    uint32_t head_bytes; /* once it was */
    int count;           /* pieces that wait to be sent, behind the head */
    struct iovec iov[BODY_OUT_PIECES];
};

/* The head waits. connection: the value of a Connection field that it gets, or the absent span (borrowed
 * until it is sent). -EINVAL when content-length is no number. */
MUST_CHECK int body_out_init(struct body_out *out, struct exchange *x, struct socket *socket,
                             const struct message *message, enum http1_transfer transfer,
                             struct span connection BORROWED_BY(out));
/* Sends what there is. 1: the message is sent whole. 0, only without may_park: the next step has to
 * wait for body bytes; what waits to be sent still waits, and is flushed before a call with may_park.
 * -errno: of the body, the framing or the socket. */
MUST_CHECK int body_out_send(struct body_out *out, bool may_park);
/* Sends the pieces that wait, the head among them. -EINVAL, -ENOMEM: there is none to be had, and nothing
 * was sent. */
MUST_CHECK int body_out_flush(struct body_out *out);
