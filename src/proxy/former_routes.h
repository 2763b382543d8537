/* former_routes: the table that other routes are to replace, beside theirs in an HTTP connection manager. While they are
 * rolled out exchanges are given it; when they serve all it is given to nobody any more, and freed behind the last of those.
 *
 *     lend: an exchange has it until its end ──► retire ──► the last of those ends: the table is freed, and what it was read from
 *                                                    └── or its connection manager is freed: whoever comes first
 *
 * Ownership  Its connection manager's. An exchange leases it, whatever of it the exchange was told: routes, configurations,
 *            labels.
 * Threads    _lend, _give_back: the exchange's coroutine. _retire: any. _new, _free: off the Ps. What is freed runs the code
 *            of extensions, on a thread of its own. */
#pragma once
#include <pthread.h>

#include "base/list.h"
#include "proxy/p_leases.h"

struct config;
struct exchange;
struct route_table;

struct former_routes {
    struct list node;          /* whose it is: of the rollout's, who retires it */
    struct route_table *table; /* NULL: it was freed */
    struct config *config;     /* leased: in which the table's strings are */
    struct p_leases leases;    /* the exchanges' */
    _Atomic uint32_t refs;     /* its owner's, and the retirement's */
    pthread_mutex_t freeing;   /* held while the table is */
};

/* Takes the table over, leases config. NULL when memory is short: then the table is freed. */
struct former_routes *former_routes_new(struct route_table *table, struct config *config);
/* When no exchange has it any more; the table is freed when it returns, whoever did that. */
void former_routes_free(struct former_routes *former);

/* Leased by the exchange, until it ends; once, however often it asks. */
const struct route_table *former_routes_lend(struct former_routes *former, struct exchange *x);
/* At the end of an exchange that has one. Its route is gone with it. */
void former_routes_give_back(struct exchange *x);

/* Once. Whoever lends it has heard before that he is not to. */
void former_routes_retire(struct former_routes *former);
