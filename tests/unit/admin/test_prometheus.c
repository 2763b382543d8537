/* Prometheus' text: one TYPE line per metric, no way out of a label, buckets that never fall. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "admin/histogram_view.h"
#include "admin/prometheus.h"

static char *render(const struct statistic *const *stats, size_t count,
                    enum prometheus_histograms histograms) {
    struct text out = {0};
    prometheus_render(stats, count, histograms, &out);
    text_putc(&out, '\0');
    assert_false(out.failed);
    return out.data;
}

static struct statistic *of_cluster(enum stat_kind kind, const char *cluster, const char *suffix) {
    return stats_get_tagged(kind, "cluster", "envoy.cluster_name", span_of(cluster), suffix);
}

static void lines_of_a_metric_stand_together(void **state) {
    struct statistic *stats[] = {
        of_cluster(STAT_COUNTER, "a", "upstream_rq_total"),
        of_cluster(STAT_GAUGE, "a", "upstream_cx_active"),
        of_cluster(STAT_COUNTER, "b", "upstream_cx_total"),
        of_cluster(STAT_COUNTER, "b", "upstream_rq_total"),
        of_cluster(STAT_COUNTER, "b", "upstream_rq_503"),
        stats_get(STAT_GAUGE, SPAN_LIT("server.live"), SPAN_LIT("server.live"), NULL, 0),
    };
    stat_add(stats[0], 0, 7);
    stat_add(stats[1], 0, -1); /* seen between two Ps */
    stat_add(stats[4], 0, 2);
    stat_set(stats[5], 1);
    char *text = render((const struct statistic *const *)stats, 6, PROMETHEUS_BUCKETS);
    assert_string_equal(
        text, "# TYPE envoy_cluster_upstream_cx_total counter\n"
              "envoy_cluster_upstream_cx_total{envoy_cluster_name=\"b\"} 0\n"
              "# TYPE envoy_cluster_upstream_rq counter\n"
              "envoy_cluster_upstream_rq{envoy_response_code=\"503\",envoy_cluster_name=\"b\"} 2\n"
              "# TYPE envoy_cluster_upstream_rq_total counter\n"
              "envoy_cluster_upstream_rq_total{envoy_cluster_name=\"a\"} 7\n"
              "envoy_cluster_upstream_rq_total{envoy_cluster_name=\"b\"} 0\n"
              "# TYPE envoy_cluster_upstream_cx_active gauge\n"
              "envoy_cluster_upstream_cx_active{envoy_cluster_name=\"a\"} 0\n"
              "# TYPE envoy_server_live gauge\n"
              "envoy_server_live{} 1\n");
    free(text);
}

static void different_names_of_one_metric_share_a_type_line(void **state) {
    struct statistic *stats[] = {
        stats_get(STAT_COUNTER, SPAN_LIT("m.a-b"), SPAN_LIT("m.a-b"), NULL, 0),
        stats_get(STAT_COUNTER, SPAN_LIT("m.a-c"), SPAN_LIT("m.a-c"), NULL, 0),
        stats_get(STAT_COUNTER, SPAN_LIT("m.a.b"), SPAN_LIT("m.a.b"), NULL, 0),
    };
    char *text = render((const struct statistic *const *)stats, 3, PROMETHEUS_BUCKETS);
    assert_string_equal(text, "# TYPE envoy_m_a_b counter\n"
                              "envoy_m_a_b{} 0\n"
                              "envoy_m_a_b{} 0\n"
                              "# TYPE envoy_m_a_c counter\n"
                              "envoy_m_a_c{} 0\n");
    free(text);
}

static void no_label_breaks_out_of_its_line(void **state) {
    struct stat_tag tag = {SPAN_LIT("envoy.odd name"), SPAN_LIT("q\" b\\ n\nend\xff\xc3\xa4")};
    struct statistic *stat =
        stats_get(STAT_COUNTER, SPAN_LIT("odd"), SPAN_LIT("odd.\"}\n1"), &tag, 1);
    char *text = render((const struct statistic *const *)&stat, 1, PROMETHEUS_BUCKETS);
    assert_string_equal(text, "# TYPE envoy_odd____1 counter\n"
                              "envoy_odd____1{envoy_odd_name=\"q\\\" b\\\\ "
                              "n\\nend\xef\xbf\xbd\xc3\xa4\"} 0\n");
    free(text);
}

static void buckets_never_fall_and_end_in_the_count(void **state) {
    struct statistic *stat = of_cluster(STAT_HISTOGRAM, "a", "upstream_rq_time");
    uint64_t random = 88172645463325252u;
    uint64_t sum = 0;
    for (int i = 0; i < 5000; i++) {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        uint64_t us = random % (UINT64_C(1) << (random >> 32) % 35); /* beyond an hour, too */
        sum += us;
        stat_record_us(stat, 0, us);
    }
    char *text = render((const struct statistic *const *)&stat, 1, PROMETHEUS_BUCKETS);
    unsigned long long previous = 0, value = 0;
    int buckets = 0;
    for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n")) {
        char bound[32];
        if (sscanf(line,
                   "envoy_cluster_upstream_rq_time_bucket{envoy_cluster_name=\"a\",le=\"%31[^\"]\"}"
                   " %llu",
                   bound, &value) == 2) {
            assert_true(value >= previous);
            previous = value;
            buckets++;
            if (buckets == 20)
                assert_string_equal(bound, "+Inf");
        }
        double of_sum;
        if (sscanf(line, "envoy_cluster_upstream_rq_time_sum{envoy_cluster_name=\"a\"} %lf",
                   &of_sum) == 1)
            assert_true(of_sum == (double)sum / 1000);
        if (sscanf(line, "envoy_cluster_upstream_rq_time_count{envoy_cluster_name=\"a\"} %llu",
                   &value) == 1)
            assert_int_equal(value, 5000);
    }
    assert_int_equal(buckets, HISTOGRAM_BOUNDS + 1);
    assert_int_equal(previous, 5000);
    free(text);
}

static void samples_count_in_their_bucket(void **state) {
    static const struct {
        uint64_t us;
        unsigned bucket; /* the first that holds it */
    } cases[] = {
        {0, 0},    {400, 0},   {600, 1},      {900, 1},         {1100, 2},
        {4000, 2}, {30000, 5}, {2000000, 10}, {3000000000, 18}, {4400000000, HISTOGRAM_BOUNDS}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char name[32];
        snprintf(name, sizeof name, "sample.%zu", i);
        struct statistic *stat = stats_get(STAT_HISTOGRAM, span_of(name), span_of(name), NULL, 0);
        stat_record_us(stat, 0, cases[i].us);
        struct stat_summary summary;
        stat_summary(stat, &summary);
        uint64_t cumulative[HISTOGRAM_BOUNDS];
        histogram_cumulative(&summary, cumulative);
        for (unsigned b = 0; b < HISTOGRAM_BOUNDS; b++)
            assert_int_equal(cumulative[b], b >= cases[i].bucket);
    }
}

static void a_summary_lists_quantiles(void **state) {
    struct statistic *stat = of_cluster(STAT_HISTOGRAM, "s", "upstream_rq_time");
    char *text = render((const struct statistic *const *)&stat, 1, PROMETHEUS_SUMMARY);
    assert_non_null(strstr(text, "# TYPE envoy_cluster_upstream_rq_time summary\n"));
    assert_non_null(strstr(text, "{envoy_cluster_name=\"s\",quantile=\"0.995\"} nan\n"));
    free(text);
    for (int i = 0; i < 100; i++)
        stat_record_us(stat, 0, 7);
    text = render((const struct statistic *const *)&stat, 1, PROMETHEUS_SUMMARY);
    assert_non_null(strstr(text, "{envoy_cluster_name=\"s\",quantile=\"0.5\"} 0.007\n"));
    assert_non_null(strstr(text, "_sum{envoy_cluster_name=\"s\"} 0.7\n"));
    assert_non_null(strstr(text, "_count{envoy_cluster_name=\"s\"} 100\n"));
    free(text);
}

static int set_up(void **state) {
    return stats_init(1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines_of_a_metric_stand_together),
        cmocka_unit_test(different_names_of_one_metric_share_a_type_line),
        cmocka_unit_test(no_label_breaks_out_of_its_line),
        cmocka_unit_test(buckets_never_fall_and_end_in_the_count),
        cmocka_unit_test(samples_count_in_their_bucket),
        cmocka_unit_test(a_summary_lists_quantiles),
    };
    return cmocka_run_group_tests(tests, set_up, NULL);
}
