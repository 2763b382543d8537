/* go_metric.c and go_exports_metric.c: what plugins count, by ids of their configuration. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "ext/go/go_exports.h"
#include "ext/go/go_lent.h"

static struct go_lent_config *config_new(void) {
    struct loan loan = loan_new(&go_lent_configs, STATS_SHARD_FOREIGN);
    assert_non_null(loan.memory);
    loan_lend(&go_lent_configs, loan);
    loan_let_go(&go_lent_configs, loan);
    return loan.memory;
}

static int define(void *config, enum stat_kind kind, const char *name, uint32_t *id) {
    return envoyGoFilterHttpDefineMetric(config, kind, (void *)(uintptr_t)name, (int)strlen(name),
                                         id);
}

static uint64_t get(void *config, uint32_t id) {
    uint64_t value = 4711;
    assert_int_equal(envoyGoFilterHttpGetMetric(config, id, &value), GO_OK);
    return value;
}

static const struct statistic *stat_of(enum stat_kind kind, const char *name) {
    return stats_get(kind, span_of(name), span_of(name), NULL, 0);
}

static void test_ids_are_those_of_envoy(void **state) {
    void *config = config_new();
    uint32_t counter, gauge, histogram, again;
    assert_int_equal(define(config, STAT_COUNTER, "ids.c", &counter), GO_OK);
    assert_int_equal(define(config, STAT_GAUGE, "ids.g", &gauge), GO_OK);
    assert_int_equal(define(config, STAT_HISTOGRAM, "ids.h", &histogram), GO_OK);
    assert_int_equal(define(config, STAT_COUNTER, "ids.c", &again), GO_OK);
    assert_int_equal(counter, 4);
    assert_int_equal(gauge, 5);
    assert_int_equal(histogram, 6);
    assert_int_equal(again, 8);
    envoyGoConfigHttpFinalize(config);
}

static void test_one_name_is_one_statistic_in_every_configuration(void **state) {
    void *old = config_new(), *new = config_new();
    uint32_t a, b;
    assert_int_equal(define(old, STAT_COUNTER, "same.name", &a), GO_OK);
    assert_int_equal(envoyGoFilterHttpIncrementMetric(old, a, 3), GO_OK);
    envoyGoConfigHttpFinalize(old); /* an update went by */
    assert_int_equal(define(new, STAT_COUNTER, "same.name", &b), GO_OK);
    assert_int_equal(envoyGoFilterHttpIncrementMetric(new, b, 4), GO_OK);
    assert_int_equal(get(new, b), 7);
    assert_int_equal(stat_value(stat_of(STAT_COUNTER, "same.name")), 7);
    assert_int_equal(envoyGoFilterHttpIncrementMetric(old, a, 1), GO_FILTER_IS_GONE);
    assert_int_equal(define(old, STAT_COUNTER, "late", &a), GO_FILTER_IS_GONE);
    envoyGoConfigHttpFinalize(new);
}

static void test_each_kind_counts_in_its_own_way(void **state) {
    void *config = config_new();
    uint32_t counter, gauge, histogram;
    assert_int_equal(define(config, STAT_COUNTER, "way.c", &counter), GO_OK);
    assert_int_equal(define(config, STAT_GAUGE, "way.g", &gauge), GO_OK);
    assert_int_equal(define(config, STAT_HISTOGRAM, "way.h", &histogram), GO_OK);
    const int64_t steps[] = {5, -3, 0, INT64_MIN};
    for (int i = 0; i < 4; i++)
        assert_int_equal(envoyGoFilterHttpIncrementMetric(config, counter, steps[i]), GO_OK);
    assert_int_equal(get(config, counter), 5); /* never down */
    assert_int_equal(envoyGoFilterHttpRecordMetric(config, counter, 10), GO_OK);
    assert_int_equal(get(config, counter), 15);
    for (int i = 0; i < 2; i++)
        assert_int_equal(envoyGoFilterHttpIncrementMetric(config, gauge, steps[i]), GO_OK);
    assert_int_equal(get(config, gauge), 2);
    assert_int_equal(envoyGoFilterHttpRecordMetric(config, gauge, 40), GO_OK);
    assert_int_equal(envoyGoFilterHttpIncrementMetric(config, gauge, -1), GO_OK);
    assert_int_equal(get(config, gauge), 39);
    assert_int_equal(envoyGoFilterHttpRecordMetric(config, histogram, 25), GO_OK);
    assert_int_equal(envoyGoFilterHttpRecordMetric(config, histogram, UINT64_MAX), GO_OK);
    assert_int_equal(envoyGoFilterHttpIncrementMetric(config, histogram, 9), GO_OK);
    struct stat_summary summary;
    stat_summary(stat_of(STAT_HISTOGRAM, "way.h"), &summary);
    assert_int_equal(summary.count, 2);
    assert_int_equal(summary.buckets[stat_step_of(25000)], 1); /* shown as 25 */
    assert_int_equal(get(config, histogram), 4711);            /* the output is left alone */
    envoyGoConfigHttpFinalize(config);
}

static void test_ids_that_stand_for_nothing_do_nothing(void **state) {
    void *config = config_new();
    uint32_t id = 77;
    assert_int_equal(define(config, STAT_COUNTER, "one", &id), GO_OK);
    const uint32_t wrong[] = {0, 1, 2, 3, 7, 5, 8, 0xffffffff, GO_METRICS_PER_KIND << 2};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        assert_int_equal(envoyGoFilterHttpIncrementMetric(config, wrong[i], 1), GO_OK);
        assert_int_equal(envoyGoFilterHttpRecordMetric(config, wrong[i], 1), GO_OK);
        assert_int_equal(get(config, wrong[i]), 4711);
    }
    assert_int_equal(get(config, id), 0);
    id = 77;
    char x[] = "x";
    assert_int_equal(envoyGoFilterHttpDefineMetric(config, 3, x, 1, &id), GO_VALUE_NOT_FOUND);
    assert_int_equal(id, 77);
    assert_int_equal(envoyGoFilterHttpDefineMetric((char *)config + 8, 0, x, 1, &id),
                     GO_FILTER_IS_GONE);
    assert_int_equal(envoyGoFilterHttpDefineMetric(NULL, 0, x, 1, &id), GO_FILTER_IS_GONE);
    envoyGoConfigHttpFinalize(config);
}

static void test_names_have_a_length_and_no_line_ends(void **state) {
    void *config = config_new();
    char name[GO_METRIC_NAME_MAX + 2];
    memset(name, 'n', sizeof name);
    name[sizeof name - 1] = '\0';
    uint32_t id = 77;
    assert_int_equal(define(config, STAT_COUNTER, name, &id), GO_INTERNAL_FAILURE);
    assert_int_equal(define(config, STAT_COUNTER, "", &id), GO_INTERNAL_FAILURE);
    assert_int_equal(id, 77);
    name[GO_METRIC_NAME_MAX] = '\0';
    assert_int_equal(define(config, STAT_COUNTER, name, &id), GO_OK);
    assert_int_equal(define(config, STAT_COUNTER, "evil\nserver.live: 0", &id), GO_OK);
    assert_int_equal(envoyGoFilterHttpIncrementMetric(config, id, 1), GO_OK);
    assert_int_equal(stat_value(stat_of(STAT_COUNTER, "evil_server.live: 0")), 1);
    envoyGoConfigHttpFinalize(config);
}

/* A plugin that names metrics by what clients send: refused at some point, while those there are count on. */
static void test_names_are_bounded_over_all_configurations(void **state) {
    uint32_t first = 0, id, defined = 0;
    void *kept = config_new();
    assert_int_equal(define(kept, STAT_COUNTER, "bound.first", &first), GO_OK);
    bool refused = false;
    for (unsigned c = 0; c < 8 && !refused; c++) {
        void *config = config_new();
        for (unsigned i = 0; i < GO_METRICS_PER_KIND; i++) {
            char name[32];
            (void)snprintf(name, sizeof name, "bound.%u.%u", c, i);
            int code = define(config, STAT_COUNTER, name, &id);
            assert_true(code == GO_OK || code == GO_INTERNAL_FAILURE);
            defined += code == GO_OK;
            refused = refused || code != GO_OK;
        }
        if (c == 0) /* as many ids as one configuration may have */
            assert_int_equal(define(config, STAT_COUNTER, "bound.first", &id), GO_INTERNAL_FAILURE);
        envoyGoConfigHttpFinalize(config);
    }
    assert_true(refused);
    assert_true(defined < GO_METRIC_NAMES_MAX);
    assert_int_equal(define(kept, STAT_COUNTER, "bound.first", &id), GO_OK); /* a known one */
    assert_int_equal(define(kept, STAT_COUNTER, "bound.new", &id), GO_INTERNAL_FAILURE);
    envoyGoConfigHttpFinalize(kept);
}

enum { THREADS = 4, ROUNDS = 2000 };

/* A goroutine: defines the same names as the others, counts, and so goes on when the config was given back. */
static void *goroutine(void *config) {
    for (int i = 0; i < ROUNDS; i++) {
        uint32_t counter, gauge;
        if (i % 100 == 0) {
            assert_int_equal(define(config, STAT_COUNTER, "storm.c", &counter), GO_OK);
            assert_int_equal(define(config, STAT_GAUGE, "storm.g", &gauge), GO_OK);
        }
        assert_int_equal(envoyGoFilterHttpIncrementMetric(config, counter, 2), GO_OK);
        assert_int_equal(envoyGoFilterHttpIncrementMetric(config, gauge, i % 2 ? -1 : 1), GO_OK);
    }
    return NULL;
}

static void test_any_thread_may_count(void **state) {
    void *config = config_new();
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, goroutine, config), 0);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(stat_value(stat_of(STAT_COUNTER, "storm.c")), 2 * THREADS * ROUNDS);
    assert_int_equal(stat_value(stat_of(STAT_GAUGE, "storm.g")), 0);
    envoyGoConfigHttpFinalize(config);
}

static int setup(void **state) {
    return stats_init(1) || go_lent_init();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ids_are_those_of_envoy),
        cmocka_unit_test(test_one_name_is_one_statistic_in_every_configuration),
        cmocka_unit_test(test_each_kind_counts_in_its_own_way),
        cmocka_unit_test(test_ids_that_stand_for_nothing_do_nothing),
        cmocka_unit_test(test_names_have_a_length_and_no_line_ends),
        cmocka_unit_test(test_any_thread_may_count),
        cmocka_unit_test(
            test_names_are_bounded_over_all_configurations), /* the last: none are left */
    };
    return cmocka_run_group_tests(tests, setup, NULL);
}
