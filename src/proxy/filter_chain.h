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

struct cfg_listener;
struct hcm;

struct filter_chain {
    struct hcm *hcm;             /* the last filter; NULL: another is */
    struct connection_info info; /* shared by its connections of which nothing else is known */
    const struct cfg_filter_chain *config; /* NULL: the admin's */
    struct span name;
    struct transport_socket transport; /* kind NULL: bytes as they are */
    int64_t transport_timeout_ns;      /* transport_socket_connect_timeout; 0: none */
    struct network_filter *filters;    /* without an HTTP connection manager at the end */
    uint32_t filter_count;
    const struct doing_labels *labels; /* of coroutines that serve it */
    uint64_t definition;               /* hash of all that the configuration says of it */
    uint64_t
        entrance; /* of that without the HTTP connection manager: what a connection went through */
};

/* All that is needed of a chain to serve with it is the HTTP connection manager. */
static inline bool filter_chain_is_plain(const struct filter_chain *chain) {
    return chain->hcm && chain->filter_count == 0 && !chain->transport.kind;
}

struct filter_chain_node;
struct filter_chain_table {
    struct filter_chain *chains; /* in the order of the configuration, the default one last */
    uint32_t count;
    /* Has every connection, without being looked for; NULL: there is none such. */
    const struct filter_chain *only;
    const struct filter_chain *fallback; /* default_filter_chain, or NULL */
    struct filter_chain_node *root;      /* private to filter_chain_match.c */
};

/* All chains of a listener. Off the Ps; NULL and problems on error. `owner` names transport sockets in statistics. */
struct filter_chain_table *filter_chain_table_build(const struct cfg_listener *config,
                                                    struct snapshot *snapshot, struct span owner,
                                                    struct cfg_problems *problems);
/* One chain, which takes hcm over (transferred, on success): the admin's. NULL when memory is short. */
struct filter_chain_table *filter_chain_table_of_hcm(struct hcm *hcm);
void filter_chain_table_free(struct filter_chain_table *table);
/* Before the listener accepts: what its connections share. */
void filter_chain_table_attach(struct filter_chain_table *table,
                               struct listener *listener BORROWED_BY(table));

/* The chain of a later configuration that a connection of `chain` may be served with: it is chosen by the same
 * conditions, has the same transport, and no network filter but an HTTP connection manager. NULL: there is none. */
const struct filter_chain *filter_chain_successor(const struct filter_chain_table *later,
                                                  const struct filter_chain *chain);
/* Whether a later configuration has one just like it. */
bool filter_chain_remains(const struct filter_chain_table *later, const struct filter_chain *chain);

/* The listener's chain for a connection; NULL: none matches, it is to be closed. local, remote: the addresses that
 * count, restored ones if there are any; direct: the socket's peer. */
const struct filter_chain *filter_chain_find(const struct filter_chain_table *table,
                                             const struct connection_info *info,
                                             const struct address *local,
                                             const struct address *remote,
                                             const struct address *direct);

/* Private: filter_chain_match.c. The chains' conditions become the table's maps. Conflicts are problems. */
void filter_chain_index(struct filter_chain_table *table, struct cfg_problems *problems);
void filter_chain_index_free(struct filter_chain_node *root);
