/* route_rollout: see the header.
 *
 * What is found from one snapshot to the next is found in the one that serves: which routes serve here, and the trial that
 * they may be in. So a configuration that is refused has changed nothing.
 *
 * Lock    The list is only ever longer. `lock` guards its head, and of each rollout the trial that is rolling; of a trial its
 *         way to DONE, and what that takes from it: the former configuration and the tables built of it.
 * Late    A rollout may end while another configuration is being built. Withdrawn, it is so in whatever hcm has its trial,
 *         and what served before is what it was. Done, what served before is another one: what was planned without knowing
 *         is built anew. What is left behind is not done between that look and the moment when the other one serves
 *         (`waits`). Rejected: to put its end off for as long as the other one is being built, as that waits for
 *         clusters, a quarter of a minute, and an operator for his answer. */
#include "proxy/route_rollout.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "proxy/filter_chain.h"
#include "proxy/former_routes.h"
#include "proxy/rollout.h"
#include "proxy/snapshot.h"

LOG_COMPONENT(route_rollout, "rollout");

/* Of a place, for all trials with these settings. For ever. */
struct route_rollout {
    struct route_rollout *next; /* is not changed */
    char *id, *title;
    char *settings; /* as bytes: rollouts with the same share this one */
    size_t settings_len;
    struct rollout *rollout;
    struct route_trial *trial; /* leased, while it is rolling */
    uint64_t order;            /* the later it began the more; 0: it never did */
};

struct route_trial {
    _Atomic uint32_t refs;
    _Atomic int state; /* enum rollout_state */
    struct route_rollout *of;
    struct config
        *configs[ROLLOUT_VERSIONS]; /* leased: in which these lie; done, the old one is NULL */
    const struct cfg_route_configuration *routes[ROLLOUT_VERSIONS];
    struct list formers; /* struct former_routes.node: of its hcms; empty when it is done */
    uint64_t seen_in;    /* the latest snapshot with it that served, or is about to */
    bool waits;          /* a snapshot without it is about to serve, and says what becomes of it */
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct route_rollout *first;
static uint64_t rollouts_done; /* how many */

/* ---- places ---- */

struct place {
    struct span listener, chain, routes;
};

static struct place place_of(const struct hcm *hcm) {
    const struct cfg_route_configuration *routes = hcm->route_config;
    return (struct place){hcm->listener_name, hcm->filter_chain_name,
                          routes ? routes->name : span_none()};
}

/* All connection managers of a snapshot, one after the other: begins zeroed but for the snapshot. */
struct walk {
    const struct snapshot *snapshot;
    uint32_t listener, chain;         /* the next one to be looked at */
    const struct listener_config *of; /* of the one that was found last */
};

/* NULL: there is no other. */
static const struct hcm *next_hcm(struct walk *walk) {
    for (; walk->listener < walk->snapshot->listener_count; walk->listener++, walk->chain = 0) {
        walk->of = walk->snapshot->listeners[walk->listener];
        const struct filter_chain_table *table = walk->of->chains;
        while (walk->chain < table->count) {
            const struct hcm *hcm = table->chains[walk->chain++].hcm;
            if (hcm)
                return hcm;
        }
    }
    return NULL;
}

/* NULL: there is none. */
static const struct hcm *find_hcm(const struct snapshot *snapshot, const struct place *place,
                                  const struct listener_config **listener) {
    struct walk walk = {.snapshot = snapshot};
    const struct hcm *hcm;
    while ((hcm = next_hcm(&walk))) {
        struct place at = place_of(hcm);
        if (span_eq(at.listener, place->listener) && span_eq(at.chain, place->chain) &&
            span_eq(at.routes, place->routes)) {
            *listener = walk.of;
            return hcm;
        }
    }
    return NULL;
}

static unsigned chains_called(const struct cfg_listener *listener, struct span name) {
    const struct cfg_filter_chain *fallback = listener->default_filter_chain;
    unsigned count = fallback && span_eq(fallback->name, name);
    for (size_t i = 0; i < listener->filter_chains_count; i++)
        count += span_eq(listener->filter_chains[i].name, name);
    return count;
}

/* Whether a later configuration will find it. */
static bool is_known_by_name(const struct snapshot *snapshot, const struct place *place,
                             const struct cfg_route_configuration *routes,
                             struct cfg_problems *problems) {
    const char *missing = NULL;
    if (!place->listener.len)
        missing = "its listener needs a name";
    else if (!place->routes.len)
        missing = "it needs a name";
    else if (chains_called(snapshot->building->config, place->chain) > 1)
        missing = "each filter chain of its listener needs a name of its own";
    if (missing)
        cfg_problem_add(problems, CFG_PROBLEM_INVALID, &routes->mark,
                        "rollout: %s, by which what served before is found", missing);
    return !missing;
}

/* ---- configurations ---- */

static struct cfg_route_configuration without_rollout(const struct cfg_route_configuration *cfg) {
    struct cfg_route_configuration bare = *cfg;
    bare.rollout = NULL;
    return bare;
}

static bool is_same(const struct cfg_route_configuration *a,
                    const struct cfg_route_configuration *b) {
    struct cfg_route_configuration one = without_rollout(a), other = without_rollout(b);
    return cfg_is_same(&cfg_schema_route_configuration, &one, &other);
}

/* Equal for equal ones, in whatever proxy. */
static uint64_t salt_of(const struct cfg_route_configuration *cfg) {
    struct cfg_route_configuration bare = without_rollout(cfg);
    size_t len = 0;
    char *bytes = cfg_to_wire(&cfg_schema_route_configuration, &bare, &len);
    uint64_t salt = bytes ? span_hash(SPAN_HASH, span_make(bytes, len)) : 0;
    free(bytes);
    return salt;
}

/* ---- trials ---- */

static struct route_trial *trial_ref(struct route_trial *trial) {
    atomic_fetch_add_explicit(&trial->refs, 1, memory_order_relaxed);
    return trial;
}

static void trial_unref(struct route_trial *trial) {
    if (atomic_fetch_sub_explicit(&trial->refs, 1, memory_order_acq_rel) != 1)
        return;
    for (unsigned v = 0; v < ROLLOUT_VERSIONS; v++)
        config_unref(trial->configs[v]);
    free(trial);
}

static enum rollout_state state_of(const struct route_trial *trial) {
    return atomic_load_explicit(&trial->state, memory_order_acquire);
}

/* NULL: it is done. */
static const struct cfg_route_configuration *former_locked(struct route_trial *trial,
                                                           struct config **config) {
    if (state_of(trial) == ROLLOUT_DONE)
        return NULL;
    *config = config_ref(trial->configs[ROLLOUT_OLD]);
    return trial->routes[ROLLOUT_OLD];
}

const struct cfg_route_configuration *route_trial_former(struct route_trial *trial,
                                                         struct config **config) {
    pthread_mutex_lock(&lock);
    const struct cfg_route_configuration *routes = former_locked(trial, config);
    pthread_mutex_unlock(&lock);
    return routes;
}

struct former_routes *route_trial_keep(struct route_trial *trial, struct route_table *table,
                                       struct config *config) {
    struct former_routes *former = former_routes_new(table, config);
    if (!former)
        return NULL;
    pthread_mutex_lock(&lock);
    if (state_of(trial) == ROLLOUT_DONE)
        former_routes_retire(former); /* nobody will ask for it */
    else
        list_push_back(&trial->formers, &former->node);
    pthread_mutex_unlock(&lock);
    return former;
}

void route_trial_leave(struct route_trial *trial, struct former_routes *former) {
    if (former) {
        pthread_mutex_lock(&lock);
        list_remove(&former->node);
        pthread_mutex_unlock(&lock);
    }
    former_routes_free(former);
    trial_unref(trial);
}

const struct route_table *route_trial_choose(const struct hcm *hcm, struct exchange *x) {
    struct route_trial *trial = hcm->trial;
    bool is_new = state_of(trial) == ROLLOUT_ROLLING && rollout_takes(trial->of->rollout, x);
    is_new = is_new || state_of(trial) == ROLLOUT_DONE; /* perhaps since just now */
    return is_new ? hcm->routes : former_routes_lend(hcm->former_routes, x);
}

/* ---- rollouts ---- */

/* What is planned from now on is planned knowing it. */
static bool may_promote(void *arg) {
    struct route_rollout *rollout = arg;
    pthread_mutex_lock(&lock);
    struct route_trial *trial = rollout->trial;
    bool it_may = !trial->waits;
    if (it_may) {
        /* Release: nobody is given the former routes who has heard of what settle does then. */
        atomic_store_explicit(&trial->state, ROLLOUT_DONE, memory_order_release);
        rollouts_done++;
    }
    pthread_mutex_unlock(&lock);
    return it_may;
}

/* Its former routes are given to nobody any more. Leased. */
static struct config *take_former_locked(struct route_trial *trial) {
    struct list *node;
    struct config *config = trial->configs[ROLLOUT_OLD];
    while ((node = list_pop_front(&trial->formers)))
        former_routes_retire(container_of(node, struct former_routes, node));
    trial->configs[ROLLOUT_OLD] = NULL;
    return config;
}

static bool settle(void *arg, bool promoted) {
    struct route_rollout *rollout = arg;
    struct config *former = NULL;
    pthread_mutex_lock(&lock);
    struct route_trial *trial = rollout->trial;
    rollout->trial = NULL;
    if (promoted)
        former = take_former_locked(trial);
    else
        atomic_store_explicit(&trial->state, ROLLOUT_WITHDRAWN, memory_order_release);
    pthread_mutex_unlock(&lock);
    config_unref(former);
    trial_unref(trial);
    return promoted;
}

static const struct rollout_itab rollout_itab = {.settle = settle, .may_promote = may_promote};

static char *id_of(const struct place *place) {
    char *id;
    int len = asprintf(&id, "%.*s.%.*s%s%.*s", (int)place->listener.len, place->listener.ptr,
                       (int)place->chain.len, place->chain.len ? place->chain.ptr : "",
                       place->chain.len ? "." : "", (int)place->routes.len, place->routes.ptr);
    return len < 0 ? NULL : id;
}

static void rollout_drop(struct route_rollout *rollout) {
    rollout_free(rollout->rollout);
    free(rollout->settings);
    free(rollout->title);
    free(rollout->id);
    free(rollout);
}

/* Takes id and settings over. NULL when memory is short. */
static struct route_rollout *rollout_make(char *id, char *settings, size_t settings_len,
                                          const struct cfg_rollout *cfg) {
    struct route_rollout *rollout = calloc(1, sizeof *rollout);
    if (!rollout) {
        free(id);
        free(settings);
        return NULL;
    }
    *rollout = (struct route_rollout){.id = id, .settings = settings, .settings_len = settings_len};
    if (asprintf(&rollout->title, "route_config %s", id) < 0)
        rollout->title = NULL;
    const struct rollout_options options = {.name = rollout->title,
                                            .stat_prefix = "route_config",
                                            .stat_tag = "route_config",
                                            .stat_value = span_of(id),
                                            .itab = &rollout_itab,
                                            .arg = rollout};
    if (rollout->title)
        rollout->rollout = rollout_new(&options, cfg);
    if (!rollout->rollout) {
        rollout_drop(rollout);
        return NULL;
    }
    pthread_mutex_lock(&lock);
    rollout->next = first;
    first = rollout;
    pthread_mutex_unlock(&lock);
    return rollout;
}

static struct route_rollout *all(void) {
    pthread_mutex_lock(&lock);
    struct route_rollout *head = first;
    pthread_mutex_unlock(&lock);
    return head;
}

/* The one there is, or a new one. NULL when memory is short. */
static struct route_rollout *rollout_for(const struct place *place, const struct cfg_rollout *cfg) {
    size_t len = 0;
    char *id = id_of(place), *settings = cfg_to_wire(&cfg_schema_rollout, cfg, &len);
    struct route_rollout *at = id && settings ? all() : NULL;
    while (at && !(strcmp(at->id, id) == 0 && at->settings_len == len &&
                   memcmp(at->settings, settings, len) == 0))
        at = at->next;
    if (id && settings && !at)
        return rollout_make(id, settings, len, cfg);
    free(id);
    free(settings);
    return at;
}

/* ---- a configuration that is being built ---- */

/* What serves all at an hcm's place, or did before the trial that goes on there. */
struct base {
    struct config *config; /* leased: in which they lie */
    const struct cfg_route_configuration *routes;
    struct route_trial *goes_on; /* borrowed of the hcm; NULL: there is none, or it is done */
};

static struct route_trial *trial_new(struct route_rollout *of, const struct base *base,
                                     struct config *config,
                                     const struct cfg_route_configuration *routes) {
    struct route_trial *trial = calloc(1, sizeof *trial);
    if (!trial)
        return NULL;
    *trial = (struct route_trial){
        .refs = 1,
        .of = of,
        .configs = {[ROLLOUT_OLD] = config_ref(base->config), [ROLLOUT_NEW] = config_ref(config)},
        .routes = {[ROLLOUT_OLD] = base->routes, [ROLLOUT_NEW] = routes},
    };
    list_init(&trial->formers);
    return trial;
}

static struct base base_of(const struct hcm *hcm, const struct listener_config *listener) {
    struct base base = {0};
    if (hcm->trial)
        base.routes = route_trial_former(hcm->trial, &base.config);
    if (base.routes) {
        base.goes_on = hcm->trial;
    } else {
        base.routes = hcm->route_config;
        base.config = config_ref(listener_config_of_routes(listener, base.routes));
    }
    return base;
}

void route_rollouts_note(struct snapshot *snapshot) {
    pthread_mutex_lock(&lock);
    snapshot->rollouts_done = rollouts_done;
    pthread_mutex_unlock(&lock);
}

struct route_trial *route_trial_plan(const struct snapshot *snapshot, const struct hcm *hcm,
                                     struct cfg_problems *problems) {
    const struct cfg_route_configuration *routes = hcm->route_config;
    const struct listener_config *listener;
    struct place place = place_of(hcm);
    if (!routes->rollout || !is_known_by_name(snapshot, &place, routes, problems))
        return NULL;
    const struct hcm *before =
        snapshot->previous ? find_hcm(snapshot->previous, &place, &listener) : NULL;
    if (!before)
        return NULL;
    struct base base = base_of(before, listener);
    struct route_trial *trial = NULL;
    if (base.goes_on && is_same(base.goes_on->routes[ROLLOUT_NEW], routes)) {
        trial = trial_ref(base.goes_on);
    } else if (!is_same(base.routes, routes)) {
        struct route_rollout *of = rollout_for(&place, routes->rollout);
        if (of)
            trial =
                trial_new(of, &base, listener_config_of_routes(snapshot->building, routes), routes);
        problems->lost |= !trial;
    }
    config_unref(base.config);
    return trial;
}

/* ---- a configuration that serves ---- */

static void each_trial(const struct snapshot *snapshot,
                       void (*fn)(struct route_trial *trial, uint64_t version)) {
    struct walk walk = {.snapshot = snapshot};
    const struct hcm *hcm;
    while ((hcm = next_hcm(&walk)))
        if (hcm->trial)
            fn(hcm->trial, snapshot->version);
}

static void see(struct route_trial *trial, uint64_t version) {
    trial->seen_in = version;
}

static int adopt(void *arg) {
    static uint64_t order;
    struct route_trial *trial = arg;
    pthread_mutex_lock(&lock);
    trial->of->trial = trial_ref(trial);
    trial->of->order = ++order;
    pthread_mutex_unlock(&lock);
    atomic_store_explicit(&trial->state, ROLLOUT_ROLLING, memory_order_release);
    return 0;
}

static void begin(struct route_trial *trial, uint64_t version) {
    char name[32];
    if (state_of(trial) != ROLLOUT_NONE)
        return;
    (void)snprintf(name, sizeof name, "%llu", (unsigned long long)version);
    if (rollout_begin(trial->of->rollout, name, salt_of(trial->routes[ROLLOUT_NEW]), adopt,
                      trial) != 0)
        LOG(log_route_rollout, LOG_ERROR, "%s: out of memory: what served before serves on",
            trial->of->title);
}

/* The trial that is rolling, if the snapshot has it no more; leased. */
static struct route_trial *left_behind(const struct route_rollout *rollout, uint64_t version) {
    pthread_mutex_lock(&lock);
    struct route_trial *trial = rollout->trial;
    if (trial && trial->seen_in != version)
        (void)trial_ref(trial);
    else
        trial = NULL;
    pthread_mutex_unlock(&lock);
    return trial;
}

static bool serves_alone(const struct snapshot *snapshot, const struct route_trial *trial,
                         const char *id) {
    struct walk walk = {.snapshot = snapshot};
    const struct hcm *hcm;
    while ((hcm = next_hcm(&walk))) {
        struct place place = place_of(hcm);
        char *other = id_of(&place);
        bool is_here = other && strcmp(other, id) == 0;
        free(other);
        if (is_here)
            return !hcm->trial && is_same(hcm->route_config, trial->routes[ROLLOUT_NEW]);
    }
    return false;
}

bool route_rollouts_settle_on(const struct snapshot *snapshot) {
    each_trial(snapshot, see);
    pthread_mutex_lock(&lock);
    bool is_current = snapshot->rollouts_done == rollouts_done;
    for (struct route_rollout *at = first; at && is_current; at = at->next)
        if (at->trial && at->trial->seen_in != snapshot->version)
            at->trial->waits = true;
    pthread_mutex_unlock(&lock);
    return is_current;
}

static void wait_no_more(struct route_trial *trial) {
    pthread_mutex_lock(&lock);
    trial->waits = false;
    pthread_mutex_unlock(&lock);
}

void route_rollouts_follow(const struct snapshot *snapshot) {
    for (struct route_rollout *at = all(); at; at = at->next) {
        struct route_trial *trial = left_behind(at, snapshot->version);
        if (!trial)
            continue;
        if (serves_alone(snapshot, trial, at->id)) {
            wait_no_more(trial);
            (void)rollout_conclude(at->rollout, true, "the file says so, without a rollout");
        } else {
            (void)rollout_conclude(at->rollout, false, "the file has another one now");
        }
        trial_unref(trial);
    }
    each_trial(snapshot, begin);
}

/* ---- what can be seen ---- */

static bool is_latest(const struct route_rollout *rollout) {
    bool it_is = rollout->order > 0;
    for (const struct route_rollout *at = first; at && it_is; at = at->next)
        it_is = at->order <= rollout->order || strcmp(at->id, rollout->id) != 0;
    return it_is;
}

void route_rollouts_each(void (*fn)(const char *id, struct rollout *rollout, void *arg),
                         void *arg) {
    for (struct route_rollout *at = all(); at; at = at->next) {
        pthread_mutex_lock(&lock);
        bool is_shown = is_latest(at);
        pthread_mutex_unlock(&lock);
        if (is_shown)
            fn(at->id, at->rollout, arg);
    }
}

struct wanted {
    struct span id;
    struct rollout *rollout;
};

static void compare(const char *id, struct rollout *rollout, void *arg) {
    struct wanted *wanted = arg;
    if (span_eq(span_of(id), wanted->id))
        wanted->rollout = rollout;
}

struct rollout *route_rollout_find(struct span id) {
    struct wanted wanted = {.id = id};
    route_rollouts_each(compare, &wanted);
    return wanted.rollout;
}
