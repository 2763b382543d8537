/* restart_policy.c: lives of a process that fails now and then, all the time, and no more. Time is told to it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/clock.h"
#include "ext/remote/restart_policy.h"

static const struct restart_settings settings = {
    .base_ns = 100 * NS_PER_MS,
    .max_ns = 1 * NS_PER_S,
    .failures_max = 8,
    .window_ns = 60 * NS_PER_S,
    .probe_ns = 30 * NS_PER_S,
};

static struct restart_policy policy_with(struct restart_settings with, uint64_t seed) {
    struct restart_policy policy;
    restart_policy_init(&policy, &with, seed);
    return policy;
}

static void who_fails_once_is_back_at_once(void **state) {
    struct restart_policy policy = policy_with(settings, 1);
    int64_t now = 5 * NS_PER_S;
    for (int i = 0; i < 100; i++, now += settings.window_ns) {
        assert_int_equal(restart_policy_failed(&policy, now), now);
        restart_policy_start(&policy, now);
        assert_int_equal(restart_policy_failures(&policy, now), 1);
    }
    assert_int_equal(restart_policy_failures(&policy, now), 0);
}

static void delays_double_up_to_the_largest(void **state) {
    static const int64_t whole_ms[] = {100, 200, 400, 800, 1000, 1000};
    struct restart_policy policy = policy_with(settings, 2);
    int64_t now = restart_policy_failed(&policy, 0);
    for (int i = 0; i < 6; i++) {
        restart_policy_start(&policy, now);
        int64_t next = restart_policy_failed(&policy, now);
        assert_in_range(next - now, whole_ms[i] * NS_PER_MS / 2, whole_ms[i] * NS_PER_MS);
        now = next;
    }
}

/* A thousand proxies whose libraries failed in the same moment come back over the whole half of the delay. */
static void they_do_not_come_back_in_step(void **state) {
    enum { PROXIES = 1000, PARTS = 10 };
    int seen[PARTS] = {0};
    for (uint64_t seed = 0; seed < PROXIES; seed++) {
        struct restart_policy policy = policy_with(settings, seed);
        (void)restart_policy_failed(&policy, 0); /* at once */
        int64_t next = restart_policy_failed(&policy, 0);
        int64_t part = (next - 50 * NS_PER_MS) * PARTS / (50 * NS_PER_MS + 1);
        assert_in_range(part, 0, PARTS - 1);
        seen[part]++;
    }
    for (int i = 0; i < PARTS; i++)
        assert_in_range(seen[i], PROXIES / PARTS / 2, PROXIES / PARTS * 2);
}

static int64_t fail_until_open(struct restart_policy *policy, int64_t now) {
    int64_t next = now;
    for (uint32_t i = 1; i <= settings.failures_max; i++) {
        assert_false(restart_policy_is_open(policy));
        now = next;
        restart_policy_start(policy, now);
        next = restart_policy_failed(policy, now);
    }
    assert_true(restart_policy_is_open(policy));
    assert_int_equal(next, now + settings.probe_ns);
    return next;
}

static void too_many_open_the_circuit_and_a_trial_decides(void **state) {
    struct restart_policy policy = policy_with(settings, 3);
    int64_t now = fail_until_open(&policy, 0);
    for (int i = 0; i < 3;
         i++) { /* one failure is enough on trial, though the others are long past */
        now += settings.window_ns;
        restart_policy_start(&policy, now);
        assert_false(restart_policy_is_open(&policy));
        now += settings.window_ns - 1;
        assert_int_equal(restart_policy_failed(&policy, now), now + settings.probe_ns);
        assert_true(restart_policy_is_open(&policy));
    }
    now += settings.window_ns;
    restart_policy_start(&policy, now);
    now += settings.window_ns; /* it stood its trial */
    assert_int_equal(restart_policy_failed(&policy, now), now);
    assert_int_not_equal(restart_policy_failed(&policy, now), now);
    assert_false(restart_policy_is_open(&policy));
}

static void without_trials_it_is_down_until_it_is_reset(void **state) {
    struct restart_settings with = settings;
    with.probe_ns = 0;
    with.failures_max = 1;
    struct restart_policy policy = policy_with(with, 4);
    assert_true(restart_policy_failed(&policy, 7) == INT64_MAX);
    assert_true(restart_policy_is_open(&policy));
    restart_policy_reset(&policy);
    assert_false(restart_policy_is_open(&policy));
    assert_int_equal(restart_policy_failures(&policy, 8), 0);
    restart_policy_start(&policy, 8); /* no trial: it was reset */
    assert_true(restart_policy_failed(&policy, 9) == INT64_MAX);
}

static void without_a_circuit_it_is_tried_for_ever(void **state) {
    struct restart_settings with = settings;
    with.failures_max = 0;
    with.max_ns = INT64_MAX; /* the largest of delays does not overflow */
    struct restart_policy policy = policy_with(with, 5);
    for (int i = 0; i < 2 * RESTART_FAILURES_LIMIT; i++) {
        int64_t next = restart_policy_failed(&policy, 0);
        assert_true(next >= 0 && next < INT64_MAX);
        assert_false(restart_policy_is_open(&policy));
    }
    assert_int_equal(restart_policy_failures(&policy, 0), RESTART_FAILURES_LIMIT);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(who_fails_once_is_back_at_once),
        cmocka_unit_test(delays_double_up_to_the_largest),
        cmocka_unit_test(they_do_not_come_back_in_step),
        cmocka_unit_test(too_many_open_the_circuit_and_a_trial_decides),
        cmocka_unit_test(without_trials_it_is_down_until_it_is_reset),
        cmocka_unit_test(without_a_circuit_it_is_tried_for_ever),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
