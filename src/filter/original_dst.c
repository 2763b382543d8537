/* original_dst: envoy.filters.listener.original_dst: where a connection went that iptables brought here (REDIRECT,
 * DNAT) is its destination, for filter chains and for what is logged. One that came here by itself stays as it is. */
#include "config/listener_filter_config.h"
#include "filter/connection_facts.h"
#include "filter/listener_filters.h"
#include "proxy/downstream.h"

static int build(const struct cfg_any *typed_config, struct cfg_problems *problems, void **config) {
    *config = NULL;
    return 0;
}

static void free_config(void *config) {}

static enum listener_filter_verdict look(const void *config, struct downstream *d,
                                         struct connection_info *info, struct span bytes,
                                         bool ended, size_t *consume) {
    struct address before;
    socket_address_before_nat(&d->socket, &before);
    if (before.len != 0 && !note_local_address(info, &before))
        return LISTENER_FILTER_CLOSE;
    return LISTENER_FILTER_DONE;
}

static const struct listener_filter_itab itab = {
    .name = "envoy.filters.listener.original_dst",
    .look = look,
};

const struct listener_filter_kind listener_filter_kind_original_dst = {
    .itab = &itab,
    .schema = &cfg_schema_original_dst,
    .build = build,
    .free_config = free_config,
};
