/* config_test: loading small texts and comparing what is said about them, whole and verbatim. */
#pragma once
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include "config/config.h"
#include "config/golang_config.h"

#define TYPE "type.googleapis.com/"
#define HCM_TYPE                                                                                   \
    TYPE "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
#define GOLANG_TYPE TYPE "envoy.extensions.filters.http.golang.v3alpha.Config"

/* A bootstrap on one line: `fields` are flow-style fields of ... */
#define WITH_LISTENER(fields)                                                                      \
    "static_resources: {listeners: [{address: {socket_address: {address: 127.0.0.1, port_value: "  \
    "0}}, " fields "}]}\n"
#define WITH_HCM(fields)                                                                           \
    WITH_LISTENER("filter_chains: [{filters: [{name: h, typed_config: {\"@type\": " HCM_TYPE       \
                  ", stat_prefix: s, " fields "}}]}]")
#define WITH_ROUTE(fields)                                                                         \
    WITH_HCM("route_config: {virtual_hosts: [{name: v, domains: [\"*\"], routes: [{" fields "}]}]" \
             "}")
#define WITH_MATCH(fields) WITH_ROUTE("match: {" fields "}, direct_response: {status: 200}")
#define WITH_ACTION(fields) WITH_ROUTE("match: {prefix: /}, route: {" fields "}")
#define WITH_PLUGIN_CONFIG(any)                                                                    \
    WITH_HCM("route_config: {}, http_filters: [{name: g, typed_config: {\"@type\": " GOLANG_TYPE   \
             ", library_id: i, library_path: p, plugin_name: g, plugin_config: " any "}}]")
#define WITH_CLUSTER(fields) "static_resources: {clusters: [{name: c, " fields "}]}\n"

/* ... and how a message begins that speaks of them. */
#define LISTENER_PATH "t.yaml:1: static_resources.listeners[0]."
#define HCM_PATH LISTENER_PATH "filter_chains[0].filters[0].typed_config."
#define ROUTE_PATH HCM_PATH "route_config.virtual_hosts[0].routes[0]."
#define PLUGIN_PATH HCM_PATH "http_filters[0].typed_config.plugin_config"
#define CLUSTER_PATH "t.yaml:1: static_resources.clusters[0]."

static inline struct config *load_named(const char *name, struct span text, struct span descriptors,
                                        char **said) {
    struct cfg_problems problems = {0};
    struct config *config = NULL;
    size_t len;
    int result = config_load_text(span_of(name), text, descriptors, &config, &problems);
    FILE *out = open_memstream(said, &len);
    assert_non_null(out);
    cfg_problems_print(&problems, out);
    assert_int_equal(fclose(out), 0);
    assert_int_equal(result == 0, !cfg_problems_refuse(&problems));
    cfg_problems_fini(&problems);
    return result == 0 ? config : NULL;
}

/* Loads, expecting exactly these lines. The config is there when they are warnings or none. */
static inline struct config *load_saying(const char *name, const char *text, const char *expected) {
    char *said;
    struct config *config = load_named(name, span_of(text), span_none(), &said);
    assert_string_equal(said, expected);
    free(said);
    return config;
}

static inline struct config *load_ok(const char *yaml) {
    struct config *config = load_saying("t.yaml", yaml, "");
    assert_non_null(config);
    return config;
}

static inline void refused(const char *yaml, const char *expected) {
    assert_null(load_saying("t.yaml", yaml, expected));
}

static inline void refused_json(const char *json, const char *expected) {
    assert_null(load_saying("t.json", json, expected));
}

static inline const struct cfg_listener *listener_of(const struct config *config) {
    return &config_bootstrap(config)->static_resources->listeners[0];
}

static inline const struct cfg_hcm *hcm_of(const struct config *config) {
    const struct cfg_any *any = &listener_of(config)->filter_chains[0].filters[0].typed_config;
    assert_ptr_equal(any->schema, &cfg_schema_hcm);
    return any->message;
}

static inline const struct cfg_route *route_of(const struct config *config) {
    return &hcm_of(config)->route_config->virtual_hosts[0].routes[0];
}

static inline const struct cfg_cluster *cluster_of(const struct config *config) {
    return &config_bootstrap(config)->static_resources->clusters[0];
}

static inline const struct cfg_any *plugin_config_of(const struct config *config) {
    const struct cfg_golang *go = hcm_of(config)->http_filters[0].typed_config.message;
    assert_true(go->has_plugin_config);
    return &go->plugin_config;
}

static inline void assert_span(struct span have, const char *want) {
    assert_int_equal(have.len, strlen(want));
    assert_memory_equal(have.ptr, want, have.len);
    assert_int_equal(have.ptr[have.len], '\0');
}
