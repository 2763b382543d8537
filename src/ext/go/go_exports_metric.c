/* go_exports_metric: what a Go library may do with the metrics of a configuration, and how it gives one back.
 *
 * The SDK ignores every code but those that make it panic (-1 to -4), so a definition that a limit refuses
 * leaves the plugin with id 0, which counts nowhere and reads 0; the log says why. */
#include <errno.h>
#include <stdatomic.h>
#include <string.h>

#include "ext/go/go_exports.h"
#include "ext/go/go_gate.h"
#include "ext/go/go_lent.h"
#include "ext/go/go_log.h"
#include "ext/go/go_stats.h"
#include "ext/remote/host_metric.h"

/* What an address of a configuration stands for, kept until let_go; memory NULL when Go gave it back. */
static struct loan keep(const void *config, struct go_lent_config **lent) {
    struct loan loan = loan_keep(&go_lent_configs, config);
    if (loan.memory != config) { /* inside of one, or none: not what Go was lent */
        if (loan.memory)
            loan_let_go(&go_lent_configs, loan);
        loan = (struct loan){0};
    }
    if (!loan.memory)
        go_stats_count(GO_STALE_HANDLES, 1);
    *lent = loan.memory;
    return loan;
}

enum { TOLD_MAX = 16 }; /* a plugin that names metrics by requests must not fill the log either */
static _Atomic unsigned told;

int envoyGoFilterHttpDefineMetric(void *config, uint32_t type, void *name, int name_len,
                                  uint32_t *id) {
    struct go_lent_config *lent;
    struct loan loan = keep(config, &lent);
    if (!lent)
        return GO_FILTER_IS_GONE;
    struct span called = go_gate_input(name, name_len);
    int err = type < GO_METRIC_KINDS
                  ? go_metrics_define(&lent->metrics, (enum stat_kind)type, called, id)
                  : -ENOENT;
    int code = err ? GO_OK : host_metric_defined(lent, *id);
    loan_let_go(&go_lent_configs, loan);
    if (code)
        return code;
    if (err && atomic_fetch_add_explicit(&told, 1, memory_order_relaxed) < TOLD_MAX)
        LOG(log_golang, LOG_ERROR, "metric %.*s is not defined, and counts nowhere: %s",
            (int)(called.len < 100 ? called.len : 100), called.ptr, strerror(-err));
    return err == -ENOENT ? GO_VALUE_NOT_FOUND : err ? GO_INTERNAL_FAILURE : GO_OK;
}

int envoyGoFilterHttpIncrementMetric(void *config, uint32_t id, int64_t offset) {
    struct go_lent_config *lent;
    struct loan loan = keep(config, &lent);
    if (!lent)
        return GO_FILTER_IS_GONE;
    const struct statistic *stat = go_metrics_find(&lent->metrics, id);
    if (stat &&
        host_metric_count(lent, id, REMOTE_METRIC_ADD, (uint64_t)offset) == HOST_METRIC_HERE)
        go_metric_add(stat, offset);
    loan_let_go(&go_lent_configs, loan);
    return GO_OK;
}

int envoyGoFilterHttpGetMetric(void *config, uint32_t id, uint64_t *value) {
    struct go_lent_config *lent;
    struct loan loan = keep(config, &lent);
    if (!lent)
        return GO_FILTER_IS_GONE;
    const struct statistic *stat = go_metrics_find(&lent->metrics, id);
    if (stat && stat->kind != STAT_HISTOGRAM &&
        host_metric_get(lent, id, value) == HOST_METRIC_HERE)
        *value = (uint64_t)stat_value(stat);
    loan_let_go(&go_lent_configs, loan);
    return GO_OK;
}

int envoyGoFilterHttpRecordMetric(void *config, uint32_t id, uint64_t value) {
    struct go_lent_config *lent;
    struct loan loan = keep(config, &lent);
    if (!lent)
        return GO_FILTER_IS_GONE;
    const struct statistic *stat = go_metrics_find(&lent->metrics, id);
    if (stat && host_metric_count(lent, id, REMOTE_METRIC_RECORD, value) == HOST_METRIC_HERE)
        go_metric_record(stat, value);
    loan_let_go(&go_lent_configs, loan);
    return GO_OK;
}

/* Go had it since NewHttpPluginConfig; its garbage collector gives it back. */
void envoyGoConfigHttpFinalize(void *config) {
    go_lent_finalize(&go_lent_configs, config);
}
