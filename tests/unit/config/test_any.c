/* Any: what an extension slot takes, and the bytes that a plugin's configuration becomes. */
#include "config_test.h"

#include "config/schema.h"

static struct span read_data(const char *name) {
    char path[512];
    snprintf(path, sizeof(path), TEST_DATA "/%s", name);
    FILE *file = fopen(path, "re");
    assert_non_null(file);
    char *bytes = calloc(1, 65536);
    assert_non_null(bytes);
    size_t len = fread(bytes, 1, 65535, file);
    assert_int_equal(fclose(file), 0);
    return span_make(bytes, len);
}

static void free_span(struct span s) {
    free((char *)(uintptr_t)s.ptr);
}

/* ---- extension slots ---- */

static void the_type_decides_not_the_name(void **state) {
    struct config *config = load_ok(WITH_HCM(
        "route_config: {}, http_filters: [{name: anything, typed_config: {\"@type\": " TYPE
        "envoy.extensions.filters.http.router.v3.Router, suppress_envoy_headers: true}}]"));
    const struct cfg_any *any = &hcm_of(config)->http_filters[0].typed_config;
    assert_ptr_equal(any->schema, &cfg_schema_router);
    assert_true(((const struct cfg_router *)any->message)->suppress_envoy_headers);
    assert_span(any->type_url, TYPE "envoy.extensions.filters.http.router.v3.Router");
    assert_int_equal(any->value.len, 2);
    assert_memory_equal(any->value.ptr, "\x20\x01", 2);
    config_unref(config);
}

static void extensions_that_are_not_built_in_are_named(void **state) {
#define NETWORK "envoy.extensions.filters.network."
#define FILTER(any) WITH_HCM("route_config: {}, http_filters: [{name: f, typed_config: " any "}]")
#define FILTER_PATH HCM_PATH "http_filters[0].typed_config"
#define FILTERS_WE_HAVE                                                                            \
    "supported are: envoy.extensions.filters.http.router.v3.Router, "                              \
    "envoy.extensions.filters.http.golang.v3alpha.Config, "                                        \
    "sluice.filters.http.json_router.v3.JsonRouter, sluice.filters.http.native.v3.Native\n"
    refused(FILTER("{\"@type\": " TYPE "envoy.extensions.filters.http.cors.v3.Cors}"),
            FILTER_PATH ".@type: the HTTP filter envoy.extensions.filters.http.cors.v3.Cors is not "
                        "supported yet; " FILTERS_WE_HAVE);
    refused(FILTER("{\"@type\": " TYPE "acme.v1.Filter}"),
            FILTER_PATH ".@type: the HTTP filter acme.v1.Filter is not supported here, nor known "
                        "as an extension of Envoy; " FILTERS_WE_HAVE);
    refused(
        FILTER("{\"@type\": " HCM_TYPE "}"), FILTER_PATH
        ".@type: the HTTP filter envoy.extensions.filters.network."
        "http_connection_manager.v3.HttpConnectionManager is not supported yet; " FILTERS_WE_HAVE);
    refused(FILTER("{}"),
            FILTER_PATH ": \"@type\" is required, such as \"type.googleapis.com/envoy...\"\n");
    refused(FILTER("{\"@type\": envoy.extensions.filters.http.router.v3.Router}"),
            FILTER_PATH ".@type: \"envoy.extensions.filters.http.router.v3.Router\" is not a type "
                        "URL, such as \"type.googleapis.com/NAME\"\n");
    config_unref(load_ok(
        FILTER("{\"@type\": any.host/path/envoy.extensions.filters.http.router.v3.Router}")));
    refused(FILTER("{\"@type\": []}"), FILTER_PATH ".@type: expected a string, found a list\n");
    refused(FILTER("router"),
            FILTER_PATH ": expected an object with \"@type\", found a plain value\n");
    refused(FILTER("{\"@type\": " TYPE "envoy.extensions.filters.http.router.v3.Router, x: 1}"),
            FILTER_PATH ": unknown field \"x\" in envoy.extensions.filters.http.router.v3."
                        "Router\n");
    refused(
        WITH_LISTENER("filter_chains: [{filters: [{name: t, typed_config: {\"@type\": " TYPE NETWORK
                      "redis_proxy.v3.RedisProxy}}]}]"),
        LISTENER_PATH "filter_chains[0].filters[0].typed_config.@type: the network filter " NETWORK
                      "redis_proxy.v3.RedisProxy is not supported yet; supported are: " NETWORK
                      "http_connection_manager.v3.HttpConnectionManager, " NETWORK
                      "tcp_proxy.v3.TcpProxy, " NETWORK "sni_cluster.v3.SniCluster, " NETWORK
                      "connection_limit.v3.ConnectionLimit, " NETWORK
                      "local_ratelimit.v3.LocalRateLimit, " NETWORK "echo.v3.Echo, " NETWORK
                      "direct_response.v3.Config, "
                      "sluice.extensions.filters.network.inject.v1.Inject, " NETWORK
                      "golang.v3alpha.Config\n");
    refused(WITH_HCM("route_config: {}, http_filters: [{name: f}]"),
            HCM_PATH "http_filters[0]: typed_config is required\n");
}

static void an_optional_filter_may_be_missing(void **state) {
    struct config *config = load_saying(
        "t.yaml",
        WITH_HCM("route_config: {}, http_filters: [{name: f, is_optional: true, typed_config: "
                 "{\"@type\": " TYPE "envoy.extensions.filters.http.cors.v3.Cors, a: 1}}]"),
        HCM_PATH "http_filters[0].typed_config.@type: warning: the HTTP filter "
                 "envoy.extensions.filters.http.cors.v3.Cors is not built in; left out, since it "
                 "is_optional\n");
    const struct cfg_http_filter *filter = &hcm_of(config)->http_filters[0];
    assert_null(filter->typed_config.schema);
    assert_null(filter->typed_config.message);
    config_unref(config);
}

/* Envoy unwraps a TypedStruct that stands for a known extension. */
static void a_typed_struct_is_unwrapped_in_a_slot(void **state) {
    static const char *const wrappers[] = {"xds.type.v3.TypedStruct", "udpa.type.v1.TypedStruct"};
    for (size_t i = 0; i < 2; i++) {
        char yaml[1024];
        snprintf(yaml, sizeof(yaml),
                 FILTER("{\"@type\": " TYPE "%s, type_url: " GOLANG_TYPE
                        ", value: {library_id: a, libraryPath: b, plugin_name: c}}"),
                 wrappers[i]);
        struct config *config = load_ok(yaml);
        const struct cfg_any *any = &hcm_of(config)->http_filters[0].typed_config;
        assert_ptr_equal(any->schema, &cfg_schema_golang);
        assert_span(((const struct cfg_golang *)any->message)->library.path, "b");
        assert_span(any->type_url, GOLANG_TYPE);
        config_unref(config);
    }
    config_unref(load_ok(FILTER("{\"@type\": " TYPE "xds.type.v3.TypedStruct, type_url: "
                                "envoy.extensions.filters.http.router.v3.Router}")));
    refused(FILTER("{\"@type\": " TYPE "xds.type.v3.TypedStruct, type_url: " GOLANG_TYPE
                   ", value: {library_id: a, plugin_name: c}}"),
            FILTER_PATH ".value: library_path is required\n");
    refused(FILTER("{\"@type\": " TYPE "xds.type.v3.TypedStruct, value: {}}"),
            FILTER_PATH ": a TypedStruct here needs a type_url that says which HTTP filter it is "
                        "for\n");
    refused(FILTER("{\"@type\": " TYPE "xds.type.v3.TypedStruct, type_url: " TYPE "acme.F}"),
            FILTER_PATH ".@type: the HTTP filter acme.F is not supported here, nor known as an "
                        "extension of Envoy; " FILTERS_WE_HAVE);
}

/* ---- payloads ---- */

static void assert_payload(const char *any_yaml, const char *type, const char *wire, size_t len) {
    char yaml[2048];
    snprintf(yaml, sizeof(yaml), WITH_PLUGIN_CONFIG("%s"), any_yaml);
    struct config *config = load_ok(yaml);
    const struct cfg_any *any = plugin_config_of(config);
    char type_url[128];
    snprintf(type_url, sizeof(type_url), TYPE "%s", type);
    assert_span(any->type_url, type_url);
    assert_int_equal(any->value.len, len);
    assert_memory_equal(any->value.ptr, wire, len);
    assert_null(any->schema);
    /* What Go receives: the Any message, type_url (1) and value (2). */
    size_t url_len = strlen(type_url);
    assert_int_equal(any->serialised.len, 2 + url_len + (len ? 2 + len : 0));
    assert_int_equal(any->serialised.ptr[0], 0x0A);
    assert_int_equal((unsigned char)any->serialised.ptr[1], url_len);
    assert_memory_equal(any->serialised.ptr + 2, type_url, url_len);
    if (len)
        assert_memory_equal(any->serialised.ptr + 2 + url_len + 2, wire, len);
    config_unref(config);
}
#define PAYLOAD(type, rest, wire)                                                                  \
    assert_payload("{\"@type\": " TYPE type rest "}", type, wire, sizeof(wire) - 1)

static void well_known_types_are_encoded(void **state) {
    PAYLOAD("google.protobuf.Duration", ", value: 1.5s", "\x08\x01\x10\x80\xCA\xB5\xEE\x01");
    PAYLOAD("google.protobuf.Timestamp", ", value: \"1970-01-01T00:00:01Z\"", "\x08\x01");
    PAYLOAD("google.protobuf.FieldMask", ", value: \"a,bC\"",
            "\x0A\x01"
            "a\x0A\x03"
            "b_c");
    PAYLOAD("google.protobuf.BoolValue", ", value: true", "\x08\x01");
    PAYLOAD("google.protobuf.BoolValue", ", value: false", "");
    PAYLOAD("google.protobuf.Int32Value", ", value: -1",
            "\x08\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x01");
    PAYLOAD("google.protobuf.UInt64Value", ", value: \"300\"", "\x08\xAC\x02");
    PAYLOAD("google.protobuf.DoubleValue", ", value: 1", "\x09\0\0\0\0\0\0\xF0\x3F");
    PAYLOAD("google.protobuf.FloatValue", ", value: NaN", "\x0D\0\0\xC0\x7F");
    PAYLOAD("google.protobuf.StringValue", ", value: hi", "\x0A\x02hi");
    PAYLOAD("google.protobuf.BytesValue", ", value: aGk=", "\x0A\x02hi");
    PAYLOAD("google.protobuf.Value", ", value: null", "\x08\0");
    PAYLOAD("google.protobuf.Value", ", value: [1, x]",
            "\x32\x10\x0A\x09\x11\0\0\0\0\0\0\xF0\x3F\x0A\x03\x1A\x01x");
    PAYLOAD("google.protobuf.ListValue", ", value: [true]", "\x0A\x02\x20\x01");
    PAYLOAD("google.protobuf.Empty", "", "");
    PAYLOAD("google.protobuf.Struct", ", value: {}", "");
    /* Sorted by key, so that equal configs are equal bytes. */
    PAYLOAD("google.protobuf.Struct", ", value: {b: x, a: {}}",
            "\x0A\x07\x0A\x01"
            "a\x12\x02\x2A\0\x0A\x08\x0A\x01"
            "b\x12\x03\x1A\x01x");
    PAYLOAD("google.protobuf.Any",
            ", value: {\"@type\": " TYPE "google.protobuf.BoolValue, value: true}",
            "\x0A\x2D" TYPE "google.protobuf.BoolValue\x12\x02\x08\x01");
}

static void typed_structs_are_encoded(void **state) {
    PAYLOAD("xds.type.v3.TypedStruct", ", value: {k: v}",
            "\x12\x0A\x0A\x08\x0A\x01k\x12\x03\x1A\x01v");
    PAYLOAD("udpa.type.v1.TypedStruct", ", type_url: t, value: {}", "\x0A\x01t\x12\0");
    PAYLOAD("xds.type.v3.TypedStruct", ", typeUrl: t", "\x0A\x01t");
}

static void an_empty_any_is_an_empty_any(void **state) {
    struct config *config = load_ok(WITH_PLUGIN_CONFIG("{}"));
    const struct cfg_any *any = plugin_config_of(config);
    assert_span(any->type_url, "");
    assert_int_equal(any->serialised.len, 0);
    config_unref(config);
    refused(WITH_PLUGIN_CONFIG("{a: 1}"),
            PLUGIN_PATH ": \"@type\" is required, such as "
                        "\"type.googleapis.com/xds.type.v3.TypedStruct\"\n");
    refused(WITH_PLUGIN_CONFIG("{\"@type\": " TYPE "google.protobuf.Struct, a: 1}"),
            PLUGIN_PATH ": the content of a google.protobuf.Struct stands in \"value\", not in "
                        "\"a\"\n");
}

/* A message of ours as payload is filled and encoded. */
static void our_own_messages_may_be_payloads(void **state) {
    struct config *config = load_ok(WITH_PLUGIN_CONFIG(
        "{\"@type\": " TYPE "envoy.extensions.filters.http.router.v3.Router, dynamic_stats: false, "
        "start_child_span: true}"));
    const struct cfg_any *any = plugin_config_of(config);
    assert_ptr_equal(any->schema, &cfg_schema_router);
    assert_int_equal(any->value.len, 4);
    assert_memory_equal(any->value.ptr, "\x0A\0\x10\x01", 4);
    config_unref(config);
}

/* ---- descriptor sets ---- */

static void a_type_without_descriptors_says_how_to_give_them(void **state) {
    refused(WITH_PLUGIN_CONFIG("{\"@type\": " TYPE "test.plugin.v1.Plugin, a_bool: true}"),
            PLUGIN_PATH ".@type: the wire format of test.plugin.v1.Plugin is not known: give "
                        "--descriptor-set FILE, made by protoc --include_imports "
                        "--descriptor_set_out=FILE YOUR.proto\n");
}

static struct config *load_with_descriptors(const char *name, const char *text, const char *set,
                                            const char *expected) {
    struct span descriptors = read_data(set);
    char *said;
    struct config *config = load_named(name, span_of(text), descriptors, &said);
    assert_string_equal(said, expected);
    free(said);
    free_span(descriptors);
    return config;
}

/* plugin.json uses every kind of field; plugin.wire are the bytes that other implementations make
 * of it: upb's up to the order of map entries, Go's (deterministic) up to the place of the oneof. */
static void every_kind_of_field_is_encoded(void **state) {
    struct span json = read_data("plugin.json"), wire = read_data("plugin.wire");
    char *text;
    assert_true(
        asprintf(&text,
                 "{\"static_resources\": {\"listeners\": [{\"address\": {\"socket_address\": "
                 "{\"address\": \"::\", \"port_value\": 0}}, \"filter_chains\": [{\"filters\": "
                 "[{\"name\": \"h\", \"typed_config\": {\"@type\": \"" HCM_TYPE
                 "\", \"stat_prefix\": \"s\", \"route_config\": {}, \"http_filters\": [{\"name\": "
                 "\"g\", \"typed_config\": {\"@type\": \"" GOLANG_TYPE
                 "\", \"library_id\": \"i\", \"library_path\": \"p\", \"plugin_name\": \"n\", "
                 "\"plugin_config\": %s}}]}}]}]}]}}",
                 json.ptr) > 0);
    struct config *config = load_with_descriptors("t.json", text, "plugin.pb", "");
    assert_non_null(config);
    const struct cfg_any *any = plugin_config_of(config);
    assert_null(any->schema);
    assert_int_equal(any->value.len, wire.len);
    assert_memory_equal(any->value.ptr, wire.ptr, wire.len);

    /* And back: what /config_dump prints of it gives the same bytes again. */
    char *dump = cfg_to_json(&cfg_schema_bootstrap, config_bootstrap(config), 1);
    struct config *again = load_with_descriptors("t.json", dump, "plugin.pb", "");
    assert_non_null(again);
    assert_memory_equal(plugin_config_of(again)->value.ptr, wire.ptr, wire.len);
    free(dump);
    config_unref(again);
    config_unref(config);
    free(text);
    free_span(json);
    free_span(wire);
}

static void values_are_checked_by_the_descriptors(void **state) {
    static const char yaml[] = WITH_PLUGIN_CONFIG(
        "{\"@type\": " TYPE "test.plugin.v1.Plugin, a_boool: true, an_int32: 2147483648, mode: UP, "
        "left: a, right: 1, by_number: {x: w}, by_bool: {yes: 1}, timestamp: \"2023-02-29T00:00:00Z"
        "\", field_mask: a_b, a_float: 1e39, rule: {children: [~]}, list_value: {}, structure: 1, "
        "uint32_values: [a], renamed: x, names: {}, any: 5, a_double: .inf}");
#define AT PLUGIN_PATH
    assert_null(load_with_descriptors(
        "t.yaml", yaml, "plugin.pb",
        AT ": unknown field \"a_boool\" in test.plugin.v1.Plugin; did you mean \"a_bool\"?\n" AT
           ".an_int32: 2147483648 is out of range: -2147483648 to 2147483647 fit\n" AT
           ".mode: expected one of OFF, ON, NEGATIVE, found the string \"UP\"\n" AT
           ".right: left and right cannot both be set: they are one choice (choice)\n" AT
           ".by_number[\"x\"]: expected an integer, found the string \"x\"\n" AT
           ".by_bool[\"yes\"]: expected true or false, found the string \"yes\"\n" AT
           ".timestamp: expected a time such as \"2026-01-31T12:00:00Z\", found the string "
           "\"2023-02-29T00:00:00Z\"\n" AT ".field_mask: expected a field mask such as "
           "\"name,address.portValue\", found the string \"a_b\"\n" AT
           ".a_float: expected a number that a float can hold, found the string \"1e39\"\n" AT
           ".rule.children[0]: null cannot be an item of a list\n" AT
           ".list_value: expected a list, found an object\n" AT
           ".structure: expected an object, found a plain value\n" AT
           ".uint32_values[0]: expected an integer, found the string \"a\"\n" AT
           ".names[0]: expected a single value, found an object\n" AT
           ".any: expected an object with \"@type\", found a plain value\n" AT
           ".a_double: expected a number, found the string \".inf\"\n"));
    assert_null(load_with_descriptors(
        "t.yaml", WITH_PLUGIN_CONFIG("{\"@type\": " TYPE "test.Other}"), "plugin.pb",
        PLUGIN_PATH ".@type: the type test.Other is not in the descriptor set given by "
                    "--descriptor-set\n"));
}

/* proto2: absent and default are different, required is required, groups have no JSON here. */
static void old_syntax_keeps_presence(void **state) {
    struct config *config = load_with_descriptors(
        "t.yaml",
        WITH_PLUGIN_CONFIG("{\"@type\": " TYPE "test.old.Old, must: 0, may: 0, text: \"\", "
                           "unpacked: [1]}"),
        "old.pb", "");
    assert_non_null(config);
    const struct cfg_any *any = plugin_config_of(config);
    assert_int_equal(any->value.len, 9);
    assert_memory_equal(any->value.ptr, "\x08\0\x10\0\x1A\0\x2A\x01\x01", 9);
    config_unref(config);
    assert_null(load_with_descriptors(
        "t.yaml", WITH_PLUGIN_CONFIG("{\"@type\": " TYPE "test.old.Old, inner: {}}"), "old.pb",
        PLUGIN_PATH ": unknown field \"inner\" in test.old.Old\n" PLUGIN_PATH
                    ": must is required\n"));
}

static void descriptors_outlive_the_load(void **state) {
    struct config *config = load_with_descriptors(
        "t.yaml", WITH_PLUGIN_CONFIG("{\"@type\": " TYPE "test.plugin.v1.Plugin, mode: \"ON\"}"),
        "plugin.pb", "");
    char *dump =
        cfg_to_json(&cfg_schema_golang, hcm_of(config)->http_filters[0].typed_config.message, 0);
    assert_non_null(strstr(dump, "\"plugin_config\":{\"@type\":\"" TYPE
                                 "test.plugin.v1.Plugin\",\"mode\":\"ON\"}"));
    free(dump);
    config_unref(config);
}

static void a_bad_descriptor_set_is_told(void **state) {
    char *said;
    assert_null(load_named("t.yaml", SPAN_LIT("{}"), SPAN_LIT("hello"), &said));
    assert_string_equal(said, "(descriptor set): is not a serialised FileDescriptorSet: make one "
                              "with protoc --include_imports --descriptor_set_out=FILE "
                              "YOUR.proto\n");
    free(said);
    /* file { message_type { name: "M" field { name: "f" number: 1 type: MESSAGE type_name: ".N" }}} */
    assert_null(load_named("t.yaml", SPAN_LIT("{}"),
                           SPAN_LIT("\x0A\x12\x22\x10\x0A\x01M\x12\x0B\x0A\x01"
                                    "f\x18\x01\x28\x0B\x32\x02.N"),
                           &said));
    assert_string_equal(said, "(descriptor set): lacks a type that it refers to (make it with "
                              "protoc --include_imports): N\n");
    free(said);
}

/* Every prefix and every flipped byte of a set: never a crash, at worst an error. */
static void damaged_descriptor_sets_are_survived(void **state) {
    static const char yaml[] =
        WITH_PLUGIN_CONFIG("{\"@type\": " TYPE "test.plugin.v1.Plugin, a_bool: true, by_name: {a: "
                           "{name: x}}, rule: {name: y}, numbers: [1], mode: 1, any: {}}");
    struct span set = read_data("plugin.pb");
    char *copy = malloc(set.len);
    assert_non_null(copy);
    for (size_t i = 0; i < set.len; i++) {
        for (int kind = 0; kind < 3; kind++) {
            memcpy(copy, set.ptr, set.len);
            if (kind > 0)
                copy[i] = (char)(copy[i] ^ (kind == 1 ? 1 : 0x80));
            char *said;
            struct config *config =
                load_named("t.yaml", span_of(yaml), span_make(copy, kind ? set.len : i), &said);
            free(said);
            config_unref(config);
        }
    }
    free(copy);
    free_span(set);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_type_decides_not_the_name),
        cmocka_unit_test(extensions_that_are_not_built_in_are_named),
        cmocka_unit_test(an_optional_filter_may_be_missing),
        cmocka_unit_test(a_typed_struct_is_unwrapped_in_a_slot),
        cmocka_unit_test(well_known_types_are_encoded),
        cmocka_unit_test(typed_structs_are_encoded),
        cmocka_unit_test(an_empty_any_is_an_empty_any),
        cmocka_unit_test(our_own_messages_may_be_payloads),
        cmocka_unit_test(a_type_without_descriptors_says_how_to_give_them),
        cmocka_unit_test(every_kind_of_field_is_encoded),
        cmocka_unit_test(values_are_checked_by_the_descriptors),
        cmocka_unit_test(old_syntax_keeps_presence),
        cmocka_unit_test(descriptors_outlive_the_load),
        cmocka_unit_test(a_bad_descriptor_set_is_told),
        cmocka_unit_test(damaged_descriptor_sets_are_survived),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
