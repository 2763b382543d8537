/* schema_golang: network filters and cluster specifiers that are written in Go. HTTP filters: schema_filter.c. */
#include "config/golang_config.h"

#include "base/unit.h"
#include "config/load.h"
#include "config/schema_tables.h"

#define LIBRARY_ID "Name of the library; one that is loaded is not loaded again."
#define LIBRARY_PATH "Path of the shared library, built with -buildmode=c-shared."

/* Field numbers of ours from N on. */
#define OF_THE_HOST(T, N, WAITS)                                                                   \
    FIELD(T, (N), gogc, CFG_STRING,                                                                \
          .doc = "Not in Envoy. GOGC for this library: a percentage, or `off`. Counts when the "   \
                 "library is loaded."),                                                            \
        FIELD(T, (N) + 1, go_memory_limit, CFG_STRING,                                             \
              .doc = "Not in Envoy. GOMEMLIMIT for this library, e.g. `512MiB`. Counts when the "  \
                     "library is loaded."),                                                        \
        INLINE(T, (N) + 2, probe, struct cfg_go_probe, cfg_schema_go_probe,                        \
               .doc = "Not in Envoy. How the library is tried before it is loaded."),              \
        WRAPPER(T, (N) + 3, go_seats, CFG_U32, .rules = CFG_RANGE, .min = 1, .max = 1 << 16,       \
                .default_text = "16 for each processor",                                           \
                .doc = "Not in Envoy. How many calls of the library's network filters and "        \
                       "cluster specifiers may run, or be blocked, at a time. At least one for "   \
                       "each processor. The first configuration counts."),                         \
        FIELD(T, (N) + 4, seat_wait_timeout, CFG_DURATION, .rules = CFG_RANGE, .min = 0,           \
              .max = INT64_MAX, .default_text = "1s",                                              \
              .doc = "Not in Envoy. While all of these are blocked, how long " WAITS)

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

void cfg_check_go_wishes(struct cfg_loader *loader, const struct cfg_tree *node,
                         const struct cfg_path *path, struct span gogc, struct span limit) {
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

static const struct cfg_field network_fields[] = {
    FIELD(struct cfg_golang_network, 1, is_terminal_filter, CFG_BOOL,
          .doc = "It is the last one of its chain: it serves the connection. Otherwise it looks at "
                 "what the filters behind it get and send."),
    FIELD(struct cfg_golang_network, 2, library_id, CFG_STRING, .rules = CFG_REQUIRED,
          .doc = LIBRARY_ID),
    FIELD(struct cfg_golang_network, 3, library_path, CFG_STRING, .rules = CFG_REQUIRED,
          .doc = LIBRARY_PATH),
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
    OF_THE_HOST(struct cfg_golang_network, CFG_OWN_FIELD + 2,
                "a client's connection waits for its next one; then it is reset."),
};
static void network_check(struct cfg_loader *loader, const struct cfg_tree *node,
                          const struct cfg_path *path, void *message) {
    const struct cfg_golang_network *cfg = message;
    cfg_check_go_wishes(loader, node, path, cfg->gogc, cfg->go_memory_limit);
}
const struct cfg_schema cfg_schema_golang_network = {
    .name = "envoy.extensions.filters.network.golang.v3alpha.Config",
    .doc = "A filter of connections that is written in Go with Envoy's SDK.",
    .size = sizeof(struct cfg_golang_network),
    MARK(struct cfg_golang_network),
    FIELDS(network_fields),
    .check = network_check,
};

static const struct cfg_field specifier_fields[] = {
    FIELD(struct cfg_golang_cluster_specifier, 1, library_id, CFG_STRING, .rules = CFG_REQUIRED,
          .doc = LIBRARY_ID),
    FIELD(struct cfg_golang_cluster_specifier, 2, library_path, CFG_STRING, .rules = CFG_REQUIRED,
          .doc = LIBRARY_PATH),
    FIELD(struct cfg_golang_cluster_specifier, 3, default_cluster, CFG_STRING,
          .rules = CFG_REQUIRED,
          .doc = "The cluster when the plugin names none, panics, or names one of more than 8192 "
                 "bytes."),
    FIELD(struct cfg_golang_cluster_specifier, 4, config, CFG_ANY,
          .has_at = CFG_AT(struct cfg_golang_cluster_specifier, has_config),
          .slot = CFG_SLOT_PAYLOAD, .doc = "Handed to the plugin's factory."),
    OF_THE_HOST(struct cfg_golang_cluster_specifier, CFG_OWN_FIELD + 1,
                "a request waits for its question to be asked; then it goes to default_cluster."),
};
static void specifier_check(struct cfg_loader *loader, const struct cfg_tree *node,
                            const struct cfg_path *path, void *message) {
    const struct cfg_golang_cluster_specifier *cfg = message;
    cfg_check_go_wishes(loader, node, path, cfg->gogc, cfg->go_memory_limit);
}
const struct cfg_schema cfg_schema_golang_cluster_specifier = {
    .name = "envoy.extensions.router.cluster_specifier.golang.v3alpha.Config",
    .doc = "Chooses the cluster of each request of a route, in Go with Envoy's SDK.",
    .size = sizeof(struct cfg_golang_cluster_specifier),
    MARK(struct cfg_golang_cluster_specifier),
    FIELDS(specifier_fields),
    .check = specifier_check,
};
