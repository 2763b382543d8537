/* upstream_proxy_protocol: the transport socket envoy.transport_sockets.upstream_proxy_protocol: a PROXY header before
 * all else tells an upstream who the client is, and what is known of him. Behind it comes the inner transport. */
#pragma once
#include "proxy/transport_socket.h"

extern const struct transport_socket_kind transport_upstream_proxy_protocol;
