/* network_filters: small filters of connections, each in a file of its own. */
#pragma once
#include "proxy/network_filter.h"

/* envoy.filters.network.sni_cluster: the cluster is what the client asked for as server. */
extern const struct network_filter_kind network_filter_kind_sni_cluster;
/* envoy.filters.network.connection_limit */
extern const struct network_filter_kind network_filter_kind_connection_limit;
/* envoy.filters.network.local_ratelimit: so many new connections in a time. */
extern const struct network_filter_kind network_filter_kind_rate_limit;
/* envoy.filters.network.echo */
extern const struct network_filter_kind network_filter_kind_echo;
/* envoy.filters.network.direct_response: sends something and closes. */
extern const struct network_filter_kind network_filter_kind_direct_response;
/* sluice.filters.network.inject: texts before and behind the bytes. */
extern const struct network_filter_kind network_filter_kind_inject;

/* All that there are, and the transport socket that tells upstreams of clients. At start, before a config is built. */
void network_filters_register(void);
