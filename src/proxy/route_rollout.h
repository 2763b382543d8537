/* route_rollout: another configuration of routes goes out by degrees: in an HTTP connection manager that came with it
 * requests are served by the new table or by the one that it is to replace, as rollout.h says.
 *
 *     a reload: what serves here is A, the file says B, with `rollout` ──► a trial of B against A, both tables are built
 *        └─ the file says B again ──► the trial goes on, in whatever connection manager comes with it
 *        └─ C, with `rollout` ──► a trial of C against A, B is withdrawn       └─ A, or without `rollout` ──► that alone
 *
 *     a trial:   NONE ── the configuration serves ──► ROLLING ──► DONE: B alone; A is freed behind its last request
 *                                                        └──────► WITHDRAWN: A alone, as long as the file says B
 *
 * A place, by which a later configuration finds the former one, is a listener's, its filter chain's and its
 * route_config's name.
 *
 * Ownership  A trial is counted: of the hcms that serve with it. It leases both configurations, the former one until it is
 *            done. What counts requests is for ever: one for each place and each settings of a rollout. Each hcm has a
 *            table of the former routes, of its own clusters and filters, which its exchanges lease (former_routes.h).
 * Threads    Planned and begun off the Ps, one snapshot at a time. route_trial_choose: the exchange's coroutine. The list:
 *            any. */
#pragma once
#include "proxy/exchange.h"
#include "proxy/hcm.h"

struct former_routes;
struct rollout;
struct route_trial;
struct snapshot;

/* A snapshot begins to be built. */
void route_rollouts_note(struct snapshot *snapshot);
/* Of an hcm that is being built for `snapshot`, all but its routes. Leased; NULL: its route_config serves alone, or there is a
 * problem. */
struct route_trial *route_trial_plan(const struct snapshot *snapshot, const struct hcm *hcm,
                                     struct cfg_problems *problems);
/* The routes that served before, to be built beside the hcm's own, and in which configuration they lie, leased. NULL: it is
 * done by now. */
const struct cfg_route_configuration *route_trial_former(struct route_trial *trial,
                                                         struct config **config);
/* That is their table, transferred in any case, for the hcm to give back. NULL when memory is short. */
struct former_routes *route_trial_keep(struct route_trial *trial, struct route_table *table,
                                       struct config *config);
/* The end of an hcm's lease, and of its former routes (NULL: none), which exchanges have no more. Off the Ps. */
void route_trial_leave(struct route_trial *trial, struct former_routes *former);

/* The snapshot is about to serve, and will: from now on no rollout is done that it was not built for. False: one was done
 * since it began to be built, so that it is to be built anew: it would bring back what served before that. */
MUST_CHECK bool route_rollouts_settle_on(const struct snapshot *snapshot);
/* It serves: its trials begin, those that it has no more end. It waits: blocking_call. */
void route_rollouts_follow(const struct snapshot *snapshot);

const struct route_table *route_trial_choose(const struct hcm *hcm, struct exchange *x);
/* What serves this exchange; NULL: the admin's. The same each time while a rollout goes on. */
static inline const struct route_table *exchange_routes(struct exchange *x) {
    const struct hcm *hcm = x->hcm;
    return __builtin_expect(hcm->trial != NULL, 0) ? route_trial_choose(hcm, x) : hcm->routes;
}

/* Of each place the latest that began, with what it is called by: "LISTENER.ROUTE_CONFIG", and between them its chain's
 * name, if it has one. */
void route_rollouts_each(void (*fn)(const char *id, struct rollout *rollout, void *arg), void *arg);
/* For ever; NULL: none has begun. */
struct rollout *route_rollout_find(struct span id);
