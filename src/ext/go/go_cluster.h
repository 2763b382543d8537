/* go_cluster: envoy.router.cluster_specifier_plugin.golang: a Go plugin names the cluster of each request of a route.
 *
 *     exchange_route ─► choose ─► foreign_call ─► plugin.Cluster(headers) ─► name, none, or a panic
 *                         │                          └► GetHeader, from this thread or any other
 *                         └► the name, or default_cluster
 *
 * Ownership  A plugin's object in Go belongs to the route table; every exchange leases that, so no call comes after
 *            its end. What Go knows a request's headers by is good until it has answered (go_question.h).
 * Threads    choose: the exchange's coroutine, which parks. The rest: any. */
#pragma once
#include "proxy/cluster_specifier.h"

extern const struct cluster_specifier_kind cluster_specifier_kind_golang;
