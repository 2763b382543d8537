/* rollout_course: see the header.
 *
 * What is compared  Both versions in the same window, within one step: so each has the same share of what befalls the
 *           window. An upstream that fails for ten minutes fails for both. (Across steps it would not: one that fails while
 *           the new version has half of the requests, and had a hundredth before, is most of what the new one ever saw,
 *           and little of what the old one did.)
 *
 * Errors    The new version may fail as often as the old one does, and max_error_rate on top. It is withdrawn when that
 *           does not explain what is seen: of n requests e failed, and with
 *
 *               allowed = the old one's rate, at most, + max_error_rate         P(at least e of n | allowed) < 0.2 %
 *
 *           "At most" is the upper end of Wilson's interval, 2 sigma: an old version of which little is seen could be as bad.
 *           Of which nothing is seen is no excuse: then max_error_rate alone counts.
 *           So an equal version, however often both fail, has max_error_rate between itself and the bound, and a single
 *           failure in the first hundred requests, a rate of 1 %, does not end a rollout. Against an old version that never
 *           fails, with the default of 0.8 %: one in ten is seen to fail at min_requests, one in fifty after some
 *           900. (tests/unit/proxy/test_rollout_course.c plays days of both.)
 *           What is worse than allowed on the face of it, and perhaps by chance, keeps its step until more is known.
 *
 * Latency   The 9th decile is compared, as means are made by a few. Slow is what takes max_latency_ratio times as long as
 *           nine of ten of the old one's, and LATENCY_FLOOR_US more: below that lies noise, of a heap that is cold. Of an equal
 *           version a tenth is slow at ratio 1, and hardly any at 2. It is withdrawn when more than a fifth is, by the same test.
 *
 * Windows   Two, either is enough: the step as a whole, which finds small differences; and the last of it, since what
 *           was good for an hour may become bad in a minute. The latter is what came since WINDOW times min_requests
 *           of the new one, or up to twice that.
 *
 * Rejected  A bound alone, as in max_error_rate of the new one: every outage withdraws. new - old > bound alone: with 100
 *           requests one failure decides. Sequential tests that correct for looking often: what they save is less than what
 *           their parameters cost who has to set them. */
#include "proxy/rollout_course.h"

#include <math.h>

#include "base/clock.h"

enum {
    WINDOW = 10,
    LATENCY_FLOOR_US = 5000,
};
static const double DOUBT = 0.002, SIGMAS = 2, TYPICAL = 0.9, SLOW_SHARE = 0.2;

static const uint32_t STEPS_DEFAULT[] = {1, 10, 50};

struct rollout_settings rollout_settings_of(const struct cfg_rollout *cfg) {
    struct rollout_settings settings = {
        .step_duration_ns = cfg->step_duration.set ? cfg->step_duration.ns : 60 * NS_PER_S,
        .max_error_rate = cfg->max_error_rate.set ? cfg->max_error_rate.value : 0.008,
        .max_latency_ratio = cfg->max_latency_ratio.set ? cfg->max_latency_ratio.value : 2,
        .min_requests = cfg->min_requests.set ? cfg->min_requests.value : 100,
    };
    const uint32_t *steps = cfg->steps_count ? cfg->steps : STEPS_DEFAULT;
    size_t count = cfg->steps_count ? cfg->steps_count : sizeof STEPS_DEFAULT / sizeof *steps;
    for (size_t i = 0; i < count && steps[i] < 100; i++)
        settings.shares[settings.steps++] = steps[i] * (ROLLOUT_SHARE_ALL / 100);
    return settings;
}

/* ---- one look ---- */

/* P(X >= k) of a binomial distribution. */
static double tail(uint64_t n, uint64_t k, double p) {
    if (k > n) /* counted in this very moment */
        k = n;
    if (k == 0 || p >= 1 || (double)k <= (double)n * p)
        return 1; /* or a half and more: not worth the sum */
    if (p <= 0)
        return 0;
    double N = (double)n, i = (double)k;
    double term =
        exp(lgamma(N + 1) - lgamma(i + 1) - lgamma(N - i + 1) + i * log(p) + (N - i) * log1p(-p));
    double sum = term, odds = p / (1 - p);
    for (; i < N && term > sum * 1e-9; i++) /* behind the mean they fall by a factor and more */
        sum += term *= (N - i) / (i + 1) * odds;
    return sum;
}

static double at_most(uint64_t n, uint64_t k) {
    if (n == 0)
        return 0;
    double N = (double)n, rate = (double)k / N, z2 = SIGMAS * SIGMAS;
    return (rate + z2 / (2 * N) + SIGMAS * sqrt(rate * (1 - rate) / N + z2 / (4 * N * N))) /
           (1 + z2 / N);
}

static bool fails(const struct rollout_settings *settings, const struct rollout_tally *seen) {
    const struct rollout_counts *old = &seen->of[ROLLOUT_OLD], *new = &seen->of[ROLLOUT_NEW];
    double allowed = at_most(old->requests, old->errors) + settings->max_error_rate;
    return tail(new->requests, new->errors, allowed) < DOUBT;
}

/* On the face of it. */
static bool is_suspect(const struct rollout_settings *settings, const struct rollout_tally *seen) {
    const struct rollout_counts *old = &seen->of[ROLLOUT_OLD], *new = &seen->of[ROLLOUT_NEW];
    double of_old = old->requests ? (double)old->errors / (double)old->requests : 0;
    return (double)new->errors > (of_old + settings->max_error_rate) * (double)new->requests;
}

static bool is_slow(const struct rollout_settings *settings, const struct rollout_tally *seen) {
    const struct rollout_counts *old = &seen->of[ROLLOUT_OLD], *new = &seen->of[ROLLOUT_NEW];
    if (settings->max_latency_ratio == 0 || old->requests < settings->min_requests)
        return false;
    unsigned step = 0;
    for (uint64_t below = old->latency[0];
         step + 1 < STAT_STEPS && (double)below < TYPICAL * (double)old->requests;)
        below += old->latency[++step];
    double typical_us = (double)stat_step_upper_us(step);
    double bound_us = typical_us * settings->max_latency_ratio;
    if (bound_us < typical_us + LATENCY_FLOOR_US)
        bound_us = typical_us + LATENCY_FLOOR_US;
    uint64_t slow = 0;
    for (unsigned i = STAT_STEPS; i-- > 0 && (double)stat_step_lower_us(i) >= bound_us;)
        slow += new->latency[i];
    return tail(new->requests, slow, SLOW_SHARE) < DOUBT;
}

enum rollout_verdict rollout_judge(const struct rollout_settings *settings,
                                   const struct rollout_tally *seen) {
    if (seen->of[ROLLOUT_NEW].requests < settings->min_requests)
        return ROLLOUT_GOOD;
    return fails(settings, seen)     ? ROLLOUT_FAILS
           : is_slow(settings, seen) ? ROLLOUT_SLOW
                                     : ROLLOUT_GOOD;
}

/* ---- its course ---- */

static void since(const struct rollout_tally *now, const struct rollout_tally *then,
                  struct rollout_tally *out) {
    for (unsigned v = 0; v < ROLLOUT_VERSIONS; v++) {
        const struct rollout_counts *a = &now->of[v], *b = &then->of[v];
        struct rollout_counts *to = &out->of[v];
        to->requests = a->requests - b->requests;
        to->errors = a->errors - b->errors;
        to->time_us = a->time_us - b->time_us;
        for (unsigned i = 0; i < STAT_STEPS; i++)
            to->latency[i] = a->latency[i] - b->latency[i];
    }
}

static void begin_step(struct rollout_course *course, int64_t now_ns,
                       const struct rollout_tally *now) {
    course->step_began_ns = now_ns;
    course->at_step = course->at_window = course->at_middle = *now;
}

void rollout_course_begin(struct rollout_course *course, const struct rollout_settings *settings,
                          int64_t now_ns, const struct rollout_tally *begun) {
    course->settings = settings;
    course->step = 0;
    course->verdict = ROLLOUT_GOOD;
    begin_step(course, now_ns, begun);
}

static bool judge_since(struct rollout_course *course, const struct rollout_tally *now,
                        const struct rollout_tally *then) {
    since(now, then, &course->seen);
    course->verdict = rollout_judge(course->settings, &course->seen);
    return course->verdict != ROLLOUT_GOOD;
}

enum rollout_advice rollout_course_tick(struct rollout_course *course, int64_t now_ns,
                                        const struct rollout_tally *now) {
    const struct rollout_settings *settings = course->settings;
    if (judge_since(course, now, &course->at_window) || judge_since(course, now, &course->at_step))
        return ROLLOUT_WITHDRAW;
    uint64_t requests = now->of[ROLLOUT_NEW].requests;
    if (requests - course->at_middle.of[ROLLOUT_NEW].requests >=
        (uint64_t)WINDOW * settings->min_requests) {
        course->at_window = course->at_middle;
        course->at_middle = *now;
    }
    if (now_ns - course->step_began_ns < settings->step_duration_ns ||
        requests - course->at_step.of[ROLLOUT_NEW].requests < settings->min_requests ||
        is_suspect(settings, &course->seen)) /* of the step: judged last */
        return ROLLOUT_STAY;
    if (course->step + 1 == settings->steps)
        return ROLLOUT_FINISH;
    course->step++;
    begin_step(course, now_ns, now);
    return ROLLOUT_STEP;
}
