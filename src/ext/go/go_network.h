/* go_network: the network filter envoy.filters.network.golang: a Go plugin serves a client's connection (it is the last
 * filter then), or looks at what the filters behind it get and send.
 *
 *     last      client ─► OnData                                   upstreams of its own: go_upstream.h
 *               client ◄─ OnWrite ◄─ Write
 *
 *     before    client ─► OnData ─┬─► the filters behind           with pass_read_data, after Continue
 *                                 └─► nowhere                      on Envoy, always
 *               client ◄─ OnWrite ◄─┬─ the filters behind
 *                                   └─ Write
 *
 * Threads  The connection's P, but for what go_peer.h says. */
#pragma once
#include "proxy/network_filter.h"

struct go_library;

extern const struct network_filter_kind network_filter_kind_golang;

/* In a process that may end by it: what a configuration does with the plugin. Its id; 0: the library has no network filters,
 * or memory is short. */
uint64_t go_network_parse(struct go_library *library, struct span config);
/* In a process that may end by it: what a configuration and a first connection do with the plugin. name lives as long as
 * the process. The id of the configuration; 0 when memory is short. */
uint64_t go_network_try(struct go_library *library, struct span name, struct span config);
