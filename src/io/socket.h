/* socket: stream sockets for coroutines: straight-line code that parks when it must.
 *
 * What is below (which system calls there are, when they are made, in whose memory bytes arrive) is the
 * backend's own matter: nobody outside io looks at the descriptor, or asks whether it is ready by any
 * other way than these functions.
 *
 * Ownership  The struct lives inside its owner and does not move. It owns the descriptor from
 *            socket_open to socket_close or socket_take_fd. Every other function borrows what it is
 *            passed until it returns, slices apart. What a backend puts off of a send it has copied.
 * Threads    The P that opened it, always.
 * Parks      Functions that take a deadline. Each of them tries first, and waits only for what is not to
 *            be had at once. `reason` is what a dump shows meanwhile (static). One coroutine at a time
 *            may wait for input and one for output: a second one asserts. So does closing a socket that
 *            a coroutine waits on: cancel that one and let it end before.
 *            try_ functions and those without a deadline never park, and may be called from on_event and
 *            from timers.
 * Errors     Negative errno values. Of any function that parks:
 *            -ETIMEDOUT   the deadline passed
 *            -ECANCELED   rt_cancel; whoever wants to use the socket further clears it
 *            and what the kernel says: -ECONNRESET, -EPIPE, -ETIMEDOUT (its own, of keep-alive) and so
 *            on. After -ETIMEDOUT and -ECANCELED the stream is what it was before: nothing is lost, but
 *            how far a send came is not known. After all others it is of no more use than to be closed.
 *            A send that returned 0 may yet fail, as when the network loses it: the next call says so.
 *            A signal never shows. What only a mistake of ours brings about, such as -EBADF, asserts. */
#pragma once
#include <sys/types.h>
#include <sys/uio.h>

#include "io/address.h"
#include "io/inbuf.h"
#include "io/slice.h"
#include "io/transport.h"
#include "rt/poll.h"

struct labels_describer;
struct socket;

enum {
    SOCKET_INPUT = POLL_EVENT_IN,                     /* bytes, an end or an error to receive */
    SOCKET_HUNG_UP = POLL_EVENT_HUP | POLL_EVENT_ERR, /* the peer sends no more, or is gone */
    SOCKET_BROKEN = POLL_EVENT_ERR, /* of these: nothing passes either way any more */
};
/* Something came while no coroutine waited for input; `events` has bits of the above, or of both. A
 * scheduler callback: it must not park. It may close this or any other socket of the P, and whatever else
 * came for those is dropped. There may be nothing to receive after all. */
typedef void (*socket_event_fn)(struct socket *socket, unsigned events);

struct socket { /* private */
    struct poll_fd pd;
    socket_event_fn on_event;
    uint64_t rx_bytes, tx_bytes; /* public: since it was opened */
    struct transport *transport; /* owned; NULL: the user's bytes are those on the wire */
};

/* ---- Beginning and end ---- */

/* Takes over fd (a connected stream socket, non-blocking): transferred, on success. on_event: NULL:
 * nobody is told. 0, -ENOMEM, -ENOSPC. */
MUST_CHECK int socket_open(struct socket *socket, int fd, socket_event_fn on_event);
/* Connects a new socket, TCP without Nagle's delay. 0, or -errno: the struct holds nothing. Parks. */
MUST_CHECK int socket_connect(struct socket *socket, const struct address *to,
                              socket_event_fn on_event, int64_t deadline_ns);
/* Takes over fd, which listens (non-blocking). */
MUST_CHECK int socket_listen(struct socket *socket, int fd, socket_event_fn on_event);
/* The next connection: a descriptor for socket_open, owned by the caller, non-blocking and close-on-exec;
 * *peer is who it is. -EMFILE, -ENFILE, -ENOBUFS, -ENOMEM: it stays in the kernel's queue, and no event
 * will tell of it again. Other errors (-ECONNABORTED, -EPROTO, -ENETDOWN, ...) are of that one connection,
 * and the next one may be asked for at once. */
MUST_CHECK int socket_accept(struct socket *socket, struct address *peer, const char *reason,
                             int64_t deadline_ns);
/* -EAGAIN: there is none; an event will tell. */
MUST_CHECK int socket_try_accept(struct socket *socket, struct address *peer);

/* We send no more; what was sent before arrives. 0 or -errno (-ENOTCONN). */
MUST_CHECK int socket_shutdown(struct socket *socket);
/* Nothing passes either way any more, whoever waits for it hears the end. */
void socket_cut(struct socket *socket);
void socket_close(struct socket *socket);
/* Closing it, whenever that is, tells the peer that the stream broke (TCP: a reset) instead of that it ended;
 * what was sent and has not arrived may be lost. */
void socket_reset_on_close(struct socket *socket);
/* Stops reading and hands the descriptor back, owned by the caller. Bytes that were read of it and not
 * received yet are appended to `in`, which with what it holds already is what came before anything that
 * whoever has the descriptor will read. -ENOMEM: there is no room for those; -EOPNOTSUPP: the socket has a
 * transport, so the wire is of no use to others; nothing has changed. */
MUST_CHECK int socket_take_fd(struct socket *socket, struct inbuf *in);

/* Its own end; len 0 when the kernel does not say. */
void socket_local_address(const struct socket *socket, struct address *out);
/* The peer's, likewise. */
void socket_remote_address(const struct socket *socket, struct address *out);
/* Where the peer wanted to go before NAT brought it here; len 0: here, or the kernel does not say. */
void socket_address_before_nat(const struct socket *socket, struct address *out);

/* ---- Receiving ---- */

/* Appends what has arrived to `in`, as much as there is and fits: the block at hand is filled up before
 * another is taken. While nothing has come and `in` is empty, it holds no memory: that is taken when there
 * is something to put there. A backend may also put a block of its own into `in`, so spans into its memory
 * stay valid only while leased (inbuf_hold).
 * > 0: how much; 0: the end of the stream, again and again; -EMSGSIZE: the unused bytes fill the memory;
 * -ENOMEM: there is no block (the bytes stay where they are); or what the kernel says. */
MUST_CHECK ssize_t socket_receive(struct socket *socket, struct inbuf *in, const char *reason,
                                  int64_t deadline_ns);
/* -EAGAIN: nothing is there; an event will tell. */
MUST_CHECK ssize_t socket_try_receive(struct socket *socket, struct inbuf *in);
/* From on_event with SOCKET_INPUT: what has come is in `in` before a coroutine runs that on_event starts, or
 * readies, if the backend receives many at a time; else by its own socket_receive. Borrows `in` until then. of: whose
 * memory that is, for profiles. */
void socket_receive_ahead(struct socket *socket, struct inbuf *in,
                          const struct labels_describer *of);
/* Private to io: the same into other memory, as recv(2). */
MUST_CHECK ssize_t socket_try_receive_into(struct socket *socket, void *into, size_t size);
/* Private to io: socket_send of as much as goes without waiting, but at least a byte: how much. Who gives up
 * before all was sent closes the socket. */
MUST_CHECK ssize_t socket_send_some(struct socket *socket, const struct iovec *pieces, int count,
                                    const char *reason, int64_t stall_ns);
/* Private to io: until nothing is put off that was sent. 0 or an error, of an earlier send too. */
MUST_CHECK int socket_settle(struct socket *socket, const char *reason, int64_t stall_ns);
/* Private to io: until the kernel may take more. 0, -ETIMEDOUT or -ECANCELED. */
MUST_CHECK int socket_wait_for_room(struct socket *socket, const char *reason, int64_t stall_ns);
/* Receives and drops: 0 at the end of the stream, -EMSGSIZE once it were more than max bytes. Without any
 * memory of the P's. */
MUST_CHECK int socket_discard(struct socket *socket, size_t max, const char *reason,
                              int64_t deadline_ns);

/* There may be something to receive. Asks nobody: false is certain, as of the last round of the poller. */
static inline bool socket_has_input(const struct socket *socket) {
    return (socket->pd.ready & (SOCKET_INPUT | SOCKET_HUNG_UP)) != 0 ||
           (socket->transport && socket->transport->has_bytes);
}
/* The kernel can splice to it and from it: its bytes are those on the wire. */
static inline bool socket_can_splice(const struct socket *socket) {
    return !socket->transport;
}
/* There is something to receive, an end and an error included. May ask the kernel. */
MUST_CHECK bool socket_has_unread(struct socket *socket);
/* The peer is known to send no more. There may be bytes before that end. */
static inline bool socket_hung_up(const struct socket *socket) {
    return poll_hung_up(&socket->pd) || (socket->transport && socket->transport->ended);
}

/* ---- Sending ---- */

enum { SOCKET_PIECES_MAX = 1024 }; /* IOV_MAX */
/* Sends all of it or fails. The bytes are done with, and may change, when it returns. It uses up the array.
 * The deadline is for progress: it starts anew with each bit that the peer takes; RT_FOREVER: no limit. */
MUST_CHECK int socket_send(struct socket *socket, struct iovec *pieces, int count,
                           const char *reason, int64_t stall_ns);
/* What of it goes without waiting: how many bytes, -EAGAIN when it is none. Leaves the array alone. Never
 * parks, so the bytes may stand where others write during a park. */
MUST_CHECK ssize_t socket_try_send(struct socket *socket, const struct iovec *pieces, int count);
/* socket_send with leases, which are transferred whatever it returns: each block is given back (to this P's
 * cache) as soon as its bytes are done with, and all of them after an error. Uses up the array. */
MUST_CHECK int socket_send_slices(struct socket *socket, struct slice *slices, int count,
                                  const char *reason, int64_t stall_ns);
