/* tls_info: what TLS has found out, for those who write it down: access logs, x-forwarded-client-cert, routes.
 *
 * Threads  The connection's P. */
#pragma once
#include "io/socket.h"
#include "io/tls.h"
#include "mem/arena.h"

/* Of an upstream's connection, which may end before what was done over it is logged. */
struct upstream_tls {
    struct span version, cipher, session_id;
    bool has_certificate;
    struct tls_identity peer;
    struct span pem; /* percent-encoded */
};
/* A copy in the arena; NULL: no TLS, or memory is short. */
const struct upstream_tls *upstream_tls_copy(struct socket *socket, struct arena *arena);

/* Bits of route_match's `peer`. */
enum { PEER_CERTIFICATE_PRESENTED = 1, PEER_CERTIFICATE_VALIDATED = 2 };
static inline unsigned tls_peer_bits(const struct socket *socket) {
    struct tls_facts facts;
    if (!socket->transport || !tls_facts(socket, &facts) || !facts.has_peer_certificate)
        return 0;
    return PEER_CERTIFICATE_PRESENTED | (facts.peer_verified ? PEER_CERTIFICATE_VALIDATED : 0);
}
