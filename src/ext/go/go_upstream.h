/* go_upstream: connections that a Go network filter asked for, by address. Each belongs to nobody but the plugin: no
 * cluster, no pool, and no client's connection, as on Envoy.
 *
 * It lives on the P from whose callback it was asked for, or, if a goroutine did, on one in turn.
 *
 * Ends  The upstream's end is Go's RemoteClose, unless EnableHalfClose: then it is the end of its data, and the
 *       connection is over when the plugin has written an end, too. */
#pragma once
#include "ext/go/go_peer.h"

/* Any thread. What Go is to know it by; NULL: memory is short, and no failure can be told either. Else
 * OnUpstreamConnectionReady or ...Failure follows, maybe before this returns. */
void *go_upstream_connect(struct go_library *library, struct span address, uint64_t conn_id);
