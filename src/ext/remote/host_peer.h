/* host_peer: a connection that is in the proxy: its mirror here, a go_peer without one, which the exports of network filters
 * work on as on any other (go_exports_network.c).
 *
 *     ring of a seat, one for each call     mirror                        ring of a P
 *     BYTES, CALL ──► gathered, callback ─► go_peer ◄── exports, any ───► WRITE, CLOSE, HALF_CLOSE, ASK
 *                                            │ returned
 *                                            └──────────────────────────► RETURNED
 *
 * Calls of one connection come one at a time, by any seat. A client's mirror is made by its first call, an upstream's when
 * the plugin asks for it; both end with the call that is the last. Go's address, a loan, stays until Go gives it back.
 *
 * Memory   Of what the proxy tells, one call's bytes; what Go writes waits for room in the ring, in its own thread.
 * Threads  A seat's thread, but for host_peer_connect: any. */
#pragma once
#include "ext/go/go_peer.h"
#include "ext/remote/host_stream.h"
#include "ext/remote/remote_peer_message.h"

void host_peer_bytes(const struct remote_peer_bytes *bytes);
void host_peer_call(struct host_seat *seat, const struct remote_peer_call *call);

/* As go_upstream_connect, and waits for the proxy's answer. Any thread. */
void *host_peer_connect(struct go_library *library, struct span address, uint64_t conn_id);
