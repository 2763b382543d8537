/* go_cluster: envoy.router.cluster_specifier_plugin.golang: a Go plugin names the cluster of each request of a route.
 *
 *     exchange_route ─► choose ─► foreign_call ─► plugin.Cluster(headers) ─► name, none, or a panic
 *                         │                          └► GetHeader, from this thread or any other
 *                         └► the name, or default_cluster
 *
 * Ownership  A plugin's object in Go belongs to the route table; every exchange leases that, so no call comes after
 *            its end. What Go knows a request's headers by is a handle (ext_handles.h), good until the plugin has
 *            answered: a goroutine that it left behind finds nothing.
 * Threads    choose: the exchange's coroutine, which parks. The rest: any. */
#pragma once
#include <pthread.h>

#include "ext/go/go_quarantine.h"
#include "ext/go/go_stats.h"
#include "proxy/cluster_specifier.h"

extern const struct cluster_specifier_kind cluster_specifier_kind_golang;

/* What a handle is looked up with. */
extern const char go_cluster_key[];

/* One question. */
struct go_cluster_question {
    pthread_mutex_t lock;
    const struct header_map *headers; /* NULL: answered */
    struct go_quarantine_list texts;
    struct go_counts counts;
};
