/* remote_metrics: the metrics that plugins of one host process define (go_metric.h), by configuration. They end with the
 * configuration, or with the process: the next one defines its own, which count in the same statistics.
 *
 * Threads  Any: a lock of its own, within which `knows` is asked. */
#pragma once
#include <pthread.h>

#include "ext/remote/remote_message.h"

struct remote_metrics_of;
struct remote_metrics {
    pthread_mutex_t lock;
    /* Is there such a configuration? Asked before anything is kept for one: the host may name any, and those that were dropped. */
    bool (*knows)(void *arg, uint64_t config_id);
    void *arg;
    struct remote_metrics_of *first;
    uint32_t pages; /* in all of them */
};

void remote_metrics_init(struct remote_metrics *metrics,
                         bool (*knows)(void *arg, uint64_t config_id),
                         void *arg BORROWED_BY(metrics));
void remote_metrics_fini(struct remote_metrics *metrics);
/* destroyConfig: nothing is known of it any more, so what comes of it is for nobody. */
void remote_metrics_forget(struct remote_metrics *metrics, uint64_t config_id);
/* REMOTE_DEFINE_METRIC and REMOTE_ASK_METRIC. */
void remote_metrics_answer(struct remote_metrics *metrics, const struct remote_ask *ask,
                           struct remote_answer *answer);
void remote_metrics_count(struct remote_metrics *metrics, const struct remote_metric *metric);
