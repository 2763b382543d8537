/* admin: Envoy's administration interface, as the terminal filter of an ordinary listener.
 *
 * What the admin cannot know by itself it asks the process through `struct admin_hooks`. main.c
 * fills it once, before the admin listener accepts; every function in it is required.
 *
 * Ownership  admin_set_hooks borrows the table and all strings in it for the life of the process.
 *            Spans in what the each_* hooks hand over are borrowed until their callback returns.
 * Threads    Hooks are called on P 0, from a coroutine. They may not park, but where it is said: a page is built
 *            in one go, so that it shows one state.
 * Stopping   quit and drain_listeners only start something and return: the answer to the request
 *            that called them is still to be written. */
#pragma once
#include "config/resources.h"
#include "io/address.h"
#include "proxy/cluster.h"
#include "proxy/filter.h"
#include "proxy/overload.h"

/* The filter of the admin listener. It has no configuration: schema is NULL. */
extern const struct filter_kind filter_kind_admin;

enum admin_state { /* Envoy's numbers: the value of server.state */
                   ADMIN_LIVE = 0,
                   ADMIN_DRAINING = 1,
                   ADMIN_PRE_INITIALIZING = 2,
                   ADMIN_INITIALIZING = 3,
};

struct admin_listener {
    struct span name;
    const struct address *addresses; /* as bound: no port is 0; one at least */
    size_t address_count;
    uint64_t memory_limit_bytes, memory_bytes; /* limit 0: none, and then nothing is counted */
};

struct admin_thresholds { /* of one priority */
    uint32_t max_connections, max_pending_requests, max_requests, max_retries;
};
struct admin_host {
    struct address address;
    struct span hostname; /* empty unless it was resolved or configured */
    uint32_t weight;
    bool healthy; /* false: the configured health_status says so */
    uint64_t cx_total, cx_active, cx_connect_fail;
    uint64_t rq_total, rq_active, rq_pending_active, rq_success, rq_error, rq_timeout;
};
struct admin_cluster {
    struct span name;
    struct admin_thresholds default_priority, high_priority;
    const struct admin_host *hosts;
    uint32_t host_count;
};

struct admin_drain { /* parameters of /drain_listeners */
    bool graceful, inbound_only, skip_exit;
};

struct admin_command_line { /* what /server_info shows of the flags; absent spans show as "" */
    uint32_t concurrency;
    struct span config_path, config_yaml, log_level, component_log_level, log_path;
    struct span service_cluster, service_node, service_zone;
    int64_t drain_time_s;
    bool allow_unknown_static_fields;
    bool is_supervised;     /* so it can be replaced while it serves */
    uint32_t restart_epoch; /* how many processes there were before this one */
};

typedef void (*admin_listener_fn)(const struct admin_listener *listener, void *arg);
typedef void (*admin_cluster_fn)(const struct admin_cluster *cluster, void *arg);

struct admin_config {
    uint64_t version; /* 0: it was refused */
    uint64_t hash;    /* resources_hash of what was taken; 0: it is not known */
    int64_t at_wall_ns;
    struct span origin, said;
};
typedef void (*admin_config_fn)(const struct admin_config *config, void *arg);

struct admin_hooks {
    int64_t started_ns; /* of the process, monotonic */
    const struct admin_command_line *command_line;
    enum admin_state (*state)(void);
    /* The config that is served, leased to the caller, and the time it was taken into use. NULL
     * while there is none. */
    struct config *(*config)(int64_t *since_wall_ns);
    struct resources *(*resources)(void); /* of it, leased to the caller, while there is one */
    void (*each_listener)(admin_listener_fn fn, void *arg); /* without the admin's own */
    void (*each_cluster)(admin_cluster_fn fn, void *arg);   /* admin_show_cluster helps */
    void (*each_pressure)(overload_fn fn, void *arg);       /* what the overload manager watches */
    void (*quit)(void);
    void (*drain_listeners)(const struct admin_drain *how);
    void (*fail_healthcheck)(bool failing); /* while failing, state is ADMIN_DRAINING */
    void (*reopen_logs)(void);
    /* Reads the configuration's file again. Parks, which the others may not. *said is transferred, NULL when memory is
     * short: what changed, or, when it returns false, why it was refused, a line for each problem. */
    bool (*reload_config)(char **said);
    /* Configurations that were tried, the latest first; version 0: refused. Spans until fn returns. */
    void (*each_config)(admin_config_fn fn, void *arg);
};

void admin_set_hooks(const struct admin_hooks *hooks BORROWED_BY(program));

/* Hands a running cluster, with the counters of its hosts summed over the Ps, to fn. */
void admin_show_cluster(struct cluster *cluster, admin_cluster_fn fn, void *arg);
