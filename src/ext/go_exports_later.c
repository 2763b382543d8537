/* go_exports_later: functions of the SDK that this release does not have. They are here so that every
 * library loads, and answer a code that the SDK takes without a panic:
 *
 *   DefineMetric and the other metric calls  -7: id 0, which counts nowhere and reads 0
 *
 * The first call of each kind is logged. Stale calls get the codes of go_exports_http.c's gates as far
 * as they can matter: none of these touches a request. */
#include <stdatomic.h>

#include "base/span.h"
#include "ext/go_abi.h"
#include "ext/go_exports.h"
#include "ext/go_lent.h"
#include "ext/go_library.h"
#include "ext/go_log.h"
#include "ext/go_stats.h"

static int missing(atomic_flag *told, const char *what) {
    if (!atomic_flag_test_and_set_explicit(told, memory_order_relaxed))
        LOG(log_golang, LOG_WARN, "a plugin uses %s, which this release does not have", what);
    return GO_INTERNAL_FAILURE;
}

static atomic_flag told_metric = ATOMIC_FLAG_INIT;

/* config: what Go was lent, unless it gave it back. */
static int missing_metric(const void *config) {
    struct loan loan = loan_keep(&go_lent_configs, config);
    if (!loan.memory) {
        stat_inc(go_stats.stale_handles, STATS_SHARD_FOREIGN);
        return GO_FILTER_IS_GONE;
    }
    loan_let_go(&go_lent_configs, loan);
    return missing(&told_metric, "metrics");
}

int envoyGoFilterHttpDefineMetric(void *config, uint32_t type, void *name, int name_len,
                                  uint32_t *id) {
    if (type > 2)
        return GO_VALUE_NOT_FOUND;
    return missing_metric(config);
}

int envoyGoFilterHttpIncrementMetric(void *config, uint32_t id, int64_t offset) {
    return missing_metric(config);
}

int envoyGoFilterHttpGetMetric(void *config, uint32_t id, uint64_t *value) {
    return missing_metric(config);
}

int envoyGoFilterHttpRecordMetric(void *config, uint32_t id, uint64_t value) {
    return missing_metric(config);
}

/* Go had it since NewHttpPluginConfig; its garbage collector gives it back. */
void envoyGoConfigHttpFinalize(void *config) {
    go_lent_finalize(&go_lent_configs, config);
}

/* ---- the list ---- */

bool go_export_is_known(struct span name) {
    static const char *const names[] = {
#define X(type, name, params) #name,
        GO_EXPORTS(X)
#undef X
    };
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (span_eq(name, span_of(names[i])))
            return true;
    return false;
}
