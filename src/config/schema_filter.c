/* schema_filter: the HTTP filter that is built in, the router. */
#include "config/schema_tables.h"

static const struct cfg_field router_fields[] = {
    WRAPPER(struct cfg_router, 1, dynamic_stats, CFG_BOOL, .default_text = "true",
            .status = CFG_INERT, .doc = "The statistics it would switch off are not kept."),
    FIELD(struct cfg_router, 2, start_child_span, CFG_BOOL, .status = CFG_INERT,
          .doc = "There is no tracing yet."),
    FIELD(struct cfg_router, 4, suppress_envoy_headers, CFG_BOOL,
          .doc = "Add no x-envoy- headers to requests and responses."),
    FIELD(struct cfg_router, 6, respect_expected_rq_timeout, CFG_BOOL, .rules = CFG_ONLY_FALSE,
          .doc = "Take the timeout from x-envoy-expected-rq-timeout-ms."),
};
static const struct cfg_missing router_missing[] = {
    {3, "upstream_log"},
    {5, "strict_check_headers"},
    {7, "suppress_grpc_request_failure_code_stats"},
    {8, "upstream_http_filters"},
    {9, "upstream_log_options"},
};
const struct cfg_schema cfg_schema_router = {
    .name = "envoy.extensions.filters.http.router.v3.Router",
    .doc = "Sends requests on as their route says; the last filter.",
    .size = sizeof(struct cfg_router),
    FIELDS(router_fields),
    MISSING(router_missing),
};
