#include "config/network_config.h"
#include "filter/network_filters.h"

static int open_stream(struct network_stream *n, const struct network_filter *filter, void **self) {
    if (n->info->server_name.len)
        n->cluster = n->info->server_name;
    return 0;
}

static int build(const struct cfg_any *typed_config, struct snapshot *snapshot,
                 struct cfg_problems *problems, void **config) {
    return 0;
}

static const struct network_filter_itab itab = {
    .name = "envoy.filters.network.sni_cluster",
    .open = open_stream,
};

const struct network_filter_kind network_filter_kind_sni_cluster = {
    .itab = &itab,
    .schema = &cfg_schema_sni_cluster,
    .build = build,
};
