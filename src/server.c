/* server: one object for the process, touched from P 0's coroutines only, but for what is marked
 * atomic. Which configuration serves: live_config.c.
 *
 *   INITIALIZING ─ config, snapshot, sockets, first DNS answers ─► LIVE ─ SIGTERM ─► DRAINING ─► end */
#include "server.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "admin/admin.h"
#include "admin/spike_capture.h"
#include "admin/symbols.h"
#include "base/clock.h"
#include "base/process.h"
#include "config/runtime_layers.h"
#include "crash/crash_catch.h"
#include "discovery/discovery.h"
#include "discovery/discovery_status.h"
#include "discovery/file_sources.h"
#include "ext/go/go_cluster.h"
#include "ext/go/go_filter.h"
#include "ext/go/go_network.h"
#include "ext/native/native_filter.h"
#include "ext/remote/remote_end.h"
#include "filter/json_router.h"
#include "filter/listener_filters.h"
#include "filter/network_filters.h"
#include "filter/router.h"
#include "filter/transport_tls.h"
#include "heap/heap_profile.h"
#include "live_config.h"
#include "proxy/descriptors.h"
#include "proxy/downstream.h"
#include "proxy/filter_registry.h"
#include "proxy/listener_manager.h"
#include "rt/foreign.h"
#include "rt/signals.h"
#include "rt/sync.h"
#include "supervise/worker_link.h"

LOG_COMPONENT(main, "main");

enum { CHECK_MS = 10 };

static struct server {
    const struct options *options;
    int64_t started_ns;
    struct overload_manager *overload;    /* NULL: nothing is watched */
    struct connection_limit *connections; /* of the process; NULL: no limit */
    bool counts_all;                      /* the admin's and those that ignore it, too */
    struct listener *admin;
    struct listener_config admin_config;
    struct listener_address admin_address;
    _Atomic int state; /* enum admin_state */
    _Atomic bool failing_healthcheck, stopping, leaving;
} server;

/* ---- sockets ---- */

static const struct cfg_bootstrap *bootstrap(void) {
    return config_bootstrap(live_config_snapshot()->config);
}

/* The limit of connections of the process. As on Envoy the runtime key, which is deprecated, counts all
 * connections, also those that it does not hold back; the monitor counts those that it is for. */
static bool find_global_limit(void) {
    uint64_t max;
    server.connections = overload_connections(server.overload);
    if (server.connections ||
        !cfg_runtime_u64(bootstrap()->layered_runtime, SPAN_LIT(RUNTIME_GLOBAL_CONNECTIONS), &max))
        return true;
    server.counts_all = true;
    server.connections = connection_limit_new(max);
    if (!server.connections)
        LOG(log_main, LOG_CRITICAL, "out of memory at start");
    return server.connections != NULL;
}

static bool prepare_descriptors(void) {
    bool ok = descriptors_init() == 0;
    if (!ok)
        LOG(log_main, LOG_CRITICAL, "out of memory at start");
    return ok;
}

struct limits {
    uint64_t max; /* of all listeners together */
    bool none;    /* one has none */
};

static void add_limit(const struct listener *listener, void *arg) {
    struct limits *limits = arg;
    uint64_t max = listener->config->connections_max;
    limits->none = limits->none || max == LISTENER_UNLIMITED;
    limits->max = limits->max + max < max ? UINT64_MAX : limits->max + max;
}

/* A limit that is never met protects from nothing. */
static void compare_limits(void) {
    struct limits limits = {.max =
                                server.connections ? connection_limit_max(server.connections) : 0};
    if (!server.connections)
        listener_manager_each(add_limit, &limits);
    uint64_t room = (uint64_t)descriptors_first_reserved();
    if (!limits.none && limits.max > room)
        LOG(log_main, LOG_WARN,
            "the limits of connections allow %llu clients, but there are file descriptors for "
            "fewer "
            "than %llu: raise the limit of open files (ulimit -n, systemd's LimitNOFILE=) to twice "
            "the former, as a client that is served may need one for its upstream",
            (unsigned long long)limits.max, (unsigned long long)room);
}

static NOINLINE bool write_admin_address(const char *path) {
    FILE *file = fopen(path, "w");
    if (!file || fprintf(file, "%s", server.admin->address_text) < 0 || fclose(file) != 0) {
        LOG(log_main, LOG_CRITICAL, "cannot write the admin's address to %s: %s", path,
            strerror(errno));
        return false;
    }
    return true;
}

/* NULL when memory is short, or with problems. */
static struct filter_chain_table *build_admin_chain(const struct cfg_admin *cfg,
                                                    struct cfg_problems *problems) {
    struct hcm *hcm = hcm_build_admin(&filter_kind_admin, cfg, problems);
    struct filter_chain_table *chains = hcm ? filter_chain_table_of_hcm(hcm) : NULL;
    if (!chains)
        hcm_free(hcm);
    return chains;
}

static bool open_admin(void) {
    const struct cfg_admin *cfg = bootstrap()->admin;
    if (!cfg || !cfg->address)
        return true;
    struct cfg_problems problems = {0};
    struct listener_config *config = &server.admin_config;
    *config = (struct listener_config){.refs = 1,
                                       .name = SPAN_LIT("admin"),
                                       .connections_max = LISTENER_UNLIMITED,
                                       .addresses = &server.admin_address,
                                       .address_count = 1};
    server.admin_address = (struct listener_address){.ipv4_compat = cfg->address->ipv4_compat};
    if (!address_parse(cfg->address->host, (uint16_t)cfg->address->port_value,
                       &server.admin_address.address))
        cfg_problem_add(&problems, CFG_PROBLEM_INVALID, &cfg->address->mark,
                        "'%.*s' is no IP address", (int)cfg->address->host.len,
                        cfg->address->host.ptr);
    else
        config->chains = build_admin_chain(cfg, &problems);
    cfg_problems_print(&problems, stderr);
    bool refused = cfg_problems_refuse(&problems);
    cfg_problems_fini(&problems);
    if (refused || !config->chains)
        return false;
    int rc = 0;
    char text[ADDRESS_TEXT_MAX];
    address_text(&server.admin_address.address, text);
    server.admin = listener_manager_open_admin(config, cfg->ignore_global_conn_limit, &rc);
    if (!server.admin) {
        LOG(log_main, LOG_CRITICAL, "admin: cannot bind %s: %s", text, strerror(-rc));
        return false;
    }
    return !server.options->admin_address_path ||
           write_admin_address(server.options->admin_address_path);
}

/* ---- ending ---- */

static void drain_on_p(struct rt_post *post) {
    downstream_drain_all(worker_here());
    free(post);
}

static void on_each_p(void (*fn)(struct rt_post *post)) {
    for (unsigned p = 0; p < rt_p_count(); p++) {
        struct rt_post *post = calloc(1, sizeof *post);
        ASSERT(post);
        post->fn = fn;
        rt_post(p, post);
    }
}

/* A P hears of it before its sockets close: who is refused elsewhere has been told here. */
static void drain_connections(void) {
    server.state = ADMIN_DRAINING;
    crash_catch_state("draining");
    on_each_p(drain_on_p);
    listener_manager_stop(false);
}

static void end(int code) {
    access_log_flush_all();
    LOG(log_main, LOG_INFO, "exiting");
    rt_stop(code);
}

static void end_in_order(void) {
    remote_end_all();
    end(0);
}

static void drain_and_end(void *arg) {
    if (atomic_exchange(&server.stopping, true)) {
        LOG(log_main, LOG_WARN, "told to stop again: ending at once");
        end(0);
        return;
    }
    int64_t deadline_ns = clock_mono_ns() + server.options->drain_time_s * NS_PER_S;
    worker_link_stopping();
    drain_connections();
    LOG(log_main, LOG_INFO, "draining: %lld connections open, at most %lld s",
        (long long)listener_manager_connections(), (long long)server.options->drain_time_s);
    while (listener_manager_connections() > 0 && clock_mono_ns() < deadline_ns)
        rt_sleep_until(clock_mono_ns() + CHECK_MS * NS_PER_MS);
    end_in_order();
}

static void leave_on_p(struct rt_post *post) {
    downstream_leave_all(worker_here());
    free(post);
}

/* Another process accepts from now on. Idle clients do not know that, and may ask at any moment: their next answer says
 * that the connection ends, and who never asks again is let go in the end. */
static void leave(void *arg) {
    if (!worker_link_is_there()) {
        LOG(log_main, LOG_WARN,
            "SIGUSR2: start it with --supervise, and a new process takes over when this signal is "
            "sent to the supervisor");
        return;
    }
    if (server.stopping || atomic_exchange(&server.leaving, true))
        return;
    int64_t deadline_ns = clock_mono_ns() + server.options->drain_time_s * NS_PER_S;
    server.state = ADMIN_DRAINING;
    crash_catch_state("draining: another process serves");
    on_each_p(leave_on_p);
    listener_manager_stop(true);
    LOG(log_main, LOG_INFO, "another process serves: %lld connections open, at most %lld s",
        (long long)listener_manager_connections(), (long long)server.options->drain_time_s);
    while (listener_manager_connections() > 0 && clock_mono_ns() < deadline_ns && !server.stopping)
        rt_sleep_until(clock_mono_ns() + CHECK_MS * NS_PER_MS);
    if (!server.stopping)
        end(0);
}

static void reopen_logs_now(void) {
    log_reopen();
    access_log_reopen_all();
    LOG(log_main, LOG_INFO, "log files opened again");
}

static void reload_on_signal(void *arg) {
    char *said; /* the log has it, too */
    (void)live_config_reload("SIGHUP", &said);
    free(said);
}

static void reopen_logs_on_signal(void *arg) {
    reopen_logs_now();
}

/* ---- what the admin asks ---- */

static enum admin_state hook_state(void) {
    return server.failing_healthcheck ? ADMIN_DRAINING : (enum admin_state)server.state;
}

static struct config *hook_config(int64_t *since_wall_ns) {
    const struct snapshot *snapshot = live_config_snapshot();
    if (!snapshot)
        return NULL;
    *since_wall_ns = snapshot->built_wall_ns;
    return config_ref(snapshot->config);
}

struct show_listener {
    admin_listener_fn fn;
    void *arg;
};

static void show_listener(const struct listener *at, void *arg) {
    const struct show_listener *show = arg;
    struct admin_listener listener = {
        .name = span_of(at->name), .addresses = at->addresses, .address_count = at->address_count};
    if (at->quota) {
        int64_t bytes = stat_value(at->stats.memory_bytes);
        listener.memory_limit_bytes = at->config->memory_limit_bytes;
        listener.memory_bytes = bytes > 0 ? (uint64_t)bytes : 0;
    }
    show->fn(&listener, show->arg);
}

static void hook_each_listener(admin_listener_fn fn, void *arg) {
    struct show_listener show = {fn, arg};
    listener_manager_each(show_listener, &show);
}

static void hook_each_pressure(overload_fn fn, void *arg) {
    overload_each(server.overload, fn, arg);
}

static void hook_each_cluster(admin_cluster_fn fn, void *arg) {
    const struct snapshot *snapshot = live_config_snapshot();
    for (uint32_t i = 0; snapshot && i < snapshot->cluster_count; i++)
        admin_show_cluster(snapshot->clusters[i], fn, arg);
}

/* The answer to the request that asks for the end should still go out: the end comes a little later,
 * by a timer of a coroutine of its own. */
static void quit_soon(void *arg) {
    rt_sleep_until(clock_mono_ns() + 50 * NS_PER_MS);
    if (!atomic_exchange(&server.stopping, true))
        end_in_order();
}

static void hook_quit(void) {
    const struct go_options options = {.name = "quit", .place = RT_ON_P, .priority = RT_HIGH};
    if (go_with(&options, quit_soon, NULL) != 0)
        end(0);
}

static void drain_listeners(void *arg) {
    bool graceful = arg != NULL;
    if (graceful)
        drain_connections();
    else
        listener_manager_stop(false);
}

static void hook_drain_listeners(const struct admin_drain *how) {
    const struct go_options options = {
        .name = "drain listeners", .place = RT_ON_P, .priority = RT_HIGH};
    if (go_with(&options, drain_listeners, how->graceful ? (void *)(uintptr_t)&server : NULL) != 0)
        LOG(log_main, LOG_ERROR, "out of memory: listeners go on");
}

static void hook_fail_healthcheck(bool failing) {
    server.failing_healthcheck = failing;
}

static bool hook_reload_config(char **said) {
    return live_config_reload("POST /config/reload", said);
}

struct show_config {
    admin_config_fn fn;
    void *arg;
};

static void show_config(const struct live_config_attempt *attempt, void *arg) {
    const struct show_config *show = arg;
    const struct admin_config config = {.version = attempt->version,
                                        .hash = attempt->hash,
                                        .at_wall_ns = attempt->at_wall_ns,
                                        .origin = span_of(attempt->origin),
                                        .said = span_of(attempt->said)};
    show->fn(&config, show->arg);
}

static void hook_each_config(admin_config_fn fn, void *arg) {
    struct show_config show = {fn, arg};
    live_config_each_attempt(show_config, &show);
}

static void set_admin_hooks(void) {
    static struct admin_command_line line;
    static struct admin_hooks hooks = {.command_line = &line,
                                       .state = hook_state,
                                       .config = hook_config,
                                       .resources = live_config_resources,
                                       .each_listener = hook_each_listener,
                                       .each_cluster = hook_each_cluster,
                                       .each_pressure = hook_each_pressure,
                                       .quit = hook_quit,
                                       .drain_listeners = hook_drain_listeners,
                                       .fail_healthcheck = hook_fail_healthcheck,
                                       .reopen_logs = reopen_logs_now,
                                       .reload_config = hook_reload_config,
                                       .each_config = hook_each_config};
    const struct options *o = server.options;
    line = (struct admin_command_line){
        .concurrency = rt_p_count(),
        .config_path = span_of(o->config_path),
        .config_yaml = span_of(o->config_yaml),
        .log_level = span_of(o->log_level_text),
        .component_log_level = span_of(o->component_log_level),
        .log_path = span_of(o->log_path),
        .service_cluster = span_of(o->service_cluster),
        .service_node = span_of(o->service_node),
        .service_zone = span_of(o->service_zone),
        .drain_time_s = o->drain_time_s,
        .allow_unknown_static_fields = o->allow_unknown_static_fields,
        .is_supervised = worker_link_is_there(),
        .restart_epoch = worker_link_generation() - 1,
    };
    hooks.started_ns = server.started_ns;
    admin_set_hooks(&hooks);
    symbols_init();
}

/* ---- start ---- */

static bool capture_spikes(void) {
    const struct options *o = server.options;
    if (!o->heap_spike_dir)
        return true;
    int err = spike_capture_start(&o->heap_spike, o->heap_spike_dir);
    if (err < 0)
        fprintf(stderr,
                "sluice: --heap-spike-dir '%s': %s: name a folder that this user may write to\n",
                o->heap_spike_dir, strerror(-err));
    else if (heap_profile_rate() == 0)
        LOG(log_main, LOG_WARN,
            "--heap-spike-dir: nothing is sampled, so no spike is seen; set --heap-profile-rate");
    return err == 0;
}

static bool take_signal(int signo, const char *name, rt_fn fn) {
    int rc = fn ? signals_on(signo, name, fn, NULL) : signals_dump_on(signo);
    if (rc != 0)
        LOG(log_main, LOG_CRITICAL, "cannot take %s: %s", name, strerror(-rc));
    return rc == 0;
}

/* Before the configuration is read, whose next version a SIGHUP may tell of from then on. */
static bool take_early_signals(void) {
    return take_signal(SIGHUP, "SIGHUP", reload_on_signal) &&
           take_signal(SIGUSR1, "SIGUSR1", reopen_logs_on_signal) &&
           take_signal(SIGQUIT, "SIGQUIT", NULL);
}

/* Until then these end it at once. */
static bool take_signals(void) {
    return take_signal(SIGTERM, "SIGTERM", drain_and_end) &&
           take_signal(SIGINT, "SIGINT", drain_and_end) && take_signal(SIGUSR2, "SIGUSR2", leave);
}

static void say_addresses_of(const struct listener *listener, void *arg) {
    char text[ADDRESS_TEXT_MAX];
    for (unsigned i = 0; i < listener->address_count; i++) {
        address_text(&listener->addresses[i], text);
        LOG(log_main, LOG_INFO, "listener '%s' on %s", listener->name, text);
    }
}

static void say_addresses(void) {
    listener_manager_each(say_addresses_of, NULL);
    if (server.admin)
        LOG(log_main, LOG_INFO, "admin on http://%s/", server.admin->address_text);
}

static void init_listeners(void) {
    const struct listener_manager_options options = {
        .connections = server.connections,
        .counts_all = server.counts_all,
        .sockets = &worker_link_sockets,
        .drain_ns = server.options->drain_time_s * NS_PER_S,
    };
    listener_manager_init(&options);
}

/* As a process whose place this one is to take: that has what was there before a file was refused. */
static bool serves_as_much(void) {
    if (!worker_link_takes_over() || !discovery_has_refused())
        return true;
    LOG(log_main, LOG_CRITICAL,
        "what files say is refused, and this process has nothing that was there before: put it "
        "right, and replace "
        "the process then");
    return false;
}

static bool read_discovery_files(void) {
    static const struct discovery_hooks hooks = {.running = live_config_resources,
                                                 .apply = live_config_apply};
    const struct file_source_how how = live_config_files(server.options);
    discovery_set_hooks(&hooks);
    int rc = file_sources_start(&how);
    if (rc != 0)
        LOG(log_main, LOG_CRITICAL, "out of memory at start");
    return rc == 0 && serves_as_much();
}

static bool start(void) {
    live_config_init(server.options);
    if (server.options->mode == MODE_SERVE && !take_early_signals())
        return false;
    if (!live_config_load(&server.overload))
        return false;
    if (server.options->mode == MODE_VALIDATE)
        return true;
    if (!take_signals() || !capture_spikes() || !find_global_limit() || !prepare_descriptors())
        return false;
    init_listeners();
    if (!open_admin())
        return false;
    server.state = ADMIN_INITIALIZING;
    if (server.overload)
        overload_start(server.overload);
    if (!read_discovery_files() || !live_config_serve())
        return false;
    server.state = ADMIN_LIVE;
    crash_catch_state("serving");
    say_addresses();
    worker_link_ready();
    worker_link_start_beating(server.options->hang_time_s * NS_PER_S);
    compare_limits();
    return true;
}

static void main_coroutine(void *arg) {
    if (stats_init(rt_p_count()) != 0 || workers_init() != 0) {
        fputs("sluice: out of memory at start\n", stderr);
        rt_stop(1);
        return;
    }
    access_log_set_flush_interval(server.options->flush_interval_ms);
    filter_register(&filter_kind_router);
    filter_register(&filter_kind_golang);
    filter_register(&filter_kind_native);
    cluster_specifier_register(&cluster_specifier_kind_golang);
    listener_filters_register();
    filter_register(&filter_kind_json_router);
    network_filters_register();
    network_filter_register(&network_filter_kind_golang);
    transport_socket_register(&transport_tls_downstream);
    transport_socket_register(&transport_tls_upstream);
    set_admin_hooks();
    LOG(log_main, LOG_INFO, "sluice " SLUICE_VERSION " starts with %u processors", rt_p_count());
    bool ok = start();
    if (server.options->mode == MODE_VALIDATE) {
        if (ok)
            printf("configuration '%s' OK\n",
                   server.options->config_path ? server.options->config_path : "(inline)");
        rt_stop(ok ? 0 : 1);
    } else if (!ok) {
        if (!atomic_exchange(&server.stopping, true))
            remote_end_all();
        rt_stop(1);
    }
}

/* A file that grows beyond `ulimit -f` is an error of the write that did it, not our end. */
static void ignore_file_limit_signal(void) {
    (void)signal(SIGXFSZ, SIG_IGN); /* it cannot fail */
}

int server_run(const struct options *options) {
    server.options = options;
    server.started_ns = clock_mono_ns();
    server.state = ADMIN_PRE_INITIALIZING;
    process_raise_file_limit();
    ignore_file_limit_signal();
    int rc = options->mode == MODE_SERVE ? heap_profile_init(options->heap_profile_rate) : 0;
    if (rc != 0)
        LOG(log_main, LOG_WARN, "there will be no heap profile: %s", strerror(-rc));
    rc = signals_init();
    if (rc != 0) {
        fprintf(stderr, "sluice: cannot take signals: %s\n", strerror(-rc));
        return 1;
    }
    struct rt_options rt_options = {.p_count = options->concurrency, .io = options->io};
    rc = rt_run(&rt_options, main_coroutine, NULL);
    if (rc < 0)
        fprintf(stderr, "sluice: the runtime cannot start: %s\n", strerror(-rc));
    return rc < 0 ? 1 : rc;
}
