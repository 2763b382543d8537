/* dns: the resolver of STRICT_DNS and LOGICAL_DNS clusters.
 *
 * One coroutine per cluster resolves every name through getaddrinfo (on a spare thread), publishes
 * the hosts when they changed, and sleeps for dns_refresh_rate. A failed lookup keeps the hosts
 * that were there. STRICT_DNS takes every address of each name; LOGICAL_DNS the first one of its
 * only name. */
#pragma once
#include "proxy/cluster.h"

/* Reports what a DNS cluster's endpoints lack. */
void dns_check(const struct cfg_cluster *cfg, struct cfg_problems *problems);
/* P 0. */
void dns_start(struct cluster *cluster);
/* Its names are not looked up any more: `stopping` was set. P 0. */
void dns_stop(struct cluster *cluster);
