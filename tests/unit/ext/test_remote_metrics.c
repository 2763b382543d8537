/* remote_metrics.c: what plugins of a host process count, for as long as there is their configuration. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/stats.h"
#include "ext/go/go_abi.h"
#include "ext/go/go_metric.h"
#include "ext/remote/remote_metrics.h"

static struct remote_metrics metrics;
static _Atomic uint64_t known; /* the configuration that there is */

static bool knows(void *arg, uint64_t config_id) {
    return config_id == atomic_load(&known);
}

static int begin(void **state) {
    atomic_store(&known, 1);
    remote_metrics_init(&metrics, knows, NULL);
    return 0;
}

static int end(void **state) {
    remote_metrics_fini(&metrics);
    return 0;
}

/* The answer's code; *id is the proxy's. */
static int define(uint64_t config_id, enum stat_kind kind, const char *name, uint64_t *id) {
    struct remote_ask ask = {
        .subject = config_id, .question = REMOTE_DEFINE_METRIC, .n = kind, .a = span_of(name)};
    struct remote_answer answer = {.code = GO_OK};
    remote_metrics_answer(&metrics, &ask, &answer);
    *id = answer.number;
    return answer.code;
}

static uint64_t get(uint64_t config_id, uint64_t id) {
    struct remote_ask ask = {.subject = config_id, .question = REMOTE_ASK_METRIC, .n = id};
    struct remote_answer answer = {.code = GO_OK};
    remote_metrics_answer(&metrics, &ask, &answer);
    return answer.number;
}

static void add(uint64_t config_id, uint64_t id, uint64_t n) {
    const struct remote_metric metric = {
        .config_id = config_id, .id = (uint32_t)id, .action = REMOTE_METRIC_ADD, .value = n};
    remote_metrics_count(&metrics, &metric);
}

static void a_configuration_counts_until_it_is_dropped(void **state) {
    uint64_t id, later;
    assert_int_equal(define(1, STAT_COUNTER, "far.requests", &id), GO_OK);
    add(1, id, 3);
    assert_int_equal(get(1, id), 3);
    atomic_store(&known, 2);
    remote_metrics_forget(&metrics, 1);
    assert_null(metrics.first);
    assert_int_equal(metrics.pages, 0);
    add(1, id, 100); /* a goroutine that has not noticed */
    assert_int_equal(get(1, id), 0);
    remote_metrics_forget(&metrics, 1); /* had none */
    /* The next one goes on where it was. */
    assert_int_equal(define(2, STAT_COUNTER, "far.requests", &later), GO_OK);
    add(2, later, 1);
    assert_int_equal(get(2, later), 4);
}

static void what_is_defined_too_late_is_refused(void **state) {
    uint64_t id;
    assert_int_not_equal(define(7, STAT_COUNTER, "far.late", &id), GO_OK);
    assert_null(metrics.first);
    assert_int_equal(metrics.pages, 0);
}

static void only_what_is_dropped_is_given_back(void **state) {
    uint64_t first, second, id;
    char name[32];
    assert_int_equal(define(1, STAT_COUNTER, "far.kept", &first), GO_OK);
    atomic_store(&known, 2);
    for (int i = 0; i <= GO_METRIC_PAGE; i++) { /* two pages, and one of another kind */
        snprintf(name, sizeof name, "far.many.%d", i);
        assert_int_equal(define(2, STAT_COUNTER, name, &second), GO_OK);
    }
    assert_int_equal(define(2, STAT_GAUGE, "far.gauge", &id), GO_OK);
    assert_int_equal(metrics.pages, 4);
    remote_metrics_forget(&metrics, 2);
    assert_int_equal(metrics.pages, 1);
    add(1, first, 5);
    assert_int_equal(get(1, first), 5);
}

/* An update of the configuration, again and again: nothing is left of any, and the limit of pages is for those that are there. */
static void rounds_of_parsing_and_dropping_leave_nothing(void **state) {
    uint64_t id;
    for (uint64_t config = 1; config <= 1000; config++) {
        atomic_store(&known, config);
        assert_int_equal(define(config, STAT_COUNTER, "far.rounds", &id), GO_OK);
        assert_int_equal(define(config, STAT_HISTOGRAM, "far.rounds.time", &id), GO_OK);
        assert_int_equal(metrics.pages, 2);
        atomic_store(&known, config + 1);
        remote_metrics_forget(&metrics, config);
        assert_null(metrics.first);
        assert_int_equal(metrics.pages, 0);
    }
}

static void *define_and_count(void *arg) {
    uint64_t id;
    for (uint64_t config = atomic_load(&known); config < 2000; config = atomic_load(&known))
        if (define(config, STAT_COUNTER, "far.race", &id) == GO_OK)
            add(config, id, 1);
    return NULL;
}

/* Ps define and count while configurations go: whoever came first, nothing stays. */
static void one_that_goes_while_it_is_used_leaves_nothing(void **state) {
    pthread_t threads[2];
    for (int i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, define_and_count, NULL), 0);
    for (uint64_t config = 1; config < 2000; config++) {
        atomic_store(&known, config + 1);
        remote_metrics_forget(&metrics, config);
    }
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    assert_null(metrics.first);
    assert_int_equal(metrics.pages, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_configuration_counts_until_it_is_dropped, begin, end),
        cmocka_unit_test_setup_teardown(what_is_defined_too_late_is_refused, begin, end),
        cmocka_unit_test_setup_teardown(only_what_is_dropped_is_given_back, begin, end),
        cmocka_unit_test_setup_teardown(rounds_of_parsing_and_dropping_leave_nothing, begin, end),
        cmocka_unit_test_setup_teardown(one_that_goes_while_it_is_used_leaves_nothing, begin, end),
    };
    return stats_init(1) != 0 || cmocka_run_group_tests(tests, NULL, NULL);
}
