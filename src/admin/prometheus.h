/* prometheus: stats in Prometheus' text format (version 0.0.4), with Envoy's names.
 *
 *   stat     cluster.origin.upstream_rq_total, tag envoy.cluster_name="origin"
 *   becomes  # TYPE envoy_cluster_upstream_rq_total counter
 *            envoy_cluster_upstream_rq_total{envoy_cluster_name="origin"} 7
 *
 * Lines of one metric stand together behind one TYPE line, whatever the stats' own names. */
#pragma once
#include "admin/text.h"
#include "base/stats.h"

enum prometheus_histograms { PROMETHEUS_BUCKETS, PROMETHEUS_SUMMARY };

/* Reorders nothing of the caller's. On shortage of memory out->failed is set. */
void prometheus_render(const struct statistic *const *stats, size_t count,
                       enum prometheus_histograms histograms, struct text *out);
