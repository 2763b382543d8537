/* What a route changes: paths, hosts, Location, header fields. Expectations were taken from Envoy
 * 1.40 with the same configs and requests, where its documentation does not say. */
#include "route_story.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/stats.h"

#define ONE_HOST "virtual_hosts:\n- name: v\n  domains: ['*']\n  routes:\n"

/* Runs the request through the only matching route's mutations and rewrites. */
static void rewrite(const char *routes, struct story *story, const char *request) {
    struct routes r;
    char yaml[4096];
    snprintf(yaml, sizeof(yaml), ONE_HOST "%s", routes);
    routes_load(&r, yaml);
    assert_string_equal(r.problems, "");
    story_begin(story, request);
    const struct route_entry *entry = route_match(r.table, &story->x.request.headers, 0, 0);
    assert_non_null(entry);
    assert_int_equal(route_rewrite_request(entry, &story->x), 0);
    /* The table may go: rewritten values of this test are compared at once, but literals belong to
     * it, so copy what is compared. */
    for (uint32_t i = 0; i < story->x.request.headers.count; i++) {
        struct header *h = &story->x.request.headers.entries[i];
        h->value_ptr = arena_copy(&story->x.arena, header_value(h)).ptr;
    }
    routes_free(&r);
}

static void check_path(const char *match, const char *action, const char *path,
                       const char *expected) {
    char routes[1024];
    char request[256];
    snprintf(routes, sizeof(routes), "  - {match: {%s}, route: {cluster: up, %s}}\n", match,
             action);
    snprintf(request, sizeof(request), "GET %s", path);
    struct story story;
    rewrite(routes, &story, request);
    const struct header_map *headers = &story.x.request.headers;
    assert_string_equal(header_get(headers, HDR_PATH).ptr, expected);
    struct span original = header_get(headers, HDR_X_ENVOY_ORIGINAL_PATH);
    if (strcmp(path, expected) == 0)
        assert_true(original.len == 0 || span_eq(original, span_of(path)));
    else
        assert_string_equal(original.ptr, path);
    story_end(&story);
}

static void prefixes_are_rewritten(void **state) {
    (void)state;
    check_path("prefix: /pre", "prefix_rewrite: /new", "/pre/x?q=1", "/new/x?q=1");
    check_path("prefix: /pre", "prefix_rewrite: /new", "/pre", "/new");
    check_path("prefix: /pre/", "prefix_rewrite: /", "/pre/x", "/x");
    check_path("path: /exact", "prefix_rewrite: /ex2", "/exact?z", "/ex2?z");
    check_path("path_separated_prefix: /sep", "prefix_rewrite: /s2", "/sep/x?y", "/s2/x?y");
    check_path("safe_regex: {regex: '/rx/.*'}", "prefix_rewrite: /all", "/rx/abc?q=1", "/all?q=1");
    check_path("prefix: /CI, case_sensitive: false", "prefix_rewrite: /low", "/ci/x", "/low/x");
}

static void regexes_are_rewritten(void **state) {
    (void)state;
#define REGEX(pattern, by)                                                                         \
    "regex_rewrite: {pattern: {regex: '" pattern "'}, substitution: '" by "'}"
    check_path("prefix: /", REGEX("/rr/(\\w+)/(\\w+)", "/\\2/\\1"), "/rr/one/two?x=/rr/a/b",
               "/two/one?x=/rr/a/b");
    check_path("prefix: /", REGEX("/rr/(\\w+)", "<\\0>"), "/rr/a/rr/b", "</rr/a></rr/b>");
    check_path("prefix: /", REGEX("a*", "<\\0>"), "/raab", "<>/<>r<aa>b<>");
    check_path("prefix: /", REGEX("b", "x\\\\y"), "/rbb", "/rx\\yx\\y");
    check_path("prefix: /", REGEX("/ec/", "x/"), "/ec/", "x/");
    check_path("prefix: /", REGEX("e", ""), "/ea/e", "/a/");
    check_path("prefix: /", REGEX(".*", ""), "/eb?q", "/eb?q"); /* no path would be left */
    check_path("prefix: /", REGEX("nomatch", "x"), "/ed", "/ed");
}

static void hosts_are_rewritten(void **state) {
    (void)state;
    struct story story;
    const char *literal = "  - {match: {prefix: /}, route: {cluster: up, host_rewrite_literal: "
                          "new.example, append_x_forwarded_host: true}}\n";
    rewrite(literal, &story, "GET /\nx-forwarded-host: b.com");
    assert_string_equal(
        story_text(&story, &story.x.request.headers),
        ":method: GET\n:path: /\n:authority: new.example\n:scheme: http\n"
        "x-forwarded-host: b.com,a.com\nx-forwarded-proto: http\nx-envoy-original-host: a.com\n");
    story_end(&story);
    rewrite(literal, &story, "GET /\nx-forwarded-host: a.com"); /* not twice */
    assert_string_equal(header_get(&story.x.request.headers, HDR_X_FORWARDED_HOST).ptr, "a.com");
    story_end(&story);

    const char *by_header =
        "  - {match: {prefix: /}, route: {cluster: up, host_rewrite_header: X-H}}\n";
    rewrite(by_header, &story, "GET /\nx-h: one\nx-h: two");
    assert_string_equal(header_get(&story.x.request.headers, HDR_AUTHORITY).ptr, "one");
    assert_false(header_has(&story.x.request.headers, HDR_X_FORWARDED_HOST));
    story_end(&story);
    rewrite(by_header, &story, "GET /");
    assert_string_equal(header_get(&story.x.request.headers, HDR_AUTHORITY).ptr, "a.com");
    assert_false(header_has(&story.x.request.headers, HDR_X_ENVOY_ORIGINAL_HOST));
    story_end(&story);
}

static void check_location(const char *match, const char *redirect, const char *request,
                           const char *expected) {
    char yaml[1024];
    snprintf(yaml, sizeof(yaml), ONE_HOST "  - {match: {%s}, redirect: {%s}}\n", match, redirect);
    struct routes r;
    routes_load(&r, yaml);
    assert_string_equal(r.problems, "");
    struct story story;
    story_begin(&story, request);
    const struct route_entry *entry = route_match(r.table, &story.x.request.headers, 0, 0);
    assert_non_null(entry);
    assert_string_equal(route_redirect_location(entry, &story.x).ptr, expected);
    story_end(&story);
    routes_free(&r);
}

static void locations_follow_envoys_rules(void **state) {
    (void)state;
    static const struct {
        const char *redirect, *request, *location;
    } cases[] = {
        {"https_redirect: true", "GET /r1?q=1", "https://a.com/r1?q=1"},
        {"https_redirect: true", "GET /r1\n:authority: a.com:80", "https://a.com/r1"},
        {"https_redirect: true", "GET /r1\n:authority: a.com:8080", "https://a.com:8080/r1"},
        {"https_redirect: true", "GET /r1\n:authority: a.com:443", "https://a.com:443/r1"},
        {"https_redirect: true", "GET /r1\n:authority: [::1]:80", "https://[::1]/r1"},
        {"https_redirect: true", "GET /r1\n:authority: [::1]", "https://[::1]/r1"},
        {"https_redirect: true", "GET /r1\n:authority: a.com:443\nx-forwarded-proto: https",
         "https://a.com:443/r1"},
        {"https_redirect: true, port_redirect: 443", "GET /rc", "https://a.com:443/rc"},
        {"scheme_redirect: ftp", "GET /ra\n:authority: a.com:443\nx-forwarded-proto: https",
         "ftp://a.com/ra"},
        {"host_redirect: new.com", "GET /r2/a?b\n:authority: a.com:8080", "http://new.com/r2/a?b"},
        {"host_redirect: 'h:99', port_redirect: 77", "GET /rh", "http://h:99:77/rh"},
        {"port_redirect: 8443", "GET /r3\n:authority: a.com:80", "http://a.com:8443/r3"},
        {"port_redirect: 8443", "GET /r3\n:authority: [::1]:80", "http://[::1]:8443/r3"},
        {"path_redirect: /np", "GET /r4?q", "http://a.com/np?q"},
        {"path_redirect: /np", "GET /r4", "http://a.com/np"},
        {"path_redirect: '/np?own=1'", "GET /r5?q", "http://a.com/np?own=1"},
        {"path_redirect: '/np?own=1', strip_query: true", "GET /r9?q", "http://a.com/np?own=1"},
        {"path_redirect: nosl", "GET /rb", "http://a.com/nosl"},
        {"strip_query: true", "GET /r8?q", "http://a.com/r8"},
        {"prefix_rewrite: /pp/", "GET /r6/x?y", "http://a.com/pp/r6/x?y"},
        {"prefix_rewrite: 'rel/'", "GET /x", "http://a.com/rel/x"},
        {"regex_rewrite: {pattern: {regex: '/r7/(.*)'}, substitution: '/z/\\1'}",
         "GET /r7/abc?q=/r7/", "http://a.com/z/abc?q=/r7/"},
        {"prefix_rewrite: '/k?z=1', strip_query: true", "GET /re/x?y", "http://a.com/k"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        check_location("prefix: /", cases[i].redirect, cases[i].request, cases[i].location);
    check_location("prefix: /r6", "prefix_rewrite: /pp", "GET /r6/x?y", "http://a.com/pp/x?y");
    check_location("safe_regex: {regex: '/rg.*'}", "prefix_rewrite: /whole", "GET /rg1?y",
                   "http://a.com/whole?y");
}

/* ---- header fields ---- */

#define FOUR_LEVELS(wins)                                                                          \
    "most_specific_header_mutations_wins: " wins "\n"                                              \
    "request_headers_to_add: [{header: {key: x-lvl, value: table}, append_action: "                \
    "OVERWRITE_IF_EXISTS_OR_ADD}, {header: {key: x-ord, value: table}}]\n"                         \
    "virtual_hosts:\n- name: v\n  domains: ['*']\n"                                                \
    "  request_headers_to_add: [{header: {key: x-lvl, value: vhost}, append_action: "              \
    "OVERWRITE_IF_EXISTS_OR_ADD}, {header: {key: x-ord, value: vhost}}]\n"                         \
    "  routes:\n"                                                                                  \
    "  - match: {prefix: /}\n"                                                                     \
    "    request_headers_to_add: [{header: {key: x-lvl, value: route}, append_action: "            \
    "OVERWRITE_IF_EXISTS_OR_ADD}, {header: {key: x-ord, value: route}}]\n"                         \
    "    route:\n      weighted_clusters:\n        clusters:\n        - name: up\n          "      \
    "weight: 1\n"                                                                                  \
    "          request_headers_to_add: [{header: {key: x-lvl, value: weighted}, append_action: "   \
    "OVERWRITE_IF_EXISTS_OR_ADD}, {header: {key: x-ord, value: weighted}}]\n"

static void mutate(const char *yaml, struct routes *r, struct story *story, const char *request,
                   bool response) {
    routes_load(r, yaml);
    assert_string_equal(r->problems, "");
    story_begin(story, request);
    if (response)
        story_add(story, &story->x.response.headers, ":status: 200\ndate: today\nx-up: one");
    const struct route_entry *entry = route_match(r->table, &story->x.request.headers, 0, 0);
    assert_non_null(entry);
    assert_int_equal(response ? route_mutate_response(entry, &story->x)
                              : route_mutate_request(entry, &story->x),
                     0);
}

#define HEAD ":method: GET\n:path: /\n:authority: a.com\n:scheme: http\n"

static void levels_mutate_in_envoys_order(void **state) {
    (void)state;
    struct routes r;
    struct story story;
    mutate(FOUR_LEVELS("false"), &r, &story, "GET /", false);
    assert_string_equal(story_text(&story, &story.x.request.headers), HEAD
                        "x-forwarded-proto: http\nx-ord: weighted\nx-ord: route\nx-ord: vhost\n"
                        "x-lvl: table\nx-ord: table\n");
    story_end(&story);
    routes_free(&r);
    mutate(FOUR_LEVELS("true"), &r, &story, "GET /", false);
    assert_string_equal(story_text(&story, &story.x.request.headers), HEAD
                        "x-forwarded-proto: http\nx-ord: weighted\nx-ord: table\nx-ord: vhost\n"
                        "x-lvl: route\nx-ord: route\n");
    story_end(&story);
    routes_free(&r);
}

static void actions_and_values_decide_on_what_the_request_brought(void **state) {
    (void)state;
    struct routes r;
    struct story story;
    mutate(ONE_HOST
           "  - match: {prefix: /}\n"
           "    route: {cluster: up}\n"
           "    request_headers_to_remove: [X-Rm]\n"
           "    request_headers_to_add:\n"
           "    - {header: {key: X-Foo, value: NEW}, append_action: OVERWRITE_IF_EXISTS_OR_ADD}\n"
           "    - {header: {key: x-foo, value: '%REQ(x-foo)%-A'}}\n"
           "    - {header: {key: x-abs, value: '1'}, append_action: ADD_IF_ABSENT}\n"
           "    - {header: {key: x-foo, value: second}, append_action: ADD_IF_ABSENT}\n"
           "    - {header: {key: x-none, value: z}, append_action: OVERWRITE_IF_EXISTS}\n"
           "    - {header: {key: x-bar, value: z}, append_action: OVERWRITE_IF_EXISTS}\n"
           "    - {header: {key: x-rm, value: '%REQ(x-rm)%|'}}\n"
           "    - {header: {key: x-e, value: ''}}\n"
           "    - {header: {key: x-ek, value: ''}, keep_empty_value: true}\n"
           "    - {header: {key: x-e2, value: '%REQ(nope)%'}}\n"
           "    - {header: {key: x-e2k, value: '%REQ(nope)%'}, keep_empty_value: true}\n"
           "    - {header: {key: x-old, value: '1'}, append: false}\n"
           "    - {header: {key: x-old2, value: '2'}, append: true}\n"
           "    - {header: {key: x-p, value: '100%% %PROTOCOL%'}}\n",
           &r, &story, "GET /\nx-foo: 1\nx-foo: 2\nx-bar: b\nx-rm: r\nx-old: 0\nx-old2: 1", false);
    assert_string_equal(story_text(&story, &story.x.request.headers),
                        HEAD "x-old2: 1\nx-forwarded-proto: http\nx-foo: NEW\nx-bar: z\nx-old: 1\n"
                             "x-foo: 1-A\nx-abs: 1\nx-rm: |\nx-ek: \nx-e2k: \nx-old2: 2\n"
                             "x-p: 100% HTTP/1.0\n");
    story_end(&story);
    routes_free(&r);
}

static void some_fields_are_joined_when_added_to(void **state) {
    (void)state;
    struct routes r;
    struct story story;
    mutate(ONE_HOST "  - match: {prefix: /}\n"
                    "    route: {cluster: up}\n"
                    "    request_headers_to_add: [{header: {key: user-agent, value: ZZ}}, {header: "
                    "{key: cookie, value: ZZ}}, {header: {key: x-client-trace-id, value: ZZ}}, "
                    "{header: {key: etag, value: ZZ}}]\n",
           &r, &story, "GET /\nuser-agent: v\ncookie: v\nx-client-trace-id: v\netag: v", false);
    assert_string_equal(story_text(&story, &story.x.request.headers),
                        HEAD "user-agent: v,ZZ\ncookie: v\nx-client-trace-id: v,ZZ\netag: v\n"
                             "x-forwarded-proto: http\ncookie: ZZ\netag: ZZ\n");
    story_end(&story);
    routes_free(&r);
    mutate(ONE_HOST "  - match: {prefix: /}\n"
                    "    route: {cluster: up}\n"
                    "    response_headers_to_remove: [x-up]\n"
                    "    response_headers_to_add: [{header: {key: date, value: ZZ}}, {header: "
                    "{key: x-of, value: '%REQ(user-agent)% %RESP(x-up)% %RESP(date)%'}}]\n",
           &r, &story, "GET /\nuser-agent: v", true);
    assert_string_equal(story_text(&story, &story.x.response.headers),
                        ":status: 200\ndate: today,ZZ\nx-of: v  today\n");
    story_end(&story);
    routes_free(&r);
}

static void more_additions_than_fit_the_stack(void **state) {
    (void)state;
    char yaml[8192];
    size_t len = (size_t)snprintf(yaml, sizeof(yaml),
                                  ONE_HOST "  - match: {prefix: /}\n    route: {cluster: up}\n"
                                           "    request_headers_to_add:\n");
    for (int i = 0; i < 40; i++)
        len += (size_t)snprintf(yaml + len, sizeof(yaml) - len,
                                "    - {header: {key: x-%d, value: '%%PROTOCOL%% %d'}}\n", i, i);
    struct routes r;
    struct story story;
    mutate(yaml, &r, &story, "GET /", false);
    assert_int_equal(story.x.request.headers.count, 5 + 40);
    assert_true(span_eq(header_get_name(&story.x.request.headers, SPAN_LIT("x-39")),
                        SPAN_LIT("HTTP/1.0 39")));
    story_end(&story);
    routes_free(&r);
}

static void a_value_that_may_not_go_on_the_wire_is_an_error(void **state) {
    (void)state;
    struct routes r;
    struct story story;
    routes_load(&r, ONE_HOST
                "  - match: {prefix: /}\n    route: {cluster: up}\n"
                "    request_headers_to_add: [{header: {key: x-a, value: '%ROUTE_NAME%'}}]\n");
    story_begin(&story, "GET /");
    story.x.info.route_name = SPAN_LIT("two\r\nlines");
    const struct route_entry *entry = route_match(r.table, &story.x.request.headers, 0, 0);
    assert_int_equal(route_mutate_request(entry, &story.x), -EINVAL);
    story_end(&story);
    routes_free(&r);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(prefixes_are_rewritten),
        cmocka_unit_test(regexes_are_rewritten),
        cmocka_unit_test(hosts_are_rewritten),
        cmocka_unit_test(locations_follow_envoys_rules),
        cmocka_unit_test(levels_mutate_in_envoys_order),
        cmocka_unit_test(actions_and_values_decide_on_what_the_request_brought),
        cmocka_unit_test(some_fields_are_joined_when_added_to),
        cmocka_unit_test(more_additions_than_fit_the_stack),
        cmocka_unit_test(a_value_that_may_not_go_on_the_wire_is_an_error),
    };
    assert_int_equal(stats_init(1), 0);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
