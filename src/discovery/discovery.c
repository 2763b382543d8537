#include "discovery/discovery.h"

#include <errno.h>

#include "config/discovery_config.h"
#include "discovery/route_asks.h"
#include "rt/foreign.h"
#include "rt/sync.h"

static const struct discovery_hooks *hooks;
static struct comutex offers;

void discovery_set_hooks(const struct discovery_hooks *set) {
    hooks = set;
    comutex_init(&offers);
}

struct resources *discovery_running(void) {
    return hooks->running();
}

struct change {
    const struct resource_update *updates;
    size_t count;
    struct resources *set; /* in: what runs; out: the candidate, or NULL */
    struct cfg_problems *problems;
};

static bool is_asked_for(enum resource_type type, const struct resource *item, void *arg) {
    return type != RESOURCE_ROUTES || route_asks_find(arg, item->name, item->origin);
}

/* Takes the place of set, which is given back. */
static void replace(struct change *change, struct resources *next) {
    if (!next)
        change->problems->lost = true;
    resources_unref(change->set);
    change->set = next;
}

/* Off the Ps: definitions are compared, which takes time and stack. */
static void make_candidate(void *arg) {
    struct change *change = arg;
    replace(change, resources_with(change->set, change->updates, change->count, change->problems));
    struct route_asks asks = {0};
    if (change->set && route_asks_of(change->set, &asks) == 0)
        replace(change, resources_where(change->set, is_asked_for, &asks));
    else
        replace(change, NULL);
    route_asks_fini(&asks);
}

static int try(const struct resource_update *updates, size_t count, struct cfg_problems *problems) {
    struct change change = {
        .updates = updates, .count = count, .set = hooks->running(), .problems = problems};
    if (blocking_call(make_candidate, &change) != 0)
        replace(&change, NULL);
    int rc = change.set ? hooks->apply(change.set, problems) : -ENOMEM;
    resources_unref(change.set);
    return rc;
}

int discovery_offer(const struct resource_update *updates, size_t count,
                    struct cfg_problems *problems) {
    if (comutex_lock(&offers, RT_FOREVER) != 0)
        return -ECANCELED;
    int rc;
    while ((rc = try(updates, count, problems)) == -EAGAIN)
        cfg_problems_fini(problems);
    comutex_unlock(&offers);
    return rc;
}
