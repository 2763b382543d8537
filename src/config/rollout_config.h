/* rollout_config: how a new version of something goes out by degrees, as a C struct. Conventions: bootstrap.h. */
#pragma once
#include "config/schema.h"
#include "config/types.h"

enum { CFG_HASH_ON_SOURCE_IP = 0, CFG_HASH_ON_HEADER = 1, CFG_HASH_ON_COOKIE = 2 };
struct cfg_rollout { /* sluice.rollout.v3.Rollout. Defaults: rollout_settings_of */
    uint32_t *steps; /* percent, ascending */
    size_t steps_count;
    struct cfg_duration step_duration;
    struct cfg_double max_error_rate, max_latency_ratio;
    struct cfg_u32 min_requests;
    int hash_on_case; /* CFG_HASH_ON_... */
    struct span header, cookie;
};

/* More would be steps of less than a percent on average. */
enum { CFG_ROLLOUT_STEPS_MAX = 32 };

extern const struct cfg_schema cfg_schema_rollout;
