/* router: the terminal filter, envoy.filters.http.router. Matches, picks cluster and endpoint, sends
 * the request over a pooled connection and brings the response back. */
#pragma once
#include "proxy/filter.h"

extern const struct filter_kind filter_kind_router;
