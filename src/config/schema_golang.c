/* schema_golang: network filters and cluster specifiers that are written in Go. HTTP filters: schema_filter.c. */
#include "config/golang_config.h"

#include "config/schema_tables.h"

#define LIBRARY_ID "Name of the library; one that is loaded is not loaded again."
#define LIBRARY_PATH "Path of the shared library, built with -buildmode=c-shared."

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
};
const struct cfg_schema cfg_schema_golang_network = {
    .name = "envoy.extensions.filters.network.golang.v3alpha.Config",
    .doc = "A filter of connections that is written in Go with Envoy's SDK.",
    .size = sizeof(struct cfg_golang_network),
    MARK(struct cfg_golang_network),
    FIELDS(network_fields),
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
};
const struct cfg_schema cfg_schema_golang_cluster_specifier = {
    .name = "envoy.extensions.router.cluster_specifier.golang.v3alpha.Config",
    .doc = "Chooses the cluster of each request of a route, in Go with Envoy's SDK.",
    .size = sizeof(struct cfg_golang_cluster_specifier),
    MARK(struct cfg_golang_cluster_specifier),
    FIELDS(specifier_fields),
};
