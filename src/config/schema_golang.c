/* schema_golang: cluster specifiers that are written in Go. HTTP filters: schema_filter.c. */
#include "config/golang_config.h"

#include "config/schema_tables.h"

#define LIBRARY_ID "Name of the library; one that is loaded is not loaded again."
#define LIBRARY_PATH "Path of the shared library, built with -buildmode=c-shared."

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
