#include "filter/network_filters.h"

#include "filter/tcp_proxy.h"
#include "filter/upstream_proxy_protocol.h"

void network_filters_register(void) {
    network_filter_register(&network_filter_kind_tcp_proxy);
    network_filter_register(&network_filter_kind_sni_cluster);
    network_filter_register(&network_filter_kind_connection_limit);
    network_filter_register(&network_filter_kind_rate_limit);
    network_filter_register(&network_filter_kind_echo);
    network_filter_register(&network_filter_kind_direct_response);
    network_filter_register(&network_filter_kind_inject);
    transport_socket_register(&transport_upstream_proxy_protocol);
}
