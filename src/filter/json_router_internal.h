/* json_router_internal: the filter's config, as json_router_config.c makes it and json_router.c uses it. */
#pragma once
#include "base/stats.h"
#include "config/json_router_config.h"
#include "filter/json_router.h"
#include "http/header_map.h"
#include "http/json_scan.h"

struct json_rule {
    enum header_id id;
    struct span header; /* lower-case, owned; absent: none */
    struct span on_missing, metadata_namespace, metadata_key;
};

struct json_router_stats { /* json_router.* or json_router.<stat_prefix>.* */
    struct statistic *scanned, *not_json, *no_body; /* one of these for each request */
    /* Of those that were scanned. */
    struct statistic *found_all, *invalid, *rejected, *repeated, *too_large, *copied_bytes;
    struct statistic *missing, *unusable; /* values */
};

/* Part of a snapshot: immutable. */
struct json_router {
    const struct cfg_json_router *config;
    struct json_paths *paths; /* path i is that of rule i */
    struct json_router_stats stats;
    uint32_t rule_count;
    struct json_rule rules[];
};

int json_router_build(const struct cfg_any *typed_config, struct cfg_problems *problems,
                      void **out);
void json_router_free(void *config);
