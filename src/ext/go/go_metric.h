/* go_metric: counters, gauges and histograms that a plugin defines in its configuration.
 *
 *     configuration ─► struct go_metrics ─ id ─► struct statistic, by name, for the life of the process
 *
 * A name stands as it is at the root of the statistics ("my_filter.requests"), so configurations that say
 * the same name count in one, and an update of the configuration goes on where the old one was. A name that
 * the proxy itself uses is the proxy's statistic, as on Envoy. Ids are of one configuration: the low two bits
 * are the kind, the rest counts from 1, and every definition makes a new one.
 *
 * Ownership  The table is part of the loan of a configuration (go_lent.h) and ends with it: metric objects
 *            of a plugin keep their configuration alive.
 * Threads    Any, with a lease on the loan.
 * Limits     Statistics are never given back, so a plugin that names them by what clients send must not
 *            fill them: GO_METRIC_NAMES_MAX names, GO_METRIC_CELLS_MAX cells and GO_METRIC_NAME_MAX bytes
 *            per name, all libraries together; GO_METRICS_PER_KIND ids per configuration. */
#pragma once
#include "base/stats.h"

enum {
    GO_METRIC_NAME_MAX = 512,
    GO_METRIC_NAMES_MAX = 1 << 14,
    GO_METRIC_CELLS_MAX = STATS_SLOTS_MAX / 4, /* a histogram takes hundreds */
    GO_METRIC_PAGE = 256,
    GO_METRIC_PAGES = 16,
    GO_METRICS_PER_KIND = GO_METRIC_PAGE * GO_METRIC_PAGES,
    GO_METRIC_KINDS = 3,
};

struct go_metric_page {
    _Atomic(struct statistic *) stats[GO_METRIC_PAGE];
    _Atomic uint32_t far[GO_METRIC_PAGE]; /* remote/host_metric.h's, in a host process */
};

/* Zeroed: none. */
struct go_metrics {
    _Atomic(struct go_metric_page *) pages[GO_METRIC_KINDS][GO_METRIC_PAGES];
    uint32_t count[GO_METRIC_KINDS]; /* of ids given out; under go_metric.c's lock */
};

/* When nobody has a lease on the loan any more. */
void go_metrics_fini(struct go_metrics *metrics);

/* Gives *id. Control characters in the name become '_': they would break the pages that list it. 0,
 * -EINVAL (no name), -E2BIG (a limit) or -ENOMEM. */
MUST_CHECK int go_metrics_define(struct go_metrics *metrics, enum stat_kind kind, struct span name,
                                 uint32_t *id);

/* What an id stands for; NULL for an unknown one. */
struct statistic *go_metrics_find(const struct go_metrics *metrics, uint32_t id);
/* Its slot for another process's id; NULL for an unknown one. */
_Atomic uint32_t *go_metrics_far(const struct go_metrics *metrics, uint32_t id);

/* A counter grows by what is above 0; a gauge by anything; a histogram does not. */
void go_metric_add(const struct statistic *stat, int64_t n);
/* A counter grows by it, a gauge becomes it, a histogram has one sample more. */
void go_metric_record(const struct statistic *stat, uint64_t value);
