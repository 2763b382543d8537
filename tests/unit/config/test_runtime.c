/* runtime_layers.h: what a key says, however it is written; what is warned of, line by line. */
#include "config_test.h"

#include "config/runtime_layers.h"

static struct config *with_layers(const char *layers, const char *expected) {
    char *text = NULL;
    assert_true(asprintf(&text,
                         "layered_runtime:\n"
                         "  layers:\n"
                         "%s",
                         layers) > 0);
    struct config *config = load_saying("t.yaml", text, expected);
    free(text);
    return config;
}

static uint64_t global_of(const struct config *config) {
    uint64_t value = 4242;
    bool found = cfg_runtime_u64(config_bootstrap(config)->layered_runtime,
                                 span_of(RUNTIME_GLOBAL_CONNECTIONS), &value);
    assert_int_equal(found, value != 4242);
    return value;
}

static void a_key_is_its_names_joined_by_dots(void **state) {
    static const char *const ways[] = {
        "overload.global_downstream_max_connections: 7",
        "{overload: {global_downstream_max_connections: 7}}",
        "{overload: {global_downstream_max_connections: \"7\"}}",
    };
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
        char *layer = NULL, *said;
        assert_true(
            asprintf(&layer,
                     "layered_runtime:\n  layers:\n  - name: a\n    static_layer:\n      %s",
                     ways[i]) > 0);
        struct config *config = load_named("t.yaml", span_of(layer), span_none(), &said);
        assert_non_null(config);
        assert_non_null(strstr(said, "t.yaml:5: layered_runtime.layers[0].static_layer"));
        assert_int_equal(global_of(config), 7);
        config_unref(config);
        free(said);
        free(layer);
    }
}

static void a_later_layer_wins(void **state) {
    char *said;
    static const char yaml[] = "layered_runtime:\n"
                               "  layers:\n"
                               "  - {name: a, static_layer: {overload.x: 1, "
                               "overload.global_downstream_max_connections: 1}}\n"
                               "  - {name: b, static_layer: {overload: "
                               "{global_downstream_max_connections: 3000000000}}}\n"
                               "  - {name: c, static_layer: {overload: {y: 2}}}\n";
    struct config *config = load_named("t.yaml", span_of(yaml), span_none(), &said);
    assert_non_null(config);
    assert_int_equal(global_of(config), 3000000000);
    config_unref(config);
    free(said);
}

static void without_layers_nothing_is_said(void **state) {
    struct config *config = load_ok("node: {id: a}");
    assert_int_equal(global_of(config), 4242);
    config_unref(config);
    config = load_ok("layered_runtime: {}");
    assert_int_equal(global_of(config), 4242);
    uint64_t value;
    assert_int_equal(
        cfg_runtime_listener_limit(config_bootstrap(config)->layered_runtime, span_of("l"), &value),
        0);
    config_unref(config);
    config = with_layers("  - {name: a, static_layer: {}}\n", "");
    assert_int_equal(global_of(config), 4242);
    config_unref(config);
}

static void what_has_no_effect_is_warned_of(void **state) {
    struct config *config = with_layers(
        "  - name: a\n"
        "    static_layer:\n"
        "      re2.max_program_size.error_level: 100\n"
        "      upstream: {healthy_panic_threshold: {numerator: 1}}\n"
        "      envoy:\n"
        "        resource_limits:\n"
        "          listener.l.connection_limit: 2\n",
        "t.yaml:5: layered_runtime.layers[0].static_layer[\"re2.max_program_size.error_level\"]: "
        "warning: the runtime key re2.max_program_size.error_level has no effect here; heeded are "
        "envoy.resource_limits.listener.NAME.connection_limit and "
        "overload.global_downstream_max_connections\n"
        "t.yaml:6: layered_runtime.layers[0].static_layer[\"upstream\"]"
        "[\"healthy_panic_threshold\"]: "
        "warning: the runtime key upstream.healthy_panic_threshold has no effect here; heeded are "
        "envoy.resource_limits.listener.NAME.connection_limit and "
        "overload.global_downstream_max_connections\n"
        "t.yaml:9: layered_runtime.layers[0].static_layer[\"envoy\"][\"resource_limits\"]"
        "[\"listener.l.connection_limit\"]: warning: there is no listener with the name 'l'\n");
    assert_non_null(config);
    config_unref(config);
}

static void a_layer_that_is_none_has_no_name_to_take(void **state) {
    refused("layered_runtime: {layers: [5, null]}",
            "t.yaml:1: layered_runtime.layers[0]: expected an object "
            "(envoy.config.bootstrap.v3.RuntimeLayer), found a plain value\n"
            "t.yaml:1: layered_runtime.layers[1]: null cannot be an item of a list\n");
}

static void numbers(void **state) {
    static const struct {
        struct cfg_value value;
        bool ok;
        uint64_t number;
    } cases[] = {
        {{.kind = CFG_VALUE_NUMBER, .number = 0}, true, 0},
        {{.kind = CFG_VALUE_NUMBER, .number = 9007199254740992.0}, true, 1ull << 53},
        {{.kind = CFG_VALUE_NUMBER, .number = 9007199254740994.0}, false, 0},
        {{.kind = CFG_VALUE_NUMBER, .number = -1}, false, 0},
        {{.kind = CFG_VALUE_NUMBER, .number = 0.5}, false, 0},
        {{.kind = CFG_VALUE_STRING, .string = {"18446744073709551615", 20}}, true, UINT64_MAX},
        {{.kind = CFG_VALUE_STRING, .string = {"1x", 2}}, false, 0},
        {{.kind = CFG_VALUE_STRING, .string = {"", 0}}, false, 0},
        {{.kind = CFG_VALUE_BOOL, .boolean = true}, false, 0},
        {{.kind = CFG_VALUE_NULL}, false, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        uint64_t number = 42;
        assert_int_equal(cfg_runtime_number(&cases[i].value, &number), cases[i].ok);
        assert_int_equal(number, cases[i].ok ? cases[i].number : 42);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_key_is_its_names_joined_by_dots),
        cmocka_unit_test(a_later_layer_wins),
        cmocka_unit_test(without_layers_nothing_is_said),
        cmocka_unit_test(what_has_no_effect_is_warned_of),
        cmocka_unit_test(a_layer_that_is_none_has_no_name_to_take),
        cmocka_unit_test(numbers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
