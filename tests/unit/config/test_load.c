/* Loading whole configurations: what a user writes, and what the proxy then finds. */
#include "config_test.h"

#include <errno.h>
#include <unistd.h>

#include "config/load.h"
#include "config/schema_tables.h"

static const char ordinary[] =
    "node: {id: n1, cluster: c1, locality: {region: r, zone: z}}\n"
    "admin:\n"
    "  address:\n"
    "    socket_address: {address: 127.0.0.1, port_value: 9901}\n"
    "static_resources:\n"
    "  listeners:\n"
    "  - name: main\n"
    "    address:\n"
    "      socket_address: {address: \"::\", port_value: 10000, ipv4_compat: true}\n"
    "    per_connection_buffer_limit_bytes: 32768\n"
    "    filter_chains:\n"
    "    - filters:\n"
    "      - name: envoy.filters.network.http_connection_manager\n"
    "        typed_config:\n"
    "          \"@type\": " HCM_TYPE "\n"
    "          stat_prefix: ingress\n"
    "          stream_idle_timeout: 0s\n"
    "          use_remote_address: true\n"
    "          access_log:\n"
    "          - name: out\n"
    "            typed_config:\n"
    "              \"@type\": " TYPE "envoy.extensions.access_loggers.stream.v3.StdoutAccessLog\n"
    "              log_format: {json_format: {code: \"%RESPONSE_CODE%\", fixed: [1, true]}}\n"
    "          route_config:\n"
    "            virtual_hosts:\n"
    "            - name: all\n"
    "              domains: [\"*\", \"*.example.com\"]\n"
    "              routes:\n"
    "              - match:\n"
    "                  prefix: /api\n"
    "                  headers:\n"
    "                  - {name: x-n, range_match: {start: -5, end: 10}}\n"
    "                  - {name: x-s, string_match: {suffix: ab, ignore_case: true}}\n"
    "                  query_parameters: [{name: q, present_match: false}]\n"
    "                  grpc: {}\n"
    "                  runtime_fraction:\n"
    "                    default_value: {numerator: 5, denominator: MILLION}\n"
    "                route: {cluster: up, timeout: 0.25s, auto_host_rewrite: true}\n"
    "                typed_per_filter_config:\n"
    "                  envoy.filters.http.golang:\n"
    "                    \"@type\": " TYPE
    "envoy.extensions.filters.http.golang.v3alpha.ConfigsPerRoute\n"
    "                    plugins_config: {p: {disabled: true}}\n"
    "              - match: {safe_regex: {google_re2: {}, regex: \"/x.*\"}}\n"
    "                redirect: {https_redirect: true, response_code: SEE_OTHER}\n"
    "              - match: {prefix: /}\n"
    "                route:\n"
    "                  weighted_clusters: {clusters: [{name: a, weight: 1}, {name: b, weight: "
    "2}]}\n"
    "          http_filters:\n"
    "          - name: router\n"
    "            typed_config:\n"
    "              \"@type\": " TYPE "envoy.extensions.filters.http.router.v3.Router\n"
    "  clusters:\n"
    "  - name: up\n"
    "    type: STRICT_DNS\n"
    "    connect_timeout: 1.5s\n"
    "    circuit_breakers: {thresholds: [{max_connections: 7}]}\n"
    "    typed_extension_protocol_options:\n"
    "      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:\n"
    "        \"@type\": " TYPE "envoy.extensions.upstreams.http.v3.HttpProtocolOptions\n"
    "        common_http_protocol_options: {idle_timeout: 9s}\n"
    "        explicit_http_config: {http_protocol_options: {}}\n"
    "    load_assignment:\n"
    "      cluster_name: up\n"
    "      endpoints:\n"
    "      - lb_endpoints:\n"
    "        - endpoint: {address: {socket_address: {address: example.com, port_value: 80}}}\n"
    "          load_balancing_weight: 3\n";

static void an_ordinary_file_fills_the_structs(void **state) {
    struct config *config = load_ok(ordinary);
    const struct cfg_bootstrap *bootstrap = config_bootstrap(config);
    assert_span(bootstrap->node->id, "n1");
    assert_span(bootstrap->node->zone, "z");
    assert_int_equal(bootstrap->admin->address->port_value, 9901);
    assert_int_equal(bootstrap->static_resources->listeners_count, 1);

    const struct cfg_listener *listener = listener_of(config);
    assert_span(listener->name, "main");
    assert_span(listener->address->host, "::");
    assert_int_equal(listener->address->port_specifier_case, 3);
    assert_true(listener->address->ipv4_compat);
    assert_true(listener->per_connection_buffer_limit_bytes.set);
    assert_int_equal(listener->per_connection_buffer_limit_bytes.value, 32768);
    assert_false(listener->enable_reuse_port.set);
    assert_int_equal(listener->mark.line, 7);
    assert_span(listener->mark.file, "t.yaml");
    assert_span(listener->mark.path, "static_resources.listeners[0]");

    const struct cfg_hcm *hcm = hcm_of(config);
    assert_span(hcm->stat_prefix, "ingress");
    assert_true(hcm->stream_idle_timeout.set);
    assert_int_equal(hcm->stream_idle_timeout.ns, 0);
    assert_false(hcm->request_timeout.set);
    assert_true(hcm->use_remote_address.value);
    assert_ptr_equal(hcm->access_log[0].typed_config.schema, &cfg_schema_stdout_access_log);
    const struct cfg_access_log_sink *sink = hcm->access_log[0].typed_config.message;
    assert_int_equal(sink->access_log_format_case, 1);
    assert_int_equal(sink->log_format->format_case, CFG_LOG_JSON);
    const struct cfg_value *json = sink->log_format->json_format;
    assert_int_equal(json->kind, CFG_VALUE_STRUCT);
    assert_span(json->fields[0].key, "code");
    assert_span(json->fields[0].value.string, "%RESPONSE_CODE%");
    assert_true(json->fields[1].value.items[0].number == 1);
    assert_int_equal(hcm->http_filters_count, 1);
    assert_ptr_equal(hcm->http_filters[0].typed_config.schema, &cfg_schema_router);

    const struct cfg_virtual_host *host = &hcm->route_config->virtual_hosts[0];
    assert_int_equal(host->domains_count, 2);
    assert_span(host->domains[1], "*.example.com");
    assert_int_equal(host->routes_count, 3);

    const struct cfg_route_match *match = host->routes[0].match;
    assert_int_equal(match->path_specifier_case, CFG_PATH_PREFIX);
    assert_int_equal(match->headers[0].header_match_specifier_case, CFG_HEADER_RANGE);
    assert_int_equal(match->headers[0].range_start, -5);
    assert_int_equal(match->headers[0].range_end, 10);
    assert_int_equal(match->headers[1].string_match->match_pattern_case, CFG_STRING_SUFFIX);
    assert_true(match->headers[1].string_match->ignore_case);
    assert_int_equal(match->query_parameters[0].match_specifier_case, 6);
    assert_true(match->grpc);
    assert_int_equal(match->runtime_fraction->numerator, 5);
    assert_int_equal(match->runtime_fraction->denominator, 2);

    const struct cfg_route *route = &host->routes[0];
    assert_int_equal(route->action_case, CFG_ACTION_ROUTE);
    assert_int_equal(route->route->timeout.ns, 250000000);
    assert_int_equal(route->route->host_rewrite_specifier_case, CFG_HOST_REWRITE_AUTO);
    assert_span(route->typed_per_filter_config[0].key, "envoy.filters.http.golang");
    const struct cfg_golang_per_route *go = route->typed_per_filter_config[0].value.message;
    assert_span(go->plugins_config[0].key, "p");
    assert_int_equal(go->plugins_config[0].value.override_case, 1);

    assert_int_equal(host->routes[1].action_case, CFG_ACTION_REDIRECT);
    assert_span(host->routes[1].match->safe_regex->regex, "/x.*");
    assert_int_equal(host->routes[1].redirect->response_code, 2);
    assert_int_equal(host->routes[2].route->cluster_specifier_case, CFG_CLUSTER_WEIGHTED);
    assert_int_equal(host->routes[2].route->weighted_clusters->clusters[1].weight.value, 2);

    const struct cfg_cluster *cluster = cluster_of(config);
    assert_int_equal(cluster->type, CFG_CLUSTER_STRICT_DNS);
    assert_int_equal(cluster->connect_timeout.ns, 1500000000);
    assert_int_equal(cluster->thresholds[0].max_connections.value, 7);
    /* Flattened out of the extension map. */
    assert_int_equal(cluster->common_http_protocol_options->idle_timeout.ns, 9000000000);
    assert_non_null(cluster->http_protocol_options);
    const struct cfg_endpoint *endpoint = &cluster->load_assignment->endpoints[0].lb_endpoints[0];
    assert_span(endpoint->address->host, "example.com");
    assert_int_equal(endpoint->load_balancing_weight.value, 3);
    assert_int_equal(endpoint->mark.line, 66);
    config_unref(config);
}

/* What /config_dump prints can be loaded again and prints the same. */
static void a_dump_loads_to_the_same_dump(void **state) {
    struct config *config = load_ok(ordinary);
    char *dump = cfg_to_json(&cfg_schema_bootstrap, config_bootstrap(config), 2);
    assert_non_null(dump);
    struct config *again = load_saying("t.json", dump, "");
    assert_non_null(again);
    char *dump_again = cfg_to_json(&cfg_schema_bootstrap, config_bootstrap(again), 2);
    assert_string_equal(dump, dump_again);

    size_t size, size_again;
    char *wire = cfg_to_wire(&cfg_schema_bootstrap, config_bootstrap(config), &size);
    char *wire_again = cfg_to_wire(&cfg_schema_bootstrap, config_bootstrap(again), &size_again);
    assert_int_equal(size, size_again);
    assert_memory_equal(wire, wire_again, size);
    free(wire);
    free(wire_again);
    free(dump);
    free(dump_again);
    config_unref(config);
    config_unref(again);
}

static void a_dump_without_indent_is_one_line(void **state) {
    struct config *config = load_ok("node: {id: \"a\\\"b\\n\"}\nadmin: {}\n");
    char *dump = cfg_to_json(&cfg_schema_bootstrap, config_bootstrap(config), 0);
    assert_string_equal(dump, "{\"node\":{\"id\":\"a\\\"b\\n\"},\"admin\":{}}");
    free(dump);
    config_unref(config);
}

static char *write_file(const char *suffix, const char *text) {
    char *path;
    assert_true(asprintf(&path, "/tmp/sluice-test-XXXXXX%s", suffix) > 0);
    int fd = mkstemps(path, (int)strlen(suffix));
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    assert_int_equal(close(fd), 0);
    return path;
}

static struct config *load_over(const char *base, const char *over) {
    char *path = write_file(".yaml", base);
    struct config_source source = {.path = path, .yaml = over};
    struct cfg_problems problems = {0};
    struct config *config = NULL;
    int result = config_load(&source, &config, &problems);
    cfg_problems_print(&problems, stderr);
    cfg_problems_fini(&problems);
    assert_int_equal(result, 0);
    assert_int_equal(unlink(path), 0);
    memset(path, 'x', strlen(path)); /* the config must not lean on it */
    free(path);
    return config;
}

static void an_empty_file_is_refused_and_an_empty_object_is_not(void **state) {
    static const char *const empty[] = {"", "\n# nothing\n", "---\n", "null", "~"};
    for (size_t i = 0; i < sizeof(empty) / sizeof(empty[0]); i++) {
        struct config_source source = {.yaml = empty[i]};
        struct cfg_problems problems = {0};
        struct config *config;
        assert_int_equal(config_load(&source, &config, &problems), -EINVAL);
        assert_string_equal(problems.items[0].text, "is empty; write {} to mean that");
        cfg_problems_fini(&problems);
    }
    struct config *config = load_ok("{}");
    assert_null(config_bootstrap(config)->static_resources);
    config_unref(config);
    config = load_over("node: {id: a}", "");
    assert_span(config_bootstrap(config)->node->id, "a");
    config_unref(config);
    config = load_over("", "node: {id: a}");
    assert_span(config_bootstrap(config)->node->id, "a");
    config_unref(config);
}

/* One run tells everything that is wrong, in the order of the file. */
static void all_problems_come_in_one_go(void **state) {
    refused("node: {idd: x}\n"
            "admin:\n"
            "  address:\n"
            "    socket_address: {address: 127.0.0.1, port_value: 70000}\n"
            "static_resources:\n"
            "  listeners:\n"
            "  - name: l\n"
            "    connection_balance_config: {}\n"
            "  clusters:\n"
            "  - connect_timeout: 0s\n"
            "    lb_policy: RANDOM\n"
            "cluster_manager: {}\n",
            "t.yaml:1: node: unknown field \"idd\" in envoy.config.core.v3.Node; did you mean "
            "\"id\"?\n"
            "t.yaml:4: admin.address.socket_address.port_value: 70000 is not within 0 to 65535\n"
            "t.yaml:8: static_resources.listeners[0].connection_balance_config: not supported yet: "
            "Envoy has this field, this release does not\n"
            "t.yaml:7: static_resources.listeners[0]: address is required\n"
            "t.yaml:10: static_resources.clusters[0].connect_timeout: must be greater than 0s\n"
            "t.yaml:11: static_resources.clusters[0].lb_policy: RANDOM is not supported yet: Envoy "
            "has it, this release does not\n"
            "t.yaml:10: static_resources.clusters[0]: name is required\n"
            "t.yaml:12: cluster_manager: not supported yet: Envoy has this field, this release "
            "does not\n");
}

static void unknown_fields_can_be_allowed(void **state) {
    struct config_source source = {.yaml = "node: {idd: x, id: w}", .allow_unknown = true};
    struct cfg_problems problems = {0};
    struct config *config;
    assert_int_equal(config_load(&source, &config, &problems), 0);
    assert_int_equal(problems.count, 1);
    assert_int_equal(problems.items[0].kind, CFG_PROBLEM_WARNING);
    assert_string_equal(problems.items[0].text,
                        "unknown field \"idd\" in envoy.config.core.v3.Node; did you mean \"id\"? "
                        "(ignored)");
    assert_span(config_bootstrap(config)->node->id, "w");
    cfg_problems_fini(&problems);
    config_unref(config);

    /* What Envoy has and this release has not is no unknown field. */
    source.yaml = "cluster_manager: {}";
    assert_int_equal(config_load(&source, &config, &problems), -EINVAL);
    assert_int_equal(problems.items[0].kind, CFG_PROBLEM_UNSUPPORTED);
    cfg_problems_fini(&problems);
}

/* As protobuf's MergeFrom: messages merge, lists append, oneofs and scalars replace. */
static void config_yaml_is_merged_over_the_file(void **state) {
    struct config *config =
        load_over("node: {id: a, cluster: b, metadata: {x: 1, y: 2}}\n"
                  "admin: {address: {socket_address: {address: 127.0.0.1, port_value: 1}}}\n"
                  "static_resources: {clusters: [{name: one}]}\n",
                  "node: {id: z, cluster: \"\", metadata: {y: 3}}\n"
                  "admin: {address: {socketAddress: {portValue: 2}}}\n"
                  "staticResources: {clusters: {name: two}}\n");
    const struct cfg_bootstrap *bootstrap = config_bootstrap(config);
    assert_span(bootstrap->node->id, "z");
    assert_span(bootstrap->node->cluster, "b"); /* an empty string says nothing */
    assert_int_equal(bootstrap->node->metadata->fields_count, 2);
    assert_true(bootstrap->node->metadata->fields[1].value.number == 3);
    assert_span(bootstrap->admin->address->host, "127.0.0.1");
    assert_int_equal(bootstrap->admin->address->port_value, 2);
    assert_int_equal(bootstrap->static_resources->clusters_count, 2);
    assert_span(bootstrap->static_resources->clusters[1].name, "two");
    assert_span(bootstrap->static_resources->clusters[1].mark.file, "(inline)");
    struct span file = bootstrap->static_resources->clusters[0].mark.file;
    assert_true(span_starts_with(file, SPAN_LIT("/tmp/sluice-test-")));
    config_unref(config);
}

static void merging_a_oneof_takes_the_later_member(void **state) {
    struct cfg_arena scratch;
    cfg_arena_init(&scratch, NULL);
    struct cfg_problems problems = {0};
    struct cfg_loader loader = {.arena = &scratch, .scratch = &scratch, .problems = &problems};
    struct cfg_parse_error error;
    struct cfg_tree *base =
        cfg_yaml_parse(&scratch, SPAN_LIT("a"), SPAN_LIT("{filename: f}"), &error);
    struct cfg_tree *over =
        cfg_yaml_parse(&scratch, SPAN_LIT("b"), SPAN_LIT("{inlineString: \"\"}"), &error);
    const struct cfg_schema *schema = &cfg_schema_data_source;
    struct cfg_tree *merged = cfg_merge(&loader, schema, base, over);
    assert_int_equal(merged->count, 1);
    assert_span(merged->entries[0].key, "inlineString");
    cfg_arena_fini(&scratch);
}

static void problems_in_inline_yaml_say_so(void **state) {
    struct config_source source = {.yaml = "node:\n  id: [1]"};
    struct cfg_problems problems = {0};
    struct config *config;
    assert_int_equal(config_load(&source, &config, &problems), -EINVAL);
    assert_int_equal(problems.count, 1);
    assert_span(problems.items[0].mark.file, "(inline)");
    assert_int_equal(problems.items[0].mark.line, 2);
    assert_string_equal(problems.items[0].text, "expected a single value, found a list");
    cfg_problems_fini(&problems);
}

static void files_that_cannot_be_read_are_named(void **state) {
    struct config_source source = {.path = "/nonexistent/x.yaml", .descriptor_set = "/tmp"};
    struct cfg_problems problems = {0};
    struct config *config;
    assert_int_equal(config_load(&source, &config, &problems), -EINVAL);
    assert_int_equal(problems.count, 2);
    assert_span(problems.items[0].mark.file, "/nonexistent/x.yaml");
    assert_string_equal(problems.items[0].text, "cannot be read: No such file or directory");
    assert_span(problems.items[1].mark.file, "/tmp");
    assert_string_equal(problems.items[1].text, "cannot be read: Is a directory");
    cfg_problems_fini(&problems);

    source = (struct config_source){0};
    assert_int_equal(config_load(&source, &config, &problems), -EINVAL);
    assert_string_equal(problems.items[0].text,
                        "no configuration: give -c FILE or --config-yaml TEXT");
    cfg_problems_fini(&problems);
}

static void references_are_counted(void **state) {
    struct config *config = load_ok("node: {id: a}");
    assert_ptr_equal(config_ref(config), config);
    config_unref(config);
    assert_span(config_bootstrap(config)->node->id, "a");
    config_unref(config);
    config_unref(NULL);
}

/* Later checks (a regex that does not compile, a cluster that does not exist) join the list. */
static void later_checks_use_the_marks(void **state) {
    struct config *config = load_ok(ordinary);
    struct cfg_problems problems = {0};
    cfg_problem_add(&problems, CFG_PROBLEM_WARNING, NULL, "only a warning");
    assert_false(cfg_problems_refuse(&problems));
    cfg_problem_add(&problems, CFG_PROBLEM_INVALID, &cluster_of(config)->mark, "no such %s",
                    "thing");
    config_unref(config); /* the list has its own copies */
    assert_true(cfg_problems_refuse(&problems));
    char *said;
    size_t len;
    FILE *out = open_memstream(&said, &len);
    cfg_problems_print(&problems, out);
    assert_int_equal(fclose(out), 0);
    assert_string_equal(said, "warning: only a warning\n"
                              "t.yaml:53: static_resources.clusters[0]: no such thing\n");
    free(said);
    cfg_problems_fini(&problems);
}

static void problems_can_be_sorted_by_kind(void **state) {
    struct config_source source = {.yaml = "nodee: 1\ncluster_manager: {}\nnode: 5\nfoo: 1\n"};
    struct cfg_problems problems = {0};
    struct config *config;
    assert_int_equal(config_load(&source, &config, &problems), -EINVAL);
    char *said;
    size_t len;
    FILE *out = open_memstream(&said, &len);
    cfg_problems_print_sorted(&problems, out);
    assert_int_equal(fclose(out), 0);
    assert_string_equal(
        said,
        "invalid (1):\n"
        "  (inline):3: node: expected an object (envoy.config.core.v3.Node), found a plain value\n"
        "unknown to Envoy, as far as this release knows it (2):\n"
        "  (inline):1: unknown field \"nodee\" in envoy.config.bootstrap.v3.Bootstrap; did you "
        "mean "
        "\"node\"?\n"
        "  (inline):4: unknown field \"foo\" in envoy.config.bootstrap.v3.Bootstrap\n"
        "not supported yet: Envoy has it, this release does not (1):\n"
        "  (inline):2: cluster_manager: not supported yet: Envoy has this field, this release "
        "does "
        "not\n");
    free(said);
    cfg_problems_fini(&problems);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(problems_can_be_sorted_by_kind),
        cmocka_unit_test(an_ordinary_file_fills_the_structs),
        cmocka_unit_test(a_dump_loads_to_the_same_dump),
        cmocka_unit_test(a_dump_without_indent_is_one_line),
        cmocka_unit_test(an_empty_file_is_refused_and_an_empty_object_is_not),
        cmocka_unit_test(all_problems_come_in_one_go),
        cmocka_unit_test(unknown_fields_can_be_allowed),
        cmocka_unit_test(config_yaml_is_merged_over_the_file),
        cmocka_unit_test(merging_a_oneof_takes_the_later_member),
        cmocka_unit_test(problems_in_inline_yaml_say_so),
        cmocka_unit_test(files_that_cannot_be_read_are_named),
        cmocka_unit_test(references_are_counted),
        cmocka_unit_test(later_checks_use_the_marks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
