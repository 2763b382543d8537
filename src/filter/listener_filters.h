/* listener_filters: the listener filters that are built in; what each does is in its file, and for operators in
 * docs/listener-filters.md. */
#pragma once
#include "proxy/listener_filter.h"

extern const struct listener_filter_kind listener_filter_kind_tls_inspector;
extern const struct listener_filter_kind listener_filter_kind_http_inspector;
extern const struct listener_filter_kind listener_filter_kind_proxy_protocol;
extern const struct listener_filter_kind listener_filter_kind_original_dst;
extern const struct listener_filter_kind listener_filter_kind_sniffer;

/* All of them, at start. */
void listener_filters_register(void);
