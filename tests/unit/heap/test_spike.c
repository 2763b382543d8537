/* spike.c: what is a spike, told by sequences of what was live when a cycle closed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "heap/spike.h"

#define MIB (1LL << 20)
/* A cycle lasts as long as it does by itself. */
static int64_t now_ns;

static struct spike_watch watch_with(const char *rule_text) {
    struct spike_rule rule = spike_rule_default();
    assert_null(spike_rule_parse("min=10MiB", &rule));
    assert_null(spike_rule_parse(rule_text, &rule));
    struct spike_watch watch;
    spike_watch_init(&watch, &rule);
    now_ns = 1;
    return watch;
}

static struct spike close_cycle(struct spike_watch *watch, int64_t live, int64_t allocated) {
    struct heap_totals totals = {.live.bytes = live, .allocated_in_cycle.bytes = allocated};
    now_ns += HEAP_CYCLE_NS;
    return spike_judge(watch, &totals, now_ns);
}

static enum spike_verdict after(struct spike_watch *watch, int64_t live_mib) {
    return close_cycle(watch, live_mib * MIB, 0).verdict;
}

/* That many steady cycles, none of which is a spike. */
static void steady(struct spike_watch *watch, int64_t live_mib, unsigned cycles) {
    for (unsigned i = 0; i < cycles; i++) {
        struct spike spike = close_cycle(watch, live_mib * MIB, 0);
        assert_false(spike_is_one(&spike));
    }
}

/* ---- The rule's stories ---- */

static void test_ten_more_on_ten_are_a_spike(void **state) {
    struct spike_watch watch = watch_with("diff=25%");
    steady(&watch, 10, SPIKE_CYCLES);
    struct spike spike = close_cycle(&watch, 20 * MIB, 0);
    assert_int_equal(spike.verdict, SPIKE_BY_DIFF);
    assert_int_equal(spike.measure, SPIKE_LIVE);
    assert_int_equal(spike.bytes, 20 * MIB);
    assert_int_equal(spike.before_bytes, 10 * MIB);
    assert_int_equal(spike.average_bytes, 11 * MIB); /* it is in its own average */
}

static void test_nothing_is_judged_in_the_first_nine_cycles(void **state) {
    struct spike_watch watch = watch_with("diff=25%,abs=15MiB");
    for (int i = 1; i < SPIKE_CYCLES; i++)
        assert_int_equal(after(&watch, i % 2 ? 10 : 30), SPIKE_WARMING_UP);
    assert_int_equal(after(&watch, 31), SPIKE_BY_ABS); /* the tenth is */
}

static void test_the_average_moves(void **state) {
    /* 29 % more than a steady amount is just enough for 25 % more than an average with it. */
    struct spike_watch watch = watch_with("diff=25%");
    steady(&watch, 1000, 3 * SPIKE_CYCLES);
    assert_int_equal(after(&watch, 1285), SPIKE_STEADY);
    watch = watch_with("diff=25%");
    steady(&watch, 1000, 3 * SPIKE_CYCLES);
    assert_int_equal(after(&watch, 1286), SPIKE_BY_DIFF);

    /* What grows by 5 % each time never is: ten cycles ago is forgotten. */
    watch = watch_with("diff=25%");
    for (double live = 100; live < 5000; live *= 1.05) {
        struct spike spike = close_cycle(&watch, (int64_t)(live * MIB), 0);
        assert_false(spike_is_one(&spike));
    }
}

static void test_noise_is_no_spike(void **state) {
    struct spike_watch watch = watch_with("diff=25%");
    uint32_t random = 1;
    for (int i = 0; i < 10000; i++) {
        random = random * 1664525 + 1013904223;
        struct spike spike = close_cycle(&watch, (int64_t)(95 + random % 11) * MIB, 0);
        assert_false(spike_is_one(&spike));
    }
    assert_int_equal(after(&watch, 150), SPIKE_BY_DIFF);
}

static void test_what_is_small_is_none_whatever_it_was(void **state) {
    struct spike_watch watch = watch_with("diff=25%,abs=5MiB");
    steady(&watch, 1, SPIKE_CYCLES);
    assert_int_equal(after(&watch, 9), SPIKE_BELOW_MIN); /* before abs is looked at */
    assert_int_equal(after(&watch, 10), SPIKE_BY_ABS);
}

static void test_abs_needs_no_difference(void **state) {
    struct spike_watch watch = watch_with("diff=899%,abs=100MiB");
    steady(&watch, 99, SPIKE_CYCLES);
    assert_int_equal(after(&watch, 100), SPIKE_STEADY);
    assert_int_equal(after(&watch, 101), SPIKE_BY_ABS);
    /* Off, which it is by default, nothing is too much. */
    watch = watch_with("diff=899%");
    steady(&watch, 100, SPIKE_CYCLES);
    assert_int_equal(after(&watch, 800), SPIKE_STEADY);
}

static void test_cooldown_keeps_quiet_and_goes_on_averaging(void **state) {
    struct spike_watch watch = watch_with("diff=25%,cooldown=1m");
    steady(&watch, 10, SPIKE_CYCLES);
    assert_int_equal(after(&watch, 20), SPIKE_BY_DIFF);
    assert_int_equal(after(&watch, 10), SPIKE_AFTER_ONE);
    for (int i = 2; i < 12; i++)
        assert_int_equal(after(&watch, i % 2 ? 10 : 20), SPIKE_COOLING_DOWN);
    /* A minute later. The average of 10 and 20 by turns is 15. */
    assert_int_equal(after(&watch, 18), SPIKE_STEADY);
    assert_int_equal(after(&watch, 40), SPIKE_BY_DIFF);
}

static void test_the_cycle_after_a_spike_is_not_judged(void **state) {
    /* Even without a cooldown: the memory of who writes the profiles is in it. */
    struct spike_watch watch = watch_with("diff=25%,cooldown=0s");
    steady(&watch, 10, SPIKE_CYCLES);
    assert_int_equal(after(&watch, 20), SPIKE_BY_DIFF);
    assert_int_equal(after(&watch, 90), SPIKE_AFTER_ONE);
    assert_int_equal(after(&watch, 180), SPIKE_BY_DIFF);
}

static void test_what_stays_high_is_told_once(void **state) {
    /* The average has not caught up, but the last two cycles do not differ: nothing would be shown. */
    struct spike_watch watch = watch_with("diff=25%,abs=50MiB,cooldown=0s");
    steady(&watch, 10, SPIKE_CYCLES);
    assert_int_equal(after(&watch, 60), SPIKE_BY_ABS);
    assert_int_equal(after(&watch, 60), SPIKE_AFTER_ONE);
    assert_int_equal(after(&watch, 60), SPIKE_NO_RISE);
    assert_int_equal(after(&watch, 59), SPIKE_NO_RISE);
    assert_int_equal(after(&watch, 61), SPIKE_NO_RISE); /* a ripple: 30 more than the average */
    assert_int_equal(after(&watch, 80), SPIKE_BY_ABS);  /* it rose again */
}

static void test_what_takes_a_minute_to_rise_is_a_spike(void **state) {
    struct spike_watch watch = watch_with("diff=25%,cooldown=0s");
    steady(&watch, 100, SPIKE_CYCLES);
    unsigned cycles = 0;
    for (int64_t live = 100; cycles < 12; cycles++) {
        live += 8;
        if (after(&watch, live) == SPIKE_BY_DIFF)
            break;
    }
    assert_in_range(cycles, 4, 11);
}

/* ---- Garbage ---- */

static void test_garbage_has_an_average_of_its_own(void **state) {
    struct spike_watch watch = watch_with("diff=25%,garbage=100MiB,abs=50MiB");
    for (int i = 0; i < SPIKE_CYCLES; i++)
        (void)close_cycle(&watch, 10 * MIB, 80 * MIB);
    struct spike spike = close_cycle(&watch, 10 * MIB, 99 * MIB);
    assert_int_equal(spike.verdict, SPIKE_STEADY);
    assert_int_equal(spike.measure, SPIKE_LIVE);
    spike = close_cycle(&watch, 10 * MIB, 200 * MIB);
    assert_int_equal(spike.verdict, SPIKE_BY_DIFF);
    assert_int_equal(spike.measure, SPIKE_GARBAGE);
    assert_int_equal(spike.bytes, 200 * MIB);
    assert_int_equal(spike.before_bytes, 99 * MIB);
}

static void test_garbage_is_not_looked_at_unless_asked(void **state) {
    struct spike_watch watch = watch_with("diff=25%");
    for (int i = 0; i < SPIKE_CYCLES; i++)
        (void)close_cycle(&watch, 10 * MIB, MIB);
    assert_int_equal(close_cycle(&watch, 10 * MIB, 1LL << 40).verdict, SPIKE_STEADY);
}

static void test_one_cycle_is_one_spike(void **state) {
    /* Both rose: it is that of live memory, and garbage cools down with it. */
    struct spike_watch watch = watch_with("diff=25%,garbage=10MiB,cooldown=1h");
    for (int i = 0; i < SPIKE_CYCLES; i++)
        (void)close_cycle(&watch, 10 * MIB, 10 * MIB);
    assert_int_equal(close_cycle(&watch, 30 * MIB, 30 * MIB).measure, SPIKE_LIVE);
    (void)close_cycle(&watch, 10 * MIB, 10 * MIB);
    assert_int_equal(close_cycle(&watch, 10 * MIB, 90 * MIB).verdict, SPIKE_COOLING_DOWN);
}

/* ---- The rule as text ---- */

static void test_a_rule_says_what_it_changes(void **state) {
    struct spike_rule rule = spike_rule_default();
    assert_null(spike_rule_parse("abs=2GiB", &rule));
    assert_int_equal(rule.abs_bytes, 2048 * MIB);
    assert_int_equal(rule.min_bytes, 64 * MIB);
    assert_null(spike_rule_parse("min=0B, diff=899%, cooldown=500ms, pairs=1, disk=3KiB", &rule));
    assert_int_equal(rule.min_bytes, 0);
    assert_int_equal(rule.diff_percent, 899);
    assert_int_equal(rule.cooldown_ns, 500 * NS_PER_MS);
    assert_int_equal(rule.pairs_max, 1);
    assert_int_equal(rule.disk_bytes_max, 3072);
    assert_int_equal(rule.abs_bytes, 2048 * MIB);
    assert_null(spike_rule_parse("cooldown=2h,abs=off,garbage=1TiB", &rule));
    assert_int_equal(rule.cooldown_ns, 7200 * NS_PER_S);
    assert_true(rule.abs_bytes == SPIKE_NEVER);
    assert_int_equal(rule.garbage_bytes, 1LL << 40);
}

static void test_the_default_is_what_help_says(void **state) {
    struct spike_rule told = {0}, rule = spike_rule_default();
    assert_null(spike_rule_parse(SPIKE_RULE_DEFAULT, &told));
    assert_memory_equal(&told, &rule, sizeof rule);
}

static void test_what_makes_no_rule_is_refused_whole(void **state) {
    static const struct {
        const char *text, *right;
    } table[] = {
        {"", "must be a list"},
        {"min", "must be a list"},
        {"=1", "must be a list"},
        {"minimum=1MiB", "must be a list"},
        {"min=1MiB,,", "must be a list"},
        {"min=1", "min must be a size"},
        {"min=MiB", "min must be a size"},
        {"min=-1MiB", "min must be a size"},
        {"min=1.5MiB", "min must be a size"},
        {"min=off", "min must be a size"},
        {"min=18446744073709551616B", "min must be a size"},
        {"min=9999999TiB", "min must be a size"},
        {"abs=0B", "abs must be a size"},
        {"garbage=1 MiB", "garbage must be a size"},
        {"disk=0B", "disk must be a size"},
        {"diff=25", "diff must be from 1%"},
        {"diff=0%", "diff must be from 1%"},
        {"diff=900%", "diff must be from 1%"},
        {"cooldown=1", "cooldown must be a time"},
        {"cooldown=1d", "cooldown must be a time"},
        {"pairs=0", "pairs must be a number"},
        {"pairs=10001", "pairs must be a number"},
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        char text[64];
        snprintf(text, sizeof text, "diff=77%%,%s", table[i].text);
        struct spike_rule rule = spike_rule_default(), before = rule;
        const char *wrong = spike_rule_parse(table[i].text[0] ? text : "", &rule);
        if (!wrong || strncmp(wrong, table[i].right, strlen(table[i].right)) != 0)
            fail_msg("'%s': %s", table[i].text, wrong ? wrong : "taken");
        assert_memory_equal(&rule, &before, sizeof rule);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ten_more_on_ten_are_a_spike),
        cmocka_unit_test(test_nothing_is_judged_in_the_first_nine_cycles),
        cmocka_unit_test(test_the_average_moves),
        cmocka_unit_test(test_noise_is_no_spike),
        cmocka_unit_test(test_what_is_small_is_none_whatever_it_was),
        cmocka_unit_test(test_abs_needs_no_difference),
        cmocka_unit_test(test_cooldown_keeps_quiet_and_goes_on_averaging),
        cmocka_unit_test(test_the_cycle_after_a_spike_is_not_judged),
        cmocka_unit_test(test_what_stays_high_is_told_once),
        cmocka_unit_test(test_what_takes_a_minute_to_rise_is_a_spike),
        cmocka_unit_test(test_garbage_has_an_average_of_its_own),
        cmocka_unit_test(test_garbage_is_not_looked_at_unless_asked),
        cmocka_unit_test(test_one_cycle_is_one_spike),
        cmocka_unit_test(test_a_rule_says_what_it_changes),
        cmocka_unit_test(test_the_default_is_what_help_says),
        cmocka_unit_test(test_what_makes_no_rule_is_refused_whole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
