/* discovery_file.c: what files of listeners, clusters and routes may look like, and what is said about those that do
 * not. */
#include "../config/config_test.h"

#include "discovery/discovery_file.h"

#define LISTENER_TYPE TYPE "envoy.config.listener.v3.Listener"
#define CLUSTER_TYPE TYPE "envoy.config.cluster.v3.Cluster"
#define ROUTES_TYPE TYPE "envoy.config.route.v3.RouteConfiguration"
#define RESOURCE_TYPE TYPE "envoy.service.discovery.v3.Resource"

static struct discovery_file *load(enum resource_type type, const char *name, const char *text,
                                   const char *says) {
    struct cfg_problems problems = {0};
    struct discovery_file *file =
        discovery_file_load_text(type, span_of(name), span_of(text), &problems);
    char *said;
    size_t len;
    FILE *out = open_memstream(&said, &len);
    cfg_problems_print(&problems, out);
    assert_int_equal(fclose(out), 0);
    assert_string_equal(said, says);
    free(said);
    bool refused = cfg_problems_refuse(&problems);
    assert_true(refused ? !file || file->count == 0 : file != NULL);
    cfg_problems_fini(&problems);
    if (!refused)
        return file;
    discovery_file_free(file);
    return NULL;
}

static void what_envoy_reads_is_read(void **state) {
    (void)state;
    struct discovery_file *file =
        load(RESOURCE_CLUSTER, "c.yaml",
             "version_info: \"7\"\nnonce: x\ncontrol_plane: {identifier: cp}\nresources:\n"
             "- \"@type\": " CLUSTER_TYPE "\n  name: a\n"
             "- \"@type\": " RESOURCE_TYPE "\n  name: b\n  version: v\n"
             "  resource: {\"@type\": " CLUSTER_TYPE ", name: b}\n",
             "");
    assert_span(file->version, "7");
    assert_int_equal(file->count, 2);
    assert_span(file->items[0].name, "a");
    assert_span(file->items[1].name, "b");
    const struct cfg_mark *mark = resource_mark(RESOURCE_CLUSTER, file->items[1].message);
    assert_span(mark->path, "resources[1].resource");
    assert_int_equal(mark->line, 10);
    discovery_file_free(file);

    file = load(RESOURCE_ROUTES, "r.json",
                "{\"versionInfo\": \"1\", \"resources\": [{\"@type\": \"" ROUTES_TYPE
                "\", \"name\": \"r\"}]}",
                "");
    assert_span(file->items[0].name, "r");
    discovery_file_free(file);
}

static void without_a_version_the_text_is_it(void **state) {
    (void)state;
    struct discovery_file *one = load(RESOURCE_LISTENER, "l.yaml", "resources: []\n", "");
    struct discovery_file *same = load(RESOURCE_LISTENER, "l.yaml", "resources: []\n", "");
    struct discovery_file *other = load(RESOURCE_LISTENER, "l.yaml", "resources: [ ]\n", "");
    assert_int_equal(one->version.len, 16);
    assert_true(span_eq(one->version, same->version));
    assert_false(span_eq(one->version, other->version));
    assert_int_equal(one->count, 0);
    discovery_file_free(one);
    discovery_file_free(same);
    discovery_file_free(other);
}

static void what_is_wrong_is_said_with_its_place(void **state) {
    (void)state;
    load(RESOURCE_LISTENER, "l.yaml",
         "resources:\n- \"@type\": " CLUSTER_TYPE "\n  name: a\n"
         "- \"@type\": " RESOURCE_TYPE "\n  resource: {\"@type\": " RESOURCE_TYPE
         ", resource: {\"@type\": " CLUSTER_TYPE ", name: b}}\n",
         "l.yaml:2: resources[0]: is of type envoy.config.cluster.v3.Cluster; this file is one of "
         "envoy.config.listener.v3.Listener\n"
         "l.yaml:5: resources[1].resource: a resource is wrapped once, not twice\n");
    load(RESOURCE_CLUSTER, "c.yaml",
         "resources:\n- \"@type\": " TYPE
         "envoy.config.endpoint.v3.ClusterLoadAssignment\n  cluster_name: a\n",
         "c.yaml:2: resources[0].@type: the resource "
         "envoy.config.endpoint.v3.ClusterLoadAssignment is not supported yet; supported are: "
         "envoy.config.listener.v3.Listener, envoy.config.cluster.v3.Cluster, "
         "envoy.config.route.v3.RouteConfiguration, envoy.service.discovery.v3.Resource\n");
    load(RESOURCE_CLUSTER, "c.yaml",
         "resources:\n- {\"@type\": " CLUSTER_TYPE ", name: a, connect_timeout: 0s}\n",
         "c.yaml:2: resources[0].connect_timeout: must be greater than 0s\n");
    load(RESOURCE_ROUTES, "r.yaml", "resources: [{\"@type\": " ROUTES_TYPE "}]\n",
         "r.yaml:1: resources[0]: name is required: listeners ask for it by route_config_name\n");
    load(RESOURCE_ROUTES, "r.yaml", "resources: [}\n",
         "r.yaml:1: not valid YAML: did not find expected node content\n");
    load(RESOURCE_CLUSTER, "c.yaml", "resources: [{name: a}]\n",
         "c.yaml:1: resources[0]: \"@type\" is required, such as "
         "\"type.googleapis.com/envoy...\"\n");
}

/* So that each can be told why. */
static void what_is_refused_has_its_version_and_names(void **state) {
    (void)state;
    static const char text[] =
        "version_info: v\nresources:\n"
        "- {\"@type\": " CLUSTER_TYPE ", connect_timeout: 0s, name: late}\n"
        "- {\"@type\": " LISTENER_TYPE ", name: other}\n"
        "- {\"@type\": nonsense, name: nothing}\n"
        "- {\"@type\": " CLUSTER_TYPE ", name: [1]}\n"
        "- 5\n"
        "- \"@type\": " RESOURCE_TYPE "\n"
        "  resource: {\"@type\": " CLUSTER_TYPE ", name: wrapped, unknown: 1}\n";
    struct cfg_problems problems = {0};
    struct discovery_file *file =
        discovery_file_load_text(RESOURCE_CLUSTER, SPAN_LIT("c.yaml"), span_of(text), &problems);
    assert_true(cfg_problems_refuse(&problems));
    assert_int_equal(file->count, 0);
    assert_span(file->version, "v");
    assert_int_equal(file->name_count, 6);
    assert_span(file->names[0], "late");
    for (size_t i = 1; i <= 4; i++)
        assert_int_equal(file->names[i].len, 0);
    assert_span(file->names[5], "wrapped");
    cfg_problems_fini(&problems);
    discovery_file_free(file);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_envoy_reads_is_read),
        cmocka_unit_test(without_a_version_the_text_is_it),
        cmocka_unit_test(what_is_wrong_is_said_with_its_place),
        cmocka_unit_test(what_is_refused_has_its_version_and_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
