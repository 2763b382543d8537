/* overload: what the proxy does when memory is short, in the words of Envoy's overload manager.
 *
 *     monitors ─► pressures ─► triggers ─► state of each action ─posted─► each P's copy (struct worker)
 *
 * A monitor says how much of a resource is used, as a pressure from 0 to 1 and beyond. Each action is in
 * effect to a degree from 0 to 1, the strongest of its triggers. In between it strikes that share of what
 * it concerns, at random.
 *
 * Who does what  shrink_heap                  this module: trims, and closes idle upstream connections
 *                stop_accepting_connections,
 *                reject_incoming_connections  accept.c
 *                stop_accepting_requests,
 *                hold_requests                downstream.c
 *                disable_http_keepalive       downstream_send.c
 *                The admin, and listeners with bypass_overload_manager, heed none of them.
 * Connections    The monitor envoy.resource_monitors.global_downstream_max_connections is a limit by
 *                itself, kept by accept.c; it needs no trigger.
 * Memory limit   --memory-limit is a monitor of its own and three triggers: OVERLOAD_LIMIT_* below.
 *
 * Ownership  One manager for the process, never freed before exit; it keeps nothing of the config.
 * Threads    overload_build anywhere; overload_start on P 0, inside rt_run. A P's copy is touched by that
 *            P alone. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

#include "base/check.h"

struct cfg_bootstrap;
struct cfg_problems;
struct connection_limit;

enum overload_action {
    OVERLOAD_SHRINK_HEAP,
    OVERLOAD_HOLD_REQUESTS, /* not Envoy's: connections with a request at hand wait a while */
    OVERLOAD_STOP_REQUESTS,
    OVERLOAD_DISABLE_KEEPALIVE,
    OVERLOAD_STOP_CONNECTIONS,
    OVERLOAD_REJECT_CONNECTIONS,
    OVERLOAD_ACTIONS,
};

/* A P's copy. */
struct overload_state {
    uint32_t active;                  /* a bit per action that is in effect at all */
    uint64_t share[OVERLOAD_ACTIONS]; /* of OVERLOAD_ALL */
};
#define OVERLOAD_ALL (UINT64_C(1) << 32)

static inline bool overload_is_full(const struct overload_state *state,
                                    enum overload_action action) {
    return state->share[action] == OVERLOAD_ALL;
}
/* random: 32 bits nobody else uses. */
static inline bool overload_strikes(const struct overload_state *state, enum overload_action action,
                                    uint32_t random) {
    return random < state->share[action];
}

/* In percent of --memory-limit. */
enum {
    OVERLOAD_LIMIT_SHRINK = 90,
    OVERLOAD_LIMIT_HOLD = 95,
    OVERLOAD_LIMIT_STOP = 100,
};

struct overload_manager;

/* memory_limit_bytes 0: none. NULL when there is nothing to watch, and on error; problems tells. */
struct overload_manager *overload_build(const struct cfg_bootstrap *bootstrap BORROWED_BY(result),
                                        uint64_t memory_limit_bytes, struct cfg_problems *problems);
/* Looks at once, then at each interval. */
void overload_start(struct overload_manager *manager);

/* The limit of client connections of the process; NULL when no monitor says one. Borrowed for ever. */
struct connection_limit *overload_connections(const struct overload_manager *manager);

/* What is watched, for the admin: fn is called for each monitor. pressure_percent is that of the last
 * look, 0 before. max_bytes 0: it is no number of bytes. */
struct overload_reading {
    const char *monitor;
    uint64_t pressure_percent, max_bytes;
};
typedef void (*overload_fn)(const struct overload_reading *reading, void *arg);
void overload_each(const struct overload_manager *manager, overload_fn fn, void *arg);
