/* golang_config: where Go plug-ins stand, as C structs. Conventions: bootstrap.h. */
#pragma once
#include "config/bootstrap.h"
#include "config/rollout_config.h"
#include "config/sandbox_config.h"

struct cfg_go_probe { /* sluice.golang.v3.Probe */
    bool disabled;
    struct cfg_duration timeout;
};
struct cfg_hot_swap { /* sluice.golang.v3.HotSwap */
    bool disabled;
    struct cfg_u32 kept_copies;
    struct cfg_rollout *rollout; /* NULL: the new one serves all at once */
};
struct cfg_go_restarts { /* sluice.golang.v3.Restarts. Defaults: restart_settings_default */
    struct cfg_duration base_interval, max_interval, window, retry_after;
    struct cfg_u32 max_failures;
};
enum { CFG_ISOLATION_IN_PROCESS = 0, CFG_ISOLATION_PROCESS = 1 };
/* Where a library runs, and what that comes with. */
struct cfg_go_isolation {
    int where;
    struct cfg_duration callback_timeout; /* default 10 s */
    struct cfg_go_restarts restarts;
    bool has_sandbox;
    struct cfg_sandbox sandbox;
};
/* A library and how it is hosted: a part of all messages that name one, which have its fields as their own. */
struct cfg_go_library {
    struct span id, path; /* library_id, library_path */
    /* Ours: */
    struct span gogc, go_memory_limit;
    struct cfg_go_probe probe;
    struct cfg_u32 go_seats;
    struct cfg_duration seat_wait_timeout; /* default 1 s */
    struct cfg_hot_swap hot_swap;
    struct cfg_go_isolation isolation;
};

enum { CFG_ON_FAILURE_CLOSED = 0, CFG_ON_FAILURE_OPEN = 1 };
enum { CFG_LATE_CALLS_LENIENT = 0, CFG_LATE_CALLS_STRICT = 1 };
struct cfg_golang { /* extensions.filters.http.golang.v3alpha.Config */
    struct cfg_mark mark;
    struct cfg_go_library library;
    struct span plugin_name;
    bool has_plugin_config;
    struct cfg_any plugin_config;
    int merge_policy; /* read nowhere, as on Envoy */
    /* Ours: */
    int late_calls, on_failure;
    struct cfg_duration phase_timeout; /* default: none */
};
extern const struct cfg_enum cfg_enum_isolation, cfg_enum_on_failure;
extern const struct cfg_schema cfg_schema_go_restarts;
struct cfg_golang_router_plugin {
    struct cfg_mark mark;
    int override_case; /* 1 disabled, 2 config; required */
    bool disabled;
    struct cfg_any config;
};
struct cfg_golang_plugin_entry {
    struct span key; /* plugin_name */
    struct cfg_golang_router_plugin value;
};
struct cfg_golang_per_route { /* ConfigsPerRoute */
    struct cfg_mark mark;
    struct cfg_golang_plugin_entry *plugins_config;
    size_t plugins_config_count;
};

struct cfg_golang_network { /* extensions.filters.network.golang.v3alpha.Config */
    struct cfg_mark mark;
    bool is_terminal_filter;
    struct cfg_go_library library;
    struct span plugin_name;
    struct cfg_any plugin_config;
    bool has_plugin_config;
    /* Ours: */
    bool pass_read_data;
    int on_failure;
};

/* Another default than that of filters: the configuration names a cluster for requests of which the plugin says nothing. */
enum { CFG_NO_ANSWER_OPEN = 0, CFG_NO_ANSWER_CLOSED = 1 };
struct
    cfg_golang_cluster_specifier { /* extensions.router.cluster_specifier.golang.v3alpha.Config */
    struct cfg_mark mark;
    struct cfg_go_library library;
    struct span default_cluster;
    struct cfg_any config;
    bool has_config;
    int on_failure; /* ours */
};

extern const struct cfg_schema cfg_schema_go_probe;
extern const struct cfg_schema cfg_schema_hot_swap;
extern const struct cfg_schema cfg_schema_golang;
extern const struct cfg_schema cfg_schema_golang_per_route;
extern const struct cfg_schema cfg_schema_golang_network;
extern const struct cfg_schema cfg_schema_golang_cluster_specifier;
