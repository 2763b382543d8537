/* schema_golang: filters and cluster specifiers that are written in Go. */
#include "config/golang_config.h"

#include "base/unit.h"
#include "config/load.h"
#include "config/schema_tables.h"

/* The fields of struct cfg_go_library, in a message T that has it as `library`. Numbers of Envoy's from N on. */
#define LIBRARY(T, N)                                                                              \
    FIELD_AS(T, (N), "library_id", library.id, CFG_STRING, .rules = CFG_REQUIRED,                  \
             .doc = "Name of the library; one that is loaded is not loaded again."),               \
        FIELD_AS(T, (N) + 1, "library_path", library.path, CFG_STRING, .rules = CFG_REQUIRED,      \
                 .doc = "Path of the shared library, built with -buildmode=c-shared.")
/* Numbers of ours from N on. SEATS and WAITS say what they are of. */
#define HOSTED(T, N, SEATS, WAITS)                                                                 \
    FIELD_AS(T, (N), "gogc", library.gogc, CFG_STRING,                                             \
             .doc = "Not in Envoy. GOGC for this library: a percentage, or `off`. Counts when "    \
                    "the library is loaded."),                                                     \
        FIELD_AS(T, (N) + 1, "go_memory_limit", library.go_memory_limit, CFG_STRING,               \
                 .doc = "Not in Envoy. GOMEMLIMIT for this library, e.g. `512MiB`. Counts when "   \
                        "the library is loaded."),                                                 \
        INLINE_AS(T, (N) + 2, "probe", library.probe, struct cfg_go_probe, cfg_schema_go_probe,    \
                  .doc = "Not in Envoy. How the library is tried before it is loaded."),           \
        WRAPPER_AS(T, (N) + 3, "go_seats", library.go_seats, CFG_U32, .rules = CFG_RANGE,          \
                   .min = 1, .max = 1 << 16, .default_text = "16 for each processor",              \
                   .doc = "Not in Envoy. How many " SEATS),                                        \
        FIELD_AS(T, (N) + 4, "seat_wait_timeout", library.seat_wait_timeout, CFG_DURATION,         \
                 .rules = CFG_RANGE, .min = 0, .max = INT64_MAX, .default_text = "1s",             \
                 .doc = "Not in Envoy. " WAITS)
#define HOT_SWAP(T, SCHEMA)                                                                        \
    INLINE_AS(T, CFG_OWN_FIELD + 20, "hot_swap", library.hot_swap, struct cfg_hot_swap, SCHEMA,    \
              .doc = "Not in Envoy. What happens when the library's file is replaced.")
/* Those that isolation: PROCESS comes with. */
#define ISOLATED(T, N)                                                                             \
    FIELD_AS(T, (N), "callback_timeout", library.isolation.callback_timeout, CFG_DURATION,         \
             WITHIN(1000000, INT64_MAX), .default_text = "10s",                                    \
             .doc = "Not in Envoy. With isolation: PROCESS, how long a callback may take to "      \
                    "return. One that takes longer is stuck: where its goroutines are goes to "    \
                    "the log, and the process is ended and started again. Goroutines may take "    \
                    "as long as they like. The first configuration of a library counts."),         \
        INLINE_AS(T, (N) + 1, "restarts", library.isolation.restarts, struct cfg_go_restarts,      \
                  cfg_schema_go_restarts,                                                          \
                  .doc = "Not in Envoy. With isolation: PROCESS, when the process is started "     \
                         "again that was lost. The first configuration of a library counts."),     \
        INLINE_AS(T, (N) + 2, "sandbox", library.isolation.sandbox, struct cfg_sandbox,            \
                  cfg_schema_sandbox, .has_at = CFG_AT(T, library.isolation.has_sandbox),          \
                  .doc = "Not in Envoy. With isolation: PROCESS, what the process may do. The "    \
                         "first configuration of a library counts.")
#define ISOLATION_DOC                                                                              \
    .default_text = "IN_PROCESS",                                                                  \
    .doc = "Not in Envoy. Where the library runs. PROCESS: in a host process of its own, which "   \
           "may crash, hang or be killed: then it is started again, and what it held is dealt "    \
           "with by on_failure. One library_id is in one place."
#define SEATS_OF_CALLS                                                                             \
    "calls of the library's network filters and cluster specifiers may run, or be blocked, at a "  \
    "time. At least one for each processor. The first configuration counts."
#define WAIT_OF_CALLS "While all of these are blocked, how long "

/* As Go reads them: it ends the process over a GOMEMLIMIT that it does not understand. */
static bool is_gogc(struct span text) {
    static const struct unit percent[] = {{SPAN_INIT(""), 1}, {{NULL, 0}, 0}};
    int64_t value;
    return span_eq(text, SPAN_LIT("off")) || unit_parse(text, percent, INT32_MAX, &value);
}

static bool is_go_memory_limit(struct span text) {
    static const struct unit bare[] = {{SPAN_INIT(""), 1}, {{NULL, 0}, 0}};
    int64_t value;
    return span_eq(text, SPAN_LIT("off")) || unit_parse(text, bare, INT64_MAX, &value) ||
           unit_parse(text, unit_bytes, INT64_MAX, &value);
}

static void check_wishes(struct cfg_loader *loader, const struct cfg_tree *node,
                         const struct cfg_path *path, const struct cfg_go_library *library) {
    struct span gogc = library->gogc, limit = library->go_memory_limit;
    if (!span_is_none(gogc) && !is_gogc(gogc))
        cfg_report(loader, CFG_PROBLEM_INVALID, node, path,
                   "gogc '%.*s': must be a percentage such as \"50\", or off", (int)gogc.len,
                   gogc.ptr);
    if (!span_is_none(limit) && !is_go_memory_limit(limit))
        cfg_report(loader, CFG_PROBLEM_INVALID, node, path,
                   "go_memory_limit '%.*s': must be a number of bytes, perhaps with B, KiB, MiB, "
                   "GiB or TiB behind it, or off",
                   (int)limit.len, limit.ptr);
}

/* ---- HTTP filters ---- */

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

#define SWAP_FIELDS                                                                                \
    FIELD(struct cfg_hot_swap, 1, disabled, CFG_BOOL, .default_text = "false",                     \
          .doc = "A new file counts when the proxy is started again, and not before."),            \
        WRAPPER(struct cfg_hot_swap, 2, kept_copies, CFG_U32, .rules = CFG_RANGE, .min = 0,        \
                .max = 1024, .default_text = "8",                                                  \
                .doc = "How many old copies of the library may be in the process, which cannot "   \
                       "unload them: some 6 MB and 6 threads each, and what their goroutines "     \
                       "hold. With so many another swap is refused.")
#define SWAP_DOC                                                                                   \
    "A library whose file is replaced is loaded beside the old one. The first configuration of "   \
    "the library counts."
static const struct cfg_field hot_swap_fields[] = {
    SWAP_FIELDS,
    POINTER(struct cfg_hot_swap, 3, rollout, struct cfg_rollout, cfg_schema_rollout,
            .default_text = "it serves all at once",
            .doc = "The new one serves some clients first, and is withdrawn when it does worse."),
};
const struct cfg_schema cfg_schema_hot_swap = {
    .name = "sluice.golang.v3.HotSwap",
    .doc = SWAP_DOC,
    .size = sizeof(struct cfg_hot_swap),
    FIELDS(hot_swap_fields),
};
/* What a rollout compares are responses to HTTP requests. */
static const struct cfg_field whole_swap_fields[] = {SWAP_FIELDS};
static const struct cfg_schema whole_swap_schema = {
    .name = "sluice.golang.v3.WholeSwap",
    .doc = SWAP_DOC,
    .size = sizeof(struct cfg_hot_swap),
    FIELDS(whole_swap_fields),
};

static const struct cfg_enum_value late_calls_values[] = {
    {CFG_LATE_CALLS_LENIENT, "LENIENT", CFG_SUPPORTED},
    {CFG_LATE_CALLS_STRICT, "STRICT", CFG_SUPPORTED},
};
static const struct cfg_enum late_calls_enum =
    ENUM_TABLE("sluice.golang.v3.LateCalls", late_calls_values);

static const struct cfg_enum_value isolation_values[] = {
    {CFG_ISOLATION_IN_PROCESS, "IN_PROCESS", CFG_SUPPORTED},
    {CFG_ISOLATION_PROCESS, "PROCESS", CFG_SUPPORTED},
};
const struct cfg_enum cfg_enum_isolation =
    ENUM_TABLE("sluice.golang.v3.Isolation", isolation_values);

static const struct cfg_enum_value on_failure_values[] = {
    {CFG_ON_FAILURE_CLOSED, "CLOSED", CFG_SUPPORTED},
    {CFG_ON_FAILURE_OPEN, "OPEN", CFG_SUPPORTED},
};
const struct cfg_enum cfg_enum_on_failure =
    ENUM_TABLE("sluice.golang.v3.OnFailure", on_failure_values);

static const struct cfg_field go_restarts_fields[] = {
    FIELD(struct cfg_go_restarts, 1, base_interval, CFG_DURATION, WITHIN(1000000, INT64_MAX),
          .default_text = "0.1s",
          .doc =
              "After a first failure the process is started again at once, after the next one so "
              "much later; from there on the delay doubles."),
    FIELD(struct cfg_go_restarts, 2, max_interval, CFG_DURATION, WITHIN(1000000, INT64_MAX),
          .default_text = "10s", .doc = "The longest delay."),
    WRAPPER(struct cfg_go_restarts, 3, max_failures, CFG_U32, .rules = CFG_RANGE, .min = 0,
            .max = 64, .default_text = "5",
            .doc =
                "So many failures within the window, and the process stays down: what needs it is "
                "dealt with by on_failure, and `/ready` says so. 0: it is always started again."),
    FIELD(struct cfg_go_restarts, 4, window, CFG_DURATION, WITHIN(1000000, INT64_MAX),
          .default_text = "60s", .doc = "How long a failure counts."),
    FIELD(struct cfg_go_restarts, 5, retry_after, CFG_DURATION, .rules = CFG_RANGE, .min = 0,
          .max = INT64_MAX, .default_text = "60s",
          .doc = "How long the process stays down before it is tried once more; 0: until somebody "
                 "asks for it."),
};
const struct cfg_schema cfg_schema_go_restarts = {
    .name = "sluice.golang.v3.Restarts",
    .doc = "When a host process that was lost is started again.",
    .size = sizeof(struct cfg_go_restarts),
    FIELDS(go_restarts_fields),
};

static const struct cfg_field golang_fields[] = {
    LIBRARY(struct cfg_golang, 1),
    FIELD(struct cfg_golang, 3, plugin_name, CFG_STRING, .rules = CFG_REQUIRED,
          .doc = "Name that the plugin registers under."),
    FIELD(struct cfg_golang, 4, plugin_config, CFG_ANY,
          .has_at = CFG_AT(struct cfg_golang, has_plugin_config), .slot = CFG_SLOT_PAYLOAD,
          .doc = "Handed to the plugin's Parse."),
    ENUM(struct cfg_golang, 5, merge_policy, merge_policy_enum,
         .default_text = "MERGE_VIRTUALHOST_ROUTER_FILTER", .status = CFG_INERT,
         .doc = "Read nowhere, as on Envoy: configs are always merged."),
    HOSTED(struct cfg_golang, CFG_OWN_FIELD + 1,
           "callbacks of the library may run, or be blocked, at a time: the concurrency that its "
           "SDK is told. At least one for each processor. The first configuration of a library "
           "counts.",
           "How long a request waits while all callbacks that it could run beside are blocked; "
           "then it is answered with 503."),
    ENUM(struct cfg_golang, CFG_OWN_FIELD + 6, late_calls, late_calls_enum,
         .default_text = "LENIENT",
         .doc =
             "Not in Envoy. What a goroutine meets that uses its request after the request's end. "
             "LENIENT: nothing happens, and there is nothing to read. STRICT, as Envoy: the SDK "
             "panics in it, and without RecoverPanic that ends the process."),
    ENUM_AS(struct cfg_golang, CFG_OWN_FIELD + 7, "isolation", library.isolation.where,
            cfg_enum_isolation, ISOLATION_DOC),
    ENUM(struct cfg_golang, CFG_OWN_FIELD + 8, on_failure, cfg_enum_on_failure,
         .default_text = "CLOSED",
         .doc =
             "Not in Envoy. With isolation: PROCESS, what becomes of a request whose host process "
             "is lost, or that finds none. CLOSED: it is answered with 503. OPEN: it goes on "
             "without the filter."),
    ISOLATED(struct cfg_golang, CFG_OWN_FIELD + 9),
    FIELD(struct cfg_golang, CFG_OWN_FIELD + 12, phase_timeout, CFG_DURATION,
          WITHIN(1000000, INT64_MAX), .default_text = "none",
          .doc = "Not in Envoy. How long the filter may have headers, a piece of body or trailers, "
                 "in its callback and in goroutines, until it lets them go. Then the request is "
                 "answered with 504, or reset if its response has begun, and the filter hears of "
                 "nothing but its end."),
    HOT_SWAP(struct cfg_golang, cfg_schema_hot_swap),
};
static void golang_check(struct cfg_loader *loader, const struct cfg_tree *node,
                         const struct cfg_path *path, void *message) {
    const struct cfg_golang *cfg = message;
    check_wishes(loader, node, path, &cfg->library);
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

/* ---- network filters ---- */

static const struct cfg_field network_fields[] = {
    FIELD(struct cfg_golang_network, 1, is_terminal_filter, CFG_BOOL,
          .doc = "It is the last one of its chain: it serves the connection. Otherwise it looks at "
                 "what the filters behind it get and send."),
    LIBRARY(struct cfg_golang_network, 2),
    FIELD(struct cfg_golang_network, 4, plugin_name, CFG_STRING, .rules = CFG_REQUIRED,
          .doc = "Name that the plugin registers under."),
    FIELD(struct cfg_golang_network, 5, plugin_config, CFG_ANY,
          .has_at = CFG_AT(struct cfg_golang_network, has_plugin_config), .slot = CFG_SLOT_PAYLOAD,
          .doc = "Handed to the plugin's ParseConfig."),
    FIELD(struct cfg_golang_network, CFG_OWN_FIELD + 1, pass_read_data, CFG_BOOL,
          .doc =
              "Not in Envoy. For a filter that is not the last one: what the client sends goes on "
              "to the next filter when OnData says Continue. On Envoy it ends here, whatever "
              "OnData says."),
    HOSTED(struct cfg_golang_network, CFG_OWN_FIELD + 2, SEATS_OF_CALLS,
           WAIT_OF_CALLS "a client's connection waits for its next one; then it is reset."),
    ENUM_AS(struct cfg_golang_network, CFG_OWN_FIELD + 7, "isolation", library.isolation.where,
            cfg_enum_isolation, ISOLATION_DOC),
    ENUM(struct cfg_golang_network, CFG_OWN_FIELD + 8, on_failure, cfg_enum_on_failure,
         .default_text = "CLOSED",
         .doc = "Not in Envoy. With isolation: PROCESS, what becomes of a connection whose host "
                "process is lost, or that finds none. CLOSED: it is reset. OPEN: it goes on "
                "without the filter if that is not the last one, and has kept nothing of what "
                "the client sent; else it is reset."),
    ISOLATED(struct cfg_golang_network, CFG_OWN_FIELD + 9),
    HOT_SWAP(struct cfg_golang_network, whole_swap_schema),
};
static void network_check(struct cfg_loader *loader, const struct cfg_tree *node,
                          const struct cfg_path *path, void *message) {
    const struct cfg_golang_network *cfg = message;
    check_wishes(loader, node, path, &cfg->library);
}
const struct cfg_schema cfg_schema_golang_network = {
    .name = "envoy.extensions.filters.network.golang.v3alpha.Config",
    .doc = "A filter of connections that is written in Go with Envoy's SDK.",
    .size = sizeof(struct cfg_golang_network),
    MARK(struct cfg_golang_network),
    FIELDS(network_fields),
    .check = network_check,
};

/* ---- cluster specifiers ---- */

static const struct cfg_enum_value no_answer_values[] = {
    {CFG_NO_ANSWER_OPEN, "OPEN", CFG_SUPPORTED},
    {CFG_NO_ANSWER_CLOSED, "CLOSED", CFG_SUPPORTED},
};
static const struct cfg_enum no_answer_enum =
    ENUM_TABLE("sluice.golang.v3.NoAnswer", no_answer_values);

static const struct cfg_field specifier_fields[] = {
    LIBRARY(struct cfg_golang_cluster_specifier, 1),
    FIELD(struct cfg_golang_cluster_specifier, 3, default_cluster, CFG_STRING,
          .rules = CFG_REQUIRED,
          .doc = "The cluster when the plugin names none, panics, or names one of more than 8192 "
                 "bytes."),
    FIELD(struct cfg_golang_cluster_specifier, 4, config, CFG_ANY,
          .has_at = CFG_AT(struct cfg_golang_cluster_specifier, has_config),
          .slot = CFG_SLOT_PAYLOAD, .doc = "Handed to the plugin's factory."),
    HOSTED(struct cfg_golang_cluster_specifier, CFG_OWN_FIELD + 1, SEATS_OF_CALLS,
           WAIT_OF_CALLS
           "a request waits for its question to be asked; then it goes to default_cluster."),
    ENUM_AS(struct cfg_golang_cluster_specifier, CFG_OWN_FIELD + 6, "isolation",
            library.isolation.where, cfg_enum_isolation, ISOLATION_DOC),
    ENUM(struct cfg_golang_cluster_specifier, CFG_OWN_FIELD + 7, on_failure, no_answer_enum,
         .default_text = "OPEN",
         .doc = "Not in Envoy. With isolation: PROCESS, what becomes of a request whose host "
                "process is lost over its question, or that finds none. OPEN: it goes to "
                "default_cluster. CLOSED: it is answered with 503."),
    ISOLATED(struct cfg_golang_cluster_specifier, CFG_OWN_FIELD + 8),
    HOT_SWAP(struct cfg_golang_cluster_specifier, whole_swap_schema),
};
static void specifier_check(struct cfg_loader *loader, const struct cfg_tree *node,
                            const struct cfg_path *path, void *message) {
    const struct cfg_golang_cluster_specifier *cfg = message;
    check_wishes(loader, node, path, &cfg->library);
}
const struct cfg_schema cfg_schema_golang_cluster_specifier = {
    .name = "envoy.extensions.router.cluster_specifier.golang.v3alpha.Config",
    .doc = "Chooses the cluster of each request of a route, in Go with Envoy's SDK.",
    .size = sizeof(struct cfg_golang_cluster_specifier),
    MARK(struct cfg_golang_cluster_specifier),
    FIELDS(specifier_fields),
    .check = specifier_check,
};
