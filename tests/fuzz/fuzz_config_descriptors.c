/* fuzz_config_descriptors: any bytes as a descriptor set, used to encode a value of each type. */
#include "config/config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const char yaml[] =
        "static_resources: {listeners: [{address: {socket_address: {address: \"::\", port_value: "
        "1}}, filter_chains: [{filters: [{name: h, typed_config: {\"@type\": "
        "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3."
        "HttpConnectionManager, stat_prefix: s, route_config: {}, http_filters: [{name: g, "
        "typed_config: {\"@type\": "
        "type.googleapis.com/envoy.extensions.filters.http.golang.v3alpha.Config, library_id: i, "
        "library_path: p, plugin_name: g, plugin_config: {\"@type\": type.googleapis.com/M, a: 1, "
        "b: [1], c: {a: {}}, d: {d: {a: 1}}, e: \"1s\", f: x, g: {\"1\": 2}}}}]}}]}]}]}";
    struct cfg_problems problems = {0};
    struct config *config = NULL;
    if (config_load_text(SPAN_LIT("f.yaml"), span_of(yaml), span_make(data, size), &config,
                         &problems) == 0)
        config_unref(config);
    cfg_problems_fini(&problems);
    return 0;
}
