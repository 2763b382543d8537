/* route_index.c: whatever the table and whatever the path, the index finds the route that a walk through
 * the whole list finds. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/stats.h"
#include "proxy/regex.h"
#include "proxy/route_internal.h"
#include "route_story.h"

#define ONE_HOST "virtual_hosts:\n- name: v\n  domains: ['*']\n  routes:\n"
#define ACTION ", direct_response: {status: 200}}\n"

/* ---- what a random table is made of ---- */

static uint64_t seed;

static unsigned roll(unsigned sides) { /* xorshift64*, by Vigna */
    seed ^= seed >> 12;
    seed ^= seed << 25;
    seed ^= seed >> 27;
    return (unsigned)((seed * 0x2545f4914f6cdd1du >> 33) % sides);
}

/* Few and alike, so that literals nest and collide. */
static const char *const segments[] = {"a", "aa",    "ab",     "A",  "Ab",
                                       "b", "users", "users1", "v1", "x.y"};
enum { SEGMENTS = sizeof segments / sizeof segments[0], PATH_TEXT_MAX = 128 };

static void put_path(char *out, unsigned depth) {
    out[0] = '\0';
    for (unsigned i = 0; i < depth; i++) {
        strcat(out, "/");
        strcat(out, segments[roll(SEGMENTS)]);
    }
    if (depth == 0)
        strcat(out, "/");
}

/* With and without a certain head, and with heads that only look certain. */
static const char *const regex_tails[] = {
    "/.*", "",          "[0-9]+", "?",    "*",       "+",    "{0,1}",
    "|/b", "(/v1|/a)?", "\\.x",   "/[|]", "(?i)/AB", "\\d?", ".?",
};
enum { REGEX_TAILS = sizeof regex_tails / sizeof regex_tails[0] };

static void put_route(FILE *out) {
    char path[PATH_TEXT_MAX];
    put_path(path, roll(4));
    fputs("  - {match: {", out);
    bool is_regex = false;
    switch (roll(5)) {
    case 0:
        fprintf(out, "path: '%s'", path);
        break;
    case 1:
        if (strcmp(path, "/") != 0) { /* a lone slash separates nothing */
            fprintf(out, "path_separated_prefix: '%s'", path);
            break;
        }
        fprintf(out, "prefix: '/'");
        break;
    case 2:
        fprintf(out, "safe_regex: {regex: '%s%s%s'}",
                roll(3)   ? ""
                : roll(2) ? "^"
                          : ".*",
                path, regex_tails[roll(REGEX_TAILS)]);
        is_regex = true;
        break;
    default:
        path[strlen(path) - (roll(3) == 0)] = '\0'; /* may end within a segment, or be empty */
        fprintf(out, "prefix: '%s'", path);
        break;
    }
    if (roll(5) == 0 && !is_regex)
        fputs(", case_sensitive: false", out);
    if (roll(3) == 0)
        fprintf(out, ", headers: [{name: x-a, string_match: {exact: '%u'}}]", roll(3));
    if (roll(6) == 0)
        fprintf(out, ", query_parameters: [{name: q, string_match: {exact: '%u'}}]", roll(2));
    if (roll(6) == 0)
        fputs(", runtime_fraction: {default_value: {numerator: 50}}", out);
    fputs("}" ACTION, out);
}

static char *random_table(unsigned routes) {
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    assert_non_null(out);
    fputs(ONE_HOST, out);
    for (unsigned i = 0; i < routes; i++)
        put_route(out);
    fclose(out);
    return text;
}

/* What is not said by the routes, too: other case, cut short, longer, no UTF-8, nothing. */
static void put_request_path(char *out) {
    put_path(out, roll(5));
    size_t len = strlen(out);
    switch (roll(8)) {
    case 0:
        out[roll((unsigned)len + 1)] = '\0';
        break;
    case 1:
        out[roll((unsigned)len)] ^= 0x20;
        break;
    case 2:
        out[roll((unsigned)len)] = (char)roll(256);
        break;
    case 3:
        strcat(out, "7");
        break;
    default:
        break;
    }
    if (roll(4) == 0)
        strcat(out, roll(2) ? "?q=0" : "?q=1&r");
}

/* ---- the proof ---- */

static long number_of(const struct route_vhost *vhost, const struct route *route) {
    return route ? route - vhost->routes : -1;
}

static unsigned compare(const struct routes *r, struct story *const stories, unsigned requests) {
    const struct route_vhost *vhost = &r->table->vhosts[0];
    unsigned found = 0;
    for (unsigned i = 0; i < requests; i++) {
        char path[PATH_TEXT_MAX + 16];
        put_request_path(path);
        struct span whole = span_of(path);
        const struct route_request request = {&stories[roll(3)].x.request.headers, whole,
                                              route_just_path(whole), roll(100), 0};
        long expected = number_of(vhost, route_first_of_all(vhost, &request));
        long got = number_of(vhost, route_index_find(vhost->index, vhost, &request));
        if (got != expected)
            fail_msg("%s: route %ld instead of %ld", path, got, expected);
        found += got >= 0;
    }
    return found;
}

static void it_finds_what_a_walk_finds(void **state) {
    enum { TABLES = 100, REQUESTS = 1000 };
    static const unsigned sizes[] = {8, 9, 20, 60, 200};
    struct story stories[3];
    story_begin(&stories[0], "GET /");
    story_begin(&stories[1], "GET /\nx-a: 0");
    story_begin(&stories[2], "GET /\nx-a: 1\nx-a: 2");
    unsigned found = 0;
    for (unsigned table = 0; table < TABLES; table++) {
        seed = 0x9e3779b97f4a7c15u * (table + 1);
        char *yaml = random_table(sizes[table % 5]);
        struct routes r;
        routes_load(&r, yaml);
        if (r.refused)
            fail_msg("%s\n%s", yaml, r.problems);
        assert_non_null(r.table->vhosts[0].index);
        found += compare(&r, stories, REQUESTS);
        routes_free(&r);
        free(yaml);
    }
    for (int i = 0; i < 3; i++)
        story_end(&stories[i]);
    assert_in_range(found, TABLES * REQUESTS / 4, TABLES * REQUESTS - TABLES); /* both happen */
}

static void long_chains_are_walked(void **state) {
    char *yaml = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&yaml, &size);
    assert_non_null(out);
    fputs(ONE_HOST, out);
    for (int len = 40; len > 0; len--) /* each begins with all that come later */
        fprintf(out, "  - {name: '%d', match: {prefix: '/%.*s', headers: [{name: x-%d}]}" ACTION,
                len, len, "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", len);
    fclose(out);
    struct routes r;
    routes_load(&r, yaml);
    assert_string_equal(routes_pick(&r, "GET /aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\nx-30: 1\nx-31: 1"),
                        "30");
    assert_string_equal(routes_pick(&r, "GET /aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\nx-3: 1"), "3");
    assert_string_equal(routes_pick(&r, "GET /aaa\nx-4: 1"), "none");
    routes_free(&r);
    free(yaml);
}

/* Otherwise all of the above would be true of a walk that calls itself an index. */
static void routes_of_other_paths_are_not_asked(void **state) {
    struct routes r;
    routes_load(&r, ONE_HOST "  - {match: {prefix: /0}" ACTION "  - {match: {prefix: /1}" ACTION
                             "  - {match: {prefix: /2}" ACTION "  - {match: {path: /3}" ACTION
                             "  - {match: {prefix: /4}" ACTION "  - {match: {path: /5}" ACTION
                             "  - {match: {prefix: /6}" ACTION "  - {match: {path: /7}" ACTION);
    struct route_vhost *vhost = &r.table->vhosts[0];
    vhost->routes[3].path = SPAN_LIT("/4"); /* behind the index's back */
    struct story story;
    story_begin(&story, "GET /");
    const struct route_request request = {&story.x.request.headers, SPAN_LIT("/4"), SPAN_LIT("/4"),
                                          0, 0};
    assert_int_equal(number_of(vhost, route_first_of_all(vhost, &request)), 3);
    assert_int_equal(number_of(vhost, route_index_find(vhost->index, vhost, &request)), 4);
    story_end(&story);
    routes_free(&r);
}

static void heads_of_regexes_are_certain(void **state) {
    static const struct {
        const char *pattern, *head;
    } heads[] = {
        {"/api/.*", "/api/"},
        {"^/api/v[12]/.*", "/api/v"},
        {"/users/\\d+", "/users/"},
        {"/a\\.b\\/c", "/a.b/c"},
        {"/ab?", "/a"},
        {"/ab*", "/a"},
        {"/ab{0,3}", "/a"},
        {"/ab+", "/ab"},
        {"/a|/b", ""},
        {"/a(/x|/y)", "/a"},
        {"/a[|]b", "/a"},
        {"/a[[:alpha:]|]b", "/a"},
        {"/a[]|]b", "/a"},
        {"/a\\|b", "/a|b"},
        {"/a(b)|c", ""},
        {"/a\\)|c", ""},
        {"/a\\Q|\\E", ""},
        {"(?i)/a", ""},
        {".*", ""},
        {"", ""},
        {"/\xc3\xa9?", "/"},
    };
    for (size_t i = 0; i < sizeof heads / sizeof heads[0]; i++) {
        char out[64];
        struct span head = span_make(out, regex_literal(span_of(heads[i].pattern), out));
        if (!span_eq(head, span_of(heads[i].head)))
            fail_msg("%s: '%.*s'", heads[i].pattern, (int)head.len, head.ptr);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_finds_what_a_walk_finds),
        cmocka_unit_test(long_chains_are_walked),
        cmocka_unit_test(routes_of_other_paths_are_not_asked),
        cmocka_unit_test(heads_of_regexes_are_certain),
    };
    assert_int_equal(stats_init(1), 0);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
