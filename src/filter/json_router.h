/* json_router: the filter sluice.filters.http.json_router: values of a JSON request body into headers and
 * metadata, so that a route can depend on them. docs/json-router.md is what its user reads. */
#pragma once
#include "proxy/filter.h"

extern const struct filter_kind filter_kind_json_router;
