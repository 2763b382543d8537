/* network_connection_limit: as Envoy's, one that is turned away after a delay counts until it is gone. */
#include <errno.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/stats.h"
#include "config/network_config.h"
#include "filter/network_filters.h"
#include "proxy/worker.h"
#include "rt/sync.h"

struct connection_limit_filter {
    uint64_t max;
    int64_t delay_ns; /* 0: none */
    bool enabled;
    struct statistic *active, *limited;
    _Atomic uint64_t open; /* on all Ps; a number that guards nothing, so relaxed */
};

static void leave(struct connection_limit_filter *limit, unsigned shard) {
    atomic_fetch_sub_explicit(&limit->open, 1, memory_order_relaxed);
    stat_dec(limit->active, shard);
}

static int open_stream(struct network_stream *n, const struct network_filter *filter, void **self) {
    struct connection_limit_filter *limit = filter->config;
    unsigned shard = n->worker->index;
    if (!limit->enabled)
        return 0;
    stat_inc(limit->active, shard);
    if (atomic_fetch_add_explicit(&limit->open, 1, memory_order_relaxed) < limit->max)
        return 0;
    stat_inc(limit->limited, shard);
    if (limit->delay_ns) /* cut short when it is cancelled, which is just as well */
        (void)rt_sleep_until(clock_mono_ns() + limit->delay_ns);
    leave(limit, shard);
    return -ECONNREFUSED;
}

static void close_stream(struct network_stream *n, void *self) {
    struct connection_limit_filter *limit = self;
    if (limit->enabled)
        leave(limit, n->worker->index);
}

static int build(const struct cfg_any *typed_config, struct snapshot *snapshot,
                 struct cfg_problems *problems, void **out) {
    const struct cfg_network_connection_limit *config = typed_config->message;
    struct connection_limit_filter *limit = calloc(1, sizeof *limit);
    if (!limit) {
        cfg_problem_add(problems, CFG_PROBLEM_INVALID, &config->mark, "out of memory");
        return -EINVAL;
    }
    limit->max = config->max_connections.value;
    limit->delay_ns = config->delay.ns;
    limit->enabled = !config->runtime_enabled || config->runtime_enabled->default_value.value;
    limit->active =
        stats_get_tagged(STAT_GAUGE, "connection_limit", "envoy.connection_limit_prefix",
                         config->stat_prefix, "active_connections");
    limit->limited =
        stats_get_tagged(STAT_COUNTER, "connection_limit", "envoy.connection_limit_prefix",
                         config->stat_prefix, "limited_connections");
    *out = limit;
    return 0;
}

static const struct network_filter_itab itab = {
    .name = "envoy.filters.network.connection_limit",
    .open = open_stream,
    .close = close_stream,
};

const struct network_filter_kind network_filter_kind_connection_limit = {
    .itab = &itab,
    .schema = &cfg_schema_network_connection_limit,
    .build = build,
    .free_config = free,
};
