/* virtual_cluster: requests of a virtual host that are counted by themselves, because of what is in their headers:
 * vhost.HOST.vcluster.NAME.upstream_rq_*, as on Envoy. Which cluster serves them is another matter.
 *
 * Ownership  Part of a route table.
 * Threads    Built off the Ps, then any P matches and counts. */
#pragma once
#include <stdatomic.h>

#include "base/stats.h"

struct cfg_virtual_host;
struct header_map;
struct route_builder;
struct route_entry;

struct virtual_cluster {
    struct span name;       /* absent: the one of requests that are in no other */
    struct span host, stat; /* what its statistics are called by */
    struct statistic *rq_total, *rq_timeout, *rq_completed, *rq_time;
    _Atomic uint32_t by_class[5], by_code[600]; /* cells; 0: none came yet */
};

/* All of a virtual host, in the order in which they are tried. */
struct virtual_clusters;
/* NULL when it has none, or problems were reported. */
const struct virtual_clusters *virtual_clusters_build(struct route_builder *builder,
                                                      const struct cfg_virtual_host *config);

/* The one that a request belongs to; NULL when its virtual host has none. */
struct virtual_cluster *virtual_cluster_of(const struct route_entry *route,
                                           const struct header_map *headers);

/* A response, the upstream's or one that stands for it. On the P whose shard it is. */
void virtual_cluster_count_response(struct virtual_cluster *cluster, unsigned shard,
                                    unsigned status);
