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

/* What an address of a configuration stands for, kept until let_go; memory NULL when Go gave it back. */
static struct loan keep(const void *config, struct go_lent_config **lent) {
    struct loan loan = loan_keep(&go_lent_configs, config);
    if (loan.memory != config) { /* inside of one, or none: not what Go was lent */
        if (loan.memory)
            loan_let_go(&go_lent_configs, loan);
        loan = (struct loan){0};
    }
    if (!loan.memory)
        stat_inc(go_stats.stale_handles, STATS_SHARD_FOREIGN);
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
    loan_let_go(&go_lent_configs, loan);
    if (err && atomic_fetch_add_explicit(&told, 1, memory_order_relaxed) < TOLD_MAX)
        LOG(log_golang, LOG_ERROR, "metric %.*s is not defined, and counts nowhere: %s",
            (int)(called.len < 100 ? called.len : 100), called.ptr, strerror(-err));
    return err == -ENOENT ? GO_VALUE_NOT_FOUND : err ? GO_INTERNAL_FAILURE : GO_OK;
}

/* The metric, which outlives all configurations; NULL: there is none of that number. */
static int find(void *config, uint32_t id, const struct statistic **stat) {
    struct go_lent_config *lent;
    struct loan loan = keep(config, &lent);
    if (!lent)
        return GO_FILTER_IS_GONE;
    *stat = go_metrics_find(&lent->metrics, id);
    loan_let_go(&go_lent_configs, loan);
    return GO_OK;
}

int envoyGoFilterHttpIncrementMetric(void *config, uint32_t id, int64_t offset) {
    const struct statistic *stat;
    int code = find(config, id, &stat);
    if (code == GO_OK && stat)
        go_metric_add(stat, offset);
    return code;
}

int envoyGoFilterHttpGetMetric(void *config, uint32_t id, uint64_t *value) {
    const struct statistic *stat;
    int code = find(config, id, &stat);
    if (code == GO_OK && stat && stat->kind != STAT_HISTOGRAM)
        *value = (uint64_t)stat_value(stat);
    return code;
}

int envoyGoFilterHttpRecordMetric(void *config, uint32_t id, uint64_t value) {
    const struct statistic *stat;
    int code = find(config, id, &stat);
    if (code == GO_OK && stat)
        go_metric_record(stat, value);
    return code;
}

/* Go had it since NewHttpPluginConfig; its garbage collector gives it back. */
void envoyGoConfigHttpFinalize(void *config) {
    go_lent_finalize(&go_lent_configs, config);
}
