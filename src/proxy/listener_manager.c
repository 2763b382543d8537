/* listener_manager: see the header.
 *
 * All that a change does to a P is one message, so a P never has one half of it: a request that comes by a new listener
 * finds the clusters that came with it. Listeners that are superseded are marked when all Ps have taken the change: who
 * sees the mark finds the next one.
 *
 * Somebody may stop listening while a change is under way: one of both at a time tells the Ps (`telling`). What was prepared
 * before and comes after it changes what there is, and opens nothing.
 *
 * Draining is looked at by one coroutine, at most once a second, however often the configuration changes. */
#include "proxy/listener_manager.h"

#include <errno.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/log.h"
#include "proxy/downstream.h"
#include "rt/sync.h"
#include "rt/waitgroup.h"

extern struct log_component log_listener;

enum { LOOK_MS = 1000 };

static struct manager {
    struct listener_manager_options options;
    struct listener_series *series;
    struct listening *listenings; /* those that listen */
    struct listener **served;     /* leased: of each of the snapshot's listeners that binds */
    uint32_t served_count;
    struct listening *admin; /* NULL: there is none */
    struct {
        struct statistic *added, *modified, *removed, *total;
    } stats;
    struct comutex telling;
    bool stopped;           /* nobody connects any more */
    int64_t drain_until_ns; /* of what was superseded last */
    bool drains;            /* the coroutine is there */
} manager;

struct socket_step {
    struct listening *listening;
    struct listener *listener; /* leased; NULL: it closes */
    unsigned which;
    bool is_new;
};

struct series_step {
    struct listener_series *series;
    struct listener *listener; /* leased; NULL: there is none any more */
};

struct change_post {
    struct rt_post post;
    struct listener_change *change;
};

struct listener_change {
    struct snapshot *snapshot; /* leased; NULL: only sockets close */
    struct socket_step *sockets;
    struct series_step *series;
    size_t socket_count, series_count, socket_room;
    struct listener **served; /* leased: what serves afterwards */
    uint32_t served_count;
    struct waitgroup taken;
    struct change_post posts[]; /* by P */
};

void listener_manager_init(const struct listener_manager_options *options) {
    manager.options = *options;
    comutex_init(&manager.telling);
    manager.stats.added = stats_get_plain(STAT_COUNTER, "listener_manager.listener_added");
    manager.stats.modified = stats_get_plain(STAT_COUNTER, "listener_manager.listener_modified");
    manager.stats.removed = stats_get_plain(STAT_COUNTER, "listener_manager.listener_removed");
    manager.stats.total = stats_get_plain(STAT_GAUGE, "listener_manager.total_listeners_active");
}

/* ---- what is new ---- */

/* The name that connections and limits are known by from one configuration to the next. */
static NOINLINE struct listener_series *series_of(const struct listener_config *config) {
    char text[ADDRESS_TEXT_MAX];
    struct span name = config->config ? config->name : SPAN_LIT("");
    if (config->config && !name.len)
        name = span_make(text, address_text(&config->addresses[0].address, text));
    struct listener_series *series = manager.series;
    while (series && !span_eq(series->name, name))
        series = series->next;
    if (series)
        return series;
    series = listener_series_new(name);
    if (series) {
        series->next = manager.series;
        manager.series = series;
    }
    return series;
}

static struct listening *listening_for(const struct listener_config *config, unsigned which) {
    struct listening *at = manager.listenings;
    while (at && !listening_is_for(at, config, which))
        at = at->next;
    return at;
}

static void say_bind(struct cfg_problems *problems, const struct listener_config *config,
                     unsigned which, int rc) {
    char text[ADDRESS_TEXT_MAX];
    address_text(&config->addresses[which].address, text);
    cfg_problem_add(problems, CFG_PROBLEM_INVALID, &config->config->mark,
                    "listener '%.*s': cannot bind %s: %s", (int)config->name.len, config->name.ptr,
                    text, strerror(-rc));
}

/* Its sockets, those that there are or new ones, which wait as steps. False: there is a problem. */
static bool find_sockets(struct listener_change *change, struct listener_config *config,
                         struct cfg_problems *problems) {
    for (unsigned i = 0; i < config->address_count; i++) {
        struct listening *at = listening_for(config, i);
        const char *differs = at ? listening_differs(at, config, i) : NULL;
        bool is_new = !at;
        int rc = 0;
        if (differs) {
            cfg_problem_add(problems, CFG_PROBLEM_INVALID, &config->config->mark,
                            "%s of an address in use cannot change while it is listened at: "
                            "restart, or replace the process (docs/restart.md)",
                            differs);
            return false;
        }
        if (is_new && manager.stopped) {
            cfg_problem_add(problems, CFG_PROBLEM_INVALID, &config->config->mark,
                            "listener '%.*s': this process listens no more, and at nothing new",
                            (int)config->name.len, config->name.ptr);
            return false;
        }
        if (is_new)
            at = listening_open(config, i, manager.options.sockets, &rc);
        if (!at) {
            say_bind(problems, config, i, rc);
            return false;
        }
        change->sockets[change->socket_count++] =
            (struct socket_step){.listening = at, .which = i, .is_new = is_new};
    }
    return true;
}

/* Leased; NULL: there is a problem. */
static struct listener *make_listener(struct listener_change *change,
                                      struct listener_config *config,
                                      struct listener_series *series,
                                      struct cfg_problems *problems) {
    size_t first = change->socket_count;
    if (!find_sockets(change, config, problems))
        return NULL;
    struct address *addresses = calloc(config->address_count, sizeof *addresses);
    bool ignores = config->config->ignore_global_conn_limit;
    for (unsigned i = 0; addresses && i < config->address_count; i++)
        addresses[i] = change->sockets[first + i].listening->bound;
    const struct listener_options options = {
        .config = config,
        .series = series,
        .addresses = addresses,
        .global = manager.options.connections,
        .counts_globally = !ignores || manager.options.counts_all,
        .ignores_global = ignores,
    };
    struct listener *listener = addresses ? listener_new(&options) : NULL;
    free(addresses);
    if (!listener)
        problems->lost = true;
    for (size_t i = first; listener && i < change->socket_count; i++)
        change->sockets[i].listener = listener_ref(listener);
    return listener;
}

static struct listener *served_of(struct listener *const *served, uint32_t count,
                                  const struct listener_series *series) {
    for (uint32_t i = 0; i < count; i++)
        if (served[i]->series == series)
            return served[i];
    return NULL;
}

/* What serves config afterwards. False: there is a problem. */
static bool add_listener(struct listener_change *change, struct listener_config *config,
                         struct cfg_problems *problems) {
    struct listener_series *series = series_of(config);
    if (!series) {
        problems->lost = true;
        return false;
    }
    struct listener *listener = served_of(manager.served, manager.served_count, series);
    if (listener && listener->config == config) {
        listener_ref(listener);
    } else {
        listener = make_listener(change, config, series, problems);
        if (!listener)
            return false;
        change->series[change->series_count++] =
            (struct series_step){.series = series, .listener = listener_ref(listener)};
    }
    change->served[change->served_count++] = listener;
    return true;
}

/* ---- what goes ---- */

static bool is_listened_at(const struct listener_change *change,
                           const struct listening *listening) {
    for (size_t i = 0; i < change->socket_count; i++)
        if (change->sockets[i].listening == listening)
            return true;
    for (uint32_t i = 0; i < change->served_count; i++) {
        const struct listener_config *config = change->served[i]->config;
        for (unsigned k = 0; k < config->address_count; k++)
            if (listening_is_for(listening, config, k))
                return true;
    }
    return false;
}

static void add_ends(struct listener_change *change) {
    for (struct listening *at = manager.listenings; at; at = at->next)
        if (!is_listened_at(change, at))
            change->sockets[change->socket_count++] = (struct socket_step){.listening = at};
    for (uint32_t i = 0; i < manager.served_count; i++) {
        struct listener_series *series = manager.served[i]->series;
        if (!served_of(change->served, change->served_count, series))
            change->series[change->series_count++] = (struct series_step){.series = series};
    }
}

/* ---- a change ---- */

static unsigned listening_count(void) {
    unsigned count = 0;
    for (const struct listening *at = manager.listenings; at; at = at->next)
        count++;
    return count;
}

static struct listener_change *change_new(size_t sockets, size_t series, size_t served) {
    struct listener_change *change =
        calloc(1, sizeof *change + rt_p_count() * sizeof change->posts[0]);
    if (!change)
        return NULL;
    change->sockets = calloc(sockets + 1, sizeof *change->sockets);
    change->series = calloc(series + 1, sizeof *change->series);
    change->served = calloc(served + 1, sizeof(struct listener *));
    if (change->sockets && change->series && change->served)
        return change;
    free(change->sockets);
    free(change->series);
    free(change->served);
    free(change);
    return NULL;
}

static void change_free(struct listener_change *change) {
    for (size_t i = 0; i < change->socket_count; i++)
        if (change->sockets[i].listener)
            listener_unref(change->sockets[i].listener);
    for (size_t i = 0; i < change->series_count; i++)
        if (change->series[i].listener)
            listener_unref(change->series[i].listener);
    for (uint32_t i = 0; i < change->served_count; i++)
        listener_unref(change->served[i]);
    snapshot_unref(change->snapshot);
    free(change->sockets);
    free(change->series);
    free(change->served);
    free(change);
}

/* Those that were opened for it. */
static void close_new(struct listener_change *change) {
    size_t kept = 0;
    for (size_t i = 0; i < change->socket_count; i++) {
        struct socket_step *step = &change->sockets[i];
        if (!step->is_new) {
            change->sockets[kept++] = *step;
            continue;
        }
        listening_cancel(step->listening);
        if (step->listener)
            listener_unref(step->listener);
    }
    change->socket_count = kept;
}

void listener_change_cancel(struct listener_change *change) {
    close_new(change);
    change_free(change);
}

static bool binds(const struct listener_config *config) {
    return !config->config->bind_to_port.set || config->config->bind_to_port.value;
}

struct listener_change *listener_change_prepare(struct snapshot *snapshot,
                                                struct cfg_problems *problems) {
    size_t addresses = 0;
    for (uint32_t i = 0; i < snapshot->listener_count; i++)
        addresses += snapshot->listeners[i]->address_count;
    struct listener_change *change =
        change_new(addresses + listening_count(), snapshot->listener_count + manager.served_count,
                   snapshot->listener_count);
    if (!change) {
        problems->lost = true;
        return NULL;
    }
    change->snapshot = snapshot_ref(snapshot);
    bool ok = true;
    for (uint32_t i = 0; ok && i < snapshot->listener_count; i++)
        ok = !binds(snapshot->listeners[i]) ||
             add_listener(change, snapshot->listeners[i], problems);
    if (!ok) {
        listener_change_cancel(change);
        return NULL;
    }
    add_ends(change);
    return change;
}

static void take(struct rt_post *post) {
    struct listener_change *change = container_of(post, struct change_post, post)->change;
    struct worker *worker = worker_here();
    unsigned p = worker->index;
    if (change->snapshot) {
        struct snapshot *before = worker->snapshot;
        worker->snapshot = snapshot_ref(change->snapshot);
        snapshot_unref(before);
    }
    for (size_t i = 0; i < change->series_count; i++) {
        struct listener **current = &change->series[i].series->current[p], *before = *current;
        struct listener *next = change->series[i].listener;
        *current = next ? listener_ref(next) : NULL;
        if (before)
            listener_unref(before);
    }
    for (size_t i = 0; i < change->socket_count; i++)
        listening_take(change->sockets[i].listening, p, change->sockets[i].listener);
    waitgroup_done(&change->taken);
}

static void lock_telling(void) {
    while (comutex_lock(&manager.telling, RT_FOREVER) != 0)
        rt_cancel_clear(); /* it is held for no longer than the Ps take to answer */
}

static void spread(struct listener_change *change) {
    unsigned count = rt_p_count();
    waitgroup_add(&change->taken, count);
    for (unsigned p = 0; p < count; p++) {
        change->posts[p] = (struct change_post){.post.fn = take, .change = change};
        rt_post(p, &change->posts[p].post);
    }
    while (waitgroup_wait(&change->taken, RT_FOREVER) != 0)
        rt_cancel_clear(); /* the Ps have pointers to it */
}

/* ---- draining ---- */

static void look_for_late(struct rt_post *post) {
    downstream_end_superseded(worker_here());
    free(post);
}

static void drain(void *arg) {
    while (clock_mono_ns() < manager.drain_until_ns + 2 * LOOK_MS * NS_PER_MS) {
        (void)rt_sleep_until(clock_mono_ns() + LOOK_MS * NS_PER_MS); /* nobody cancels it */
        for (unsigned p = 0; p < rt_p_count(); p++) {
            struct rt_post *post = calloc(1, sizeof *post);
            if (!post)
                continue; /* the next time */
            post->fn = look_for_late;
            rt_post(p, post);
        }
    }
    manager.drains = false;
}

static void start_draining(void) {
    const struct go_options options = {.name = "drain", .place = RT_HERE, .priority = RT_LOW};
    manager.drain_until_ns = clock_mono_ns() + manager.options.drain_ns;
    if (!manager.drains)
        manager.drains = go_with(&options, drain, NULL) == 0;
}

static void supersede(struct listener *listener) {
    listener->drain_until_ns = clock_mono_ns() + manager.options.drain_ns;
    /* Release: the time that it drains until. */
    atomic_store_explicit(&listener->superseded, true, memory_order_release);
}

/* ---- from then on ---- */

static void forget_listening(struct listening *listening) {
    struct listening **at = &manager.listenings;
    while (*at != listening)
        at = &(*at)->next;
    *at = listening->next;
    listening_unref(listening);
}

static void keep_sockets(struct listener_change *change) {
    for (size_t i = 0; i < change->socket_count; i++) {
        const struct socket_step *step = &change->sockets[i];
        if (!step->listener) {
            forget_listening(step->listening);
            continue;
        }
        listening_describe(step->listening, step->listener->config, step->which);
        if (step->is_new) {
            step->listening->next = manager.listenings;
            manager.listenings = step->listening;
        }
    }
}

/* What served before, and serves no more, drains. */
static void keep_served(struct listener_change *change) {
    struct listener **before = manager.served;
    uint32_t count = manager.served_count;
    manager.served = change->served;
    manager.served_count = change->served_count;
    change->served = NULL;
    change->served_count = 0;
    bool drains = false;
    for (uint32_t i = 0; i < count; i++) {
        struct listener *old = before[i];
        const struct listener *now = served_of(manager.served, manager.served_count, old->series);
        if (now != old) {
            supersede(old);
            drains = true;
            stat_inc(now ? manager.stats.modified : manager.stats.removed, STATS_SHARD_FOREIGN);
        }
    }
    for (uint32_t i = 0; i < manager.served_count; i++)
        if (!served_of(before, count, manager.served[i]->series))
            stat_inc(manager.stats.added, STATS_SHARD_FOREIGN);
    stat_set(manager.stats.total, manager.served_count);
    if (drains)
        start_draining();
    for (uint32_t i = 0; i < count; i++)
        listener_unref(before[i]);
    free(before);
}

void listener_change_publish(struct listener_change *change) {
    for (size_t i = 0; i < change->series_count; i++)
        if (change->series[i].listener && listener_limit(change->series[i].listener) != 0)
            LOG(log_listener, LOG_ERROR, "listener %s: out of memory, its limits do not hold",
                change->series[i].listener->name);
    lock_telling();
    if (manager.stopped)
        close_new(change);
    spread(change);
    keep_sockets(change);
    keep_served(change);
    comutex_unlock(&manager.telling);
    change_free(change);
}

/* ---- the admin, and the end ---- */

struct listener *listener_manager_open_admin(struct listener_config *config, bool ignores_global,
                                             int *rc) {
    struct listener_series *series = series_of(config);
    struct listener_change *change = change_new(1, 1, 0);
    *rc = -ENOMEM;
    struct listening *listening =
        series && change ? listening_open(config, 0, manager.options.sockets, rc) : NULL;
    const struct listener_options options = {
        .config = config,
        .series = series,
        .addresses = listening ? &listening->bound : NULL,
        .global = manager.options.connections,
        .counts_globally = manager.options.counts_all,
        .ignores_global = ignores_global,
    };
    struct listener *listener = listening ? listener_new(&options) : NULL;
    if (listener) {
        change->series[change->series_count++] =
            (struct series_step){.series = series, .listener = listener_ref(listener)};
        change->sockets[change->socket_count++] =
            (struct socket_step){.listening = listening, .listener = listener_ref(listener)};
        spread(change);
        manager.admin = listening;
    } else if (listening) {
        listening_cancel(listening);
    }
    if (change)
        change_free(change);
    return listener;
}

void listener_manager_stop(bool also_admin) {
    lock_telling();
    manager.stopped = true;
    struct listener_change *change = change_new(listening_count() + 1, 0, 0);
    ASSERT(change); /* at the end */
    for (struct listening *at = manager.listenings; at; at = at->next)
        change->sockets[change->socket_count++] = (struct socket_step){.listening = at};
    if (also_admin && manager.admin)
        change->sockets[change->socket_count++] = (struct socket_step){.listening = manager.admin};
    spread(change);
    comutex_unlock(&manager.telling);
    change_free(change);
}

void listener_manager_each(void (*fn)(const struct listener *listener, void *arg), void *arg) {
    for (uint32_t i = 0; i < manager.served_count; i++)
        fn(manager.served[i], arg);
}

int64_t listener_manager_connections(void) {
    int64_t open = 0;
    for (unsigned p = 0; p < rt_p_count(); p++)
        open += atomic_load_explicit(&worker_at(p)->client_count, memory_order_relaxed);
    return open;
}
