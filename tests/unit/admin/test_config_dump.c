/* /config_dump: the shape of Envoy's, from a config that was really loaded. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/stats.h"
#include "fake_process.h"

static const char source[] =
    "node: {id: n1, cluster: c1}\n"
    "static_resources:\n"
    "  listeners:\n"
    "  - name: main\n"
    "    address: {socket_address: {address: 127.0.0.1, port_value: 10000}}\n"
    "    filter_chains:\n"
    "    - filters:\n"
    "      - name: envoy.filters.network.http_connection_manager\n"
    "        typed_config:\n"
    "          \"@type\": type.googleapis.com/envoy.extensions.filters.network."
    "http_connection_manager.v3.HttpConnectionManager\n"
    "          stat_prefix: ingress\n"
    "          route_config:\n"
    "            name: local\n"
    "            virtual_hosts:\n"
    "            - name: \"quote\\\"d\"\n"
    "              domains: [\"*\"]\n"
    "              routes:\n"
    "              - match: {prefix: /}\n"
    "                route: {cluster: origin}\n"
    "          http_filters:\n"
    "          - name: envoy.filters.http.router\n"
    "            typed_config: {\"@type\": type.googleapis.com/envoy.extensions.filters.http."
    "router.v3.Router}\n"
    "  clusters:\n"
    "  - name: origin\n"
    "    connect_timeout: 1s\n"
    "    load_assignment:\n"
    "      cluster_name: origin\n"
    "      endpoints:\n"
    "      - lb_endpoints:\n"
    "        - endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: 8080}}}\n";

static int load(void **state) {
    struct cfg_problems problems = {0};
    struct config_source from = {.yaml = source};
    fake_process_install();
    int rc = config_load(&from, &fake.config, &problems);
    cfg_problems_print(&problems, stderr);
    cfg_problems_fini(&problems);
    return rc;
}

static int unload(void **state) {
    config_unref(fake.config);
    return 0;
}

/* Each text stands behind the one before. */
static void assert_in_order(const char *body, const char *const *texts, size_t count) {
    for (size_t i = 0; i < count; i++) {
        const char *at = strstr(body, texts[i]);
        if (!at)
            fail_msg("not there, or not in order: %s", texts[i]);
        body = at;
    }
}

static void the_dump_has_envoys_four_parts_and_the_versions(void **state) {
    struct page page = ask("GET", "/config_dump");
    assert_int_equal(page.status, 200);
    assert_string_equal(page.content_type, "application/json");
    static const char *const texts[] = {
        "{\n \"configs\": [\n  {\n   \"@type\": "
        "\"type.googleapis.com/envoy.admin.v3.BootstrapConfigDump\",\n   \"bootstrap\": {\n",
        "\n    \"node\": {\n     \"id\": \"n1\",\n",
        "\n   \"last_updated\": \"2026-01-01T12:00:00.000Z\"\n  },\n",
        "\"type.googleapis.com/envoy.admin.v3.ClustersConfigDump\",\n   \"static_clusters\": [\n"
        "    {\n     \"cluster\": {\n"
        "      \"@type\": \"type.googleapis.com/envoy.config.cluster.v3.Cluster\",\n"
        "      \"name\": \"origin\",\n",
        "\n     \"last_updated\": ",
        "\"type.googleapis.com/envoy.admin.v3.ListenersConfigDump\",\n   \"static_listeners\": [\n"
        "    {\n     \"listener\": {\n"
        "      \"@type\": \"type.googleapis.com/envoy.config.listener.v3.Listener\",\n"
        "      \"name\": \"main\",\n",
        "\"stat_prefix\": \"ingress\"",
        "\"type.googleapis.com/envoy.admin.v3.RoutesConfigDump\",\n   \"static_route_configs\": [\n"
        "    {\n     \"route_config\": {\n"
        "      \"@type\": \"type.googleapis.com/envoy.config.route.v3.RouteConfiguration\",\n"
        "      \"name\": \"local\",\n",
        "\"quote\\\"d\"",
        "\"type.googleapis.com/sluice.admin.ConfigVersionsDump\",\n   \"versions\": [\n    {\n"
        "     \"version\": 1,\n     \"state\": \"TAKEN\",\n",
        "\"origin\": \"start\",\n     \"details\": \"serves since the start\"\n",
        "\n  }\n ]\n}\n",
    };
    assert_in_order(page.body.data, texts, sizeof texts / sizeof *texts);
    page_fini(&page);
}

static void what_cannot_be_selected_is_refused(void **state) {
    static const char *const targets[] = {"/config_dump?resource=static_clusters",
                                          "/config_dump?mask=bootstrap",
                                          "/config_dump?name_regex=a"};
    for (size_t i = 0; i < sizeof targets / sizeof *targets; i++) {
        struct page page = ask("GET", targets[i]);
        assert_int_equal(page.status, 501);
        assert_non_null(strstr(page.body.data, "is not supported yet"));
        page_fini(&page);
    }
}

static void server_info_names_the_node(void **state) {
    struct page page = ask("GET", "/server_info");
    assert_non_null(strstr(page.body.data, "\n \"node\": {\n  \"id\": \"n1\",\n"
                                           "  \"cluster\": \"c1\",\n"));
    page_fini(&page);
}

static int set_up(void **state) {
    return stats_init(1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_dump_has_envoys_four_parts_and_the_versions, load,
                                        unload),
        cmocka_unit_test_setup_teardown(what_cannot_be_selected_is_refused, load, unload),
        cmocka_unit_test_setup_teardown(server_info_names_the_node, load, unload),
    };
    return cmocka_run_group_tests(tests, set_up, NULL);
}
