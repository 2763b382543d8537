/* golang_config: where Go plug-ins stand besides HTTP filters, as C structs. Conventions: bootstrap.h. */
#pragma once
#include "config/bootstrap.h"

struct cfg_golang_network { /* extensions.filters.network.golang.v3alpha.Config */
    struct cfg_mark mark;
    bool is_terminal_filter;
    struct span library_id, library_path, plugin_name;
    struct cfg_any plugin_config;
    bool has_plugin_config;
    /* Ours: */
    bool pass_read_data;
    struct span gogc, go_memory_limit;
    struct cfg_go_probe probe;
    struct cfg_u32 go_seats;
    struct cfg_duration seat_wait_timeout; /* default 1 s */
};

struct
    cfg_golang_cluster_specifier { /* extensions.router.cluster_specifier.golang.v3alpha.Config */
    struct cfg_mark mark;
    struct span library_id, library_path, default_cluster;
    struct cfg_any config;
    bool has_config;
    /* Ours: */
    struct span gogc, go_memory_limit;
    struct cfg_go_probe probe;
    struct cfg_u32 go_seats;
    struct cfg_duration seat_wait_timeout; /* default 1 s */
};

extern const struct cfg_schema cfg_schema_golang_network;
extern const struct cfg_schema cfg_schema_golang_cluster_specifier;
