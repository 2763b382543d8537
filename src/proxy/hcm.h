/* hcm: an HTTP connection manager as configured: its filters, routes, logs, limits and stats.
 *
 * Ownership  Part of a snapshot; borrows the config's strings. hcm_free releases what it built.
 * Threads    Built off the Ps (filters may load libraries), then immutable: any P reads it. */
#pragma once
#include "base/stats.h"
#include "http/http1.h"
#include "io/address.h"
#include "proxy/access_log.h"
#include "proxy/filter.h"
#include "proxy/route.h"

struct hcm_stats { /* http.<stat_prefix>.* */
    struct statistic *cx_total, *cx_active, *cx_http1_total, *cx_http1_active, *cx_destroy,
        *cx_destroy_local, *cx_destroy_remote, *cx_destroy_active_rq, *cx_idle_timeout,
        *cx_drain_close, *cx_protocol_error, *cx_rx_bytes, *cx_tx_bytes, *cx_length_ms,
        *cx_delayed_close_timeout, *cx_max_requests_reached, *cx_overload_disable_keepalive,
        *cx_upgrades_total, *cx_upgrades_active, *rq_overload_close;
    struct statistic *rq_total, *rq_active, *rq_http1_total, *rq_completed, *rq_time, *rq_class[5],
        *rq_rx_reset, *rq_tx_reset, *rq_idle_timeout, *rq_timeout, *rq_header_timeout,
        *rq_max_duration_reached, *rq_too_large, *rs_too_large, *rq_non_relative_path,
        *rq_response_before_rq_complete, *rq_failed_path_normalization, *rq_ws_on_non_ws_route;
    struct statistic *no_route, *no_cluster, *rq_direct_response, *rq_redirect, *router_rq_total,
        *rq_reset_after_downstream_response_started;
};

/* The slots of those of the above that each request bumps: stats_bump. */
struct hcm_request_slots {
    uint32_t rq_total, rq_http1_total, rq_active, rq_completed, rq_class[5], cx_rx_bytes,
        cx_tx_bytes;
};

struct hcm {
    const struct cfg_hcm *config;
    const struct cfg_route_configuration *route_config; /* its own, or of rds; NULL: the admin's */
    struct span listener_name, filter_chain_name;
    struct span server_name;
    struct address machine;          /* stands for a loopback peer in x-forwarded-for */
    struct filter_factory **filters; /* index order; disabled ones included */
    uint32_t filter_count;
    struct route_table *routes; /* NULL: the admin's, which matches nothing; see exchange_routes */
    struct route_trial *trial;  /* leased; NULL: `routes` serves all */
    struct former_routes *former_routes; /* with a trial, until it is done: what it is to replace */
    struct access_log **logs;
    uint32_t log_count;
    struct http1_limits limits;
    uint32_t buffer_limit; /* per_connection_buffer_limit_bytes of the listener */
    int64_t idle_timeout_ns, stream_idle_timeout_ns, request_timeout_ns, request_headers_timeout_ns,
        max_connection_duration_ns, delayed_close_ns, max_stream_duration_ns; /* 0: none */
    uint32_t max_requests_per_connection;                                     /* 0: none */
    bool use_remote_address, generate_request_id, allow_absolute_url, accept_http_10,
        enable_trailers, normalize_path, bypass_overload;
    /* Of the logs, and for filters that log: when, besides the end. */
    bool logs_start, logs_tunnel;
    int64_t log_interval_ns; /* 0: none */
    struct hcm_stats stats;
    struct hcm_request_slots slots;
    const struct doing_labels *labels; /* of coroutines that serve it */
};

struct snapshot;
/* problems says why when NULL comes back. The snapshot answers whether clusters exist. */
struct hcm *hcm_build(const struct cfg_hcm *config,
                      const struct cfg_route_configuration *routes BORROWED_BY(result),
                      struct snapshot *snapshot, struct span listener_name BORROWED_BY(result),
                      struct span filter_chain_name BORROWED_BY(result), uint32_t buffer_limit,
                      struct cfg_problems *problems);
/* The admin's: one terminal filter, no routes. */
struct hcm *hcm_build_admin(const struct filter_kind *kind, const struct cfg_admin *config,
                            struct cfg_problems *problems);
void hcm_free(struct hcm *hcm);

/* Adds the configured `via`, if any, to a message's fields: "old, ours" as Envoy joins it. */
MUST_CHECK int hcm_append_via(const struct hcm *hcm, struct header_map *headers);
