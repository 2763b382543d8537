/* Whether two messages say the same, which is whether they are the same on the wire. */
#include <ctype.h>
#include <stdio.h>

#include "config_test.h"

static bool are_same_on_the_wire(const void *a, const void *b) {
    size_t a_size, b_size;
    char *a_wire = cfg_to_wire(&cfg_schema_bootstrap, a, &a_size);
    char *b_wire = cfg_to_wire(&cfg_schema_bootstrap, b, &b_size);
    assert_non_null(a_wire);
    assert_non_null(b_wire);
    bool same = a_size == b_size && memcmp(a_wire, b_wire, a_size) == 0;
    free(a_wire);
    free(b_wire);
    return same;
}

static void expect(const char *one, const char *other, bool same) {
    struct config *a = load_saying("t.yaml", one, ""), *b = load_saying("t.yaml", other, "");
    assert_int_equal(are_same_on_the_wire(config_root(a), config_root(b)), same);
    assert_int_equal(cfg_is_same(&cfg_schema_bootstrap, config_root(a), config_root(b)), same);
    assert_int_equal(cfg_is_same(&cfg_schema_bootstrap, config_root(b), config_root(a)), same);
    config_unref(a);
    config_unref(b);
}

#define WITH_METADATA(fields) WITH_CLUSTER("metadata: {filter_metadata: {" fields "}}")
#define WITH_ENDPOINT(fields)                                                                      \
    WITH_CLUSTER(                                                                                  \
        "load_assignment: {cluster_name: c, endpoints: [{lb_endpoints: [{endpoint: {address: "     \
        "{socket_address: {address: 127.0.0.1, port_value: 1}}}, " fields "}]}]}")

static void what_is_written_in_another_way_is_the_same(void **state) {
    (void)state;
    expect(WITH_CLUSTER("connect_timeout: 1.5s"),
           "# moved\n\n" WITH_CLUSTER("connectTimeout: \"1.500s\""), true);
    expect(WITH_CLUSTER("lb_policy: ROUND_ROBIN"), WITH_CLUSTER("lb_policy: 0"), true);
    expect(WITH_METADATA("a: {x: 1, y: {z: [q, true, null]}}, b: {}"),
           WITH_METADATA("b: {}, a: {y: {z: [q, true, null]}, x: 1}"), true);
    expect(WITH_HCM("route_config: {name: r}, via: x"), WITH_HCM("via: x, route_config: {name: r}"),
           true);
}

static void what_is_the_default_is_as_good_as_absent_where_nobody_can_tell(void **state) {
    (void)state;
    expect(WITH_CLUSTER("alt_stat_name: \"\""), WITH_CLUSTER("lb_policy: ROUND_ROBIN"), true);
    expect(WITH_CLUSTER("connect_timeout: 5s"), WITH_CLUSTER("lb_policy: ROUND_ROBIN"), false);
    expect(WITH_ENDPOINT("load_balancing_weight: 1"), WITH_ENDPOINT("health_status: UNKNOWN"),
           false);
}

static void whatever_differs_is_seen(void **state) {
    (void)state;
    expect(WITH_CLUSTER("connect_timeout: 1s"), WITH_CLUSTER("connect_timeout: 2s"), false);
    expect(WITH_CLUSTER("dns_lookup_family: V4_ONLY"), WITH_CLUSTER("dns_lookup_family: V6_ONLY"),
           false);
    expect(WITH_CLUSTER("alt_stat_name: xx"), WITH_CLUSTER("alt_stat_name: xy"), false);
    expect(WITH_ENDPOINT("load_balancing_weight: 1"), WITH_ENDPOINT("load_balancing_weight: 2"),
           false);
    expect(WITH_METADATA("a: {x: 1}"), WITH_METADATA("a: {x: 2}"), false);
    expect(WITH_METADATA("a: {x: 1}"), WITH_METADATA("b: {x: 1}"), false);
    expect(WITH_METADATA("a: {x: 1}"), WITH_METADATA("a: {y: 1}"), false);
    expect(WITH_METADATA("a: {x: 1}"), WITH_METADATA("a: {x: 1}, b: {}"), false);
    expect(WITH_METADATA("a: {x: [1, 2]}"), WITH_METADATA("a: {x: [2, 1]}"), false);
    expect(WITH_METADATA("a: {x: \"1\"}"), WITH_METADATA("a: {x: 1}"), false);
    expect(WITH_METADATA("a: {x: true}"), WITH_METADATA("a: {x: false}"), false);
    expect(WITH_METADATA("a: {x: null}"), WITH_METADATA("a: {x: false}"), false);
    expect(WITH_HCM("route_config: {name: r}"), WITH_HCM("route_config: {name: q}"), false);
    expect("static_resources: {clusters: [{name: a}, {name: b}]}",
           "static_resources: {clusters: [{name: b}, {name: a}]}", false);
    expect("static_resources: {clusters: [{name: a}]}",
           "static_resources: {clusters: [{name: a}, {name: b}]}", false);
    expect("static_resources: {}", "{}", false);
}

static void a_message_that_is_not_there_is_the_same_as_none(void **state) {
    (void)state;
    static const struct cfg_bootstrap empty;
    assert_true(cfg_is_same(&cfg_schema_bootstrap, NULL, NULL));
    assert_false(cfg_is_same(&cfg_schema_bootstrap, &empty, NULL));
    assert_false(cfg_is_same(&cfg_schema_bootstrap, NULL, &empty));
}

static const struct cfg_any *first_filter(const struct config *config) {
    const struct cfg_listener *listener = &config_bootstrap(config)->static_resources->listeners[0];
    return &listener->filter_chains[0].filters[0].typed_config;
}

/* Every digit and letter is another one for once. What is in an Any is compared as bytes there, so once more by itself. */
static void a_file_of_everything_differs_as_it_does_on_the_wire(void **state) {
    (void)state;
    FILE *file = fopen(TEST_DATA "/everything.yaml", "re");
    static char text[1 << 16];
    assert_non_null(file);
    size_t len = fread(text, 1, sizeof text, file), differ = 0;
    assert_int_equal(fclose(file), 0);
    char *said;
    struct config *all = load_named("t.yaml", span_make(text, len), span_none(), &said);
    assert_non_null(all);
    free(said);
    for (size_t i = 0; i < len; i++) {
        if (!isalnum((unsigned char)text[i]))
            continue;
        text[i]++;
        struct config *config = load_named("t.yaml", span_make(text, len), span_none(), &said);
        text[i]--;
        free(said);
        if (!config)
            continue;
        const struct cfg_any *a = first_filter(all), *b = first_filter(config);
        bool same = are_same_on_the_wire(config_root(all), config_root(config));
        assert_int_equal(cfg_is_same(&cfg_schema_bootstrap, config_root(all), config_root(config)),
                         same);
        assert_int_equal(cfg_is_same(a->schema, a->message, b->message),
                         span_eq(a->value, b->value));
        differ += !same;
        config_unref(config);
    }
    assert_true(differ > 50);
    config_unref(all);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_written_in_another_way_is_the_same),
        cmocka_unit_test(what_is_the_default_is_as_good_as_absent_where_nobody_can_tell),
        cmocka_unit_test(whatever_differs_is_seen),
        cmocka_unit_test(a_message_that_is_not_there_is_the_same_as_none),
        cmocka_unit_test(a_file_of_everything_differs_as_it_does_on_the_wire),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
