/* What a route configuration is refused for, and what is built with it. */
#include "route_story.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/stats.h"
#include "config/golang_config.h"
#include "proxy/virtual_cluster.h"

#define ONE_HOST "virtual_hosts:\n- name: v\n  domains: ['*']\n  routes:\n"
#define AT_ROUTE "virtual_hosts[0].routes[0]"

static void check_refusal(const char *yaml, const char *problems) {
    struct routes r;
    routes_load(&r, yaml);
    assert_string_equal(r.problems, problems);
    assert_true(r.refused);
    routes_free(&r);
}

static void check_route(const char *route, const char *problems) {
    char yaml[8192];
    snprintf(yaml, sizeof(yaml), ONE_HOST "  - {%s}\n", route);
    check_refusal(yaml, problems);
}

#define TO_UP "route: {cluster: up}"

static void domains_are_unique(void **state) {
    (void)state;
    check_refusal("name: r\nvirtual_hosts:\n- {name: a, domains: [a.com, '*.b.com', 'c.*']}\n- "
                  "{name: b, domains: [A.com, '*.B.com', 'C.*']}\n",
                  "invalid virtual_hosts[1]: only unique values for domains are permitted. "
                  "Duplicate entry of domain a.com in route r\n"
                  "invalid virtual_hosts[1]: only unique values for domains are permitted. "
                  "Duplicate entry of domain *.b.com in route r\n"
                  "invalid virtual_hosts[1]: only unique values for domains are permitted. "
                  "Duplicate entry of domain c.* in route r\n");
    check_refusal(
        "name: r\nvirtual_hosts:\n- {name: a, domains: ['*']}\n- {name: b, domains: ['*']}\n",
        "invalid virtual_hosts[1]: only a single wildcard domain is permitted in route r\n");
}

static void clusters_must_exist(void **state) {
    (void)state;
    check_route("match: {prefix: /}, route: {cluster: nope}",
                "invalid " AT_ROUTE ".route: route: unknown cluster 'nope'\n");
    check_route("match: {prefix: /}, route: {weighted_clusters: {clusters: [{name: up, weight: 1}, "
                "{name: nope, weight: 1}]}}",
                "invalid " AT_ROUTE
                ".route.weighted_clusters.clusters[1]: route: unknown weighted cluster 'nope'\n");
    struct routes r;
    routes_load(&r, "validate_clusters: false\n" ONE_HOST
                    "  - {match: {prefix: /}, route: {cluster: nope}}\n");
    assert_string_equal(r.problems, "");
    struct story story;
    story_begin(&story, "GET /");
    assert_null(route_match(r.table, &story.x.request.headers, 0, 0)->cluster);
    story_end(&story);
    routes_free(&r);
}

static void regexes_must_be_re2s(void **state) {
    (void)state;
    check_route(
        "match: {safe_regex: {regex: 'a('}}, " TO_UP,
        "invalid " AT_ROUTE
        ".match: safe_regex: invalid regex 'a(': missing closing parenthesis at offset 2\n");
    check_route("match: {safe_regex: {regex: '(a)\\1'}}, " TO_UP,
                "invalid " AT_ROUTE ".match: safe_regex: invalid regex '(a)\\1': a backreference "
                "is not part of RE2's syntax\n");
    check_route(
        "match: {prefix: /, headers: [{name: a, safe_regex_match: {regex: '(?=a)'}}]}, " TO_UP,
        "invalid " AT_ROUTE ".match.headers[0]: safe_regex_match: invalid regex '(?=a)': a "
        "look-ahead is not part of RE2's syntax\n");
    check_route("match: {prefix: /, headers: [{name: a, string_match: {safe_regex: {regex: "
                "'a++'}}}]}, " TO_UP,
                "invalid " AT_ROUTE ".match.headers[0].string_match: safe_regex: invalid regex "
                "'a++': a possessive repeat is not part of RE2's syntax\n");
    check_route("match: {prefix: /, headers: [{name: a, string_match: {safe_regex: {regex: a}, "
                "ignore_case: true}}]}, " TO_UP,
                "invalid " AT_ROUTE
                ".match.headers[0].string_match: ignore_case has no effect for safe_regex\n");
    check_route("match: {prefix: /}, route: {cluster: up, regex_rewrite: {pattern: {regex: '['}, "
                "substitution: ''}}",
                "invalid " AT_ROUTE ".route: regex_rewrite.pattern: invalid regex '[': missing "
                "terminating ] for character class at offset 1\n");
}

static void a_substitution_that_cannot_work_is_told(void **state) {
    (void)state;
    struct routes r;
    routes_load(&r, ONE_HOST "  - {match: {prefix: /}, route: {cluster: up, regex_rewrite: "
                             "{pattern: {regex: 'x'}, substitution: '\\1'}}}\n");
    assert_string_equal(r.problems, "warning " AT_ROUTE
                                    ".route: regex_rewrite.substitution: \\1 is used, but the "
                                    "pattern has 0 groups: nothing is ever substituted\n");
    assert_false(r.refused);
    struct story story;
    story_begin(&story, "GET /x");
    const struct route_entry *entry = route_match(r.table, &story.x.request.headers, 0, 0);
    assert_int_equal(route_rewrite_request(entry, &story.x), 0);
    assert_string_equal(header_get(&story.x.request.headers, HDR_PATH).ptr, "/x");
    story_end(&story);
    routes_free(&r);
}

static void header_mutations_are_checked(void **state) {
    (void)state;
    check_route("match: {prefix: /}, " TO_UP ", request_headers_to_add: [{header: {key: a, value: "
                "'x %NOSUCH%'}}, {header: {key: a, value: '100%'}}]",
                "invalid " AT_ROUTE
                ".request_headers_to_add[0]: format: %NOSUCH% at position 2: no such operator\n"
                "invalid " AT_ROUTE ".request_headers_to_add[1]: format: couldn't find valid "
                "command at position 3 in '100%'\n");
    check_route(
        "match: {prefix: /}, " TO_UP
        ", request_headers_to_add: [{header: {key: a, value: '%CLUSTER_METADATA(a:b)%'}}]",
        "unsupported " AT_ROUTE
        ".request_headers_to_add[0]: format: %CLUSTER_METADATA% at position 0 is not supported\n");
}

static void direct_bodies_are_read_and_bounded(void **state) {
    (void)state;
    char path[] = "/tmp/sluice-body-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, "from a file", 11), 11);
    char yaml[512];
    snprintf(yaml, sizeof(yaml),
             ONE_HOST
             "  - {match: {prefix: /}, direct_response: {status: 200, body: {filename: %s}}}\n",
             path);
    struct routes r;
    routes_load(&r, yaml);
    struct story story;
    story_begin(&story, "GET /");
    const struct route_entry *entry = route_match(r.table, &story.x.request.headers, 0, 0);
    assert_true(span_eq(entry->direct_body, SPAN_LIT("from a file")));
    story_end(&story);
    routes_free(&r);

    assert_int_equal(ftruncate(fd, 4097), 0);
    char problem[512];
    snprintf(problem, sizeof(problem),
             "invalid " AT_ROUTE ".direct_response: file %s size is 4097 bytes; maximum is 4096\n",
             path);
    check_refusal(yaml, problem);
    assert_int_equal(unlink(path), 0);
    snprintf(problem, sizeof(problem),
             "invalid " AT_ROUTE ".direct_response: file %s: No such file or directory\n", path);
    check_refusal(yaml, problem);
    (void)close(fd);

    char *big = calloc(1, 8192);
    memset(big, 'x', 4097);
    char *route = malloc(16384);
    snprintf(
        route, 16384,
        ONE_HOST
        "  - {match: {prefix: /}, direct_response: {status: 200, body: {inline_string: %s}}}\n",
        big);
    check_refusal(route, "invalid " AT_ROUTE
                         ".direct_response: response body size is 4097 bytes; maximum is 4096\n");
    free(big);
    free(route);
}

/* ---- per-filter configs ---- */

static unsigned built, freed;

static int build_route(const struct cfg_any *any, void *factory_config,
                       struct cfg_problems *problems, void **route_config) {
    const struct cfg_golang_per_route *config = any->message;
    assert_string_equal(factory_config, "factory");
    if (config->plugins_config_count == 0) {
        cfg_problem_add(problems, CFG_PROBLEM_INVALID, &any->mark, "no plugins");
        return -EINVAL;
    }
    built++;
    *route_config = strndup(config->plugins_config[0].key.ptr, config->plugins_config[0].key.len);
    return 0;
}

static void free_route(void *route_config) {
    freed++;
    free(route_config);
}

#define PER_ROUTE(plugin)                                                                          \
    "typed_per_filter_config: {go: {'@type': type.googleapis.com/"                                 \
    "envoy.extensions.filters.http.golang.v3alpha.ConfigsPerRoute, plugins_config: {" plugin       \
    ": {disabled: true}}}}"

static void four_levels_of_filter_configs(void **state) {
    (void)state;
    static char factory_config[] = "factory";
    static const struct filter_kind go = {.route_schema = &cfg_schema_golang_per_route,
                                          .build_route = build_route,
                                          .free_route = free_route};
    static const struct filter_kind plain = {.route_schema = NULL};
    struct filter_factory first = {.name = SPAN_LIT("plain"), .index = 0, .kind = &plain};
    struct filter_factory second = {
        .name = SPAN_LIT("go"), .index = 1, .kind = &go, .config = factory_config};
    struct filter_factory *filters[] = {&first, &second};
    struct routes r;
    routes_load_with(
        &r,
        PER_ROUTE("table") "\nvirtual_hosts:\n- name: v\n  domains: ['*']\n  " PER_ROUTE(
            "vhost") "\n  routes:\n"
                     "  - match: {path: /all}\n    " PER_ROUTE(
                         "route") "\n"
                                  "    route: {weighted_clusters: {clusters: [{name: up, weight: "
                                  "1, " PER_ROUTE("weighted") "}]}}\n"
                                                              "  - {match: {prefix: /}, route: "
                                                              "{cluster: up}}\n",
        filters, 2);
    assert_string_equal(r.problems, "");
    struct story story;
    const void *configs[4];
    story_begin(&story, "GET /all");
    const struct route_entry *entry = route_match(r.table, &story.x.request.headers, 0, 0);
    assert_int_equal(route_filter_configs(entry, 0, configs), 0);
    assert_int_equal(route_filter_configs(entry, 7, configs), 0);
    assert_int_equal(route_filter_configs(entry, 1, configs), 4);
    assert_string_equal(configs[0], "table");
    assert_string_equal(configs[1], "vhost");
    assert_string_equal(configs[2], "route");
    assert_string_equal(configs[3], "weighted");
    story_end(&story);
    story_begin(&story, "GET /other");
    entry = route_match(r.table, &story.x.request.headers, 0, 0);
    assert_int_equal(route_filter_configs(entry, 1, configs), 2);
    story_end(&story);
    routes_free(&r);
    assert_int_equal(built, 4);
    assert_int_equal(freed, 4);

    routes_load_with(
        &r,
        ONE_HOST
        "  - {match: {prefix: /}, " TO_UP ", typed_per_filter_config: {plain: {'@type': "
        "type.googleapis.com/envoy.extensions.filters.http.golang.v3alpha.ConfigsPerRoute}}}\n",
        filters, 2);
    assert_string_equal(r.problems, "invalid " AT_ROUTE
                                    ".typed_per_filter_config[\"plain\"]: the filter 'plain' does "
                                    "not support virtual host or route specific configurations\n");
    routes_free(&r);
    static const struct filter_kind odd = {.route_schema = &cfg_schema_router,
                                           .build_route = build_route};
    second.kind = &odd;
    routes_load_with(&r, ONE_HOST "  - {match: {prefix: /}, " TO_UP ", " PER_ROUTE("p") "}\n",
                     filters, 2);
    assert_string_equal(
        r.problems,
        "invalid " AT_ROUTE ".typed_per_filter_config[\"go\"]: "
        "'type.googleapis.com/envoy.extensions.filters.http.golang.v3alpha.ConfigsPerRoute' is not "
        "the type of per-route configs of the filter 'go'\n");
    routes_free(&r);
    routes_load_with(&r, ONE_HOST "  - {match: {prefix: /}, " TO_UP ", " PER_ROUTE("p") "}\n",
                     filters, 1);
    assert_string_equal(r.problems,
                        "warning " AT_ROUTE ".typed_per_filter_config[\"go\"]: no http filter is "
                        "named 'go': the entry has no effect\n");
    assert_false(r.refused);
    routes_free(&r);
    assert_int_equal(freed, built);
}

/* What profiles say of a request of this route. */
static void check_labels(const struct routes *r, const char *lines, const char *expected) {
    struct story story;
    story_begin(&story, lines);
    const struct route_entry *route = route_match(r->table, &story.x.request.headers, 0, 0);
    assert_non_null(route);
    char text[512] = "";
    for (unsigned i = 0; i < route->labels.count; i++) {
        const struct label *label = &route->labels.items[i];
        size_t len = strlen(text);
        snprintf(text + len, sizeof(text) - len, "%s=%s;", label->key, label->value);
    }
    assert_string_equal(text, expected);
    story_end(&story);
}

static void profiles_know_a_route_by_its_name_or_its_match(void **state) {
    (void)state;
    struct routes r;
    routes_load(&r,
                "virtual_hosts:\n"
                "- name: shop\n  domains: ['*']\n  routes:\n"
                "  - {name: api, match: {prefix: /api}, " TO_UP "}\n"
                "  - {match: {path: /one}, " TO_UP "}\n"
                "  - {match: {path_separated_prefix: /two}, redirect: {path_redirect: /}}\n"
                "  - {match: {safe_regex: {regex: '/v[12]/.*'}}, direct_response: {status: 200}}\n"
                "  - {match: {prefix: /w}, route: {weighted_clusters: {clusters: [{name: up, "
                "weight: 1}, {name: other, weight: 1}]}}}\n"
                "  - {match: {prefix: /}, " TO_UP "}\n"
                "- name: safe\n  domains: [safe.com]\n  require_tls: ALL\n  routes:\n"
                "  - {match: {prefix: /}, " TO_UP "}\n");
    assert_string_equal(r.problems, "");
    check_labels(&r, "GET /api/x", "virtual_host=shop;route=api;");
    check_labels(&r, "GET /one", "virtual_host=shop;route=/one;");
    check_labels(&r, "GET /two/x", "virtual_host=shop;route=/two/*;");
    check_labels(&r, "GET /v1/x", "virtual_host=shop;route=~/v[12]/.*;");
    check_labels(&r, "GET /w", "virtual_host=shop;route=/w*;");
    check_labels(&r, "GET /", "virtual_host=shop;route=/*;");
    check_labels(&r, "GET /\nhost: safe.com", "virtual_host=safe;route=require_tls;");
    routes_free(&r);
}

/* A name may be as long as somebody wants; a label may not. */
static void a_long_name_is_cut_in_profiles(void **state) {
    (void)state;
    char name[3 * DOING_TEXT_MAX + 1], yaml[2 * sizeof(name)], expected[2 * sizeof(name)];
    memset(name, 'n', sizeof(name) - 1);
    name[sizeof(name) - 1] = '\0';
    struct routes r;
    snprintf(yaml, sizeof(yaml), ONE_HOST "  - {name: %s, match: {prefix: /}, " TO_UP "}\n", name);
    routes_load(&r, yaml);
    snprintf(expected, sizeof(expected), "virtual_host=v;route=%.*s;", DOING_TEXT_MAX, name);
    check_labels(&r, "GET /", expected);
    routes_free(&r);
    snprintf(yaml, sizeof(yaml), ONE_HOST "  - {match: {prefix: /%s}, " TO_UP "}\n", name);
    routes_load(&r, yaml);
    char path[sizeof(name) + sizeof("GET /")];
    snprintf(path, sizeof(path), "GET /%s", name);
    snprintf(expected, sizeof(expected), "virtual_host=v;route=/%.*s;", DOING_TEXT_MAX - 2, name);
    check_labels(&r, path, expected);
    routes_free(&r);
}

/* ---- requests that are counted by themselves ---- */

static const char *kind_of(const struct routes *r, const char *lines) {
    static char text[64];
    struct story story;
    story_begin(&story, lines);
    const struct route_entry *route = route_match(r->table, &story.x.request.headers, 0, 0);
    assert_non_null(route);
    const struct virtual_cluster *kind = virtual_cluster_of(route, &story.x.request.headers);
    snprintf(text, sizeof(text), "%s", "none");
    if (kind)
        snprintf(text, sizeof(text), "%.*s %.*s", (int)kind->stat.len, kind->stat.ptr,
                 (int)kind->name.len, kind->name.len ? kind->name.ptr : "");
    story_end(&story);
    return text;
}

static void the_first_kind_that_matches_has_a_request(void **state) {
    (void)state;
    struct routes r;
    routes_load(&r, "virtual_hosts:\n"
                    "- name: 'kinds:80'\n"
                    "  domains: [a.com]\n"
                    "  virtual_clusters:\n"
                    "  - {name: slow, headers: [{name: x-slow, present_match: true}]}\n"
                    "  - {name: reads, headers: [{name: ':method', string_match: {exact: GET}}]}\n"
                    "  routes: [{match: {prefix: /}, " TO_UP "}]\n"
                    "- {name: plain, domains: ['*'], routes: [{match: {prefix: /}, " TO_UP "}]}\n");
    assert_string_equal(r.problems, "");
    assert_string_equal(kind_of(&r, "GET /\nx-slow: 1"), "slow slow");
    assert_string_equal(kind_of(&r, "GET /"), "reads reads");
    assert_string_equal(kind_of(&r, "PUT /"), "other ");
    assert_string_equal(kind_of(&r, "GET /\nhost: b.com"), "none");

    struct story story;
    story_begin(&story, "GET /");
    const struct route_entry *route = route_match(r.table, &story.x.request.headers, 0, 0);
    struct virtual_cluster *reads = virtual_cluster_of(route, &story.x.request.headers);
    virtual_cluster_count_response(reads, 0, 503);
    virtual_cluster_count_response(reads, 0, 503);
    virtual_cluster_count_response(reads, 0, 0); /* none was sent */
    story_end(&story);
    const struct statistic *code =
        stats_get(STAT_COUNTER, SPAN_LIT("vhost.kinds_80.vcluster.reads.upstream_rq_503"),
                  SPAN_LIT("-"), NULL, 0);
    assert_int_equal(stat_value(code), 2);
    assert_string_equal(code->metric.ptr, "vhost.vcluster.upstream_rq");
    assert_int_equal(code->tag_count, 3);
    assert_int_equal(stat_value(reads->rq_completed), 2);
    routes_free(&r);
}

static void the_conditions_of_a_kind_are_checked(void **state) {
    (void)state;
    check_refusal(
        "virtual_hosts:\n- name: v\n  domains: ['*']\n  virtual_clusters:\n"
        "  - {name: a, headers: [{name: x, string_match: {safe_regex: {regex: '('}}}]}\n",
        "invalid virtual_hosts[0].virtual_clusters[0].headers[0].string_match: safe_regex: "
        "invalid regex '(': missing closing parenthesis at offset 1\n");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(domains_are_unique),
        cmocka_unit_test(clusters_must_exist),
        cmocka_unit_test(regexes_must_be_re2s),
        cmocka_unit_test(a_substitution_that_cannot_work_is_told),
        cmocka_unit_test(header_mutations_are_checked),
        cmocka_unit_test(direct_bodies_are_read_and_bounded),
        cmocka_unit_test(four_levels_of_filter_configs),
        cmocka_unit_test(profiles_know_a_route_by_its_name_or_its_match),
        cmocka_unit_test(a_long_name_is_cut_in_profiles),
        cmocka_unit_test(the_first_kind_that_matches_has_a_request),
        cmocka_unit_test(the_conditions_of_a_kind_are_checked),
    };
    assert_int_equal(stats_init(1), 0);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
