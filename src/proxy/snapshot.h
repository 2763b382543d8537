/* snapshot: everything a configuration says about behaviour, built whole and then immutable.
 *
 * The one way in: a config is loaded, a snapshot is built beside the running one (off the Ps: filters
 * load libraries), and only when all of it stands each P's pointer is swapped by a posted message.
 * A snapshot that cannot be built changes nothing.
 *
 * Ownership  Counted (atomic). Each P leases the one it serves with; each connection leases the one
 *            it was accepted under, so an exchange never sees two configurations.
 * Threads    Read-only after snapshot_build. */
#pragma once
#include <stdatomic.h>

#include "io/address.h"
#include "proxy/cluster.h"
#include "proxy/filter_chain.h"
#include "proxy/hcm.h"
#include "proxy/listener_filter.h"

struct listener_address {
    struct address address;
    bool ipv4_compat;
    const struct cfg_socket_option *socket_options; /* borrowed of the config */
    size_t socket_option_count;
};

struct listener_config {
    const struct cfg_listener *config; /* NULL: the admin's */
    struct span name;
    struct listener_address *addresses; /* the first one is what it is called by */
    uint32_t address_count;
    uint64_t memory_limit_bytes; /* 0: none */
    uint64_t connections_max;    /* UINT64_MAX: no limit */
    struct filter_chain_table *chains;
    struct listener_filter *filters;
    uint32_t filter_count;
    int64_t filters_timeout_ns; /* of all of them; 0: none */
    struct access_log **logs;   /* of its connections */
    uint32_t log_count;
};

struct snapshot {
    _Atomic uint32_t refs;
    struct config *config;
    int64_t built_wall_ns;
    uint64_t version;
    struct listener_config *listeners;
    uint32_t listener_count;
    struct cluster **clusters; /* sorted by name */
    uint32_t cluster_count;
};

/* Leases config. `previous` (may be NULL) lends clusters whose definition did not change.
 * NULL and problems on error. */
struct snapshot *snapshot_build(struct config *config, const struct snapshot *previous,
                                struct cfg_problems *problems);
struct snapshot *snapshot_ref(struct snapshot *snapshot);
void snapshot_unref(struct snapshot *snapshot);

/* NULL when there is none of that name. */
struct cluster *snapshot_cluster(const struct snapshot *snapshot, struct span name);
