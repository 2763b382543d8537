/* json_router_config: sluice.filters.http.json_router as users write it. Conventions: types.h. */
#pragma once
#include "config/types.h"

struct cfg_schema;

struct cfg_json_rule { /* JsonRouter.Rule */
    struct cfg_mark mark;
    struct span path; /* http/json_path.h */
    struct span header, on_missing;
    struct span metadata_namespace, metadata_key;
};

enum cfg_json_on_invalid { CFG_JSON_PASS = 0, CFG_JSON_REJECT = 1 };

struct cfg_json_router {
    struct cfg_mark mark;
    struct cfg_json_rule *rules;
    size_t rules_count;
    bool clear_route_cache, read_whole_body, allow_empty_content_type;
    struct cfg_u32 max_body_bytes; /* default: the listener's per_connection_buffer_limit_bytes */
    int on_invalid;                /* enum cfg_json_on_invalid */
    struct span *allow_content_types;
    size_t allow_content_types_count;
    struct span stat_prefix;
};
extern const struct cfg_schema cfg_schema_json_router;
