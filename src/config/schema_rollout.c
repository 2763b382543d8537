/* schema_rollout: a new version that goes out by degrees. */
#include "config/rollout_config.h"

#include "config/load.h"
#include "config/schema_tables.h"

#define HASH_ON ONEOF(struct cfg_rollout, hash_on)
static const struct cfg_field hash_fields[] = {
    FIELD(struct cfg_rollout, 1, header, CFG_STRING, HASH_ON, .rules = CFG_ONEOF_REQUIRED,
          .doc = "The value of this request header; where it is absent, the address."),
    FIELD(struct cfg_rollout, 2, cookie, CFG_STRING, HASH_ON, .rules = CFG_ONEOF_REQUIRED,
          .doc = "The value of the cookie of this name; where it is absent, the address."),
};
static const struct cfg_schema hash_schema = {
    .name = "sluice.rollout.v3.HashOn",
    .doc = "What a client is known by. Absent: by its address, as of %DOWNSTREAM_REMOTE_ADDRESS%, "
           "without the port.",
    .size = sizeof(struct cfg_rollout),
    FIELDS(hash_fields),
};

static const struct cfg_field rollout_fields[] = {
    SCALARS(struct cfg_rollout, 1, steps, CFG_U32, .rules = CFG_RANGE, .min = 1, .max = 100,
            .default_text = "1, 10, 50",
            .doc = "Percent of the clients that the new version serves, ascending. Behind the last "
                   "one it serves all."),
    FIELD(struct cfg_rollout, 2, step_duration, CFG_DURATION, WITHIN(10000000, INT64_MAX),
          .default_text = "60s",
          .doc = "How long a step takes at least; and until the new version has answered "
                 "min_requests in it."),
    WRAPPER(struct cfg_rollout, 3, max_error_rate, CFG_DOUBLE, .default_text = "0.008",
            .doc = "Of the new version's requests, 0 to 1, so many more may fail than of the old "
                   "one's. More, and it is withdrawn."),
    WRAPPER(struct cfg_rollout, 4, min_requests, CFG_U32, .rules = CFG_RANGE, .min = 1,
            .max = 1 << 30, .default_text = "100",
            .doc = "With fewer requests of the new version nothing is judged, and no step ends."),
    WRAPPER(struct cfg_rollout, 5, max_latency_ratio, CFG_DOUBLE, .default_text = "2",
            .doc = "Slow is what takes so many times as long as nine of ten requests of the old "
                   "version, and 5 ms more. With more than a fifth of its requests slow the new "
                   "version is withdrawn. 0: latency is not looked at; else 1 or more."),
    FLAT(struct cfg_rollout, 6, "hash_on", hash_schema,
         .doc = "What decides which clients are among the first. Those stay among them."),
};

static void check(struct cfg_loader *loader, const struct cfg_tree *node,
                  const struct cfg_path *path, void *message) {
    const struct cfg_rollout *cfg = message;
    const struct cfg_double *rate = &cfg->max_error_rate, *ratio = &cfg->max_latency_ratio;
    if (cfg->steps_count > CFG_ROLLOUT_STEPS_MAX)
        cfg_report(loader, CFG_PROBLEM_INVALID, node, path, "steps: at most %d",
                   CFG_ROLLOUT_STEPS_MAX);
    for (size_t i = 1; i < cfg->steps_count; i++)
        if (cfg->steps[i] <= cfg->steps[i - 1])
            cfg_report(loader, CFG_PROBLEM_INVALID, node, path,
                       "steps[%zu]: %u does not come behind %u: they ascend", i, cfg->steps[i],
                       cfg->steps[i - 1]);
    if (cfg->steps_count && cfg->steps[0] == 100)
        cfg_report(loader, CFG_PROBLEM_INVALID, node, path,
                   "steps: none before 100: leave out the rollout for that");
    if (cfg->hash_on_case && !cfg->header.len && !cfg->cookie.len)
        cfg_report(loader, CFG_PROBLEM_INVALID, node, path, "hash_on: a name is required");
    if (rate->set && !(rate->value >= 0 && rate->value <= 1))
        cfg_report(loader, CFG_PROBLEM_INVALID, node, path,
                   "max_error_rate %g is not within 0 to 1", rate->value);
    if (ratio->set && !(ratio->value == 0 || (ratio->value >= 1 && ratio->value <= 1e6)))
        cfg_report(loader, CFG_PROBLEM_INVALID, node, path,
                   "max_latency_ratio %g is neither 0 nor within 1 to 1000000", ratio->value);
}

const struct cfg_schema cfg_schema_rollout = {
    .name = "sluice.rollout.v3.Rollout",
    .doc = "A new version serves some clients first, then more, and is withdrawn when more of its "
           "requests fail than of the old one's, or take longer. See docs/rollout.md.",
    .size = sizeof(struct cfg_rollout),
    FIELDS(rollout_fields),
    .check = check,
};
