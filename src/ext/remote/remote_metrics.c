/* remote_metrics: see the header. A list: a library has a handful of configurations. */
#include "ext/remote/remote_metrics.h"

#include <errno.h>
#include <stdlib.h>

#include "ext/go/go_abi.h"
#include "ext/go/go_metric.h"

/* That a host may name, and make us keep: a page has 3 KiB. */
enum { CONFIGS_MAX = 1 << 16, PAGES_MAX = 1 << 16 };

struct remote_metrics_of {
    struct remote_metrics_of *next;
    uint64_t config_id;
    struct go_metrics metrics;
};

void remote_metrics_init(struct remote_metrics *metrics) {
    (void)pthread_mutex_init(&metrics->lock, NULL); /* cannot fail with default attributes */
    metrics->first = NULL;
    metrics->pages = 0;
}

void remote_metrics_fini(struct remote_metrics *metrics) {
    while (metrics->first) {
        struct remote_metrics_of *next = metrics->first->next;
        go_metrics_fini(&metrics->first->metrics);
        free(metrics->first);
        metrics->first = next;
    }
    (void)pthread_mutex_destroy(&metrics->lock); /* nobody holds it */
}

/* NULL: there is none, and with make no memory for it. */
static struct remote_metrics_of *of_locked(struct remote_metrics *metrics, uint64_t config_id,
                                           bool make) {
    struct remote_metrics_of *of = metrics->first;
    unsigned count = 0;
    for (; of && of->config_id != config_id; of = of->next)
        count++;
    if (of || !make || count >= CONFIGS_MAX || !(of = calloc(1, sizeof *of)))
        return of;
    of->config_id = config_id;
    of->next = metrics->first;
    metrics->first = of;
    return of;
}

static int define_locked(struct remote_metrics *metrics, const struct remote_ask *ask,
                         uint64_t *id) {
    uint32_t made = 0;
    struct remote_metrics_of *of = of_locked(metrics, ask->subject, true);
    if (!of || ask->n >= GO_METRIC_KINDS)
        return of ? GO_VALUE_NOT_FOUND : GO_INTERNAL_FAILURE;
    bool new_page = of->metrics.count[ask->n] % GO_METRIC_PAGE == 0;
    if (new_page && metrics->pages == PAGES_MAX)
        return GO_INTERNAL_FAILURE;
    int err = go_metrics_define(&of->metrics, (enum stat_kind)ask->n, ask->a, &made);
    metrics->pages += !err && new_page;
    *id = made;
    return err ? GO_INTERNAL_FAILURE : GO_OK;
}

static const struct statistic *find(struct remote_metrics *metrics, uint64_t config_id,
                                    uint64_t id) {
    pthread_mutex_lock(&metrics->lock);
    const struct remote_metrics_of *of = of_locked(metrics, config_id, false);
    const struct statistic *stat =
        of && id <= UINT32_MAX ? go_metrics_find(&of->metrics, (uint32_t)id) : NULL;
    pthread_mutex_unlock(&metrics->lock);
    return stat;
}

void remote_metrics_answer(struct remote_metrics *metrics, const struct remote_ask *ask,
                           struct remote_answer *answer) {
    if (ask->question == REMOTE_DEFINE_METRIC) {
        pthread_mutex_lock(&metrics->lock);
        answer->code = define_locked(metrics, ask, &answer->number);
        pthread_mutex_unlock(&metrics->lock);
        return;
    }
    const struct statistic *stat = find(metrics, ask->subject, ask->n);
    if (stat && stat->kind != STAT_HISTOGRAM)
        answer->number = (uint64_t)stat_value(stat);
}

void remote_metrics_count(struct remote_metrics *metrics, const struct remote_metric *metric) {
    if (!metric->config_id) {
        if (metric->id < GO_COUNTED)
            go_stats_count((enum go_count)metric->id, metric->value);
        return;
    }
    const struct statistic *stat = find(metrics, metric->config_id, metric->id);
    if (!stat)
        return;
    if (metric->action == REMOTE_METRIC_ADD)
        go_metric_add(stat, (int64_t)metric->value);
    else
        go_metric_record(stat, metric->value);
}
