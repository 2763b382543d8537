/* Where listeners, clusters and routes may come from, as the bootstrap and connection managers say it. */
#include "config_test.h"

#include "config/discovery_config.h"

#define WITH_LDS(source) "dynamic_resources: {lds_config: {" source "}}\n"
#define LDS_PATH "t.yaml:1: dynamic_resources.lds_config"
#define NOT_YET ": not supported yet: Envoy has this field, this release does not\n"

static void files_are_a_source(void **state) {
    (void)state;
    struct config *config = load_ok(
        "dynamic_resources:\n"
        "  lds_config: {path_config_source: {path: /l.yaml, watched_directory: {path: /w}}, "
        "resource_api_version: V3, initial_fetch_timeout: 3s}\n"
        "  cds_config: {path: /c.yaml}\n");
    const struct cfg_dynamic_resources *named = config_bootstrap(config)->dynamic_resources;
    assert_span(cfg_source_path(named->lds_config), "/l.yaml");
    assert_span(cfg_source_directory(named->lds_config), "/w");
    assert_span(cfg_source_path(named->cds_config), "/c.yaml");
    assert_true(span_is_none(cfg_source_directory(named->cds_config)));
    assert_int_equal(named->lds_config->mark.line, 2);
    char *dump = cfg_to_json(&cfg_schema_bootstrap, config_bootstrap(config), 0);
    assert_string_equal(
        dump, "{\"dynamic_resources\":{\"lds_config\":{\"initial_fetch_timeout\":\"3s\","
              "\"resource_api_version\":\"V3\",\"path_config_source\":{\"path\":\"/l.yaml\","
              "\"watched_directory\":{\"path\":\"/w\"}}},\"cds_config\":{\"path\":\"/c.yaml\"}}}");
    free(dump);
    config_unref(config);

    config = load_ok(WITH_HCM(
        "rds: {route_config_name: r, config_source: {path_config_source: {path: /r.yaml}}}"));
    assert_span(hcm_of(config)->rds->route_config_name, "r");
    assert_span(cfg_source_path(hcm_of(config)->rds->config_source), "/r.yaml");
    assert_null(hcm_of(config)->route_config);
    config_unref(config);
}

static void other_sources_are_refused_by_name(void **state) {
    (void)state;
    refused(WITH_LDS("api_config_source: {api_type: GRPC}"), LDS_PATH ".api_config_source" NOT_YET);
    refused(WITH_LDS("ads: {}"), LDS_PATH ".ads" NOT_YET);
    refused(WITH_LDS("self: {}"), LDS_PATH ".self" NOT_YET);
    refused("dynamic_resources: {ads_config: {api_type: GRPC}}",
            "t.yaml:1: dynamic_resources.ads_config" NOT_YET);
    refused(WITH_LDS("path: /l, resource_api_version: V2"),
            LDS_PATH ".resource_api_version: V2 is not supported yet: Envoy has it, this release "
                     "does not\n");
    refused(WITH_HCM("scoped_routes: {name: s}"), HCM_PATH "scoped_routes" NOT_YET);
}

static void a_source_says_which_file(void **state) {
    (void)state;
    refused(WITH_LDS(""), LDS_PATH ": one of path, path_config_source is required\n");
    refused(WITH_LDS("path: \"\""), LDS_PATH ".path: must not be empty\n");
    refused(WITH_LDS("path_config_source: {}"), LDS_PATH ".path_config_source: path is required\n");
    refused(WITH_LDS("path_config_source: {path: /l, watched_directory: {}}"),
            LDS_PATH ".path_config_source.watched_directory: path is required\n");
    refused(WITH_HCM("rds: {}"), "t.yaml:1: static_resources.listeners[0].filter_chains[0].filters"
                                 "[0].typed_config.rds: config_source is required\n"
                                 "t.yaml:1: static_resources.listeners[0].filter_chains[0].filters"
                                 "[0].typed_config.rds: route_config_name is required\n");
    refused(WITH_HCM(""), "t.yaml:1: static_resources.listeners[0].filter_chains[0].filters[0]."
                          "typed_config: one of rds, route_config is required\n");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(files_are_a_source),
        cmocka_unit_test(other_sources_are_refused_by_name),
        cmocka_unit_test(a_source_says_which_file),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
