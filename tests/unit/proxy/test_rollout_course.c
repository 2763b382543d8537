/* rollout_course.c: what is good is not withdrawn, what is bad is, and soon: by single looks, and by random days in which
 * upstreams go up and down, clients come and go, and versions are as bad as they are. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/clock.h"
#include "proxy/rollout_course.h"

static const struct cfg_rollout defaults;

static uint64_t seed;

static double random_below(double n) {
    seed = seed * 6364136223846793005ULL + 1442695040888963407ULL;
    return (double)(seed >> 11) / (double)(1ULL << 53) * n;
}

static void count(struct rollout_counts *counts, bool fails, uint64_t us) {
    counts->requests++;
    counts->errors += fails;
    counts->time_us += us;
    counts->latency[stat_step_of(us)]++;
}

static struct rollout_counts of(unsigned requests, unsigned errors, uint64_t us) {
    struct rollout_counts counts = {0};
    for (unsigned i = 0; i < requests; i++)
        count(&counts, i < errors, us);
    return counts;
}

static enum rollout_verdict judge(struct rollout_counts old, struct rollout_counts new) {
    const struct rollout_settings settings = rollout_settings_of(&defaults);
    const struct rollout_tally seen = {.of = {old, new}};
    return rollout_judge(&settings, &seen);
}

static void defaults_are_those_of_the_documentation(void **state) {
    const struct rollout_settings settings = rollout_settings_of(&defaults);
    assert_int_equal(settings.steps, 3);
    assert_int_equal(settings.shares[0], 100);
    assert_int_equal(settings.shares[2], 5000);
    assert_int_equal(settings.step_duration_ns, 60 * NS_PER_S);
    assert_int_equal(settings.min_requests, 100);
    assert_true(settings.max_error_rate == 0.008 && settings.max_latency_ratio == 2);
    uint32_t steps[] = {5, 100};
    const struct cfg_rollout cfg = {.steps = steps, .steps_count = 2};
    assert_int_equal(rollout_settings_of(&cfg).steps,
                     1); /* 100 is what comes behind the last one */
}

static void errors_are_judged(void **state) {
    struct rollout_counts good = of(10000, 0, 1000);
    assert_int_equal(judge(good, of(99, 99, 1000)), ROLLOUT_GOOD); /* too few to say */
    assert_int_equal(judge(good, of(100, 100, 1000)), ROLLOUT_FAILS);
    assert_int_equal(judge(good, of(100, 10, 1000)), ROLLOUT_FAILS);
    assert_int_equal(judge(good, of(100, 1, 1000)), ROLLOUT_GOOD); /* 1 % of 100 is one */
    assert_int_equal(judge(good, of(200, 4, 1000)), ROLLOUT_GOOD);
    assert_int_equal(judge(good, of(1000, 20, 1000)), ROLLOUT_FAILS);   /* 2 % */
    assert_int_equal(judge(good, of(100000, 790, 1000)), ROLLOUT_GOOD); /* below the bound */
    assert_int_equal(judge(good, of(1000000, 20000, 1000)), ROLLOUT_FAILS);

    /* An upstream that both suffer from. */
    assert_int_equal(judge(of(10000, 10000, 1000), of(100, 100, 1000)), ROLLOUT_GOOD);
    assert_int_equal(judge(of(10000, 5000, 1000), of(1000, 500, 1000)), ROLLOUT_GOOD);
    assert_int_equal(judge(of(10000, 100, 1000), of(1000, 14, 1000)), ROLLOUT_GOOD);
    assert_int_equal(judge(of(10000, 100, 1000), of(1000, 60, 1000)), ROLLOUT_FAILS);
    /* Little is known of the old one. */
    assert_int_equal(judge(of(20, 0, 1000), of(200, 20, 1000)), ROLLOUT_GOOD);
    assert_int_equal(judge(of(20, 0, 1000), of(200, 200, 1000)), ROLLOUT_FAILS);
    assert_int_equal(judge(of(0, 0, 1000), of(200, 20, 1000)), ROLLOUT_FAILS);
}

static void latency_is_judged(void **state) {
    struct rollout_counts old = of(1000, 0, 20000);
    assert_int_equal(judge(old, of(100, 0, 20000)), ROLLOUT_GOOD);
    assert_int_equal(judge(old, of(100, 0, 35000)), ROLLOUT_GOOD);
    assert_int_equal(judge(old, of(100, 0, 60000)), ROLLOUT_SLOW);
    assert_int_equal(judge(of(99, 0, 20000), of(100, 0, 60000)),
                     ROLLOUT_GOOD); /* too few of the old */
    /* Ten times as slow, and nobody would notice. */
    assert_int_equal(judge(of(1000, 0, 100), of(1000, 0, 1000)), ROLLOUT_GOOD);
    assert_int_equal(judge(of(1000, 0, 100), of(1000, 0, 8000)), ROLLOUT_SLOW);
    /* A few that take for ever are not the version's typical ones. */
    struct rollout_counts few = of(950, 0, 20000);
    for (int i = 0; i < 50; i++)
        count(&few, false, 10000000);
    assert_int_equal(judge(old, few), ROLLOUT_GOOD);

    const struct cfg_rollout cfg = {.max_latency_ratio = {.set = true, .value = 0}};
    const struct rollout_settings settings = rollout_settings_of(&cfg);
    const struct rollout_tally seen = {.of = {old, of(100, 0, 10000000)}};
    assert_int_equal(rollout_judge(&settings, &seen), ROLLOUT_GOOD);
}

/* ---- days ---- */

struct version {
    double fails;  /* by itself */
    double slower; /* than the old one */
};

struct day {
    struct version new;
    double requests_per_s;         /* of all clients */
    double upstream_fails;         /* while it is well */
    double outage_per_s, outage_s; /* how often one begins, how long it is */
    double bad_from_s;             /* the new one's own failures begin */
};

struct outcome {
    enum rollout_advice advice; /* ROLLOUT_STAY: not before the end */
    double after_s;
    uint64_t new_requests;
    unsigned steps;
};

static struct outcome play(const struct day *day) {
    struct rollout_settings settings = rollout_settings_of(&defaults);
    static struct rollout_course course;
    static struct rollout_tally now;
    memset(&now, 0, sizeof now);
    rollout_course_begin(&course, &settings, 0, &now);
    double outage_until_s = 0;
    struct outcome outcome = {0};
    for (int s = 1; s < 3600; s++) {
        if (random_below(1) < day->outage_per_s)
            outage_until_s = s + random_below(day->outage_s);
        double upstream = s < outage_until_s ? 0.5 : day->upstream_fails;
        double begins = day->requests_per_s + random_below(1); /* the rest of it by chance */
        for (; begins >= 1; begins--) {
            unsigned v = random_below(ROLLOUT_SHARE_ALL) < rollout_course_share(&course);
            bool own = v == ROLLOUT_NEW && s >= day->bad_from_s && random_below(1) < day->new.fails;
            double us = 2000 / (0.02 + random_below(1)) * (v == ROLLOUT_NEW ? day->new.slower : 1);
            count(&now.of[v], own || random_below(1) < upstream, (uint64_t)us);
        }
        outcome.advice = rollout_course_tick(&course, s * NS_PER_S, &now);
        outcome.steps += outcome.advice == ROLLOUT_STEP;
        outcome.after_s = s;
        outcome.new_requests = now.of[ROLLOUT_NEW].requests;
        if (outcome.advice == ROLLOUT_FINISH || outcome.advice == ROLLOUT_WITHDRAW)
            return outcome;
    }
    outcome.advice = ROLLOUT_STAY;
    return outcome;
}

enum { DAYS = 200 };

/* Always the same days. How many of DAYS end so. */
static unsigned ends(const struct day *day, enum rollout_advice advice) {
    unsigned count_of = 0;
    for (seed = 1; seed <= DAYS; seed++) {
        uint64_t own = seed;
        seed *= 0x9e3779b97f4a7c15ULL;
        count_of += play(day).advice == advice;
        seed = own;
    }
    return count_of;
}

/* As good as the old one, by whatever upstream both have. */
static void a_good_version_is_not_withdrawn(void **state) {
    static const double rates[] = {0, 0.001, 0.008, 0.05, 1};
    for (size_t i = 0; i < sizeof rates / sizeof rates[0]; i++) {
        const struct day quiet = {
            .new = {.slower = 1}, .requests_per_s = 100, .upstream_fails = rates[i]};
        unsigned withdrawn = ends(&quiet, ROLLOUT_WITHDRAW);
        print_message("good, with an upstream that fails at %g: %u of %d are withdrawn\n", rates[i],
                      withdrawn, DAYS);
        assert_true(withdrawn <= DAYS / 100);
        assert_true(ends(&quiet, ROLLOUT_FINISH) >= DAYS * 98 / 100);
    }
    const struct day stormy = {.new = {.slower = 1.2},
                               .requests_per_s = 100,
                               .upstream_fails = 0.001,
                               .outage_per_s = 0.02,
                               .outage_s = 30};
    unsigned withdrawn = ends(&stormy, ROLLOUT_WITHDRAW);
    print_message("good, on stormy days: %u of %d are withdrawn\n", withdrawn, DAYS);
    assert_true(withdrawn <= DAYS / 100);
}

static void a_bad_version_is_withdrawn(void **state) {
    static const double rates[] = {0.02, 0.05, 1};
    for (size_t i = 0; i < sizeof rates / sizeof rates[0]; i++) {
        const struct day day = {.new = {.fails = rates[i], .slower = 1},
                                .requests_per_s = 100,
                                .upstream_fails = 0.001};
        unsigned withdrawn = ends(&day, ROLLOUT_WITHDRAW);
        print_message("withdrawn that fails at %g: %u of %d\n", rates[i], withdrawn, DAYS);
        assert_true(withdrawn >= DAYS * 98 / 100);
        assert_int_equal(ends(&day, ROLLOUT_FINISH), 0); /* some keep their first step */
    }
    const struct day slow = {.new = {.slower = 5}, .requests_per_s = 100};
    assert_int_equal(ends(&slow, ROLLOUT_WITHDRAW), DAYS);
    const struct day stormy = {.new = {.fails = 0.1, .slower = 1},
                               .requests_per_s = 100,
                               .outage_per_s = 0.01,
                               .outage_s = 30};
    assert_int_equal(ends(&stormy, ROLLOUT_WITHDRAW), DAYS);
}

/* One that fails at once, of many clients, costs what its first share sees until there is enough of it. */
static void what_is_bad_enough_is_seen_within_a_tick(void **state) {
    const struct day day = {.new = {.fails = 1, .slower = 1}, .requests_per_s = 20000};
    struct outcome outcome = play(&day);
    assert_int_equal(outcome.advice, ROLLOUT_WITHDRAW);
    assert_true(outcome.after_s == 1);
    const struct day two_percent = {.new = {.fails = 0.02, .slower = 1}, .requests_per_s = 20000};
    outcome = play(&two_percent);
    assert_int_equal(outcome.advice, ROLLOUT_WITHDRAW);
    print_message("2 %% are seen after %u requests, %g s\n", (unsigned)outcome.new_requests,
                  outcome.after_s);
    assert_true(outcome.new_requests < 3000);
}

/* Good for long, and with so many requests that a mean would hide for minutes what began just now. */
static void what_becomes_bad_late_is_seen_soon(void **state) {
    const struct day day = {
        .new = {.fails = 0.2, .slower = 1}, .requests_per_s = 2000, .bad_from_s = 170};
    struct outcome outcome = play(&day); /* 50 % of the requests are its */
    assert_int_equal(outcome.advice, ROLLOUT_WITHDRAW);
    assert_true(outcome.after_s <= 172);
}

/* Nobody asks: what was not seen does not spread. */
static void a_step_waits_for_requests(void **state) {
    const struct day day = {.new = {.slower = 1}, .requests_per_s = 1};
    struct outcome outcome = play(&day); /* one in a hundred: an hour shows some 36 */
    assert_int_equal(outcome.advice, ROLLOUT_STAY);
    assert_int_equal(outcome.steps, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults_are_those_of_the_documentation),
        cmocka_unit_test(errors_are_judged),
        cmocka_unit_test(latency_is_judged),
        cmocka_unit_test(a_good_version_is_not_withdrawn),
        cmocka_unit_test(a_bad_version_is_withdrawn),
        cmocka_unit_test(what_is_bad_enough_is_seen_within_a_tick),
        cmocka_unit_test(what_becomes_bad_late_is_seen_soon),
        cmocka_unit_test(a_step_waits_for_requests),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
