/* remote_metrics: the metrics that plugins of one host process define (go_metric.h), by configuration. They end with the
 * process: the next one defines its own, which count in the same statistics.
 *
 * Threads  Any P: a lock of its own. */
#pragma once
#include <pthread.h>

#include "ext/remote/remote_message.h"

struct remote_metrics_of;
struct remote_metrics {
    pthread_mutex_t lock;
    struct remote_metrics_of *first;
    uint32_t pages; /* in all of them */
};

void remote_metrics_init(struct remote_metrics *metrics);
void remote_metrics_fini(struct remote_metrics *metrics);
/* REMOTE_DEFINE_METRIC and REMOTE_ASK_METRIC. */
void remote_metrics_answer(struct remote_metrics *metrics, const struct remote_ask *ask,
                           struct remote_answer *answer);
void remote_metrics_count(struct remote_metrics *metrics, const struct remote_metric *metric);
