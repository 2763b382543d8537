/* The JSON mapping, rule by rule, and what is said when a value does not fit. */
#include "config_test.h"

/* ---- names ---- */

static void names_in_both_spellings_are_the_same_field(void **state) {
    struct config *config =
        load_ok(WITH_LISTENER("statPrefix: a, per_connection_buffer_limit_bytes: 5"));
    assert_span(listener_of(config)->stat_prefix, "a");
    config_unref(config);
    refused(WITH_LISTENER("stat_prefix: a, statPrefix: b"),
            LISTENER_PATH "stat_prefix: written twice, in snake_case and in lowerCamelCase\n");
}

static void near_misses_get_a_suggestion(void **state) {
    refused(WITH_CLUSTER("conect_timeout: 1s"),
            "t.yaml:1: static_resources.clusters[0]: unknown field \"conect_timeout\" in "
            "envoy.config.cluster.v3.Cluster; did you mean \"connect_timeout\"?\n");
    refused(WITH_CLUSTER("lbPolciy: ROUND_ROBIN"),
            "t.yaml:1: static_resources.clusters[0]: unknown field \"lbPolciy\" in "
            "envoy.config.cluster.v3.Cluster; did you mean \"lb_policy\"?\n");
    refused(WITH_CLUSTER("zebra: 1"),
            "t.yaml:1: static_resources.clusters[0]: unknown field \"zebra\" in "
            "envoy.config.cluster.v3.Cluster\n");
}

static void what_envoy_has_and_we_have_not_is_told_apart(void **state) {
    refused(WITH_CLUSTER("outlierDetection: {}"),
            CLUSTER_PATH "outlier_detection: not supported yet: Envoy has this field, this release "
                         "does not\n");
    refused(WITH_HCM("scoped_routes: {}"),
            HCM_PATH "scoped_routes: not supported yet: Envoy has this field, this "
                     "release does not\n");
    refused(WITH_HCM("route_config: {}, stream_error_on_invalid_http_message: true"),
            HCM_PATH "stream_error_on_invalid_http_message: true is not supported yet: only "
                     "false, the default, is\n");
    config_unref(
        load_ok(WITH_HCM("route_config: {}, stream_error_on_invalid_http_message: false")));
    refused(WITH_HCM("route_config: {}, codec_type: HTTP2"),
            HCM_PATH "codec_type: HTTP2 is not supported yet: Envoy has it, this release does "
                     "not\n");
    refused(WITH_CLUSTER("load_assignment: {cluster_name: c, endpoints: [{priority: 1}]}"),
            CLUSTER_PATH "load_assignment.endpoints[0]: priority 1 is not supported yet: only 0 "
                         "is\n");
}

/* ---- scalars ---- */

static void plain_yaml_is_read_as_envoy_reads_it(void **state) {
    static const struct {
        const char *text;
        uint32_t value;
    } numbers[] = {
        {"7", 7},   {"\"7\"", 7}, {"0x10", 16},       {"010", 8},     {"+7", 7},
        {"7.0", 7}, {"7e1", 70},  {"!!int \"7\"", 7}, {"\"7.0\"", 7}, {"4294967295", UINT32_MAX}};
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
        char yaml[1024];
        snprintf(yaml, sizeof(yaml), WITH_LISTENER("tcp_backlog_size: %s"), numbers[i].text);
        struct config *config = load_ok(yaml);
        assert_true(listener_of(config)->tcp_backlog_size.set);
        assert_int_equal(listener_of(config)->tcp_backlog_size.value, numbers[i].value);
        config_unref(config);
    }
    static const struct {
        const char *text;
        bool value;
    } bools[] = {{"true", true}, {"True", true}, {"TRUE", true}, {"yes", true},   {"on", true},
                 {"y", true},    {"No", false},  {"OFF", false}, {"false", false}};
    for (size_t i = 0; i < sizeof(bools) / sizeof(bools[0]); i++) {
        char yaml[1024];
        snprintf(yaml, sizeof(yaml), WITH_LISTENER("enable_reuse_port: %s"), bools[i].text);
        struct config *config = load_ok(yaml);
        assert_true(listener_of(config)->enable_reuse_port.set);
        assert_int_equal(listener_of(config)->enable_reuse_port.value, bools[i].value);
        config_unref(config);
    }
    /* Quoted, and plain words that are no bool and no integer, are strings. */
    static const char *const strings[][2] = {
        {"\"yes\"", "yes"}, {"'1'", "1"},          {"1.5", "1.5"},     {"tRUE", "tRUE"},
        {"08", "08"},       {"\"a\\tb\"", "a\tb"}, {"1_000", "1_000"}, {"\"\"", ""},
        {"! 12", "12"},     {"0x", "0x"},          {"-", "-"}};
    for (size_t i = 0; i < sizeof(strings) / sizeof(strings[0]); i++) {
        char yaml[1024];
        snprintf(yaml, sizeof(yaml), "node:\n  id: %s\n", strings[i][0]);
        if (strcmp(strings[i][0], "-") == 0)
            snprintf(yaml, sizeof(yaml), "node: {id: \"-\"}");
        struct config *config = load_ok(yaml);
        assert_span(config_bootstrap(config)->node->id, strings[i][1]);
        config_unref(config);
    }
}

static void values_of_the_wrong_type_are_told(void **state) {
    refused("node: {id: 5}",
            "t.yaml:1: node.id: expected a string (put it in quotes), found the number 5\n");
    refused("node: {id: yes}",
            "t.yaml:1: node.id: expected a string (put it in quotes), found the bool yes\n");
    refused("node: {id: {}}", "t.yaml:1: node.id: expected a single value, found an object\n");
    refused("node: []", "t.yaml:1: node: expected an object (envoy.config.core.v3.Node), found a "
                        "list\n");
    refused("[]", "t.yaml:1: expected an object (envoy.config.bootstrap.v3.Bootstrap), found a "
                  "list\n");
    refused("static_resources: {listeners: [~]}",
            "t.yaml:1: static_resources.listeners[0]: null cannot be an item of a list\n");
    refused(WITH_LISTENER("enable_reuse_port: \"on\""),
            LISTENER_PATH "enable_reuse_port: expected true or false, found the string \"on\"\n");
    refused(WITH_LISTENER("enable_reuse_port: 1"),
            LISTENER_PATH "enable_reuse_port: expected true or false, found the number 1\n");
    refused(WITH_LISTENER("tcp_backlog_size: many"),
            LISTENER_PATH "tcp_backlog_size: expected an integer, found the string \"many\"\n");
    refused(WITH_LISTENER("tcp_backlog_size: 1.5"),
            LISTENER_PATH "tcp_backlog_size: expected an integer, found the string \"1.5\"\n");
    refused(WITH_LISTENER("tcp_backlog_size: 4294967296"),
            LISTENER_PATH "tcp_backlog_size: 4294967296 is out of range: 0 to 4294967295 fit\n");
    refused(WITH_LISTENER("tcp_backlog_size: -1"),
            LISTENER_PATH "tcp_backlog_size: -1 is out of range: 0 to 4294967295 fit\n");
    refused(WITH_MATCH("prefix: /, headers: [{name: a, range_match: {start: "
                       "9223372036854775808}}]"),
            ROUTE_PATH "match.headers[0].range_match.start: 9223372036854775808 is out of range: "
                       "-9223372036854775808 to 9223372036854775807 fit\n");
    refused(WITH_HCM("route_config: {virtual_hosts: [{name: v, domains: [a], routes: [{match: "
                     "{prefix: /}, direct_response: {status: 200}, typed_per_filter_config: []}]}"
                     "]}"),
            ROUTE_PATH "typed_per_filter_config: expected an object (a map), found a list\n");
}

/* Forms that Envoy's JSON reader takes beyond the mapping, and that files in the wild have. */
static void what_envoy_takes_beyond_the_mapping(void **state) {
    struct config *config =
        load_ok(WITH_LISTENER("tcp_backlog_size: {value: 7}, enable_reuse_port: \"false\""));
    assert_true(listener_of(config)->tcp_backlog_size.set);
    assert_int_equal(listener_of(config)->tcp_backlog_size.value, 7);
    assert_true(listener_of(config)->enable_reuse_port.set);
    assert_false(listener_of(config)->enable_reuse_port.value);
    config_unref(config);
    config = load_ok("static_resources: {clusters: {name: c}}");
    assert_int_equal(config_bootstrap(config)->static_resources->clusters_count, 1);
    assert_span(cluster_of(config)->name, "c");
    assert_span(cluster_of(config)->mark.path, "static_resources.clusters[0]");
    config_unref(config);
    config = load_ok(WITH_HCM("route_config: {virtual_hosts: {name: v, domains: \"*\"}}"));
    assert_span(hcm_of(config)->route_config->virtual_hosts[0].domains[0], "*");
    config_unref(config);
    refused(WITH_HCM("route_config: {}, max_request_headers_kb: {}"),
            HCM_PATH "max_request_headers_kb: 0 is not within 1 to 8192\n");
    refused(WITH_LISTENER("tcp_backlog_size: {valeu: 7}"), LISTENER_PATH
            "tcp_backlog_size: unknown field \"valeu\" in google.protobuf.UInt32Value; "
            "did you mean \"value\"?\n");
    refused("static_resources: {clusters: c}",
            "t.yaml:1: static_resources.clusters[0]: expected an object "
            "(envoy.config.cluster.v3.Cluster), found a plain value\n");
}

static void sixty_four_bit_integers_may_be_strings(void **state) {
    struct config *config = load_ok(WITH_MATCH(
        "prefix: /, headers: [{name: a, range_match: {start: \"-9223372036854775808\", end: "
        "9223372036854775807}}]"));
    const struct cfg_header_matcher *header = &route_of(config)->match->headers[0];
    assert_true(header->range_start == INT64_MIN);
    assert_true(header->range_end == INT64_MAX);
    config_unref(config);
}

static void enums_by_name_or_number(void **state) {
    static const char *const good[] = {"LOGICAL_DNS", "2", "\"LOGICAL_DNS\"", "logical_dns",
                                       "\"2\""};
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        char yaml[512];
        snprintf(yaml, sizeof(yaml), WITH_CLUSTER("type: %s"), good[i]);
        struct config *config = load_ok(yaml);
        assert_int_equal(cluster_of(config)->type, CFG_CLUSTER_LOGICAL_DNS);
        config_unref(config);
    }
    refused(WITH_CLUSTER("type: logical-dns"),
            CLUSTER_PATH "type: expected one of STATIC, STRICT_DNS, LOGICAL_DNS, found the string "
                         "\"logical-dns\"\n");
    refused(WITH_CLUSTER("type: 9"), CLUSTER_PATH
            "type: 9 is not a value of envoy.config.cluster.v3.Cluster.DiscoveryType\n");
    refused(WITH_CLUSTER("type: EDS"),
            CLUSTER_PATH "type: EDS is not supported yet: Envoy has it, this release does not\n");
    refused(WITH_CLUSTER("type: 3"),
            CLUSTER_PATH "type: EDS is not supported yet: Envoy has it, this release does not\n");
}

static void durations_are_seconds(void **state) {
    static const struct {
        const char *text;
        int64_t ns;
    } good[] = {{"1s", 1000000000},
                {"0.25s", 250000000},
                {"\"0.000000001s\"", 1},
                {"0s", 0},
                {"00.1s", 100000000},
                {"9000000000s", 9000000000000000000},
                {"{seconds: 1, nanos: \"5\"}", 1000000005},
                {"{}", 0}};
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        char yaml[1024];
        snprintf(yaml, sizeof(yaml), WITH_ACTION("cluster: c, timeout: %s"), good[i].text);
        struct config *config = load_ok(yaml);
        assert_true(route_of(config)->route->timeout.set);
        assert_true(route_of(config)->route->timeout.ns == good[i].ns);
        config_unref(config);
    }
#define EXPECTED "expected a duration in seconds, such as \"5s\" or \"0.25s\", found "
    refused(WITH_ACTION("cluster: c, timeout: 5"),
            ROUTE_PATH "route.timeout: " EXPECTED "the number 5\n");
    static const char *const bad[] = {"5ms", "1.s",  ".5s", "1.0000000001s", "s",
                                      "1 s", "1e3s", "5m",  "315576000001s"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        char yaml[1024], expected[512];
        snprintf(yaml, sizeof(yaml), WITH_ACTION("cluster: c, timeout: \"%s\""), bad[i]);
        snprintf(expected, sizeof(expected),
                 ROUTE_PATH "route.timeout: " EXPECTED "the string \"%s\"\n", bad[i]);
        refused(yaml, expected);
    }
    refused(WITH_ACTION("cluster: c, timeout: 10000000000s"),
            ROUTE_PATH "route.timeout: 10000000000s is longer than 292 years\n");
    refused(WITH_ACTION("cluster: c, timeout: {seconds: 1, nanos: -1}"),
            ROUTE_PATH "route.timeout: seconds and nanos are out of range, or of different sign\n");
    refused(WITH_ACTION("cluster: c, timeout: {second: 1}"), ROUTE_PATH
            "route.timeout: unknown field \"second\" in google.protobuf.Duration; did you "
            "mean \"seconds\"?\n");
    refused(WITH_ACTION("cluster: c, timeout: -1s"),
            ROUTE_PATH "route.timeout: must not be negative\n");
    refused(WITH_CLUSTER("dns_refresh_rate: 0.001s"),
            CLUSTER_PATH "dns_refresh_rate: must be at least 0.001000001s\n");
    refused("stats_flush_interval: 300s", "t.yaml:1: stats_flush_interval: must be at most "
                                          "299.999999999s\n");
}

static void bytes_are_base64_in_both_alphabets(void **state) {
    static const char *const good[] = {"+/8=", "-_8", "-_8="};
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        char yaml[1024];
        snprintf(yaml, sizeof(yaml),
                 WITH_ROUTE("match: {prefix: /}, direct_response: {status: 200, body: "
                            "{inline_bytes: \"%s\"}}"),
                 good[i]);
        struct config *config = load_ok(yaml);
        const struct cfg_data_source *body = route_of(config)->direct_response->body;
        assert_int_equal(body->specifier_case, 2);
        assert_span(body->inline_bytes, "\xFB\xFF");
        config_unref(config);
    }
    refused(WITH_ROUTE("match: {prefix: /}, direct_response: {status: 200, body: {inline_bytes: "
                       "\"a*\"}}"),
            ROUTE_PATH "direct_response.body.inline_bytes: expected bytes as a base64 string, "
                       "found the string \"a*\"\n");
}

static void null_is_absence(void **state) {
    struct config *config =
        load_ok(WITH_CLUSTER("connect_timeout: null, load_assignment: ~, lb_policy: "));
    assert_false(cluster_of(config)->connect_timeout.set);
    assert_null(cluster_of(config)->load_assignment);
    config_unref(config);
    refused("static_resources: {clusters: [{name: ~}]}",
            "t.yaml:1: static_resources.clusters[0]: name is required\n");
}

static void wrappers_tell_absent_from_zero(void **state) {
    struct config *config = load_ok(WITH_LISTENER("tcp_backlog_size: 0"));
    assert_true(listener_of(config)->tcp_backlog_size.set);
    assert_false(listener_of(config)->per_connection_buffer_limit_bytes.set);
    config_unref(config);
}

/* ---- oneofs ---- */

static void members_of_a_oneof_exclude_each_other(void **state) {
    refused(WITH_MATCH("prefix: /, path: /x"),
            ROUTE_PATH "match.path: prefix and path cannot both be set: they are one choice "
                       "(path_specifier)\n");
    refused(WITH_MATCH("case_sensitive: true"),
            ROUTE_PATH "match: one of prefix, path, safe_regex, path_separated_prefix is "
                       "required\n");
    /* null leaves the choice to the other one. */
    struct config *config = load_ok(WITH_MATCH("prefix: ~, path: /x"));
    assert_int_equal(route_of(config)->match->path_specifier_case, CFG_PATH_EXACT);
    config_unref(config);
    /* A member that is set to its zero value is set. */
    config = load_ok(WITH_MATCH("prefix: \"\""));
    assert_int_equal(route_of(config)->match->path_specifier_case, CFG_PATH_PREFIX);
    config_unref(config);
    refused(WITH_ACTION("timeout: 1s"),
            ROUTE_PATH "route: one of cluster, cluster_header, weighted_clusters, "
                       "cluster_specifier_plugin, inline_cluster_specifier_plugin is required\n");
    refused(WITH_ROUTE("match: {prefix: /}"),
            HCM_PATH "route_config.virtual_hosts[0].routes[0]: one of route, redirect, "
                     "direct_response is required\n");
}

/* ---- Envoy's validation rules ---- */

static void required_fields_are_asked_for(void **state) {
    refused("static_resources: {listeners: [{filter_chains: [{filters: [{name: \"\", typed_config: "
            "{\"@type\": " HCM_TYPE ", statPrefix: \"\"}}]}]}]}",
            "t.yaml:1: static_resources.listeners[0].filter_chains[0].filters[0].name: must not be "
            "empty\n"
            "t.yaml:1: static_resources.listeners[0].filter_chains[0].filters[0].typed_config."
            "stat_prefix: must not be empty\n"
            "t.yaml:1: static_resources.listeners[0].filter_chains[0].filters[0].typed_config: "
            "one of rds, route_config is required\n"
            "t.yaml:1: static_resources.listeners[0]: address is required\n");
    refused("admin: {address: {socket_address: {}}}",
            "t.yaml:1: admin.address.socket_address: address is required\n"
            "t.yaml:1: admin.address.socket_address: port_value is required\n");
    refused("admin: {address: {}}", "t.yaml:1: admin.address: socket_address is required\n");
    refused(WITH_HCM("route_config: {virtual_hosts: [{name: v, domains: []}, {name: w}]}"),
            HCM_PATH "route_config.virtual_hosts[0].domains: needs at least one item\n" HCM_PATH
                     "route_config.virtual_hosts[1]: domains is required, with at least one "
                     "item\n");
    refused(WITH_ROUTE("match: {prefix: /}, direct_response: {}"),
            ROUTE_PATH "direct_response: status is required, 200 to 599\n");
    refused(WITH_ROUTE("match: {prefix: /}, direct_response: {status: 0}"),
            ROUTE_PATH "direct_response.status: 0 is not within 200 to 599\n");
    refused(WITH_CLUSTER("load_assignment: {cluster_name: c, endpoints: [{lb_endpoints: "
                         "[{endpoint: {}}, {}]}]}"),
            CLUSTER_PATH "load_assignment.endpoints[0].lb_endpoints[0].endpoint: address is "
                         "required\n" CLUSTER_PATH
                         "load_assignment.endpoints[0].lb_endpoints[1]: endpoint is required\n");
}

static void header_names_and_values_must_be_sendable(void **state) {
#define ADD(header) WITH_HCM("route_config: {request_headers_to_add: [{header: {" header "}}]}")
#define AT_HEADER HCM_PATH "route_config.request_headers_to_add[0].header."
    struct config *config = load_ok(ADD("key: x-a, value: \"%REQ(:path)%\""));
    config_unref(config);
    refused(ADD("key: \"a b\", value: v"), AT_HEADER "key: \"a b\" is not a header name\n");
    refused(ADD("key: \"\", value: v"), AT_HEADER "key: must not be empty\n");
    refused(ADD("key: \":path\", value: v"),
            AT_HEADER "key: \":path\": headers that begin with ':' and host may not be modified "
                      "here\n");
    refused(ADD("key: Host, value: v"),
            AT_HEADER "key: \"Host\": headers that begin with ':' and host may not be modified "
                      "here\n");
    refused(ADD("key: a, value: \"x\\r\\ny\""),
            AT_HEADER "value: must not contain NUL, CR or LF\n");
    refused(WITH_HCM("route_config: {response_headers_to_remove: [ok, \"\", host]}"), HCM_PATH
            "route_config.response_headers_to_remove[1]: \"\" is not a header name\n" HCM_PATH
            "route_config.response_headers_to_remove[2]: \"host\": headers that begin "
            "with ':' and host may not be modified here\n");
    refused(WITH_HCM("route_config: {request_headers_to_add: [{header: {key: a}, append: true, "
                     "append_action: ADD_IF_ABSENT}]}"),
            HCM_PATH "route_config.request_headers_to_add[0]: append and append_action cannot both "
                     "be set\n");
    config = load_ok(WITH_MATCH("prefix: /, headers: [{name: \":method\", exact_match: GET}]"));
    config_unref(config);
}

static void paths_and_strings_have_their_rules(void **state) {
    static const char *const bad[] = {"/a/", "/a?b", "/a#b", "/"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        char yaml[1024], expected[512];
        snprintf(yaml, sizeof(yaml), WITH_MATCH("path_separated_prefix: \"%s\""), bad[i]);
        snprintf(expected, sizeof(expected),
                 ROUTE_PATH "match.path_separated_prefix: \"%s\" must be a path without '?' and "
                            "'#', and without '/' at the end\n",
                 bad[i]);
        refused(yaml, expected);
    }
    refused("node: {id: \"a\\0b\"}", "t.yaml:1: node.id: must not contain a NUL byte\n");
    refused(WITH_HCM("route_config: {}, strip_any_host_port: on, strip_matching_host_port: on"),
            "t.yaml:1: static_resources.listeners[0].filter_chains[0].filters[0].typed_config: "
            "strip_matching_host_port and strip_any_host_port cannot both be set\n");
    refused(WITH_ACTION("weighted_clusters: {clusters: [{name: a}]}"),
            ROUTE_PATH "route.weighted_clusters: the sum of the weights must be greater than 0\n");
    refused(WITH_ACTION("cluster: c, prefix_rewrite: /, regex_rewrite: {pattern: {regex: a}}"),
            ROUTE_PATH "route: prefix_rewrite and regex_rewrite cannot both be set\n");
    refused(WITH_CLUSTER("typed_extension_protocol_options: {x: {\"@type\": " TYPE
                         "envoy.extensions.upstreams.http.v3.HttpProtocolOptions, "
                         "explicit_http_config: {http_protocol_options: {}}}}"),
            CLUSTER_PATH "typed_extension_protocol_options: the extension \"x\" is not supported: "
                         "only envoy.extensions.upstreams.http.v3.HttpProtocolOptions is\n");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_in_both_spellings_are_the_same_field),
        cmocka_unit_test(near_misses_get_a_suggestion),
        cmocka_unit_test(what_envoy_has_and_we_have_not_is_told_apart),
        cmocka_unit_test(plain_yaml_is_read_as_envoy_reads_it),
        cmocka_unit_test(values_of_the_wrong_type_are_told),
        cmocka_unit_test(what_envoy_takes_beyond_the_mapping),
        cmocka_unit_test(sixty_four_bit_integers_may_be_strings),
        cmocka_unit_test(enums_by_name_or_number),
        cmocka_unit_test(durations_are_seconds),
        cmocka_unit_test(bytes_are_base64_in_both_alphabets),
        cmocka_unit_test(null_is_absence),
        cmocka_unit_test(wrappers_tell_absent_from_zero),
        cmocka_unit_test(members_of_a_oneof_exclude_each_other),
        cmocka_unit_test(required_fields_are_asked_for),
        cmocka_unit_test(header_names_and_values_must_be_sendable),
        cmocka_unit_test(paths_and_strings_have_their_rules),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
