/* snapshot: everything a configuration says about behaviour, built whole and then immutable.
 *
 * The one way in: a config is loaded, a snapshot is built beside the running one (off the Ps: filters
 * load libraries), and only when all of it stands each P's pointer is swapped by a posted message.
 * A snapshot that cannot be built changes nothing.
 *
 * What did not change goes on: a cluster with the same definition, and a listener with the same definition whose clusters
 * go on, too, are the same objects in both snapshots. So a filter keeps what it has counted or learnt when another
 * listener's routes change, and a cluster its connections.
 *
 * Ownership  Counted (atomic), and so are its listeners and clusters. Each P leases the one it serves with
 *            (worker->snapshot), for what is looked up by name; a connection leases its listener's
 *            configuration (listener.h), so an exchange never sees two of them.
 * Threads    Read-only after snapshot_build. What is freed with the last reference may run the code of extensions and
 *            wait for it: on a P that is left to a thread (blocking_call). */
#pragma once
#include <stdatomic.h>

#include "config/resources.h"
#include "proxy/cluster.h"
#include "proxy/listener_config.h"

struct snapshot {
    _Atomic uint32_t refs;
    struct resources *resources; /* leased: what it was built of */
    struct config *config;       /* the bootstrap; of the resources */
    int64_t built_wall_ns;
    uint64_t version;
    uint64_t hash; /* resources_hash */
    struct listener_config **listeners;
    uint32_t listener_count;
    struct cluster **clusters; /* sorted by name */
    uint32_t cluster_count;
    const struct snapshot *previous;  /* private: while it is built, what serves; or NULL */
    struct listener_config *building; /* private: while it is built */
    uint64_t rollouts_done;           /* private to route_rollout.c: when it began to be built */
    bool lost;                        /* private: memory was short meanwhile */
};

/* Leases resources. `previous` (may be NULL), of whose resources these were made,
 * lends what did not change. Off the Ps. NULL and problems on error. */
struct snapshot *snapshot_build(struct resources *resources, const struct snapshot *previous,
                                struct cfg_problems *problems);
/* The version of the one that is built next. */
uint64_t snapshot_next_version(void);
struct snapshot *snapshot_ref(struct snapshot *snapshot);
void snapshot_unref(struct snapshot *snapshot);
/* The same of one that nobody else has, off the Ps: what is freed is freed at once. */
void snapshot_drop(struct snapshot *snapshot);

/* NULL when there is none of that name. Borrowed of the snapshot. */
struct cluster *snapshot_cluster(const struct snapshot *snapshot, struct span name);
