/* socket_raw: the bytes on a socket's wire, for the transport that stands before them. Private to io.
 *
 * As the functions of socket.h that they are named after. None of these bytes counts in socket.rx_bytes and
 * tx_bytes. None parks. */
#pragma once
#include "io/socket.h"

/* From now on the user's bytes are what it makes of them. Transferred. */
void socket_set_transport(struct socket *socket, struct transport *transport BORROWED_BY(socket));

/* As recv(2), but -EAGAIN without a system call when nothing has come. */
MUST_CHECK ssize_t socket_raw_try_receive(struct socket *socket, void *into, size_t size);
/* size: of all pieces, not 0. */
MUST_CHECK ssize_t socket_raw_try_send(struct socket *socket, const struct iovec *pieces, int count,
                                       size_t size);
