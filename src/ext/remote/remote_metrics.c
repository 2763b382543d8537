/* remote_metrics: see the header. A list: a library has a handful of configurations. */
#include "ext/remote/remote_metrics.h"

#include <errno.h>
#include <stdlib.h>

#include "ext/go/go_abi.h"
#include "ext/go/go_metric.h"

/* That a host may make us keep: a page has 3 KiB. */
enum { PAGES_MAX = 1 << 16 };

struct remote_metrics_of {
    struct remote_metrics_of *next;
    uint64_t config_id;
    struct go_metrics metrics;
};

void remote_metrics_init(struct remote_metrics *metrics,
                         bool (*knows)(void *arg, uint64_t config_id), void *arg) {
    *metrics = (struct remote_metrics){.knows = knows, .arg = arg};
    (void)pthread_mutex_init(&metrics->lock, NULL); /* cannot fail with default attributes */
}

static void drop_first(struct remote_metrics_of **at) {
    struct remote_metrics_of *of = *at;
    *at = of->next;
    go_metrics_fini(&of->metrics);
    free(of);
}

void remote_metrics_fini(struct remote_metrics *metrics) {
    while (metrics->first)
        drop_first(&metrics->first);
    (void)pthread_mutex_destroy(&metrics->lock); /* nobody holds it */
}

static struct remote_metrics_of **at_locked(struct remote_metrics *metrics, uint64_t config_id) {
    struct remote_metrics_of **at = &metrics->first;
    while (*at && (*at)->config_id != config_id)
        at = &(*at)->next;
    return at;
}

/* NULL: there is no such configuration, or no memory for it. */
static struct remote_metrics_of *make_locked(struct remote_metrics *metrics, uint64_t config_id) {
    struct remote_metrics_of *of = *at_locked(metrics, config_id);
    if (of || !metrics->knows(metrics->arg, config_id) || !(of = calloc(1, sizeof *of)))
        return of;
    of->config_id = config_id;
    of->next = metrics->first;
    metrics->first = of;
    return of;
}

static uint32_t pages_of(const struct go_metrics *metrics) {
    uint32_t pages = 0;
    for (unsigned kind = 0; kind < GO_METRIC_KINDS; kind++)
        pages += (metrics->count[kind] + GO_METRIC_PAGE - 1) / GO_METRIC_PAGE;
    return pages;
}

/* The caller has made `knows` say no: so whoever defines one at the same time has done so, or will not. */
void remote_metrics_forget(struct remote_metrics *metrics, uint64_t config_id) {
    pthread_mutex_lock(&metrics->lock);
    struct remote_metrics_of **at = at_locked(metrics, config_id);
    if (*at) {
        metrics->pages -= pages_of(&(*at)->metrics);
        drop_first(at);
    }
    pthread_mutex_unlock(&metrics->lock);
}

static int define_locked(struct remote_metrics *metrics, const struct remote_ask *ask,
                         uint64_t *id) {
    uint32_t made = 0;
    struct remote_metrics_of *of = make_locked(metrics, ask->subject);
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
    const struct remote_metrics_of *of = *at_locked(metrics, config_id);
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
