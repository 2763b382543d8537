/* listener_config: what a configuration says of one listener, as it is served: addresses, filter chains, filters, logs.
 *
 * Ownership  Counted (atomic): of the snapshots it is part of, and of the listener that serves with it (listener.h). It
 *            leases the configurations that it points into, and the clusters that it was built with.
 * Threads    Read-only once it is built. What is freed with the last reference may run the code of extensions and wait
 *            for it, and so is left to a thread. */
#pragma once
#include <stdatomic.h>

#include "io/address.h"
#include "proxy/filter_chain.h"
#include "proxy/hcm.h"
#include "proxy/listener_filter.h"

struct access_log;
struct cluster;
struct cfg_route_configuration;
struct resource;
struct snapshot;

struct listener_address {
    struct address address;
    bool ipv4_compat;
    const struct cfg_socket_option *socket_options; /* borrowed of the config */
    size_t socket_option_count;
};

struct listener_use;
struct listener_config {
    _Atomic uint32_t refs;
    const struct cfg_listener *config; /* NULL: the admin's */
    uint64_t edition;                  /* of the resource that it was built of */
    struct config
        *configs[2]; /* leased: of `config`, and of the bootstrap, which has the secrets */
    struct span name;
    struct listener_address *addresses; /* the first one is what it is called by */
    uint32_t address_count;
    uint64_t memory_limit_bytes; /* 0: none */
    int64_t memory_wait_ns;      /* so long a request waits for room within that */
    uint64_t connections_max;    /* UINT64_MAX: no limit */
    struct filter_chain_table *chains;
    struct listener_filter *filters;
    uint32_t filter_count;
    int64_t filters_timeout_ns; /* of all of them; 0: none */
    struct access_log **logs;   /* of its connections */
    uint32_t log_count;
    struct listener_use *uses; /* private: what it was built with, by name */
};

/* Part of a snapshot that is being built, whose clusters are there. Off the Ps. NULL: there is a problem. */
struct listener_config *listener_config_build(struct snapshot *snapshot,
                                              const struct resource *resource,
                                              struct cfg_problems *problems);
struct listener_config *listener_config_ref(struct listener_config *config);
void listener_config_unref(struct listener_config *config);
/* The same off the Ps, where what is freed is freed at once. */
void listener_config_drop(struct listener_config *config);

/* For those that build what a listener consists of: snapshot_cluster, and the answer is borrowed of the listener. */
struct cluster *snapshot_use_cluster(struct snapshot *snapshot,
                                     struct span name BORROWED_BY(listener));
/* The same of a route configuration that is found by name. NULL: there is none. */
const struct cfg_route_configuration *snapshot_use_routes(struct snapshot *snapshot,
                                                          struct span name BORROWED_BY(listener));
/* In which these routes lie, which are of one of its HTTP connection managers. Borrowed of it. */
struct config *listener_config_of_routes(const struct listener_config *listener,
                                         const struct cfg_route_configuration *routes);
/* Whether it would be built with the same in `next`. */
bool listener_config_is_current(const struct listener_config *listener,
                                const struct snapshot *next);
