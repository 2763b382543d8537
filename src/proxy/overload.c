/* overload: a coroutine on P 0 that looks, decides, and tells the Ps.
 *
 *     P 0, "overload manager"                      thread of blocking_call      every P
 *     ───────────────────────                      ───────────────────────      ───────
 *     each interval ───────────────────────────►   measure all monitors
 *     triggers, statistics   ◄──────────────────
 *     a state changed: post ───────────────────────────────────────────────►   copy it; accept again,
 *     shrink_heap is full: ────────────────────►   trim                         let waiting requests go
 *                          ────────────────────────────────────────────────►   close idle upstreams
 *
 * Memory is short when this has to work: what tells the Ps allocates nothing. There is one message
 * per P, which carries the newest state, whatever was posted before.
 *
 * M1  posted is set by whoever posts the message, and cleared by the P before it reads share[] and
 *     shrink. So what was written before a post that was left out is read by the one on its way.
 *
 * Order  share[] and shrink are relaxed; exchanges of posted are acquire and release. The manager writes,
 *        then exchanges: it either posts, or its exchange came before the P's, which then acquires it.
 *
 * Rejected  One word that all Ps read: a shared line on every request, and no way to act on a change.
 *           Watching the injected file by inotify: see overload_monitor.c. */
#include "proxy/overload.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/stats.h"
#include "config/config.h"
#include "proxy/downstream.h"
#include "proxy/listener.h"
#include "proxy/overload_monitor.h"
#include "proxy/snapshot.h"
#include "proxy/upstream.h"
#include "rt/foreign.h"
#include "rt/sync.h"

LOG_COMPONENT(overload, "overload");

#define CONNECTIONS_MONITOR "envoy.resource_monitors.global_downstream_max_connections"

#define REFRESH_DEFAULT_NS NS_PER_S
/* Memory can go in a moment; a look takes some 100 us of a thread. */
#define REFRESH_LIMIT_NS (250 * NS_PER_MS)
#define SHRINK_INTERVAL_NS (10 * NS_PER_S) /* Envoy's */
#define SHRINK_PRESSING_NS NS_PER_S
enum {
    KEPT_UPSTREAMS =
        1, /* idle connections to a host that stay on each P: the next request is served */
};

struct trigger {
    const struct overload_monitor *monitor;
    bool is_scaled;
    double from, full; /* of a threshold both are the same */
};

struct action {
    const char *name;
    struct trigger *triggers; /* count 0: not configured */
    size_t count;
    float value; /* 0 to 1, in single precision as on Envoy: it shows in scale_percent */
    struct statistic *active, *scale_percent;
};

struct monitor {
    struct overload_monitor watched;
    struct statistic *pressure, *failed_updates, *skipped_updates;
    int last_rc; /* what was last logged: once is enough */
    /* Of one look, written by the measuring thread: */
    int rc;
    double measured;
    const char *why;
};

struct order { /* to one P */
    struct rt_post post;
    struct overload_manager *manager;
    _Atomic uint64_t share[OVERLOAD_ACTIONS];
    _Atomic bool shrink, posted; /* M1 */
};

struct overload_manager {
    struct action actions[OVERLOAD_ACTIONS];
    struct monitor *monitors;
    size_t monitor_count;
    int64_t interval_ns, shrunk_ns, looked_ns;
    struct statistic *refresh_delay, *shrink_count;
    struct connection_limit *connections; /* NULL: no limit */
    unsigned order_count;
    struct order *orders; /* by P */
};

static const char *const action_names[OVERLOAD_ACTIONS] = {
    [OVERLOAD_SHRINK_HEAP] = "envoy.overload_actions.shrink_heap",
    [OVERLOAD_HOLD_REQUESTS] = "sluice.overload_actions.hold_requests",
    [OVERLOAD_STOP_REQUESTS] = "envoy.overload_actions.stop_accepting_requests",
    [OVERLOAD_DISABLE_KEEPALIVE] = "envoy.overload_actions.disable_http_keepalive",
    [OVERLOAD_STOP_CONNECTIONS] = "envoy.overload_actions.stop_accepting_connections",
    [OVERLOAD_REJECT_CONNECTIONS] = "envoy.overload_actions.reject_incoming_connections",
};

/* ---- building ---- */

static struct statistic *stat_of(enum stat_kind kind, const char *of, const char *what) {
    char name[160];
    snprintf(name, sizeof name, "overload.%s.%s", of, what);
    return stats_get_plain(kind, name);
}

static struct monitor *find_monitor(struct overload_manager *m, struct span name) {
    for (size_t i = 0; i < m->monitor_count; i++)
        if (span_eq(name, span_of(m->monitors[i].watched.name)))
            return &m->monitors[i];
    return NULL;
}

static struct monitor *add_monitor(struct overload_manager *m, struct span name,
                                   enum overload_monitor_kind kind) {
    struct monitor *monitor = &m->monitors[m->monitor_count++];
    *monitor = (struct monitor){.watched = {.kind = kind, .pressure = -1}};
    snprintf(monitor->watched.name, sizeof monitor->watched.name, "%.*s", (int)name.len, name.ptr);
    monitor->pressure = stat_of(STAT_GAUGE, monitor->watched.name, "pressure");
    monitor->failed_updates = stat_of(STAT_COUNTER, monitor->watched.name, "failed_updates");
    monitor->skipped_updates = stat_of(STAT_COUNTER, monitor->watched.name, "skipped_updates");
    return monitor;
}

/* As on Envoy the monitor is known by its name. */
static bool build_connections(struct overload_manager *m, const struct cfg_resource_monitor *cfg,
                              struct cfg_problems *problems) {
    const struct cfg_downstream_connections *connections = cfg->typed_config.message;
    if (!span_eq(cfg->name, SPAN_LIT(CONNECTIONS_MONITOR))) {
        cfg_problem_add(problems, CFG_PROBLEM_INVALID, &cfg->mark,
                        "the monitor of connections is called " CONNECTIONS_MONITOR ", not '%.*s'",
                        (int)cfg->name.len, cfg->name.ptr);
        return true;
    }
    if (connections->max_active_downstream_connections <= 0) /* the schema has told */
        return true;
    m->connections = connection_limit_new((uint64_t)connections->max_active_downstream_connections);
    if (m->connections)
        add_monitor(m, cfg->name, MONITOR_CONNECTIONS)->watched.connections = m->connections;
    return m->connections != NULL;
}

/* False: there is no memory. */
static bool build_monitor(struct overload_manager *m, const struct cfg_resource_monitor *cfg,
                          struct cfg_problems *problems) {
    if (cfg->name.len >= sizeof m->monitors[0].watched.name) {
        cfg_problem_add(problems, CFG_PROBLEM_INVALID, &cfg->mark,
                        "the name of a resource monitor is shorter than %zu bytes",
                        sizeof m->monitors[0].watched.name);
    } else if (find_monitor(m, cfg->name)) {
        cfg_problem_add(problems, CFG_PROBLEM_INVALID, &cfg->mark,
                        "there is a resource monitor '%.*s' already", (int)cfg->name.len,
                        cfg->name.ptr);
    } else if (!cfg->has_typed_config) {
        cfg_problem_add(problems, CFG_PROBLEM_INVALID, &cfg->mark,
                        "the resource monitor '%.*s' needs a typed_config", (int)cfg->name.len,
                        cfg->name.ptr);
    } else if (cfg->typed_config.schema == &cfg_schema_fixed_heap) {
        const struct cfg_fixed_heap *heap = cfg->typed_config.message;
        add_monitor(m, cfg->name, MONITOR_FIXED_HEAP)->watched.max_bytes =
            heap->max_heap_size_bytes;
    } else if (cfg->typed_config.schema == &cfg_schema_injected_resource) {
        const struct cfg_injected_resource *file = cfg->typed_config.message;
        char *path = strndup(file->filename.ptr, file->filename.len);
        add_monitor(m, cfg->name, MONITOR_FILE)->watched.path = path;
        return path != NULL;
    } else if (cfg->typed_config.schema == &cfg_schema_downstream_connections) {
        return build_connections(m, cfg, problems);
    }
    return true;
}

static bool is_pressure(double value) {
    return value >= 0 && value <= 1;
}

static bool check_trigger(const struct cfg_trigger *cfg, struct cfg_problems *problems) {
    const char *wrong = NULL;
    if (cfg->trigger_oneof_case == CFG_TRIGGER_THRESHOLD) {
        if (!is_pressure(cfg->threshold))
            wrong = "a threshold is a pressure from 0 to 1";
    } else if (!is_pressure(cfg->scaling_threshold) || !is_pressure(cfg->saturation_threshold)) {
        wrong = "scaling_threshold and saturation_threshold are pressures from 0 to 1";
    } else if (cfg->scaling_threshold >= cfg->saturation_threshold) {
        wrong = "scaling_threshold must be less than saturation_threshold";
    }
    if (wrong)
        cfg_problem_add(problems, CFG_PROBLEM_INVALID, &cfg->mark, "%s", wrong);
    return wrong == NULL;
}

static void build_trigger(struct overload_manager *m, struct action *action,
                          const struct cfg_trigger *cfg, struct cfg_problems *problems) {
    const struct monitor *monitor = find_monitor(m, cfg->name);
    if (!monitor) {
        cfg_problem_add(problems, CFG_PROBLEM_INVALID, &cfg->mark,
                        "there is no resource monitor '%.*s' for the action %s", (int)cfg->name.len,
                        cfg->name.ptr, action->name);
        return;
    }
    for (size_t i = 0; i < action->count; i++)
        if (action->triggers[i].monitor == &monitor->watched) {
            cfg_problem_add(problems, CFG_PROBLEM_INVALID, &cfg->mark,
                            "the action %s has a trigger for '%.*s' already", action->name,
                            (int)cfg->name.len, cfg->name.ptr);
            return;
        }
    if (!check_trigger(cfg, problems))
        return;
    bool is_scaled = cfg->trigger_oneof_case == CFG_TRIGGER_SCALED;
    action->triggers[action->count++] =
        (struct trigger){.monitor = &monitor->watched,
                         .is_scaled = is_scaled,
                         .from = is_scaled ? cfg->scaling_threshold : cfg->threshold,
                         .full = is_scaled ? cfg->saturation_threshold : cfg->threshold};
}

static struct action *find_action(struct overload_manager *m, struct span name) {
    for (unsigned i = 0; i < OVERLOAD_ACTIONS; i++)
        if (i != OVERLOAD_HOLD_REQUESTS && span_eq(name, span_of(action_names[i])))
            return &m->actions[i];
    return NULL;
}

/* Room for one more than the config has: --memory-limit's. */
static bool start_action(struct action *action, const char *name, size_t count) {
    action->name = name;
    action->triggers = calloc(count + 1, sizeof *action->triggers);
    if (!action->triggers)
        return false;
    action->active = stat_of(STAT_GAUGE, name, "active");
    action->scale_percent = stat_of(STAT_GAUGE, name, "scale_percent");
    return true;
}

static bool build_action(struct overload_manager *m, const struct cfg_overload_action *cfg,
                         struct cfg_problems *problems) {
    struct action *action = find_action(m, cfg->name);
    if (!action) {
        bool is_envoys = span_starts_with(cfg->name, SPAN_LIT("envoy.overload_actions."));
        cfg_problem_add(
            problems, is_envoys ? CFG_PROBLEM_UNSUPPORTED : CFG_PROBLEM_UNKNOWN, &cfg->mark,
            "the overload action '%.*s' is not supported; supported are %s, %s, %s, %s "
            "and %s",
            (int)cfg->name.len, cfg->name.ptr, action_names[OVERLOAD_SHRINK_HEAP],
            action_names[OVERLOAD_STOP_REQUESTS], action_names[OVERLOAD_DISABLE_KEEPALIVE],
            action_names[OVERLOAD_STOP_CONNECTIONS], action_names[OVERLOAD_REJECT_CONNECTIONS]);
        return true;
    }
    if (action->triggers) {
        cfg_problem_add(problems, CFG_PROBLEM_INVALID, &cfg->mark,
                        "there is an overload action '%s' already", action->name);
        return true;
    }
    if (!start_action(action, action_names[action - m->actions], cfg->triggers_count))
        return false;
    for (size_t i = 0; i < cfg->triggers_count; i++)
        build_trigger(m, action, &cfg->triggers[i], problems);
    return true;
}

static bool build_limit(struct overload_manager *m, uint64_t limit_bytes) {
    static const struct {
        enum overload_action action;
        int percent;
    } steps[] = {
        {OVERLOAD_SHRINK_HEAP, OVERLOAD_LIMIT_SHRINK},
        {OVERLOAD_HOLD_REQUESTS, OVERLOAD_LIMIT_HOLD},
        {OVERLOAD_STOP_REQUESTS, OVERLOAD_LIMIT_STOP},
    };
    struct monitor *monitor = add_monitor(m, SPAN_LIT("sluice.memory_limit"), MONITOR_ANONYMOUS);
    monitor->watched.max_bytes = limit_bytes;
    for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++) {
        struct action *action = &m->actions[steps[i].action];
        if (!action->triggers && !start_action(action, action_names[steps[i].action], 0))
            return false;
        double at = steps[i].percent / 100.0;
        action->triggers[action->count++] =
            (struct trigger){.monitor = &monitor->watched, .from = at, .full = at};
    }
    return true;
}

static void manager_free(struct overload_manager *m) {
    for (unsigned i = 0; m && i < OVERLOAD_ACTIONS; i++)
        free(m->actions[i].triggers);
    for (size_t i = 0; m && i < m->monitor_count; i++)
        free(m->monitors[i].watched.path);
    if (m) {
        free(m->monitors);
        free(m->connections);
    }
    free(m);
}

static bool has_errors(const struct cfg_problems *problems, size_t from) {
    for (size_t i = from; i < problems->count; i++)
        if (problems->items[i].kind != CFG_PROBLEM_WARNING)
            return true;
    return false;
}

struct overload_manager *overload_build(const struct cfg_bootstrap *bootstrap,
                                        uint64_t memory_limit_bytes,
                                        struct cfg_problems *problems) {
    static const struct cfg_overload_manager nothing;
    const struct cfg_overload_manager *cfg = bootstrap->overload_manager;
    if (!cfg && memory_limit_bytes == 0)
        return NULL;
    if (!cfg)
        cfg = &nothing;
    size_t before = problems->count;
    struct overload_manager *m = calloc(1, sizeof *m);
    if (m)
        m->monitors = calloc(cfg->resource_monitors_count + 1, sizeof *m->monitors);
    bool ok = m && m->monitors;
    for (size_t i = 0; ok && i < cfg->resource_monitors_count; i++)
        ok = build_monitor(m, &cfg->resource_monitors[i], problems);
    for (size_t i = 0; ok && i < cfg->actions_count; i++)
        ok = build_action(m, &cfg->actions[i], problems);
    if (ok && memory_limit_bytes)
        ok = build_limit(m, memory_limit_bytes);
    if (!ok)
        problems->lost = true;
    if (!ok || has_errors(problems, before)) {
        manager_free(m);
        return NULL;
    }
    m->interval_ns = cfg->refresh_interval.set ? cfg->refresh_interval.ns : REFRESH_DEFAULT_NS;
    if (memory_limit_bytes && m->interval_ns > REFRESH_LIMIT_NS)
        m->interval_ns = REFRESH_LIMIT_NS;
    m->refresh_delay = stats_get(STAT_HISTOGRAM, SPAN_LIT("overload.refresh_interval_delay"),
                                 SPAN_LIT("overload.refresh_interval_delay"), NULL, 0);
    if (m->actions[OVERLOAD_SHRINK_HEAP].count)
        m->shrink_count = stat_of(STAT_COUNTER, action_names[OVERLOAD_SHRINK_HEAP], "shrink_count");
    return m;
}

/* ---- on each P ---- */

/* malloc keeps what this thread freed for this thread. */
static void shrink_here(unsigned p_index) {
    const struct snapshot *snapshot = worker_at(p_index)->snapshot;
    for (uint32_t i = 0; snapshot && i < snapshot->cluster_count; i++)
        upstream_close_idle(snapshot->clusters[i], p_index, KEPT_UPSTREAMS, UINT32_MAX, RT_FOREVER);
    splice_pool_shrink(&worker_at(p_index)->pipes);
    memory_trim();
}

static void take_order(struct rt_post *post) {
    struct order *order = container_of(post, struct order, post);
    struct worker *worker = worker_here();
    struct overload_state *state = &worker->overload;
    atomic_exchange_explicit(&order->posted, false, memory_order_acq_rel); /* M1 */
    bool stopped = overload_is_full(state, OVERLOAD_STOP_CONNECTIONS);
    bool held = overload_is_full(state, OVERLOAD_HOLD_REQUESTS);
    state->active = 0;
    for (unsigned i = 0; i < OVERLOAD_ACTIONS; i++) {
        state->share[i] = atomic_load_explicit(&order->share[i], memory_order_relaxed);
        if (state->share[i])
            state->active |= 1u << i;
    }
    if (atomic_exchange_explicit(&order->shrink, false, memory_order_relaxed))
        shrink_here(worker->index);
    if (stopped && !overload_is_full(state, OVERLOAD_STOP_CONNECTIONS))
        listener_accept_all(worker);
    if (held && !overload_is_full(state, OVERLOAD_HOLD_REQUESTS))
        downstream_release_held(worker);
}

static void tell_all(struct overload_manager *m, bool shrink) {
    for (unsigned p = 0; p < m->order_count; p++) {
        struct order *order = &m->orders[p];
        for (unsigned i = 0; i < OVERLOAD_ACTIONS; i++)
            atomic_store_explicit(&order->share[i],
                                  (uint64_t)((double)m->actions[i].value * (double)OVERLOAD_ALL),
                                  memory_order_relaxed);
        if (shrink)
            atomic_store_explicit(&order->shrink, true, memory_order_relaxed);
        if (!atomic_exchange_explicit(&order->posted, true, memory_order_acq_rel))
            rt_post(p, &order->post);
    }
}

/* ---- looking ---- */

static void measure(void *arg) {
    struct overload_manager *m = arg;
    struct memory_use use = memory_use_now();
    for (size_t i = 0; i < m->monitor_count; i++) {
        struct monitor *monitor = &m->monitors[i];
        monitor->rc =
            overload_monitor_measure(&monitor->watched, &use, &monitor->measured, &monitor->why);
    }
}

static void take_measures(struct overload_manager *m) {
    if (blocking_call(measure, m) !=
        0) { /* no thread: as good as an update that is still pending */
        for (size_t i = 0; i < m->monitor_count; i++)
            stat_inc(m->monitors[i].skipped_updates, 0);
        return;
    }
    for (size_t i = 0; i < m->monitor_count; i++) {
        struct monitor *monitor = &m->monitors[i];
        bool is_new = monitor->rc != monitor->last_rc;
        monitor->last_rc = monitor->rc;
        if (monitor->rc != 0) {
            if (is_new)
                LOG(log_overload, LOG_WARN, "%s: %s (%s); its last pressure goes on to count",
                    monitor->watched.name, monitor->why, strerrordesc_np(-monitor->rc));
            stat_inc(monitor->failed_updates, 0);
            continue;
        }
        monitor->watched.pressure = monitor->measured;
        stat_set(monitor->pressure, (int64_t)(monitor->measured * 100));
    }
}

static float value_of(const struct trigger *trigger) {
    double pressure = trigger->monitor->pressure;
    if (pressure < 0)
        return 0;
    if (pressure >= trigger->full)
        return 1;
    if (!trigger->is_scaled || pressure <= trigger->from)
        return 0;
    return (float)((pressure - trigger->from) / (trigger->full - trigger->from));
}

/* Whether its state changed. */
static bool update(struct action *action) {
    const struct trigger *strongest = NULL;
    float value = 0;
    for (size_t i = 0; i < action->count; i++) {
        float of_trigger = value_of(&action->triggers[i]);
        if (of_trigger > value || !strongest) {
            value = of_trigger;
            strongest = &action->triggers[i];
        }
    }
    if (!strongest || value == action->value)
        return false;
    bool was_full = action->value == 1, is_full = value == 1;
    action->value = value;
    stat_set(action->active, is_full);
    stat_set(action->scale_percent, (int64_t)(value * 100));
    if (was_full != is_full)
        LOG(log_overload, LOG_INFO, "%s is %s: pressure of %s is %.0f %%", action->name,
            is_full ? "in full effect" : "no longer in full effect", strongest->monitor->name,
            strongest->monitor->pressure * 100);
    return true;
}

static void trim(void *arg) {
    memory_trim();
}

/* Envoy does it every ten seconds. Here the first time is at once, and it is each second while requests
 * are held back or refused: they would be so for memory that nobody uses any more. */
static bool must_shrink(struct overload_manager *m) {
    if (m->actions[OVERLOAD_SHRINK_HEAP].value != 1)
        return false;
    bool pressing = m->actions[OVERLOAD_HOLD_REQUESTS].value == 1 ||
                    m->actions[OVERLOAD_STOP_REQUESTS].value == 1;
    int64_t since_ns = rt_now_ns() - m->shrunk_ns;
    return since_ns >= (pressing ? SHRINK_PRESSING_NS : SHRINK_INTERVAL_NS);
}

static void shrink(struct overload_manager *m) {
    m->shrunk_ns = rt_now_ns();
    stat_inc(m->shrink_count, 0);
    rt_trim_memory();
    if (blocking_call(trim, NULL) != 0)
        LOG(log_overload, LOG_WARN, "no thread to trim memory on; it is tried again");
}

static void look(struct overload_manager *m) {
    bool changed = false;
    take_measures(m);
    for (unsigned i = 0; i < OVERLOAD_ACTIONS; i++)
        changed |= update(&m->actions[i]);
    if (changed)
        tell_all(m, false); /* before a trim, which takes a while */
    if (must_shrink(m)) {
        shrink(m);
        tell_all(m, true);
    }
}

static void run(void *arg) {
    struct overload_manager *m = arg;
    for (;;) {
        int64_t now_ns = clock_mono_ns();
        if (m->looked_ns)
            stat_record_us(m->refresh_delay, 0, (uint64_t)(now_ns - m->looked_ns) / 1000);
        m->looked_ns = now_ns;
        look(m);
        (void)rt_sleep_until(now_ns + m->interval_ns); /* nobody cancels it */
    }
}

void overload_start(struct overload_manager *m) {
    m->order_count = rt_p_count();
    m->orders = calloc(m->order_count, sizeof *m->orders);
    ASSERT(m->orders); /* at start */
    for (unsigned p = 0; p < m->order_count; p++) {
        m->orders[p].post.fn = take_order;
        m->orders[p].manager = m;
    }
    const struct go_options options = {
        .name = "overload manager", .place = RT_ON_P, .priority = RT_HIGH};
    int rc = go_with(&options, run, m);
    ASSERT(rc == 0); /* at start */
}

struct connection_limit *overload_connections(const struct overload_manager *m) {
    return m ? m->connections : NULL;
}

void overload_each(const struct overload_manager *m, overload_fn fn, void *arg) {
    for (size_t i = 0; m && i < m->monitor_count; i++) {
        const struct overload_monitor *monitor = &m->monitors[i].watched;
        struct overload_reading reading = {.monitor = monitor->name,
                                           .pressure_percent =
                                               (uint64_t)stat_value(m->monitors[i].pressure),
                                           .max_bytes = monitor->max_bytes};
        fn(&reading, arg);
    }
}
