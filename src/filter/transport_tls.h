/* transport_tls: the transport socket envoy.transport_sockets.tls, of listeners (DownstreamTlsContext) and of clusters
 * (UpstreamTlsContext). Files that the configuration names are read again when they change.
 *
 * Threads  The kinds: as transport_socket.h says. The others: any thread. */
#pragma once
#include "io/tls.h"
#include "proxy/transport_socket.h"

extern const struct transport_socket_kind transport_tls_downstream, transport_tls_upstream;

/* ---- for the admin ---- */

struct transport_tls_view {
    struct span owner; /* "listener.127.0.0.1_443" */
    const struct tls_identity *certificates, *authorities;
    size_t certificate_count, authority_count;
    const struct span *paths; /* of each certificate */
    struct span authority_path;
};
/* Calls fn for each that there is, in the order in which they were built. The view is borrowed until it returns, and it
 * must not park. */
void transport_tls_each(void (*fn)(const struct transport_tls_view *view, void *arg), void *arg);
/* Until the first certificate expires, of those we show and those we trust; below 0: one has. INT64_MAX: there are
 * none. */
int64_t transport_tls_days_left(void);
