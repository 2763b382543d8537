/* transport: what stands between a socket's bytes on the wire and those its user sees, as TLS does.
 *
 * A socket has none or one, and users of the socket need not know: socket_receive, socket_send and all the
 * others mean the bytes of the user. Only what goes around those is not to be had (socket_take_fd, splice).
 * socket.rx_bytes and tx_bytes count the user's bytes, as Envoy's downstream_cx_rx_bytes_total does; those
 * of the wire are in the io counts.
 *
 * Ownership  The socket owns it from socket_set_transport to its close().
 * Threads    The socket's P.
 * Parks      Never, none of it: socket.c waits, for the descriptor, whenever one says -EAGAIN. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "base/check.h"

struct socket;
struct transport;

struct transport_itab {
    /* As recv(2): > 0; 0: the end, and from then on; -EAGAIN: then has_bytes is false, and an edge of the
     * descriptor will tell; or what went wrong, and from then on. */
    ssize_t (*try_receive)(struct socket *socket, void *into, size_t size);
    /* How many of those bytes (of size, of all pieces, more than 0) are with the kernel; -EAGAIN when it is
     * none; or what went wrong. Whoever is told less than all comes again with the rest, of which the first
     * transport.owed bytes have been taken already and are only not out yet. */
    ssize_t (*try_send)(struct socket *socket, const struct iovec *pieces, int count, size_t size);
    /* As socket_has_unread. */
    bool (*has_unread)(struct socket *socket);
    /* Something came while nobody waits for input: what of it the user is to hear of. 0: nothing. */
    unsigned (*event)(struct socket *socket, unsigned events);
    /* Says to the peer that no more is sent; the descriptor's own shutdown follows. 0 or -errno. */
    int (*shutdown)(struct socket *socket);
    /* Before the descriptor is closed. Frees the transport. */
    void (*close)(struct socket *socket);
};

struct transport {
    const struct transport_itab *itab;
    size_t owed; /* see try_send; 0 after a send that was given up */
    bool
        has_bytes; /* there may be something to receive, an end and an error included, without more of the wire */
    bool ended;     /* the peer has said that it sends no more, and all before that was received */
    bool truncated; /* ended, but only the wire says so, which anybody between can make it do */
};
