/* restart_policy: when a process that failed is started again. The first time at once, since most faults strike once;
 * then after a delay that doubles and has jitter, so that a fault that is there to stay costs little and a fleet of
 * proxies that lost the same database does not come back in step; after `failures_max` within `window_ns`
 * the circuit opens: nothing is started, until somebody resets it or the time for one trial has come.
 *
 *              failed: 1st           failed: 2nd, 3rd ...          failed: failures_max-th in window_ns
 *     running ───────────► at once ─────────────────► after delay ───────────────────────────────► open
 *        ▲                                                                                        │  ▲
 *        └── calm: no failure for window_ns ◄── on trial: one failure opens it again ◄─ probe_ns ─┘  │
 *                                                    └───────────────────────────────────────────────┘
 *
 * Why delays are counted within the window as well: then there is one thing to know ("how many lately"), and a process
 * that fails once an hour is always back at once.
 *
 * Pure: time is told, and chance comes from a seed. Threads: one at a time. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

enum { RESTART_FAILURES_LIMIT = 64 }; /* of failures_max: they are remembered one by one */

struct restart_settings {
    int64_t base_ns, max_ns; /* the second restart's delay, and the largest */
    /* 0: the circuit never opens, and delays end at max_ns. At most RESTART_FAILURES_LIMIT. */
    uint32_t failures_max;
    int64_t window_ns;
    int64_t probe_ns; /* how long the circuit is open before one trial; 0: until it is reset */
};

/* 100 ms doubling to 10 s; open after 5 in 60 s, for 60 s. A library that crashes as it starts is down within a second
 * and costs one start a minute from then on; one whose cause went away (its database is back) needs nobody. */
extern const struct restart_settings restart_settings_default;

struct restart_policy {
    struct restart_settings settings;
    uint64_t random;
    int64_t failures
        [RESTART_FAILURES_LIMIT]; /* when; a ring, count of them in use, next is written next */
    uint32_t count, next;
    bool is_open, on_trial;
    int64_t tried_ns; /* the trial's start */
};

void restart_policy_init(struct restart_policy *policy, const struct restart_settings *settings,
                         uint64_t seed);

/* What is running, or was being started, has failed. When to start it again: now_ns or later; INT64_MAX: not before
 * a reset. */
int64_t restart_policy_failed(struct restart_policy *policy, int64_t now_ns);
/* It is being started, at or after that time. */
void restart_policy_start(struct restart_policy *policy, int64_t now_ns);
bool restart_policy_is_open(const struct restart_policy *policy);
/* How many failures count now. */
uint32_t restart_policy_failures(const struct restart_policy *policy, int64_t now_ns);
/* As if nothing had ever failed: somebody asked for it, or what runs is another thing now. */
void restart_policy_reset(struct restart_policy *policy);
