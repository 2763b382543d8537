/* tcp_proxy: envoy.filters.network.tcp_proxy, the last filter of a chain: an upstream for each client, and bytes both
 * ways until both have ended. */
#pragma once
#include "proxy/network_filter.h"

extern const struct network_filter_kind network_filter_kind_tcp_proxy;
