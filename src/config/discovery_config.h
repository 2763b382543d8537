/* discovery_config: where listeners, clusters and routes come from that are not static (config.core.v3.ConfigSource),
 * and what stands in such a place (service.discovery.v3), as C structs. Shapes of values, ownership and threads:
 * types.h. Meaning of fields: schema_discovery.c. */
#pragma once
#include "config/types.h"

struct cfg_path_source { /* config.core.v3.PathConfigSource */
    struct cfg_mark mark;
    struct span path;
    struct span watched_directory; /* absent: the file itself */
};

enum cfg_config_source_case { CFG_FROM_PATH = 1, CFG_FROM_PATH_SOURCE = 8 };
struct cfg_config_source { /* config.core.v3.ConfigSource */
    struct cfg_mark mark;
    int config_source_specifier_case;
    struct span path; /* deprecated; read with cfg_source_path */
    struct cfg_path_source *path_config_source;
    struct cfg_duration initial_fetch_timeout; /* inert: a file is there or it is not */
    int resource_api_version;                  /* inert; 0 AUTO, 2 V3 */
};
static inline struct span cfg_source_path(const struct cfg_config_source *source) {
    return source->path_config_source ? source->path_config_source->path : source->path;
}
/* Absent: none is given. */
static inline struct span cfg_source_directory(const struct cfg_config_source *source) {
    return source->path_config_source ? source->path_config_source->watched_directory : span_none();
}

struct cfg_dynamic_resources { /* config.bootstrap.v3.Bootstrap.DynamicResources */
    struct cfg_config_source *lds_config, *cds_config;
};
struct cfg_rds { /* extensions.filters.network.http_connection_manager.v3.Rds */
    struct cfg_mark mark;
    struct cfg_config_source *config_source;
    struct span route_config_name;
};

struct cfg_discovery_resource { /* service.discovery.v3.Resource: inert but for what it wraps */
    struct cfg_mark mark;
    struct span name, version;
    struct span *aliases;
    size_t aliases_count;
    bool has_resource;
    struct cfg_any resource;
};
struct cfg_discovery_response { /* service.discovery.v3.DiscoveryResponse */
    struct span version_info;
    struct cfg_any *resources;
    size_t resources_count;
    bool canary; /* inert, as the next ones */
    struct span type_url, nonce, control_plane;
};

extern const struct cfg_schema cfg_schema_discovery_response;
extern const struct cfg_schema cfg_schema_discovery_resource;
