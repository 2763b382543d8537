/* schema_filter: the HTTP filters that are built in: the router and Go. */
#include "config/schema_tables.h"

#include "config/load.h"

/* ---- router ---- */

static const struct cfg_field router_fields[] = {
    WRAPPER(struct cfg_router, 1, dynamic_stats, CFG_BOOL, .default_text = "true",
            .status = CFG_INERT, .doc = "The statistics it would switch off are not kept."),
    FIELD(struct cfg_router, 2, start_child_span, CFG_BOOL, .status = CFG_INERT,
          .doc = "There is no tracing yet."),
    FIELD(struct cfg_router, 4, suppress_envoy_headers, CFG_BOOL,
          .doc = "Add no x-envoy- headers to requests and responses."),
    FIELD(struct cfg_router, 6, respect_expected_rq_timeout, CFG_BOOL, .rules = CFG_ONLY_FALSE,
          .doc = "Take the timeout from x-envoy-expected-rq-timeout-ms."),
};
static const struct cfg_missing router_missing[] = {
    {3, "upstream_log"},
    {5, "strict_check_headers"},
    {7, "suppress_grpc_request_failure_code_stats"},
    {8, "upstream_http_filters"},
    {9, "upstream_log_options"},
};
const struct cfg_schema cfg_schema_router = {
    .name = "envoy.extensions.filters.http.router.v3.Router",
    .doc = "Sends requests on as their route says; the last filter.",
    .size = sizeof(struct cfg_router),
    FIELDS(router_fields),
    MISSING(router_missing),
};

/* ---- Go ---- */

static const struct cfg_enum_value merge_policy_values[] = {
    {0, "MERGE_VIRTUALHOST_ROUTER_FILTER", CFG_SUPPORTED},
    {1, "MERGE_VIRTUALHOST_ROUTER", CFG_SUPPORTED},
    {3, "OVERRIDE", CFG_SUPPORTED},
};
static const struct cfg_enum merge_policy_enum = ENUM_TABLE(
    "envoy.extensions.filters.http.golang.v3alpha.Config.MergePolicy", merge_policy_values);

static const struct cfg_field go_probe_fields[] = {
    FIELD(struct cfg_go_probe, 1, disabled, CFG_BOOL, .default_text = "false",
          .doc = "Load the library and its configuration at once: what is wrong with them may end "
                 "the proxy. `--mode validate` probes all the same."),
    FIELD(struct cfg_go_probe, 2, timeout, CFG_DURATION, WITHIN(1000000, INT64_MAX),
          .default_text = "10s",
          .doc = "How long the library may take to start, and as long for each of its "
                 "configurations."),
};
const struct cfg_schema cfg_schema_go_probe = {
    .name = "sluice.golang.v3.Probe",
    .doc = "A process of its own in which a library and its configurations are tried first.",
    .size = sizeof(struct cfg_go_probe),
    FIELDS(go_probe_fields),
};

static const struct cfg_enum_value late_calls_values[] = {
    {CFG_LATE_CALLS_LENIENT, "LENIENT", CFG_SUPPORTED},
    {CFG_LATE_CALLS_STRICT, "STRICT", CFG_SUPPORTED},
};
static const struct cfg_enum late_calls_enum =
    ENUM_TABLE("sluice.golang.v3.LateCalls", late_calls_values);

static const struct cfg_field golang_fields[] = {
    FIELD(struct cfg_golang, 1, library_id, CFG_STRING, .rules = CFG_REQUIRED,
          .doc = "Name of the library; one that is loaded is not loaded again."),
    FIELD(struct cfg_golang, 2, library_path, CFG_STRING, .rules = CFG_REQUIRED,
          .doc = "Path of the shared library, built with -buildmode=c-shared."),
    FIELD(struct cfg_golang, 3, plugin_name, CFG_STRING, .rules = CFG_REQUIRED,
          .doc = "Name that the plugin registers under."),
    FIELD(struct cfg_golang, 4, plugin_config, CFG_ANY,
          .has_at = CFG_AT(struct cfg_golang, has_plugin_config), .slot = CFG_SLOT_PAYLOAD,
          .doc = "Handed to the plugin's Parse."),
    ENUM(struct cfg_golang, 5, merge_policy, merge_policy_enum,
         .default_text = "MERGE_VIRTUALHOST_ROUTER_FILTER", .status = CFG_INERT,
         .doc = "Read nowhere, as on Envoy: configs are always merged."),
    FIELD(struct cfg_golang, CFG_OWN_FIELD + 1, gogc, CFG_STRING,
          .doc = "Not in Envoy. GOGC for this library: a percentage, or `off`. Counts when the "
                 "library is loaded."),
    FIELD(struct cfg_golang, CFG_OWN_FIELD + 2, go_memory_limit, CFG_STRING,
          .doc =
              "Not in Envoy. GOMEMLIMIT for this library, e.g. `512MiB`. Counts when the library "
              "is loaded."),
    INLINE(struct cfg_golang, CFG_OWN_FIELD + 3, probe, struct cfg_go_probe, cfg_schema_go_probe,
           .doc = "Not in Envoy. How the library is tried before it is loaded."),
    WRAPPER(
        struct cfg_golang, CFG_OWN_FIELD + 4, go_seats, CFG_U32, .rules = CFG_RANGE, .min = 1,
        .max = 1 << 16, .default_text = "16 for each processor",
        .doc = "Not in Envoy. How many callbacks of the library may run, or be blocked, at a time: "
               "the concurrency that its SDK is told. At least one for each processor. The first "
               "configuration of a library counts."),
    FIELD(struct cfg_golang, CFG_OWN_FIELD + 5, seat_wait_timeout, CFG_DURATION, .rules = CFG_RANGE,
          .min = 0, .max = INT64_MAX, .default_text = "1s",
          .doc =
              "Not in Envoy. How long a request waits while all callbacks that it could run beside "
              "are blocked; then it is answered with 503."),
    ENUM(struct cfg_golang, CFG_OWN_FIELD + 6, late_calls, late_calls_enum,
         .default_text = "LENIENT",
         .doc =
             "Not in Envoy. What a goroutine meets that uses its request after the request's end. "
             "LENIENT: nothing happens, and there is nothing to read. STRICT, as Envoy: the SDK "
             "panics in it, and without RecoverPanic that ends the process."),
};
static void golang_check(struct cfg_loader *loader, const struct cfg_tree *node,
                         const struct cfg_path *path, void *message) {
    const struct cfg_golang *cfg = message;
    cfg_check_go_wishes(loader, node, path, cfg->gogc, cfg->go_memory_limit);
}

const struct cfg_schema cfg_schema_golang = {
    .name = "envoy.extensions.filters.http.golang.v3alpha.Config",
    .doc = "A filter written in Go with Envoy's SDK.",
    .size = sizeof(struct cfg_golang),
    MARK(struct cfg_golang),
    FIELDS(golang_fields),
    .check = golang_check,
};

#define OVERRIDE ONEOF(struct cfg_golang_router_plugin, override)
static const struct cfg_field router_plugin_fields[] = {
    FIELD(struct cfg_golang_router_plugin, 1, disabled, CFG_BOOL, OVERRIDE,
          .rules = CFG_CONST_TRUE | CFG_ONEOF_REQUIRED,
          .doc = "As on Envoy: the plugin gets an empty config here, it is not switched off."),
    FIELD(struct cfg_golang_router_plugin, 2, config, CFG_ANY, OVERRIDE, .slot = CFG_SLOT_PAYLOAD,
          .rules = CFG_ONEOF_REQUIRED, .doc = "Handed to the plugin's Parse, then merged by it."),
};
static const struct cfg_schema router_plugin_schema = {
    .name = "envoy.extensions.filters.http.golang.v3alpha.RouterPlugin",
    .doc = "The config of one plugin on a route.",
    .size = sizeof(struct cfg_golang_router_plugin),
    MARK(struct cfg_golang_router_plugin),
    FIELDS(router_plugin_fields),
};

static const struct cfg_field plugin_entry_fields[] = {
    FIELD(struct cfg_golang_plugin_entry, 1, key, CFG_STRING, .doc = "plugin_name"),
    INLINE(struct cfg_golang_plugin_entry, 2, value, struct cfg_golang_router_plugin,
           router_plugin_schema, .doc = "Its config."),
};
static const struct cfg_schema plugin_entry_schema = {
    .name = "map<string, envoy.extensions.filters.http.golang.v3alpha.RouterPlugin>",
    .size = sizeof(struct cfg_golang_plugin_entry),
    FIELDS(plugin_entry_fields),
};

static const struct cfg_field golang_per_route_fields[] = {
    MAP(struct cfg_golang_per_route, 1, plugins_config, struct cfg_golang_plugin_entry,
        plugin_entry_schema, .doc = "By plugin_name."),
};
const struct cfg_schema cfg_schema_golang_per_route = {
    .name = "envoy.extensions.filters.http.golang.v3alpha.ConfigsPerRoute",
    .doc = "What Go plugins do differently on a route.",
    .size = sizeof(struct cfg_golang_per_route),
    MARK(struct cfg_golang_per_route),
    FIELDS(golang_per_route_fields),
};
