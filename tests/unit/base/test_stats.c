/* stats: what is counted is what is read, from every shard, under names that keep their identity. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/stats.h"

enum { P_COUNT = 4, ADDS = 200000 };

static struct statistic *plain(enum stat_kind kind, const char *name) {
    return stats_get(kind, span_of(name), span_of(name), NULL, 0);
}

struct adder {
    const struct statistic *stat;
    unsigned shard;
};

static void *add_many(void *arg) {
    const struct adder *adder = arg;
    for (int i = 0; i < ADDS; i++)
        stat_inc(adder->stat, adder->shard);
    return NULL;
}

static void counts_from_all_shards_and_foreign_threads_add_up(void **state) {
    struct statistic *stat = plain(STAT_COUNTER, "threads.adds");
    pthread_t threads[P_COUNT + 2];
    struct adder adders[P_COUNT + 2];
    for (unsigned i = 0; i < P_COUNT + 2; i++) { /* one writer per P, two that have none */
        adders[i] = (struct adder){stat, i < P_COUNT ? i : STATS_SHARD_FOREIGN};
        assert_int_equal(pthread_create(&threads[i], NULL, add_many, &adders[i]), 0);
    }
    for (unsigned i = 0; i < P_COUNT + 2; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(stat_value(stat), (P_COUNT + 2) * (int64_t)ADDS);
}

static void a_reset_loses_nothing_that_is_counted_meanwhile(void **state) {
    struct statistic *stat = plain(STAT_COUNTER, "threads.reset");
    struct adder adder = {stat, 0};
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, add_many, &adder), 0);
    for (int i = 0; i < 100; i++)
        stats_reset_counters();
    pthread_join(thread, NULL);
    int64_t left = stat_value(stat);
    assert_in_range(left, 0, ADDS);

    stats_reset_counters();
    assert_int_equal(stat_value(stat), 0);
    assert_true(stat_used(stat)); /* zero, but it has been counted */
    stat_inc(stat, 0);
    assert_int_equal(stat_value(stat), 1);
}

static void a_gauge_that_sinks_on_another_p_still_sums_to_zero(void **state) {
    struct statistic *gauge = plain(STAT_GAUGE, "gauge.active");
    stat_inc(gauge, 1);
    stat_dec(gauge, 2);
    assert_int_equal(stat_value(gauge), 0);
    stat_add(gauge, 3, -5);
    assert_int_equal(stat_value(gauge), -5);
    stats_reset_counters(); /* counters only */
    assert_int_equal(stat_value(gauge), -5);

    struct statistic *whole = plain(STAT_GAUGE, "gauge.state");
    assert_false(stat_used(whole));
    stat_set(whole, 7);
    stat_set(whole, 2);
    assert_int_equal(stat_value(whole), 2);
}

static void the_same_name_is_the_same_stat(void **state) {
    char name[] = "again.total"; /* the registry copies */
    struct statistic *first = plain(STAT_COUNTER, name);
    name[0] = 'X';
    assert_ptr_equal(plain(STAT_COUNTER, "again.total"), first);
    assert_ptr_not_equal(plain(STAT_GAUGE, "again.total"), first);
    for (int i = 0; i < 5000; i++) { /* past several sizes of the table */
        char many[32];
        snprintf(many, sizeof many, "many.%d", i);
        plain(STAT_COUNTER, many);
    }
    assert_ptr_equal(plain(STAT_COUNTER, "again.total"), first);
}

static void assert_span(struct span got, const char *want) {
    assert_int_equal(got.len, strlen(want));
    assert_memory_equal(got.ptr, want, got.len);
}

static void a_tag_leaves_the_metric_and_keeps_its_value(void **state) {
    struct statistic *stat = stats_get_tagged(STAT_COUNTER, "cluster", "envoy.cluster_name",
                                              SPAN_LIT("origin"), "upstream_rq_total");
    assert_span(stat->name, "cluster.origin.upstream_rq_total");
    assert_span(stat->metric, "cluster.upstream_rq_total");
    assert_int_equal(stat->tag_count, 1);
    assert_span(stat->tags[0].name, "envoy.cluster_name");
    assert_span(stat->tags[0].value, "origin");

    stat = stats_get_tagged(STAT_GAUGE, "listener", "envoy.listener_address",
                            SPAN_LIT("[::1]:8080"), "downstream_cx_active");
    assert_span(stat->name, "listener.[__1]_8080.downstream_cx_active");
    assert_span(stat->tags[0].value, "[__1]_8080");
}

static struct statistic *of_cluster(const char *suffix) {
    return stats_get_tagged(STAT_COUNTER, "cluster", "envoy.cluster_name", SPAN_LIT("c"), suffix);
}

static void a_response_code_is_a_tag_of_its_own(void **state) {
    struct statistic *stat = of_cluster("upstream_rq_503");
    assert_span(stat->name, "cluster.c.upstream_rq_503");
    assert_span(stat->metric, "cluster.upstream_rq");
    assert_int_equal(stat->tag_count, 2);
    assert_span(stat->tags[0].name, "envoy.response_code");
    assert_span(stat->tags[0].value, "503");
    assert_span(stat->tags[1].value, "c");

    stat = of_cluster("upstream_rq_5xx");
    assert_span(stat->metric, "cluster.upstream_rq_xx");
    assert_span(stat->tags[0].name, "envoy.response_code_class");
    assert_span(stat->tags[0].value, "5");

    static const char *const plain_ones[] = {"upstream_rq_total", "upstream_rq_0rtt",
                                             "upstream_rq_50x",   "rq_503",
                                             "upstream_rq_9xx",   "x"};
    for (size_t i = 0; i < sizeof plain_ones / sizeof *plain_ones; i++)
        assert_int_equal(of_cluster(plain_ones[i])->tag_count, 1);
}

struct walk {
    struct span last;
    int count;
};

static void check_order(const struct statistic *stat, void *arg) {
    struct walk *walk = arg;
    if (walk->count++ > 0) {
        size_t shorter = walk->last.len < stat->name.len ? walk->last.len : stat->name.len;
        assert_true(memcmp(walk->last.ptr, stat->name.ptr, shorter) <= 0);
    }
    walk->last = stat->name;
    plain(STAT_COUNTER, "made.while.walking"); /* takes the lock: must not be held here */
}

static void walks_are_sorted_and_hold_no_lock(void **state) {
    plain(STAT_COUNTER, "zz");
    plain(STAT_COUNTER, "a");
    plain(STAT_COUNTER, "zz.a");
    struct walk before = {0}, after = {0};
    stats_each(check_order, &before);
    assert_true(before.count >= 3);
    plain(STAT_COUNTER, "m.new.one");
    stats_each(check_order, &after);
    assert_true(after.count > before.count);
}

static void steps_cover_all_values_without_gaps(void **state) {
    assert_int_equal(stat_step_lower_us(0), 0);
    for (unsigned step = 0; step + 1 < STAT_STEPS; step++) {
        assert_true(stat_step_lower_us(step) <= stat_step_upper_us(step));
        assert_int_equal(stat_step_upper_us(step) + 1, stat_step_lower_us(step + 1));
    }
    struct statistic *stat = plain(STAT_HISTOGRAM, "histogram.steps");
    for (unsigned step = 0; step < STAT_STEPS; step++) {
        stat_record_us(stat, 0, stat_step_lower_us(step));
        stat_record_us(stat, 1, stat_step_upper_us(step));
    }
    struct stat_summary summary;
    stat_summary(stat, &summary);
    for (unsigned step = 0; step < STAT_STEPS; step++)
        assert_int_equal(summary.buckets[step], 2);
    stat_record_us(stat, 0, UINT64_C(1) << 60); /* beyond the last: counted there */
    stat_summary(stat, &summary);
    assert_int_equal(summary.buckets[STAT_STEPS - 1], 3);
    assert_int_equal(summary.count, 2 * STAT_STEPS + 1);
}

static int compare_u64(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static void quantiles_are_within_an_eighth_of_the_truth(void **state) {
    enum { SAMPLES = 20000 };
    static uint64_t samples[SAMPLES];
    struct statistic *stat = plain(STAT_HISTOGRAM, "histogram.quantiles");
    uint64_t random = 88172645463325252u, sum = 0;
    for (int i = 0; i < SAMPLES; i++) {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        samples[i] = random % (UINT64_C(1) << (random >> 40) % 30); /* over many powers of two */
        sum += samples[i];
        stat_record_us(stat, (unsigned)i % P_COUNT, samples[i]);
    }
    qsort(samples, SAMPLES, sizeof *samples, compare_u64);
    struct stat_summary summary;
    stat_summary(stat, &summary);
    assert_int_equal(summary.count, SAMPLES);
    assert_int_equal(summary.sum_us, sum);
    static const double quantiles[] = {0, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.995, 0.999, 1};
    uint64_t previous = 0;
    for (size_t i = 0; i < sizeof quantiles / sizeof *quantiles; i++) {
        size_t rank = (size_t)(quantiles[i] * SAMPLES);
        uint64_t want = samples[rank == SAMPLES ? SAMPLES - 1 : rank];
        uint64_t got = stat_quantile_us(&summary, quantiles[i]);
        uint64_t slack = want / 8 + 1;
        assert_in_range(got, want > slack ? want - slack : 0, want + slack);
        assert_true(got >= previous);
        previous = got;
    }
}

static void no_samples_have_no_quantile(void **state) {
    struct stat_summary summary;
    stat_summary(plain(STAT_HISTOGRAM, "histogram.empty"), &summary);
    assert_int_equal(summary.count, 0);
    assert_int_equal(stat_quantile_us(&summary, 0.5), 0);
    assert_false(stat_used(plain(STAT_HISTOGRAM, "histogram.empty")));
}

/* Last: nothing can be registered afterwards. */
static void without_room_a_stat_counts_nowhere_visible(void **state) {
    char name[64];
    struct statistic *stat = NULL;
    for (unsigned i = 0; i < STATS_SLOTS_MAX / STAT_HISTOGRAM_SLOTS + 2; i++) {
        snprintf(name, sizeof name, "fill.%u", i);
        stat = plain(STAT_HISTOGRAM, name);
    }
    struct walk walk = {0};
    stats_each(check_order, &walk);
    stat_record_us(stat, 0, 5);
    struct statistic *older = plain(STAT_COUNTER, "again.total"); /* those made before go on */
    stat_inc(older, 0);
    assert_int_equal(stat_value(older), 1);
    struct walk again = {0};
    plain(STAT_HISTOGRAM, "one.more");
    stats_each(check_order, &again);
    assert_int_equal(again.count, walk.count);
}

static int set_up(void **state) {
    return stats_init(P_COUNT) || stats_init(2); /* a second call changes nothing */
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(counts_from_all_shards_and_foreign_threads_add_up),
        cmocka_unit_test(a_gauge_that_sinks_on_another_p_still_sums_to_zero),
        cmocka_unit_test(the_same_name_is_the_same_stat),
        cmocka_unit_test(a_tag_leaves_the_metric_and_keeps_its_value),
        cmocka_unit_test(a_response_code_is_a_tag_of_its_own),
        cmocka_unit_test(walks_are_sorted_and_hold_no_lock),
        cmocka_unit_test(steps_cover_all_values_without_gaps),
        cmocka_unit_test(quantiles_are_within_an_eighth_of_the_truth),
        cmocka_unit_test(no_samples_have_no_quantile),
        cmocka_unit_test(a_reset_loses_nothing_that_is_counted_meanwhile),
        cmocka_unit_test(without_room_a_stat_counts_nowhere_visible),
    };
    return cmocka_run_group_tests(tests, set_up, NULL);
}
