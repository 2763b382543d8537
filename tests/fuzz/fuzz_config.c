/* fuzz_config: any bytes as a YAML or a JSON config; the first byte chooses. What loads is printed,
 * and what was printed loads again. */
#include <stdlib.h>

#include "config/config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct config *load(const char *name, struct span text) {
    struct cfg_problems problems = {0};
    struct config *config = NULL;
    if (config_load_text(span_of(name), text, span_none(), &config, &problems) != 0)
        config = NULL;
    ASSERT(!config == cfg_problems_refuse(&problems));
    cfg_problems_fini(&problems);
    return config;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size == 0)
        return 0;
    const char *name = data[0] == '{' ? "f.json" : "f.yaml";
    struct config *config = load(name, span_make(data, size));
    if (!config)
        return 0;
    const struct cfg_bootstrap *bootstrap = config_bootstrap(config);
    char *json = cfg_to_json(&cfg_schema_bootstrap, bootstrap, 0);
    ASSERT(json);
    struct config *again = load("f.json", span_of(json));
    ASSERT(again);

    size_t len, len_again;
    char *wire = cfg_to_wire(&cfg_schema_bootstrap, bootstrap, &len);
    char *wire_again = cfg_to_wire(&cfg_schema_bootstrap, config_bootstrap(again), &len_again);
    ASSERT(wire);
    ASSERT(wire_again);
    ASSERT(len == len_again);
    ASSERT(memcmp(wire, wire_again, len) == 0);
    free(wire);
    free(wire_again);
    free(json);
    config_unref(again);
    config_unref(config);
    return 0;
}
