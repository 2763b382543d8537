/* restart_policy: see the header. Of failures only the times within the window are known, the last ones, in a ring; what is
 * decided follows from how many they are. */
#include "ext/remote/restart_policy.h"

#include "base/check.h"
#include "base/clock.h"

const struct restart_settings restart_settings_default = {
    .base_ns = 100 * NS_PER_MS,
    .max_ns = 10 * NS_PER_S,
    .failures_max = 5,
    .window_ns = 60 * NS_PER_S,
    .probe_ns = 60 * NS_PER_S,
};

void restart_policy_init(struct restart_policy *policy, const struct restart_settings *settings,
                         uint64_t seed) {
    ASSERT(settings->failures_max <= RESTART_FAILURES_LIMIT);
    *policy = (struct restart_policy){.settings = *settings, .random = seed};
}

/* SplitMix64. */
static uint64_t next_random(struct restart_policy *policy) {
    uint64_t x = policy->random += 0x9e3779b97f4a7c15;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
    x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
    return x ^ (x >> 31);
}

uint32_t restart_policy_failures(const struct restart_policy *policy, int64_t now_ns) {
    uint32_t lately = 0;
    while (lately < policy->count) {
        uint32_t back = policy->next + RESTART_FAILURES_LIMIT - 1 - lately;
        if (now_ns - policy->failures[back % RESTART_FAILURES_LIMIT] >= policy->settings.window_ns)
            break;
        lately++;
    }
    return lately;
}

/* Between a half and the whole of base_ns * 2^doublings, of which max_ns is the most. */
static int64_t delay(struct restart_policy *policy, uint32_t doublings) {
    int64_t whole = policy->settings.base_ns;
    while (doublings-- > 0 && whole < policy->settings.max_ns)
        whole = whole > policy->settings.max_ns / 2 ? policy->settings.max_ns : 2 * whole;
    if (whole > policy->settings.max_ns)
        whole = policy->settings.max_ns;
    uint64_t half = (uint64_t)whole / 2;
    return whole - (int64_t)(next_random(policy) % (half + 1));
}

int64_t restart_policy_failed(struct restart_policy *policy, int64_t now_ns) {
    const struct restart_settings *settings = &policy->settings;
    policy->failures[policy->next] = now_ns;
    policy->next = (policy->next + 1) % RESTART_FAILURES_LIMIT;
    if (policy->count < RESTART_FAILURES_LIMIT)
        policy->count++;
    uint32_t lately = restart_policy_failures(policy, now_ns);
    bool trial_failed = policy->on_trial && now_ns - policy->tried_ns < settings->window_ns;
    policy->on_trial = false;
    if (trial_failed || (settings->failures_max && lately >= settings->failures_max)) {
        policy->is_open = true;
        return settings->probe_ns ? now_ns + settings->probe_ns : INT64_MAX;
    }
    return lately <= 1 ? now_ns : now_ns + delay(policy, lately - 2);
}

void restart_policy_start(struct restart_policy *policy, int64_t now_ns) {
    if (!policy->is_open)
        return;
    policy->is_open = false;
    policy->on_trial = true;
    policy->tried_ns = now_ns;
}

bool restart_policy_is_open(const struct restart_policy *policy) {
    return policy->is_open;
}

void restart_policy_reset(struct restart_policy *policy) {
    restart_policy_init(policy, &policy->settings, policy->random);
}
