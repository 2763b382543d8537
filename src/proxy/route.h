/* route: virtual hosts, routes and what they do, built from a RouteConfiguration.
 *
 * Ownership  A route_table belongs to a snapshot and borrows the strings of its config. Immutable
 *            after building: any thread may match.
 * Errors     route_table_build reports every problem (bad regex, duplicate domain, ...) through
 *            cfg_problem_add; clusters are looked up in the snapshot through find_cluster. */
#pragma once
#include "config/config.h"
#include "http/header_map.h"
#include "proxy/filter.h"

struct cluster;
struct cluster_specifier;
struct exchange;
struct format;
struct route_table;
struct virtual_clusters;

/* Header mutations of one level: request_headers_to_add/remove and the response ones. */
struct header_mutations;

/* What a request asks of its route comes first and was worked out at build time, so that a plain route
 * costs two cache lines and no look at its configuration. */
struct route_entry {
    /* Of a fixed name; NULL: named by a header, or by a plugin, or there is none: 503 NC (or as the config
     * says) per request. Borrowed from the snapshot. */
    struct cluster *cluster;
    int64_t timeout_ns;       /* 0: none. Of a route action, 15 s by default */
    struct span timeout_text; /* in milliseconds; absent: no timeout */
    int64_t idle_timeout_ns;  /* -1: the HCM's; 0: none */
    struct span name, virtual_host_name;
    uint8_t action;                           /* enum cfg_action_case */
    bool mutates_request, mutates_response;   /* there are header mutations of some level */
    bool rewrites;                            /* path or host, other than host_rewrite auto */
    bool rewrites_host_auto, counts_attempts; /* host_rewrite auto; include_request_attempt_count */
    struct doing_labels labels;               /* virtual_host, route */
    const struct virtual_clusters *virtual_clusters; /* of its host; NULL: none */

    const struct cfg_route *config;
    const struct cfg_virtual_host *virtual_host;
    const struct route_table *table;
    struct span direct_body;                   /* of a direct_response, read at build time */
    const struct cluster_specifier *specifier; /* names the cluster; NULL: none */
};

struct route_build {
    struct filter_factory *const *filters; /* the HCM's chain, for per-filter configs */
    size_t filter_count;
    /* NULL: there is none of that name. What it returns outlives the table. */
    struct cluster *(*find_cluster)(void *arg, struct span name);
    bool clusters_may_come; /* what validate_clusters is not set to: as on Envoy, so with rds */
    void *arg;
};
/* NULL and problems on error. */
struct route_table *route_table_build(const struct cfg_route_configuration *config,
                                      const struct route_build *build,
                                      struct cfg_problems *problems);
void route_table_free(struct route_table *table);

/* First route of the best virtual host (exact, then longest suffix wildcard, then longest prefix
 * wildcard, then "*") that matches; NULL when none does. random decides runtime fractions and
 * weighted clusters: each of those has an entry of its own, so all that is asked of the entry later
 * is about the cluster that was chosen here. Allocates nothing. A virtual host's require_tls gives
 * the entry of a redirect to https. peer: bits of tls_info.h, of the client's certificate. */
const struct route_entry *route_match(const struct route_table *table,
                                      const struct header_map *headers, uint64_t random,
                                      unsigned peer);

/* Envoy's order: most specific first (weighted cluster, route, virtual host, table); with
 * most_specific_header_mutations_wins weighted cluster, table, virtual host, route. Values are formatted (%REQ(..)% and so on).
 * -ENOMEM or -EINVAL (a value that may not go on the wire). */
MUST_CHECK int route_mutate(const struct route_entry *route, struct exchange *x, bool request);
MUST_CHECK static inline int route_mutate_request(const struct route_entry *route,
                                                  struct exchange *x) {
    return route->mutates_request ? route_mutate(route, x, true) : 0;
}
MUST_CHECK static inline int route_mutate_response(const struct route_entry *route,
                                                   struct exchange *x) {
    return route->mutates_response ? route_mutate(route, x, false) : 0;
}

/* Cluster name of a route action for this request (fixed or by header; not for a route with a specifier, whose
 * choice the exchange has); absent when the header is missing. */
struct span route_cluster_name(const struct route_entry *route, const struct header_map *headers);
/* :path by prefix_rewrite or regex_rewrite (sets x-envoy-original-path as Envoy does), :authority
 * by host_rewrite_literal/_header (sets x-envoy-original-host). After route_mutate_request, as on
 * Envoy. Nothing unless route->rewrites. host_rewrite auto is the router's: it knows the endpoint.
 * -ENOMEM or -EINVAL. */
MUST_CHECK int route_rewrite_request(const struct route_entry *route, struct exchange *x);
/* Location of a redirect action, in the arena; absent when memory is short. */
struct span route_redirect_location(const struct route_entry *route, struct exchange *x);
/* Status of a redirect or direct_response action. */
unsigned route_status(const struct route_entry *route);

/* Per-route configs of a filter, least specific first; how many were put in out. */
unsigned route_filter_configs(const struct route_entry *route, uint32_t filter_index,
                              const void *out[4]);
