/* What one configuration changed of another, as people read it. */
#include "config_test.h"

#include "config/config_diff.h"

static struct resources *resources_of(const char *yaml, const struct resources *previous) {
    struct cfg_problems problems = {0};
    struct config *config = load_saying("t.yaml", yaml, "");
    assert_non_null(config);
    struct resources *set = resources_of_bootstrap(config, previous, &problems);
    assert_non_null(set);
    assert_int_equal(problems.count, 0);
    config_unref(config); /* the set leases it */
    return set;
}

static void expect(const char *before, const char *after, const char *summary, const char *text) {
    struct resources *old = resources_of(before, NULL), *new = resources_of(after, old);
    struct config_diff diff;
    assert_int_equal(config_diff_make(old, new, &diff), 0);
    assert_string_equal(diff.summary, summary);
    assert_string_equal(diff.text, text);
    config_diff_fini(&diff);
    resources_unref(old);
    resources_unref(new);
}

#define CLUSTERS(list) "static_resources: {clusters: [" list "]}\n"

static void nothing_is_said_of_what_is_the_same(void **state) {
    expect(CLUSTERS("{name: a, connect_timeout: 1s}"),
           "# moved\n\n" CLUSTERS("{connect_timeout: 1.0s, name: a}"), "nothing changed", "");
}

static void what_comes_and_goes_is_named(void **state) {
    expect(CLUSTERS("{name: a}, {name: b}"), CLUSTERS("{name: b}, {name: c}"),
           "clusters: 1 added, 0 changed, 1 removed", "- cluster 'a'\n+ cluster 'c'\n");
    expect("{}", CLUSTERS("{name: a}"), "clusters: 1 added, 0 changed, 0 removed",
           "+ cluster 'a'\n");
}

static void of_what_changed_the_lines_that_differ_are_shown(void **state) {
    expect(CLUSTERS("{name: a, connect_timeout: 1s, lb_policy: ROUND_ROBIN, alt_stat_name: xx}"),
           CLUSTERS("{name: a, connect_timeout: 2s, lb_policy: ROUND_ROBIN, alt_stat_name: yy}"),
           "clusters: 0 added, 1 changed, 0 removed",
           "~ cluster 'a'\n"
           "  -   \"connect_timeout\": \"1s\",\n"
           "  -   \"alt_stat_name\": \"xx\"\n"
           "  +   \"connect_timeout\": \"2s\",\n"
           "  +   \"alt_stat_name\": \"yy\"\n");
}

#define TWO_ROUTES(first, second)                                                                  \
    WITH_HCM("route_config: {virtual_hosts: [{name: v, domains: [\"*\"], routes: ["                \
             "{match: {prefix: /a}, direct_response: {status: " first "}}, {match: {prefix: /b}, " \
             "direct_response: {status: " second "}}]}]}")

/* In the middle of lists of lists, and whatever stands in front. */
static void of_a_list_the_items_that_differ_are_shown(void **state) {
    expect(TWO_ROUTES("200", "200"), TWO_ROUTES("200", "201"),
           "listeners: 0 added, 1 changed, 0 removed",
           "~ listener ''\n"
           "  -                         \"status\": 200\n"
           "  +                         \"status\": 201\n");
    expect(TWO_ROUTES("200", "200"), TWO_ROUTES("201", "200"),
           "listeners: 0 added, 1 changed, 0 removed",
           "~ listener ''\n"
           "  -                         \"status\": 200\n"
           "  +                         \"status\": 201\n");
}

static void of_a_list_the_items_that_come_and_go_are_shown(void **state) {
#define DOMAINS(list)                                                                              \
    WITH_HCM("route_config: {virtual_hosts: [{name: v, domains: [" list "], routes: [{match: "     \
             "{prefix: /}, direct_response: {status: 200}}]}]}")
    static const char summary[] = "listeners: 0 added, 1 changed, 0 removed";
    expect(DOMAINS("a, c"), DOMAINS("a, b, c"), summary,
           "~ listener ''\n  +                     \"b\"\n");
    expect(DOMAINS("a, b"), DOMAINS("a"), summary,
           "~ listener ''\n  -                     \"b\"\n");
    expect(DOMAINS("a"), DOMAINS("a, b, c"), summary,
           "~ listener ''\n  +                     \"b\",\n  +                     \"c\"\n");
}

/* What stands where it stood is nothing to it. */
static void an_item_that_comes_is_shown_whole(void **state) {
#define HOSTS(list) WITH_HCM("route_config: {virtual_hosts: [" list "]}")
#define HOST(name, more) "{name: " name ", domains: [" more "x], routes: []}"
    expect(HOSTS(HOST("a", "a, ") "," HOST("b", "b, ")),
           HOSTS(HOST("a", "a, ") "," HOST("new", "") "," HOST("b", "b, ")),
           "listeners: 0 added, 1 changed, 0 removed",
           "~ listener ''\n"
           "  +                 {\n"
           "  +                   \"name\": \"new\",\n"
           "  +                   \"domains\": [\n"
           "  +                     \"x\"\n"
           "  +                   ]\n"
           "  +                 }\n");
}

/* They are known by their addresses, and stand in the order of the file. */
static void listeners_without_a_name_are_taken_in_turn(void **state) {
#define LISTENERS(ports) "static_resources: {listeners: [" ports "]}\n"
#define LISTENER(port) "{address: {socket_address: {address: 127.0.0.1, port_value: " #port "}}}"
    expect(LISTENERS(LISTENER(1) "," LISTENER(2)), LISTENERS(LISTENER(1) "," LISTENER(3)),
           "listeners: 0 added, 1 changed, 0 removed",
           "~ listener ''\n"
           "  -       \"port_value\": 2\n"
           "  +       \"port_value\": 3\n");
}

static void secrets_change_without_being_shown(void **state) {
#define SECRET(key)                                                                                \
    "static_resources: {secrets: [{name: s, session_ticket_keys: {keys: "                          \
    "[{inline_string: " key "}]}}]}\n"
    struct resources *old = resources_of(SECRET("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
                                                "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"),
                                         NULL);
    struct resources *new = resources_of(SECRET("bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
                                                "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"),
                                         old);
    struct config_diff diff;
    assert_int_equal(config_diff_make(old, new, &diff), 0);
    assert_string_equal(diff.summary, "secrets: 0 added, 1 changed, 0 removed");
    assert_non_null(strstr(diff.text, "~ secret 's'"));
    assert_null(strstr(diff.text, "aaa"));
    assert_null(strstr(diff.text, "bbb"));
    config_diff_fini(&diff);
    resources_unref(old);
    resources_unref(new);
}

/* 40,000 lines by 40,000 are no table to be filled. */
static void what_is_too_much_to_be_read_is_counted(void **state) {
    char *texts[2];
    for (int side = 0; side < 2; side++) {
        size_t size;
        FILE *out = open_memstream(&texts[side], &size);
        assert_non_null(out);
        fputs("static_resources:\n  clusters:\n  - name: a\n    load_assignment:\n      "
              "cluster_name: a\n"
              "      endpoints:\n      - lb_endpoints:\n",
              out);
        for (int i = 0; i < 4000; i++)
            fprintf(
                out,
                "        - endpoint: {address: {socket_address: {address: 127.0.%d.1, port_value: "
                "%d}}}\n",
                side, i + 1);
        assert_int_equal(fclose(out), 0);
    }
    struct resources *old = resources_of(texts[0], NULL), *new = resources_of(texts[1], old);
    struct config_diff diff;
    assert_int_equal(config_diff_make(old, new, &diff), 0);
    assert_non_null(strstr(diff.text, " lines\n  + "));
    assert_true(strlen(diff.text) < 200);
    config_diff_fini(&diff);
    resources_unref(old);
    resources_unref(new);
    free(texts[0]);
    free(texts[1]);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_is_said_of_what_is_the_same),
        cmocka_unit_test(what_comes_and_goes_is_named),
        cmocka_unit_test(of_what_changed_the_lines_that_differ_are_shown),
        cmocka_unit_test(of_a_list_the_items_that_differ_are_shown),
        cmocka_unit_test(of_a_list_the_items_that_come_and_go_are_shown),
        cmocka_unit_test(an_item_that_comes_is_shown_whole),
        cmocka_unit_test(listeners_without_a_name_are_taken_in_turn),
        cmocka_unit_test(secrets_change_without_being_shown),
        cmocka_unit_test(what_is_too_much_to_be_read_is_counted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
