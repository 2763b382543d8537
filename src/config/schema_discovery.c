/* schema_discovery: what is not static: envoy.config.core.v3.ConfigSource, and envoy.service.discovery.v3 that files
 * hold. */
#include "config/discovery_config.h"
#include "config/load.h"
#include "config/schema_tables.h"

/* ---- directories ---- */

static const struct cfg_field watched_fields[] = {
    {.number = 1,
     .name = "path",
     .type = CFG_STRING,
     .rules = CFG_REQUIRED,
     .doc = "The directory: files that are moved into it, or a symbolic link there that changes, "
            "are what a change is."},
};
/* The message is no more than its path: struct span. */
const struct cfg_schema cfg_schema_watched_directory = {
    .name = "envoy.config.core.v3.WatchedDirectory",
    .doc = "A directory whose changes are waited for.",
    .size = sizeof(struct span),
    FIELDS(watched_fields),
};

/* ---- sources ---- */

static const struct cfg_field path_source_fields[] = {
    FIELD(struct cfg_path_source, 1, path, CFG_STRING, .rules = CFG_REQUIRED,
          .doc =
              "A file that holds a [DiscoveryResponse](#envoyservicediscoveryv3discoveryresponse), "
              "as YAML or (`.json`) JSON. It must be there from the start."),
    INLINE(struct cfg_path_source, 2, watched_directory, struct span, cfg_schema_watched_directory,
           .default_text = "the file's own directory",
           .doc =
               "The file is read again when something is moved into this directory, and not else."),
};
static const struct cfg_schema path_source_schema = {
    .name = "envoy.config.core.v3.PathConfigSource",
    .doc = "A file, and when it is read again: see [discovery.md](discovery.md).",
    .size = sizeof(struct cfg_path_source),
    MARK(struct cfg_path_source),
    FIELDS(path_source_fields),
};

static const struct cfg_enum_value api_version_values[] = {
    {0, "AUTO", CFG_SUPPORTED},
    {1, "V2", CFG_UNSUPPORTED},
    {2, "V3", CFG_SUPPORTED},
};
static const struct cfg_enum api_version_enum =
    ENUM_TABLE("envoy.config.core.v3.ApiVersion", api_version_values);

static const struct cfg_field config_source_fields[] = {
    FIELD(struct cfg_config_source, 1, path, CFG_STRING,
          ONEOF(struct cfg_config_source, config_source_specifier),
          .rules = CFG_REQUIRED | CFG_ONEOF_REQUIRED, .doc = "Deprecated: use path_config_source."),
    FIELD(struct cfg_config_source, 4, initial_fetch_timeout, CFG_DURATION, .status = CFG_INERT,
          .default_text = "15s", .doc = "Nothing is waited for: a file is there or it is not."),
    ENUM(struct cfg_config_source, 6, resource_api_version, api_version_enum, .status = CFG_INERT,
         .doc = "All resources are of v3."),
    POINTER(struct cfg_config_source, 8, path_config_source, struct cfg_path_source,
            path_source_schema, ONEOF(struct cfg_config_source, config_source_specifier),
            .rules = CFG_ONEOF_REQUIRED, .doc = "A file."),
};
static const struct cfg_missing config_source_missing[] = {
    {2, "api_config_source"}, {3, "ads"}, {5, "self"}, {7, "authorities"}};
static const struct cfg_schema config_source_schema = {
    .name = "envoy.config.core.v3.ConfigSource",
    .doc = "Where resources come from.",
    .size = sizeof(struct cfg_config_source),
    MARK(struct cfg_config_source),
    FIELDS(config_source_fields),
    MISSING(config_source_missing),
};

static const struct cfg_field dynamic_resources_fields[] = {
    POINTER(struct cfg_dynamic_resources, 1, lds_config, struct cfg_config_source,
            config_source_schema, .doc = "Where listeners come from, besides static ones."),
    POINTER(struct cfg_dynamic_resources, 2, cds_config, struct cfg_config_source,
            config_source_schema, .doc = "Where clusters come from, besides static ones."),
};
static const struct cfg_missing dynamic_resources_missing[] = {
    {3, "ads_config"}, {5, "lds_resources_locator"}, {6, "cds_resources_locator"}};
const struct cfg_schema cfg_schema_dynamic_resources = {
    .name = "envoy.config.bootstrap.v3.Bootstrap.DynamicResources",
    .doc = "What may change while the proxy runs: see [discovery.md](discovery.md).",
    .size = sizeof(struct cfg_dynamic_resources),
    FIELDS(dynamic_resources_fields),
    MISSING(dynamic_resources_missing),
};

static const struct cfg_field rds_fields[] = {
    POINTER(struct cfg_rds, 1, config_source, struct cfg_config_source, config_source_schema,
            .rules = CFG_REQUIRED, .doc = "Where the routes come from."),
    FIELD(struct cfg_rds, 2, route_config_name, CFG_STRING, .rules = CFG_REQUIRED,
          .doc = "The name of the route configuration there."),
};
const struct cfg_schema cfg_schema_rds = {
    .name = "envoy.extensions.filters.network.http_connection_manager.v3.Rds",
    .doc = "Routes that may change while the proxy runs: see [discovery.md](discovery.md).",
    .size = sizeof(struct cfg_rds),
    MARK(struct cfg_rds),
    FIELDS(rds_fields),
};

/* ---- what a file holds ---- */

static const struct cfg_field resource_fields[] = {
    FIELD(struct cfg_discovery_resource, 1, version, CFG_STRING, .status = CFG_INERT,
          .doc = "What counts is version_info."),
    FIELD(struct cfg_discovery_resource, 2, resource, CFG_ANY, .slot = CFG_SLOT_RESOURCE,
          .has_at = CFG_AT(struct cfg_discovery_resource, has_resource), .rules = CFG_PRESENT,
          .doc = "The resource."),
    FIELD(struct cfg_discovery_resource, 3, name, CFG_STRING, .status = CFG_INERT,
          .doc = "What counts is the resource's own name."),
    SCALARS(struct cfg_discovery_resource, 4, aliases, CFG_STRING, .status = CFG_INERT,
            .doc = "Other names."),
};
static const struct cfg_missing resource_missing[] = {
    {6, "ttl"}, {7, "cache_control"}, {8, "resource_name"}, {9, "metadata"}};
const struct cfg_schema cfg_schema_discovery_resource = {
    .name = "envoy.service.discovery.v3.Resource",
    .doc = "A wrapper that a resource may be in.",
    .size = sizeof(struct cfg_discovery_resource),
    MARK(struct cfg_discovery_resource),
    FIELDS(resource_fields),
    MISSING(resource_missing),
};

static const struct cfg_field control_plane_fields[] = {
    {.number = 1,
     .name = "identifier",
     .type = CFG_STRING,
     .status = CFG_INERT,
     .doc = "Who says so."},
};
static const struct cfg_schema control_plane_schema = {
    .name = "envoy.config.core.v3.ControlPlane",
    .doc = "Who a discovery response is from.",
    .size = sizeof(struct span),
    FIELDS(control_plane_fields),
};

static const struct cfg_field response_fields[] = {
    FIELD(struct cfg_discovery_response, 1, version_info, CFG_STRING,
          .default_text = "a hash of the file",
          .doc = "Shown by the admin beside what the file says."),
    SCALARS(struct cfg_discovery_response, 2, resources, CFG_ANY, .slot = CFG_SLOT_RESOURCE,
            .doc = "Listeners, clusters or route configurations, all of one type."),
    FIELD(struct cfg_discovery_response, 3, canary, CFG_BOOL, .status = CFG_INERT,
          .doc = "For control planes."),
    FIELD(struct cfg_discovery_response, 4, type_url, CFG_STRING, .status = CFG_INERT,
          .doc = "Each resource says what it is."),
    FIELD(struct cfg_discovery_response, 5, nonce, CFG_STRING, .status = CFG_INERT,
          .doc = "Of streams."),
    INLINE(struct cfg_discovery_response, 6, control_plane, struct span, control_plane_schema,
           .status = CFG_INERT, .doc = "For people."),
};
static const struct cfg_missing response_missing[] = {{7, "resource_errors"}};
const struct cfg_schema cfg_schema_discovery_response = {
    .name = "envoy.service.discovery.v3.DiscoveryResponse",
    .doc = "What a file of listeners, clusters or routes holds: see [discovery.md](discovery.md).",
    .size = sizeof(struct cfg_discovery_response),
    FIELDS(response_fields),
    MISSING(response_missing),
};
