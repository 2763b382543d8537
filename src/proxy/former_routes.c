/* former_routes: see the header.
 *
 * The table may be freed by the thread that the last exchange's end has started, or with its connection manager, whose
 * filters made its configurations and go next. So it is freed under a lock: who comes second finds it gone, and not half. */
#include "proxy/former_routes.h"

#include <stdlib.h>

#include "config/config.h"
#include "proxy/aside.h"
#include "proxy/exchange.h"
#include "proxy/route.h"

struct former_routes *former_routes_new(struct route_table *table, struct config *config) {
    struct former_routes *former = calloc(1, sizeof *former);
    if (!former || p_leases_init(&former->leases) != 0) {
        free(former);
        route_table_free(table);
        return NULL;
    }
    list_init(&former->node);
    former->table = table;
    former->config = config_ref(config);
    former->refs = 1;
    (void)pthread_mutex_init(&former->freeing, NULL); /* cannot fail with default attributes */
    return former;
}

static void free_table(struct former_routes *former) {
    pthread_mutex_lock(&former->freeing);
    route_table_free(former->table);
    config_unref(former->config);
    former->table = NULL;
    former->config = NULL;
    pthread_mutex_unlock(&former->freeing);
}

static void unref(struct former_routes *former) {
    if (atomic_fetch_sub_explicit(&former->refs, 1, memory_order_acq_rel) != 1)
        return;
    (void)pthread_mutex_destroy(&former->freeing); /* nobody else has it */
    p_leases_fini(&former->leases);
    free(former);
}

void former_routes_free(struct former_routes *former) {
    if (!former)
        return;
    free_table(former);
    unref(former);
}

/* ---- exchanges ---- */

const struct route_table *former_routes_lend(struct former_routes *former, struct exchange *x) {
    if (!x->former_routes) {
        p_leases_lease(&former->leases, x->shard);
        x->former_routes = former;
    }
    return former->table;
}

void former_routes_give_back(struct exchange *x) {
    struct former_routes *former = x->former_routes;
    x->former_routes = NULL;
    exchange_clear_route(x);
    p_leases_release(&former->leases, x->shard);
}

/* ---- its end ---- */

static void end(void *arg) {
    former_routes_free(arg);
}

static void last_has_ended(struct p_leases *leases) {
    aside_later(end, container_of(leases, struct former_routes, leases));
}

void former_routes_retire(struct former_routes *former) {
    atomic_fetch_add_explicit(&former->refs, 1, memory_order_relaxed);
    p_leases_retire(&former->leases, last_has_ended);
}
