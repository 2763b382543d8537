/* Which route serves which request. */
#include "route_story.h"

#include <stdio.h>
#include <string.h>

#include "base/stats.h"

#define PICKS(routes, request, name) assert_string_equal(routes_pick((routes), (request)), (name))

static void a_host_chooses_the_most_specific_virtual_host(void **state) {
    (void)state;
    struct routes r;
    routes_load(&r, "virtual_hosts:\n"
                    "- {name: any, domains: ['*'], routes: [{name: any, match: {prefix: /}, "
                    "direct_response: {status: 200}}]}\n"
                    "- {name: pre, domains: ['foo.*', 'foo.bar.*'], routes: [{name: prefix, match: "
                    "{prefix: /}, direct_response: {status: 200}}]}\n"
                    "- {name: suf, domains: ['*.foo.com'], routes: [{name: suffix, match: {prefix: "
                    "/}, direct_response: {status: 200}}]}\n"
                    "- {name: bar, domains: ['*-bar.foo.com'], routes: [{name: longer suffix, "
                    "match: {prefix: /}, direct_response: {status: 200}}]}\n"
                    "- {name: exact, domains: [API.foo.com, 'b.com:8080', '[::1]'], routes: "
                    "[{name: exact, match: {prefix: /}, direct_response: {status: 200}}]}\n");
    PICKS(&r, "GET /\n:authority: api.foo.com", "exact");
    PICKS(&r, "GET /\n:authority: Api.FOO.com", "exact");
    PICKS(&r, "GET /\n:authority: b.com:8080", "exact");
    PICKS(&r, "GET /\n:authority: b.com", "any");
    PICKS(&r, "GET /\n:authority: [::1]", "exact");
    PICKS(&r, "GET /\n:authority: x.foo.com", "suffix");
    PICKS(&r, "GET /\n:authority: a.b.FOO.com", "suffix");
    PICKS(&r, "GET /\n:authority: x-bar.foo.com", "longer suffix");
    PICKS(&r, "GET /\n:authority: .foo.com", "any"); /* the wildcard stands for one byte at least */
    PICKS(&r, "GET /\n:authority: foo.org", "prefix");
    PICKS(&r, "GET /\n:authority: foo.", "any");
    PICKS(&r, "GET /\n:authority: foo.foo.com", "suffix"); /* suffixes come before prefixes */
    PICKS(&r, "GET /\n:authority: api.foo.com:80", "any");
    routes_free(&r);
}

static void a_port_can_be_left_out_of_host_matching(void **state) {
    (void)state;
    struct routes r;
    routes_load(&r, "ignore_port_in_host_matching: true\n"
                    "virtual_hosts:\n"
                    "- {name: a, domains: [a.com, '[::1]'], routes: [{name: a, match: {prefix: /}, "
                    "direct_response: {status: 200}}]}\n");
    PICKS(&r, "GET /\n:authority: a.com:8080", "a");
    PICKS(&r, "GET /\n:authority: a.com", "a");
    PICKS(&r, "GET /\n:authority: [::1]:80", "a");
    PICKS(&r, "GET /\n:authority: [::1]", "a");
    PICKS(&r, "GET /\n:authority: b.com:8080", "none");
    routes_free(&r);
}

static void a_thousand_domains_are_found_each(void **state) {
    (void)state;
    enum { DOMAINS = 1000 };
    char yaml[DOMAINS * 16 + 256];
    size_t len = (size_t)snprintf(yaml, sizeof(yaml), "virtual_hosts:\n- name: many\n  domains: [");
    for (int i = 0; i < DOMAINS; i++)
        len += (size_t)snprintf(yaml + len, sizeof(yaml) - len, "h%d.com,", i);
    snprintf(yaml + len, sizeof(yaml) - len,
             "last.com]\n  routes: [{name: many, match: {prefix: /}, direct_response: {status: "
             "200}}]\n");
    struct routes r;
    routes_load(&r, yaml);
    for (int i = 0; i < DOMAINS; i++) {
        char request[64];
        snprintf(request, sizeof(request), "GET /\n:authority: H%d.com", i);
        PICKS(&r, request, "many");
    }
    PICKS(&r, "GET /\n:authority: h1000.com", "none");
    routes_free(&r);
}

#define ONE_HOST "virtual_hosts:\n- name: v\n  domains: ['*']\n  routes:\n"
#define ROUTE(name, match)                                                                         \
    "  - {name: " name ", match: {" match "}, direct_response: {status: 200}}\n"

static void paths_match_by_prefix_whole_segment_and_regex(void **state) {
    (void)state;
    struct routes r;
    routes_load(&r, ONE_HOST ROUTE("exact", "path: /exact")
                        ROUTE("exact nocase", "path: /Case, case_sensitive: false")
                            ROUTE("prefix", "prefix: /pre")
                                ROUTE("prefix nocase", "prefix: /NoCase, case_sensitive: false")
                                    ROUTE("segment", "path_separated_prefix: /seg")
                                        ROUTE("regex", "safe_regex: {regex: '/r[0-9]+'}")
                                            ROUTE("alternatives", "safe_regex: {regex: '/a|/ab'}"));
    PICKS(&r, "GET /exact", "exact");
    PICKS(&r, "GET /exact?q=1", "exact");
    PICKS(&r, "GET /exact/", "none");
    PICKS(&r, "GET /EXACT", "none");
    PICKS(&r, "GET /cASE", "exact nocase");
    PICKS(&r, "GET /pre", "prefix");
    PICKS(&r, "GET /prefixed/x?y", "prefix");
    PICKS(&r, "GET /nocaseX", "prefix nocase");
    PICKS(&r, "GET /seg", "segment");
    PICKS(&r, "GET /seg/", "segment");
    PICKS(&r, "GET /seg?x", "segment");
    PICKS(&r, "GET /seg/x", "segment");
    PICKS(&r, "GET /segx", "none");
    PICKS(&r, "GET /r12", "regex");
    PICKS(&r, "GET /r12?x", "regex"); /* without the query */
    PICKS(&r, "GET /r12x", "none");   /* the whole path or nothing */
    PICKS(&r, "GET /xr1", "none");
    PICKS(&r, "GET /ab", "alternatives"); /* as RE2: any alternative that makes it whole */
    routes_free(&r);
}

static void the_first_route_that_matches_wins(void **state) {
    (void)state;
    struct routes r;
    routes_load(&r, ONE_HOST ROUTE("first", "prefix: /a, headers: [{name: x-h}]")
                        ROUTE("second", "prefix: /a") ROUTE("third", "path: /a"));
    PICKS(&r, "GET /a\nx-h: 1", "first");
    PICKS(&r, "GET /a", "second");
    routes_free(&r);
}

/* Each case: a matcher of x-h, and what it says about values; "-" is no field at all, "1/2" two
 * fields. Expectations were taken from Envoy 1.40 with the same matchers and requests. */
static void headers_match_as_on_envoy(void **state) {
    (void)state;
    static const struct {
        const char *matcher, *yes, *no;
    } cases[] = {
        {"string_match: {exact: a}", "a a/b b/a", "- b A"},
        {"string_match: {exact: a}, invert_match: true", "b A", "- a a/b b/a"},
        {"string_match: {exact: a}, invert_match: true, treat_missing_header_as_empty: true", "- b",
         "a"},
        {"string_match: {exact: ''}, treat_missing_header_as_empty: true", "-", "a"},
        {"string_match: {exact: aB, ignore_case: true}", "ab AB", "a"},
        {"string_match: {prefix: aB, ignore_case: true}", "abc ABC", "a cab"},
        {"string_match: {suffix: aB, ignore_case: true}", "cab CAB", "b abc"},
        {"string_match: {contains: aB, ignore_case: true}", "cabc ab", "b"},
        {"string_match: {contains: aB}", "caBc", "cabc"},
        {"string_match: {safe_regex: {regex: 'a.c'}}", "abc x/abc", "abcd xabc"},
        {"exact_match: a", "a b/a", "- b"},
        {"exact_match: 'a,b'", "a,b", "a/b"},
        {"prefix_match: ab", "ab abc", "- a"},
        {"suffix_match: ab", "ab cab", "- b"},
        {"contains_match: b", "b abc a/b", "- a"},
        {"safe_regex_match: {regex: '[0-9]+'}", "12", "- 1a a"},
        {"present_match: true", "a", "-"},
        {"present_match: true, invert_match: true", "-", "a"},
        {"present_match: false", "-", "a"},
        {"present_match: false, invert_match: true", "a", "-"},
        {"present_match: true, treat_missing_header_as_empty: true", "- a", ""},
        {"present_match: false, treat_missing_header_as_empty: true", "", "- a"},
        {"present_match: true, invert_match: true, treat_missing_header_as_empty: true", "", "- a"},
        {"invert_match: true", "-", "a"},
        {"range_match: {start: -5, end: 10}", "-5 5 +5 9 11/5",
         "- -6 10 a 5a 99999999999999999999"},
        {"range_match: {start: -5, end: 10}, invert_match: true", "10 a", "- 5 11/5"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char yaml[512];
        snprintf(yaml, sizeof(yaml),
                 ONE_HOST "  - {name: it, match: {prefix: /, headers: [{name: X-H, %s}]}, "
                          "direct_response: {status: 200}}\n",
                 cases[i].matcher);
        struct routes r;
        routes_load(&r, yaml);
        for (int expected = 0; expected < 2; expected++) {
            struct span rest = span_of(expected ? cases[i].yes : cases[i].no);
            struct span value;
            while (rest.len > 0 && span_next_token(&rest, ' ', &value)) {
                char request[256] = "GET /";
                struct span part, parts = value;
                while (!span_eq(value, SPAN_LIT("-")) && span_next_token(&parts, '/', &part))
                    snprintf(request + strlen(request), sizeof(request) - strlen(request),
                             "\nx-h: %.*s", (int)part.len, part.ptr);
                const char *picked = routes_pick(&r, request);
                if (strcmp(picked, expected ? "it" : "none") != 0)
                    fail_msg("{%s} and %.*s: %s", cases[i].matcher, (int)value.len, value.ptr,
                             picked);
            }
        }
        routes_free(&r);
    }
}

static void a_matcher_of_host_means_the_authority(void **state) {
    (void)state;
    struct routes r;
    routes_load(
        &r,
        ONE_HOST ROUTE("host", "prefix: /, headers: [{name: Host, string_match: {exact: a.com}}]"));
    PICKS(&r, "GET /", "host");
    PICKS(&r, "GET /\n:authority: b.com", "none");
    routes_free(&r);
}

static void query_parameters_match_by_their_first_value(void **state) {
    (void)state;
    struct routes r;
    routes_load(
        &r,
        ONE_HOST ROUTE("exact", "path: /e, query_parameters: [{name: k, string_match: {exact: v}}]")
            ROUTE("empty", "path: /m, query_parameters: [{name: k, string_match: {exact: ''}}]")
                ROUTE("present", "path: /p, query_parameters: [{name: k, present_match: true}]")
                    ROUTE("absent", "path: /a, query_parameters: [{name: k, present_match: false}]")
                        ROUTE("bare", "path: /b, query_parameters: [{name: k}, {name: l}]"));
    PICKS(&r, "GET /e?k=v", "exact");
    PICKS(&r, "GET /e?a=b&k=v", "exact");
    PICKS(&r, "GET /e?k=v&k=x", "exact");
    PICKS(&r, "GET /e?k=x&k=v", "none");
    PICKS(&r, "GET /e?k", "none");
    PICKS(&r, "GET /e", "none");
    PICKS(&r, "GET /e?%6b=v", "none"); /* nothing is decoded */
    PICKS(&r, "GET /m?k", "empty");
    PICKS(&r, "GET /m?k=", "empty");
    PICKS(&r, "GET /p?k=x", "present");
    PICKS(&r, "GET /p?&k", "present");
    PICKS(&r, "GET /p?kk=1", "none");
    PICKS(&r, "GET /a", "absent");
    PICKS(&r, "GET /a?k=1", "none");
    PICKS(&r, "GET /b?l&k", "bare");
    PICKS(&r, "GET /b?k", "none");
    routes_free(&r);
}

static void grpc_routes_take_grpc_only(void **state) {
    (void)state;
    struct routes r;
    routes_load(&r, ONE_HOST ROUTE("grpc", "prefix: /, grpc: {}"));
    PICKS(&r, "POST /\ncontent-type: application/grpc", "grpc");
    PICKS(&r, "POST /\ncontent-type: application/grpc+proto", "grpc");
    PICKS(&r, "POST /\ncontent-type: application/grpc-web", "none");
    PICKS(&r, "POST /\ncontent-type: application/json", "none");
    PICKS(&r, "POST /", "none");
    routes_free(&r);
}

static void a_fraction_takes_its_share(void **state) {
    (void)state;
    struct routes r;
    routes_load(
        &r, ONE_HOST ROUTE("tenth", "prefix: /, runtime_fraction: {default_value: {numerator: 10}}")
                ROUTE("rest", "prefix: /"));
    struct story story;
    story_begin(&story, "GET /");
    unsigned tenth = 0;
    for (uint64_t random = 0; random < 1000; random++)
        tenth += route_match(r.table, &story.x.request.headers, random, 0)->name.ptr[0] == 't';
    assert_int_equal(tenth, 100);
    story_end(&story);
    routes_free(&r);
}

static void weights_share_the_requests(void **state) {
    (void)state;
    struct routes r;
    routes_load(&r, ONE_HOST "  - match: {prefix: /}\n"
                             "    route: {weighted_clusters: {clusters: [{name: up, weight: 30}, "
                             "{name: other, weight: 70}]}}\n");
    struct story story;
    story_begin(&story, "GET /");
    unsigned up = 0;
    for (uint64_t random = 0; random < 1000; random++) {
        const struct route_entry *entry = route_match(r.table, &story.x.request.headers, random, 0);
        struct span name = route_cluster_name(entry, &story.x.request.headers);
        assert_non_null(entry->cluster);
        up += span_eq(name, SPAN_LIT("up"));
    }
    assert_int_equal(up, 300);
    story_end(&story);
    routes_free(&r);
}

static void a_header_can_name_the_cluster(void **state) {
    (void)state;
    struct routes r;
    routes_load(&r, ONE_HOST "  - {match: {prefix: /}, route: {cluster_header: X-Cluster}}\n");
    struct story story;
    story_begin(&story, "GET /\nx-cluster: one\nx-cluster: two");
    const struct route_entry *entry = route_match(r.table, &story.x.request.headers, 0, 0);
    assert_true(span_eq(route_cluster_name(entry, &story.x.request.headers), SPAN_LIT("one")));
    story_end(&story);
    story_begin(&story, "GET /");
    assert_true(span_is_none(route_cluster_name(entry, &story.x.request.headers)));
    story_end(&story);
    routes_free(&r);
}

static void an_entry_tells_its_limits(void **state) {
    (void)state;
    struct routes r;
    routes_load(&r, ONE_HOST
                "  - {match: {path: /default}, route: {cluster: up}}\n"
                "  - {match: {path: /set}, route: {cluster: up, timeout: 0s, idle_timeout: 2.5s}}\n"
                "  - {match: {path: /direct}, direct_response: {status: 418, body: {inline_string: "
                "short}}}\n"
                "  - {match: {path: /gone}, redirect: {response_code: PERMANENT_REDIRECT}}\n");
    struct story story;
    story_begin(&story, "GET /default");
    const struct route_entry *entry = route_match(r.table, &story.x.request.headers, 0, 0);
    assert_int_equal(entry->timeout_ns, 15000000000);
    assert_int_equal(entry->idle_timeout_ns, -1);
    assert_non_null(entry->cluster);
    assert_true(span_eq(entry->timeout_text, SPAN_LIT("15000")));
    assert_string_equal(entry->virtual_host->name.ptr, "v");
    assert_int_equal(route_status(entry), 0);
    story_end(&story);
    story_begin(&story, "GET /set");
    entry = route_match(r.table, &story.x.request.headers, 0, 0);
    assert_int_equal(entry->timeout_ns, 0);
    assert_int_equal(entry->idle_timeout_ns, 2500000000);
    story_end(&story);
    story_begin(&story, "GET /direct");
    entry = route_match(r.table, &story.x.request.headers, 0, 0);
    assert_int_equal(route_status(entry), 418);
    assert_true(span_eq(entry->direct_body, SPAN_LIT("short")));
    story_end(&story);
    story_begin(&story, "GET /gone");
    assert_int_equal(route_status(route_match(r.table, &story.x.request.headers, 0, 0)), 308);
    story_end(&story);
    routes_free(&r);
}

static const char *location(const struct routes *r, struct story *story) {
    const struct route_entry *entry = route_match(r->table, &story->x.request.headers, 0, 0);
    assert_int_equal(entry->config->action_case, CFG_ACTION_REDIRECT);
    assert_int_equal(route_status(entry), 301);
    return route_redirect_location(entry, &story->x).ptr;
}

static void require_tls_redirects_what_came_without(void **state) {
    (void)state;
    struct routes r;
    routes_load(&r, "virtual_hosts:\n"
                    "- {name: all, domains: [all.com, 'all.com:80'], require_tls: ALL, routes: "
                    "[{name: ok, match: {prefix: /}, direct_response: {status: 200}}]}\n"
                    "- {name: ext, domains: [ext.com], require_tls: EXTERNAL_ONLY, routes: [{name: "
                    "ok, match: {prefix: /}, direct_response: {status: 200}}]}\n");
    struct story story;
    story_begin(&story, "GET /x?y\n:authority: all.com:80");
    assert_string_equal(location(&r, &story), "https://all.com:80/x?y");
    const void *configs[4];
    const struct route_entry *entry = route_match(r.table, &story.x.request.headers, 0, 0);
    assert_int_equal(route_filter_configs(entry, 0, configs), 0);
    assert_int_equal(route_mutate_response(entry, &story.x), 0);
    story_end(&story);
    PICKS(&r, "GET /\n:authority: all.com\nx-forwarded-proto: https", "ok");
    PICKS(&r, "GET /\n:authority: ext.com\nx-envoy-internal: true", "ok");
    story_begin(&story, "GET /\n:authority: ext.com");
    assert_string_equal(location(&r, &story), "https://ext.com/");
    story_end(&story);
    routes_free(&r);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_host_chooses_the_most_specific_virtual_host),
        cmocka_unit_test(a_port_can_be_left_out_of_host_matching),
        cmocka_unit_test(a_thousand_domains_are_found_each),
        cmocka_unit_test(paths_match_by_prefix_whole_segment_and_regex),
        cmocka_unit_test(the_first_route_that_matches_wins),
        cmocka_unit_test(headers_match_as_on_envoy),
        cmocka_unit_test(a_matcher_of_host_means_the_authority),
        cmocka_unit_test(query_parameters_match_by_their_first_value),
        cmocka_unit_test(grpc_routes_take_grpc_only),
        cmocka_unit_test(a_fraction_takes_its_share),
        cmocka_unit_test(weights_share_the_requests),
        cmocka_unit_test(a_header_can_name_the_cluster),
        cmocka_unit_test(an_entry_tells_its_limits),
        cmocka_unit_test(require_tls_redirects_what_came_without),
    };
    assert_int_equal(stats_init(1), 0);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
