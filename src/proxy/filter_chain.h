/* filter_chain: what a listener does with a connection, and which of several it is.
 *
 * Matching is Envoy's: destination port, destination IP, server name, transport protocol, application protocols, direct
 * source IP, source type, source IP, source port, each the most specific match first, and without going back: a chain
 * that loses at one step is out. Built with the snapshot, as maps and tries one inside the other.
 * Source: envoyproxy.io, config.listener.v3.FilterChainMatch.
 *
 * Ownership  Part of a snapshot.
 * Threads    Read-only once the listener accepts. */
#pragma once
#include "proxy/connection_info.h"
#include "proxy/network_filter.h"
#include "proxy/transport_socket.h"

struct hcm;

struct filter_chain {
    struct connection_info info; /* shared by its connections of which nothing else is known */
    const struct cfg_filter_chain *config;
    struct span name;
    struct transport_socket transport; /* kind NULL: bytes as they are */
    int64_t transport_timeout_ns;      /* transport_socket_connect_timeout; 0: none */
    struct network_filter *filters;    /* without an HTTP connection manager at the end */
    uint32_t filter_count;
    struct hcm *hcm; /* the last filter; NULL: another is */
};

struct filter_chain_table;

/* The listener's chain for a connection; NULL: none matches, it is to be closed. local, remote: the addresses that
 * count, restored ones if there are any; direct: the socket's peer. */
const struct filter_chain *filter_chain_find(const struct filter_chain_table *table,
                                             const struct connection_info *info,
                                             const struct address *local,
                                             const struct address *remote,
                                             const struct address *direct);
