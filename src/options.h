/* options: the command line, in Envoy's words. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

#include "base/log.h"
#include "heap/spike.h"
#include "rt/rt.h"

enum run_mode { MODE_SERVE, MODE_VALIDATE, MODE_PRINT_DOCS, MODE_PRINT_SCHEMA, MODE_EXIT };

/* Strings are borrowed from argv. */
struct options {
    enum run_mode mode;
    int exit_code; /* MODE_EXIT */
    const char *config_path, *config_yaml, *descriptor_set;
    const char *log_path, *log_level_text, *component_log_level;
    const char *admin_address_path;
    const char *crash_dir; /* NULL: reports go to standard error */
    unsigned crash_max;
    const char *heap_spike_dir;  /* NULL: spikes are not captured */
    const char *heap_spike_text; /* as given, or NULL */
    struct spike_rule heap_spike;
    const char *service_cluster, *service_node, *service_zone;
    enum log_level log_level;
    unsigned concurrency; /* 0: one per core */
    enum rt_io io;
    int64_t drain_time_s, flush_interval_ms;
    uint64_t heap_profile_rate;  /* bytes per sample on average; 0: off */
    uint64_t memory_limit_bytes; /* 0: none */
    bool allow_unknown_static_fields, reject_unknown_dynamic_fields;
    bool no_probe;           /* Go libraries are loaded without being tried first */
    bool isolate_extensions; /* isolation: PROCESS everywhere */
    bool supervise;          /* another process serves, and this one keeps it running */
    int64_t hang_time_s;     /* that one is killed when nothing is heard of it for so long */
};

/* Prints what is wrong, or what was asked for (--help, --version), and then gives MODE_EXIT. */
void options_parse(int argc, char **argv, struct options *out);
