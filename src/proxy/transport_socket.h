/* transport_socket: what is put between the bytes of a connection and its users, by configuration: TLS, a PROXY
 * header. The socket does the rest (io/transport.h): whoever uses it does not know.
 *
 * Ownership  Part of a snapshot (of a filter chain), or of a cluster.
 * Threads    Built off the Ps, then read by all of them.
 * Parks      accept and connect, on the connection's coroutine. */
#pragma once
#include "config/config.h"
#include "io/socket.h"
#include "proxy/connection_info.h"

/* What an upstream's transport may want to know of whom it is for. */
struct transport_wishes {
    struct span server_name; /* to be sent instead of the configured one; absent: that */
    struct span verify_name; /* the certificate must have; absent: as configured */
    struct span host_name;   /* of the endpoint, by upstream.c; absent: it has none */
    const struct span *application_protocols; /* instead of the configured ones */
    uint32_t application_protocol_count;
    struct downstream *downstream; /* whose addresses a PROXY header has; NULL: nobody's */
};

struct transport_socket_itab {
    const char *name; /* "envoy.transport_sockets.tls" */
    /* The client's side: NULL in one for upstreams only, as connect in one for clients only.
     * `in` has what was read already, and is used up. 0: the socket speaks it; -errno: it is of no more use, and
     * the kind has counted why. */
    int (*accept)(const void *config, struct downstream *d, struct inbuf *in, int64_t deadline_ns);
    /* *failure, of the caller's (256 bytes), gets the words of %UPSTREAM_TRANSPORT_FAILURE_REASON% on an error. */
    int (*connect)(const void *config, struct socket *socket, const struct transport_wishes *wishes,
                   int64_t deadline_ns, char failure[256]);
    bool is_secure;    /* what passes is a scheme of https */
    bool is_of_client; /* what connect says is of one client: his requests alone may follow */
};

struct transport_socket_kind {
    const struct transport_socket_itab *itab;
    const struct cfg_schema *schema;
    /* `owner` names it in statistics: "listener.127.0.0.1_80", "cluster.name". What it carries is HTTP or anything.
     * -EINVAL with the problems reported. */
    int (*build)(const struct cfg_any *typed_config, const struct config *config, struct span owner,
                 bool serves_http, struct cfg_problems *problems, void **out);
    void (*free_config)(void *config);
};

struct transport_socket {
    const struct transport_socket_kind *kind;
    void *config; /* owned */
};

enum { TRANSPORT_SOCKET_KINDS_MAX = 16 };
/* main registers them at start, before the first config is built. */
void transport_socket_register(const struct transport_socket_kind *kind BORROWED_BY(program));
/* NULL: there is none that takes that configuration. */
const struct transport_socket_kind *transport_socket_find(const struct cfg_schema *schema);
