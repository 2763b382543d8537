/* listener_manager: which listeners serve. One configuration after the other is put in place as a whole:
 *
 *     prepare: what is new is built and bound ──► publish: each P takes it in one go ──► those before it drain
 *                 └── it cannot be: nothing has changed
 *
 * A P that has taken a configuration finds its clusters by name (worker->snapshot), gives what connects to its
 * listeners, and lets connections follow. An address that stays keeps its sockets, with all who wait in their queues,
 * also when the listener that had it has another name now. An address that is gone closes.
 *
 * Draining  Connections of a listener that is gone, and those that cannot follow, hear `connection: close` with their
 *           next answer, and end when the drain time is over.
 *
 * Threads  P 0's coroutines, one at a time but for listener_manager_stop. */
#pragma once
#include "proxy/listener.h"
#include "proxy/snapshot.h"

struct listener_manager_options {
    struct connection_limit *connections;   /* of the process; NULL: no limit */
    bool counts_all;                        /* also those that ignore it */
    const struct listener_sockets *sockets; /* borrowed for ever; NULL: nobody keeps them */
    int64_t drain_ns;
};
/* Once, before anything is prepared. */
void listener_manager_init(const struct listener_manager_options *options);

struct listener_change;
/* Leases what it needs of the snapshot. NULL with problems: an address cannot be had, or something cannot change while
 * the process runs. */
MUST_CHECK struct listener_change *listener_change_prepare(struct snapshot *snapshot,
                                                           struct cfg_problems *problems);
/* Parks until all Ps have taken it. Frees it. */
void listener_change_publish(struct listener_change *change);
/* Instead. */
void listener_change_cancel(struct listener_change *change);

/* The admin's, on P 0, for good. NULL and *rc = -errno. */
struct listener *listener_manager_open_admin(struct listener_config *config, bool ignores_global,
                                             int *rc);
/* Nobody connects any more, for good: a change that wants to listen somewhere is refused from then on. Connections go on.
 * The admin's sockets close only with `also_admin`. Parks; also while a change is prepared or published. */
void listener_manager_stop(bool also_admin);

/* Those that serve, without the admin's. */
void listener_manager_each(void (*fn)(const struct listener *listener, void *arg), void *arg);
/* Connections that are open, without the admin's. Any thread. */
int64_t listener_manager_connections(void);
