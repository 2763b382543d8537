/* host_metric: metrics that a plugin defines, in a host process: the proxy has them, and counts.
 *
 *     id of the plugin's ─► struct go_metrics, as in process ─► kind and name ─► the proxy's id, asked for once
 *
 * Configurations are parsed before the process serves, and define metrics then: these are counted here until the proxy can be told,
 * which is when the process begins to serve. Of histograms the samples of that time are lost.
 *
 * Threads  Any, with a lease on the loan of the configuration. */
#pragma once
#include "ext/go/go_lent.h"
#include "ext/remote/remote_message.h"

struct host;

/* Where a metric counts. */
enum host_metric_where {
    HOST_METRIC_HERE, /* the process does not serve yet, or is none */
    HOST_METRIC_TOLD,
};

/* A definition that was made here. The code to answer. */
int host_metric_defined(struct go_lent_config *config, uint32_t id);
/* Add, or record. */
enum host_metric_where host_metric_count(struct go_lent_config *config, uint32_t id,
                                         enum remote_metric_action action, uint64_t value);
enum host_metric_where host_metric_get(struct go_lent_config *config, uint32_t id, uint64_t *value);

/* A configuration that may define some before there is anybody to tell. */
void host_metrics_await(const struct go_lent_config *config);
/* Defines all that were defined so far. Waits for answers. Once, when there is somebody. */
void host_metrics_tell(struct host *host);
