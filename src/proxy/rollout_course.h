/* rollout_course: when a new version that serves a share of the requests serves more of them, and when it is withdrawn. Times
 * and counts are told to it: no clock, no thread, no memory of its own.
 *
 *     step 1 % ── long enough, seen often enough ──► 10 % ──► 50 % ──► DONE, it serves all
 *        └────────────── fails more often, or is slower, than the old one beside it ──────► WITHDRAW
 *
 * Threads  Who owns it. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

#include "base/stats.h"
#include "config/rollout_config.h"

enum { ROLLOUT_OLD, ROLLOUT_NEW, ROLLOUT_VERSIONS };
enum { ROLLOUT_SHARE_ALL = 10000 };

struct rollout_settings {
    uint32_t
        shares[CFG_ROLLOUT_STEPS_MAX]; /* of ROLLOUT_SHARE_ALL, ascending, all less than that */
    unsigned steps;
    int64_t step_duration_ns;
    double max_error_rate, max_latency_ratio; /* the latter 0: latency is not looked at */
    uint32_t min_requests;                    /* > 0 */
};
/* With the defaults for what is absent. */
struct rollout_settings rollout_settings_of(const struct cfg_rollout *cfg);

/* Of one version: responses as clients got them. */
struct rollout_counts {
    uint64_t requests;
    uint64_t errors;              /* 5xx, or cut off by us */
    uint64_t time_us;             /* until the response began: their sum */
    uint64_t latency[STAT_STEPS]; /* how often: stat_step_of */
};
struct rollout_tally {
    struct rollout_counts of[ROLLOUT_VERSIONS];
};

enum rollout_verdict { ROLLOUT_GOOD, ROLLOUT_FAILS, ROLLOUT_SLOW };
/* What was seen of both while each had its share. */
enum rollout_verdict rollout_judge(const struct rollout_settings *settings,
                                   const struct rollout_tally *seen);

enum rollout_advice { ROLLOUT_STAY, ROLLOUT_STEP, ROLLOUT_FINISH, ROLLOUT_WITHDRAW };

struct rollout_course {
    const struct rollout_settings *settings;
    unsigned step;         /* from 0 */
    int64_t step_began_ns; /* and this is what had been counted then: */
    struct rollout_tally at_step, at_window, at_middle;
    enum rollout_verdict verdict; /* the latest */
    struct rollout_tally seen;    /* what it is about */
};

/* begun: what has been counted when it begins. */
void rollout_course_begin(struct rollout_course *course,
                          const struct rollout_settings *settings BORROWED_BY(course),
                          int64_t now_ns, const struct rollout_tally *begun);
/* What is to be done now; after ROLLOUT_STEP the course is in the next one. */
enum rollout_advice rollout_course_tick(struct rollout_course *course, int64_t now_ns,
                                        const struct rollout_tally *now);
static inline uint32_t rollout_course_share(const struct rollout_course *course) {
    return course->settings->shares[course->step];
}
