/* Pages as Envoy gives them: texts, content types, methods and status codes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/stats.h"
#include "fake_process.h"

LOG_COMPONENT(alpha, "alpha");
LOG_COMPONENT(beta, "beta");

static bool has(const struct page *page, const char *text) {
    return strstr(page->body.data, text) != NULL;
}

/* ---- dispatch ---- */

static void an_unknown_path_is_answered_with_the_help(void **state) {
    static const char *const paths[] = {"/nope", "/READY", "/ready/",  "/stats/",
                                        "",      "*",      "/ready%20"};
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
        struct page page = ask("GET", paths[i]);
        assert_int_equal(page.status, 404);
        assert_true(has(&page, "invalid path. admin commands are:\n  /: Admin home page\n"));
        page_fini(&page);
    }
    struct page help = ask("GET", "/help");
    assert_int_equal(help.status, 200);
    assert_int_equal(strncmp(help.body.data, "admin commands are:\n", 20), 0);
    assert_true(has(&help, "  /quitquitquit (POST): exit the server\n"));
    assert_true(has(&help, "      usedonly: Only include"));
    assert_string_equal(help.content_type, "text/plain; charset=UTF-8");
    page_fini(&help);
}

static void what_changes_something_needs_post(void **state) {
    static const char *const mutations[] = {
        "/drain_listeners", "/healthcheck/fail", "/healthcheck/ok", "/logging?level=debug",
        "/quitquitquit",    "/reopen_logs",      "/reset_counters", "/config/reload"};
    for (size_t i = 0; i < sizeof mutations / sizeof *mutations; i++) {
        assert_get(mutations[i], 405, "Method GET not allowed, POST required.");
        struct page page = ask("PUT", mutations[i]);
        assert_int_equal(page.status, 405);
        page_fini(&page);
    }
    assert_int_equal(fake.quits + fake.drains + fake.reopens + fake.reloads, 0);
    assert_int_equal(log_alpha.level, LOG_INFO);
    struct page page = ask("POST", "/ready"); /* the others take any method */
    assert_int_equal(page.status, 200);
    page_fini(&page);
}

static void assert_ok(const char *target) {
    struct page page = ask("POST", target);
    assert_int_equal(page.status, 200);
    assert_string_equal(page.body.data, "OK\n");
    page_fini(&page);
}

static void actions_reach_the_process(void **state) {
    assert_ok("/quitquitquit");
    assert_int_equal(fake.quits, 1);
    assert_ok("/drain_listeners");
    assert_false(fake.last_drain.graceful || fake.last_drain.inbound_only);
    assert_ok("/drain_listeners?graceful&inboundonly");
    assert_true(fake.last_drain.graceful && fake.last_drain.inbound_only);
    assert_false(fake.last_drain.skip_exit);
    assert_int_equal(fake.drains, 2);
    assert_ok("/healthcheck/fail");
    assert_true(fake.failing);
    assert_ok("/healthcheck/ok");
    assert_false(fake.failing);
    assert_ok("/reopen_logs");
    assert_int_equal(fake.reopens, 1);
}

static void a_reload_says_what_changed_or_why_it_was_refused(void **state) {
    struct page page = ask("POST", "/config/reload");
    assert_int_equal(page.status, 200);
    assert_string_equal(page.body.data, "version 2 serves: nothing changed\n");
    page_fini(&page);
    fake.refuses = true;
    page = ask("POST", "/config/reload");
    assert_int_equal(page.status, 400);
    assert_string_equal(page.body.data, "c.yaml:1: wrong\n");
    page_fini(&page);
    assert_int_equal(fake.reloads, 2);
}

/* ---- the process ---- */

static void ready_only_while_live(void **state) {
    assert_get("/ready", 200, "LIVE\n");
    fake.state = ADMIN_DRAINING;
    assert_get("/ready", 503, "DRAINING\n");
    fake.state = ADMIN_PRE_INITIALIZING;
    assert_get("/ready", 503, "PRE_INITIALIZING\n");
    fake.state = ADMIN_INITIALIZING;
    assert_get("/ready", 503, "INITIALIZING\n");
}

/* The proxy is ready all the same: all of them have that library. */
static void ready_tells_of_isolated_libraries_that_are_not_up(void **state) {
    const struct supervisor_status libraries[] = {
        {.library = "fine", .state = SUPERVISOR_UP, .last_cause = "panicked"},
        {.library = "young", .state = SUPERVISOR_STARTING},
        {.library = "payments", .state = SUPERVISOR_DOWN, .last_cause = "panicked"},
        {.library = "quotas",
         .state = SUPERVISOR_RESTARTING,
         .last_cause = "crashed by SIGKILL",
         .next_try_ns = clock_mono_ns() + 86400 * NS_PER_S},
        {.library = "old", .state = SUPERVISOR_STOPPING},
    };
    fake.libraries = libraries;
    fake.library_count = sizeof libraries / sizeof *libraries;
    struct page page = ask("GET", "/ready");
    assert_int_equal(page.status, 200);
    static const char tried[] = "next try in ";
    char *in = strstr(page.body.data, tried);
    assert_non_null(in);
    double left_s = strtod(in + sizeof tried - 1, NULL);
    assert_true(left_s > 86000 && left_s <= 86400);
    *in = '\0';
    assert_string_equal(page.body.data,
                        "LIVE\nyoung: starting\npayments: down, its process panicked\n"
                        "quotas: restarting, its process crashed by SIGKILL; ");
    page_fini(&page);
}

static void server_info_says_how_it_was_started(void **state) {
    struct page page = ask("GET", "/server_info");
    assert_string_equal(page.content_type, "application/json");
    assert_true(has(&page, "\n \"state\": \"LIVE\",\n"));
    assert_true(has(&page, "\n \"uptime_current_epoch\": \"90s\",\n"));
    assert_true(has(&page, "\n  \"config_path\": \"a\\\\b.yaml\",\n"));
    assert_true(has(&page, "\n  \"drain_time\": \"600s\",\n"));
    page_fini(&page);
}

static void memory_has_envoys_fields(void **state) {
    struct page page = ask("GET", "/memory");
    static const char *const fields[] = {"allocated",          "heap_size",
                                         "pageheap_unmapped",  "pageheap_free",
                                         "total_thread_cache", "total_physical_bytes"};
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
        char text[64];
        snprintf(text, sizeof text, "\n \"%s\": \"", fields[i]);
        assert_true(has(&page, text));
    }
    page_fini(&page);
}

static void memory_tells_limits_and_how_near_they_are(void **state) {
    struct page page = ask("GET", "/memory");
    assert_true(has(&page, "\n \"pressures\": [\n  {\n"
                           "   \"monitor\": \"envoy.resource_monitors.injected_resource\",\n"
                           "   \"pressure_percent\": 70\n  },\n  {\n"
                           "   \"monitor\": \"sluice.memory_limit\",\n"
                           "   \"pressure_percent\": 104,\n"
                           "   \"max_bytes\": \"536870912\"\n  }\n ],\n"));
    assert_true(has(&page, "\n \"listeners\": [\n  {\n"
                           "   \"listener\": \"main\",\n"
                           "   \"limit_bytes\": \"1048576\",\n"
                           "   \"bytes\": \"81920\"\n  }\n ]\n"));
    page_fini(&page);
}

static void home_is_a_page_that_needs_nothing_else(void **state) {
    struct page page = ask("GET", "/");
    assert_string_equal(page.content_type, "text/html; charset=UTF-8");
    assert_int_equal(strncmp(page.body.data, "<!doctype html>", 15), 0);
    assert_false(has(&page, "https://"));
    page_fini(&page);
}

/* ---- listeners and clusters ---- */

static void listeners_are_listed(void **state) {
    assert_get("/listeners", 200,
               "main::127.0.0.1:10000\nmain::[::1]:10002\nodd\"name::[::1]:10001\n");
    struct page page = ask("GET", "/listeners?format=json");
    assert_string_equal(page.body.data, "{\n"
                                        " \"listener_statuses\": [\n"
                                        "  {\n"
                                        "   \"name\": \"main\",\n"
                                        "   \"local_address\": {\n"
                                        "    \"socket_address\": {\n"
                                        "     \"address\": \"127.0.0.1\",\n"
                                        "     \"port_value\": 10000\n"
                                        "    }\n"
                                        "   },\n"
                                        "   \"additional_local_addresses\": [\n"
                                        "    {\n"
                                        "     \"socket_address\": {\n"
                                        "      \"address\": \"::1\",\n"
                                        "      \"port_value\": 10002\n"
                                        "     }\n"
                                        "    }\n"
                                        "   ]\n"
                                        "  },\n"
                                        "  {\n"
                                        "   \"name\": \"odd\\\"name\",\n"
                                        "   \"local_address\": {\n"
                                        "    \"socket_address\": {\n"
                                        "     \"address\": \"::1\",\n"
                                        "     \"port_value\": 10001\n"
                                        "    }\n"
                                        "   }\n"
                                        "  }\n"
                                        " ]\n"
                                        "}\n");
    page_fini(&page);
}

static void clusters_show_their_hosts(void **state) {
    struct page page = ask("GET", "/clusters");
    assert_int_equal(strncmp(page.body.data,
                             "origin::observability_name::origin\n"
                             "origin::default_priority::max_connections::10\n"
                             "origin::default_priority::max_pending_requests::20\n"
                             "origin::default_priority::max_requests::30\n"
                             "origin::default_priority::max_retries::4\n"
                             "origin::high_priority::max_connections::1024\n",
                             200),
                     0);
    assert_true(has(&page, "\norigin::127.0.0.1:8080::cx_active::1\n"
                           "origin::127.0.0.1:8080::cx_connect_fail::0\n"
                           "origin::127.0.0.1:8080::cx_total::2\n"
                           "origin::127.0.0.1:8080::rq_active::0\n"
                           "origin::127.0.0.1:8080::rq_error::1\n"
                           "origin::127.0.0.1:8080::rq_pending_active::0\n"
                           "origin::127.0.0.1:8080::rq_success::4\n"
                           "origin::127.0.0.1:8080::rq_timeout::0\n"
                           "origin::127.0.0.1:8080::rq_total::5\n"
                           "origin::127.0.0.1:8080::hostname::\n"
                           "origin::127.0.0.1:8080::health_flags::healthy\n"
                           "origin::127.0.0.1:8080::weight::1\n"
                           "origin::127.0.0.1:8080::region::\n"));
    assert_true(has(&page, "\norigin::[::1]:8081::hostname::localhost\n"
                           "origin::[::1]:8081::health_flags::/failed_eds_health\n"
                           "origin::[::1]:8081::weight::3\n"));
    assert_true(has(&page, "\nempty::added_via_api::false\n"));
    page_fini(&page);

    page = ask("GET", "/clusters?filter=^emp");
    assert_false(has(&page, "origin"));
    assert_true(has(&page, "empty::"));
    page_fini(&page);

    page = ask("GET", "/clusters?format=json");
    assert_true(has(&page, "      {\n"
                           "       \"value\": \"5\",\n"
                           "       \"name\": \"rq_total\"\n"
                           "      },\n"
                           "      {\n"
                           "       \"type\": \"GAUGE\",\n"
                           "       \"value\": \"1\",\n"
                           "       \"name\": \"cx_active\"\n"
                           "      },\n"));
    assert_true(has(&page, "\"eds_health_status\": \"UNHEALTHY\""));
    page_fini(&page);
}

/* ---- stats ---- */

static struct statistic *plain(enum stat_kind kind, const char *name) {
    return stats_get(kind, span_of(name), span_of(name), NULL, 0);
}

static void make_stats(void) {
    static bool made;
    if (made)
        return;
    made = true;
    stat_add(plain(STAT_COUNTER, "t.b_counter"), 0, 7);
    plain(STAT_COUNTER, "t.c_never");
    stat_add(plain(STAT_GAUGE, "t.a_gauge"), 0, 3);
    stat_add(plain(STAT_GAUGE, "t.z_negative"), 0, -2);
    plain(STAT_HISTOGRAM, "t.a_empty");
    struct statistic *times = plain(STAT_HISTOGRAM, "t.times");
    for (unsigned i = 0; i < 100; i++)
        stat_record_us(times, 0, 7);
}

static void stats_are_sorted_with_histograms_last(void **state) {
    make_stats();
    assert_get("/stats?filter=^t\\.", 200,
               "t.a_gauge: 3\nt.b_counter: 7\nt.c_never: 0\nt.z_negative: 0\n"
               "t.a_empty: No recorded values\n"
               "t.times: P0(nan,0.007) P25(nan,0.007) P50(nan,0.007) P75(nan,0.007) "
               "P90(nan,0.007) P95(nan,0.007) P99(nan,0.007) P99.5(nan,0.007) P99.9(nan,0.007) "
               "P100(nan,0.007)\n");
    assert_get("/stats?filter=t%5C.b.c", 200, "t.b_counter: 7\n");
    assert_get("/stats?filter=no_such_thing", 200, "");
}

static void stats_are_selected_by_use_and_type(void **state) {
    make_stats();
    assert_get("/stats?usedonly&filter=t\\.[bc]_", 200, "t.b_counter: 7\n");
    assert_get("/stats?type=Gauges&filter=^t\\.a", 200, "t.a_gauge: 3\n");
    assert_get("/stats?type=Counters&filter=^t\\.a", 200, "");
    assert_get("/stats?type=Histograms&filter=^t\\.a", 200, "t.a_empty: No recorded values\n");
    assert_get("/stats?type=TextReadouts", 200, "");
    assert_get("/stats?type=counters", 400, "invalid &type= param");
    assert_get("/stats?format=xml", 400, "usage: /stats?format=(json|prometheus|text)\n\n");
}

static void stats_in_json(void **state) {
    make_stats();
    assert_get("/stats?format=json&filter=^t\\.[ab]_[gc]", 200,
               "{\"stats\":[{\"name\":\"t.a_gauge\",\"value\":3},"
               "{\"name\":\"t.b_counter\",\"value\":7}]}");
    assert_get("/stats?format=json&filter=nothing", 200, "{\"stats\":[]}");
    assert_get("/stats?format=json&filter=t.times&histogram_buckets=detailed", 200,
               "{\"stats\":[{\"histograms\":{"
               "\"supported_percentiles\":[0,25,50,75,90,95,99,99.5,99.9,100],\"details\":["
               "{\"name\":\"t.times\",\"totals\":[{\"lower_bound\":0.007,\"width\":0.001,"
               "\"count\":100}],\"intervals\":[],\"percentiles\":["
               "{\"cumulative\":0.007,\"interval\":null},{\"cumulative\":0.007,\"interval\":null},"
               "{\"cumulative\":0.007,\"interval\":null},{\"cumulative\":0.007,\"interval\":null},"
               "{\"cumulative\":0.007,\"interval\":null},{\"cumulative\":0.007,\"interval\":null},"
               "{\"cumulative\":0.007,\"interval\":null},{\"cumulative\":0.007,\"interval\":null},"
               "{\"cumulative\":0.007,\"interval\":null},{\"cumulative\":0.007,\"interval\":null}"
               "]}]}}]}");
    struct page page = ask("GET", "/stats?format=json&filter=t.times");
    assert_true(has(&page, "\"supported_quantiles\":[0,25,"));
    assert_true(has(&page, "\"computed_quantiles\":[{\"name\":\"t.times\",\"values\":[{\"cumul"));
    assert_string_equal(page.content_type, "application/json");
    page_fini(&page);
    page = ask("GET", "/stats?format=json&filter=t.times&histogram_buckets=disjoint");
    assert_true(has(&page, "\"buckets\":[{\"upper_bound\":0.5,\"interval\":0,\"cumulative\":100},"
                           "{\"upper_bound\":1,\"interval\":0,\"cumulative\":0},"));
    page_fini(&page);
}

static void text_has_all_bucket_modes(void **state) {
    make_stats();
    struct page page = ask("GET", "/stats?filter=t.times&histogram_buckets=cumulative");
    assert_true(has(&page, "t.times: B0.5(0,100) B1(0,100) B5(0,100)"));
    assert_true(has(&page, " B1.8e+06(0,100) B3.6e+06(0,100)\n"));
    page_fini(&page);
    page = ask("GET", "/stats?filter=t.times&histogram_buckets=disjoint");
    assert_true(has(&page, "t.times: B0.5(0,100) B1(0,0) B5(0,0)"));
    page_fini(&page);
    page = ask("GET", "/stats?filter=t.times&histogram_buckets=detailed");
    assert_true(has(&page, "t.times:\n  totals=0.007,0.001:100\n  intervals=\n  summary=P0(nan,"));
    page_fini(&page);
    page = ask("GET", "/stats?histogram_buckets=foo");
    assert_int_equal(page.status, 400);
    page_fini(&page);
}

static void a_filter_cannot_hurt(void **state) {
    struct page page = ask("GET", "/stats?filter=(");
    assert_int_equal(page.status, 400);
    assert_true(has(&page, "Invalid regex: "));
    page_fini(&page);

    char deep[512] = "/stats?filter="; /* compiling recurses on a coroutine's stack */
    memset(deep + strlen(deep), '(', 200);
    page = ask("GET", deep);
    assert_int_equal(page.status, 400);
    assert_true(has(&page, "groups deep"));
    page_fini(&page);

    /* Backtracks without end on names of one letter. Each match is cut off by itself; all of them
     * together would still hold the P for seconds. */
    for (int i = 0; i < 1000; i++) {
        char name[80];
        snprintf(name, sizeof name, "slow.aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa!%d", i);
        plain(STAT_COUNTER, name);
    }
    page = ask("GET", "/stats?filter=slow.((a|aa)%2B)%2B%24");
    assert_int_equal(page.status, 400);
    assert_string_equal(page.body.data, "Invalid regex: matching takes too long\n");
    page_fini(&page);
}

static void prometheus_under_both_names(void **state) {
    make_stats();
    const char *want = "# TYPE envoy_t_b_counter counter\nenvoy_t_b_counter{} 7\n";
    assert_get("/stats/prometheus?filter=t.b_counter", 200, want);
    assert_get("/stats?format=prometheus&filter=t.b_counter", 200, want);
    assert_get("/stats/prometheus?filter=nothing", 200, "");
    assert_get("/stats/prometheus?histogram_buckets=detailed", 400,
               "usage: /stats/prometheus?histogram_buckets=(cumulative|summary)\n");
}

static void the_process_has_stats_of_its_own(void **state) {
    stats_get_tagged(STAT_GAUGE, "listener", "envoy.listener_address", SPAN_LIT("1.2.3.4:5"),
                     "downstream_cx_active");
    stat_add(stats_get_tagged(STAT_GAUGE, "listener", "envoy.listener_address",
                              SPAN_LIT("1.2.3.4:5"), "downstream_cx_active"),
             0, 2);
    fake.state = ADMIN_DRAINING;
    assert_get("/stats?filter=^server\\.(live|state|uptime|total_connections)$", 200,
               "server.live: 0\nserver.state: 1\nserver.total_connections: 2\nserver.uptime: 90\n");
    struct page page = ask("GET", "/stats?filter=^server.memory_allocated|server.version");
    assert_true(has(&page, "server.memory_allocated: "));
    assert_true(has(&page, "server.version: "));
    page_fini(&page);
}

static void counters_are_reset_and_gauges_are_not(void **state) {
    make_stats();
    stat_add(plain(STAT_COUNTER, "reset.counter"), 0, 4);
    stat_add(plain(STAT_GAUGE, "reset.gauge"), 0, 4);
    assert_ok("/reset_counters");
    assert_get("/stats?filter=^reset", 200, "reset.counter: 0\nreset.gauge: 4\n");
    stat_add(plain(STAT_COUNTER, "t.b_counter"), 0, 7); /* as the other tests expect it */
}

/* ---- logging ---- */

static void assert_levels(enum log_level alpha, enum log_level beta) {
    assert_int_equal(log_alpha.level, alpha);
    assert_int_equal(log_beta.level, beta);
}

static void set_levels(const char *query, unsigned status, const char *says) {
    char target[128];
    snprintf(target, sizeof target, "/logging%s", query);
    struct page page = ask("POST", target);
    assert_int_equal(page.status, status);
    assert_true(has(&page, says));
    page_fini(&page);
}

static void log_levels_are_shown_and_changed(void **state) {
    log_set_level(LOG_INFO);
    set_levels("", 200, "active loggers:\n");
    set_levels("", 200, "\n  alpha: info\n");
    set_levels("?alpha=debug", 200, "\n  alpha: debug\n");
    assert_levels(LOG_DEBUG, LOG_INFO);
    set_levels("?paths=alpha:error,beta:trace", 200, "\n  beta: trace\n");
    assert_levels(LOG_ERROR, LOG_TRACE);
    set_levels("?level=warning", 200, "\n  beta: warning\n");
    assert_levels(LOG_WARN, LOG_WARN);
}

static void a_wrong_log_level_changes_nothing(void **state) {
    log_set_level(LOG_INFO);
    set_levels("?level=loud", 400, "error: unknown logger level\n\nusage: /logging?");
    set_levels("?gamma=debug", 400, "error: unknown logger name\n");
    set_levels("?alpha=debug&beta=debug", 400, "error: invalid number of parameters\n");
    set_levels("?paths=alpha:debug,gamma:debug", 400, "error: unknown logger name\n");
    set_levels("?paths=alpha:debug,beta:loud", 400, "error: unknown logger level\n");
    set_levels("?paths=alpha", 400, "error: empty logger name or empty logger level\n");
    assert_levels(LOG_INFO, LOG_INFO);
}

static int set_up(void **state) {
    fake_process_install();
    return 0;
}

static int set_up_all(void **state) {
    return stats_init(1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(an_unknown_path_is_answered_with_the_help, set_up),
        cmocka_unit_test_setup(what_changes_something_needs_post, set_up),
        cmocka_unit_test_setup(actions_reach_the_process, set_up),
        cmocka_unit_test_setup(a_reload_says_what_changed_or_why_it_was_refused, set_up),
        cmocka_unit_test_setup(ready_only_while_live, set_up),
        cmocka_unit_test_setup(ready_tells_of_isolated_libraries_that_are_not_up, set_up),
        cmocka_unit_test_setup(server_info_says_how_it_was_started, set_up),
        cmocka_unit_test_setup(memory_has_envoys_fields, set_up),
        cmocka_unit_test_setup(memory_tells_limits_and_how_near_they_are, set_up),
        cmocka_unit_test_setup(home_is_a_page_that_needs_nothing_else, set_up),
        cmocka_unit_test_setup(listeners_are_listed, set_up),
        cmocka_unit_test_setup(clusters_show_their_hosts, set_up),
        cmocka_unit_test_setup(stats_are_sorted_with_histograms_last, set_up),
        cmocka_unit_test_setup(stats_are_selected_by_use_and_type, set_up),
        cmocka_unit_test_setup(stats_in_json, set_up),
        cmocka_unit_test_setup(text_has_all_bucket_modes, set_up),
        cmocka_unit_test_setup(prometheus_under_both_names, set_up),
        cmocka_unit_test_setup(the_process_has_stats_of_its_own, set_up),
        cmocka_unit_test_setup(counters_are_reset_and_gauges_are_not, set_up),
        cmocka_unit_test_setup(log_levels_are_shown_and_changed, set_up),
        cmocka_unit_test_setup(a_wrong_log_level_changes_nothing, set_up),
        cmocka_unit_test_setup(a_filter_cannot_hurt, set_up), /* last: leaves many stats */
    };
    return cmocka_run_group_tests(tests, set_up_all, NULL);
}
