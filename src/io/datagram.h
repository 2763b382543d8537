/* datagram: sockets of messages with addresses (UDP), for coroutines.
 *
 * Ownership  The struct lives inside its owner and does not move; it owns its descriptor from datagram_open to
 *            datagram_close. Memory and addresses passed in are borrowed until the call returns.
 * Threads    The P that opened it.
 * Parks      datagram_receive and datagram_send, until their deadline; as in socket.h one coroutine at a time
 *            may wait for input and one for output, and nobody while it is closed.
 * Errors     Negative errno values, -ETIMEDOUT and -ECANCELED among them. The network may answer a message
 *            by ICMP that it got nowhere: on a socket with a peer datagram_receive says so, once, by one of the
 *            errors that datagram_is_soft knows. The socket is as good as before, and the next message may
 *            arrive. They are counted (server.io.soft_errors). */
#pragma once
#include <errno.h>
#include <stdbool.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "io/address.h"
#include "rt/poll.h"

struct datagram { /* private */
    struct poll_fd pd;
};

/* On a new socket with the address `local`, whose port may be 0 and whose host may be "any". 0 or -errno. */
MUST_CHECK int datagram_open(struct datagram *datagram, const struct address *local);
/* From now on it sends to this peer, and receives from no other. 0 or -errno. */
MUST_CHECK int datagram_connect(struct datagram *datagram, const struct address *peer);
void datagram_close(struct datagram *datagram);
/* With the port that the kernel chose. */
void datagram_local_address(const struct datagram *datagram, struct address *out);

/* The next message, and who sent it unless from is NULL. Its size, which may be 0: more than `size` means that
 * the end of it is lost. Of an error neither memory nor *from was touched. */
MUST_CHECK ssize_t datagram_receive(struct datagram *datagram, void *into, size_t size,
                                    struct address *from, const char *reason, int64_t deadline_ns);
/* -EAGAIN: there is none. */
MUST_CHECK ssize_t datagram_try_receive(struct datagram *datagram, void *into, size_t size,
                                        struct address *from);
/* The pieces as one message, to the peer when to is NULL. It is sent whole or not at all; what becomes of it
 * nobody knows. -EMSGSIZE: larger than a message can be; -EDESTADDRREQ: there is no peer. */
MUST_CHECK int datagram_send(struct datagram *datagram, const struct iovec *pieces, int count,
                             const struct address *to, const char *reason, int64_t deadline_ns);

/* An answer of the network to some message sent before: ICMP. */
static inline bool datagram_is_soft(ssize_t error) {
    switch (error) {
    case -ECONNREFUSED:
    case -EHOSTUNREACH:
    case -ENETUNREACH:
    case -EHOSTDOWN:
    case -ENONET:
    case -ENOPROTOOPT: /* protocol unreachable */
    case -EPROTO:
    case -EOPNOTSUPP:
    case -EACCES:
        return true;
    default:
        return false;
    }
}
