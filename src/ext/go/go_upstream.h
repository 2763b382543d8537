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

/* ---- for who asks from elsewhere (remote_peer.h) ---- */

struct go_upstream;
extern const struct span go_upstream_nobodys; /* the plugin's name when a goroutine asks */

/* What Go may know of one: address as it was asked for. */
void go_upstream_fill_info(struct go_lent_peer *lent, struct span address);
/* Not begun: until then it may be forgotten. shard: STATS_SHARD_FOREIGN away from Ps. NULL when memory is short. */
MUST_CHECK struct go_upstream *go_upstream_new(struct go_plugin *plugin, unsigned p_index,
                                               unsigned shard, struct span address,
                                               uint64_t conn_id);
struct go_peer *go_upstream_peer(const struct go_upstream *up);
/* It connects: transferred to its P. Any thread. */
void go_upstream_begin(struct go_upstream *up);
void go_upstream_forget(struct go_upstream *up);
