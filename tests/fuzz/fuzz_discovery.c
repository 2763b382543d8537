/* fuzz_discovery: any bytes as a file of listeners, clusters or routes; the first byte chooses which, the rest is YAML, or
 * JSON if it begins like it. What loads becomes part of a set; then it is loaded once more, and nothing has changed. */
#include "discovery/discovery_file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct resources *nothing(void) {
    struct cfg_problems problems = {0};
    struct config *config;
    int rc = config_load_text(SPAN_LIT("b.yaml"), SPAN_LIT("{}"), span_none(), &config, &problems);
    ASSERT(rc == 0);
    struct resources *set = resources_of_bootstrap(config, NULL, &problems);
    ASSERT(set);
    config_unref(config);
    return set;
}

/* The set with what text says; NULL: it is refused. */
static struct resources *with(const struct resources *base, enum resource_type type,
                              struct span text) {
    struct cfg_problems problems = {0};
    const char *name = text.len && text.ptr[0] == '{' ? "f.json" : "f.yaml";
    struct discovery_file *file = discovery_file_load_text(type, span_of(name), text, &problems);
    const bool refused = cfg_problems_refuse(&problems);
    ASSERT(refused ? !file || file->count == 0 : file != NULL);
    struct resources *set = NULL;
    if (!refused) {
        const struct resource_update update = {.type = type,
                                               .origin = span_of(name),
                                               .version = file->version,
                                               .config = file->config,
                                               .items = file->items,
                                               .count = file->count};
        set = resources_with(base, &update, 1, &problems);
        ASSERT(set);
        ASSERT(set->of[type].count == file->count);
    }
    discovery_file_free(file);
    cfg_problems_fini(&problems);
    return set;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size == 0)
        return 0;
    enum resource_type type = data[0] % RESOURCE_TYPES;
    struct span text = span_make(data + 1, size - 1);
    struct resources *base = nothing();
    struct resources *set = with(base, type, text);
    struct resources *again = set ? with(set, type, text) : NULL;
    ASSERT((set == NULL) == (again == NULL));
    for (size_t i = 0; set && i < set->of[type].count; i++) {
        const struct resource *item = &set->of[type].items[i];
        const struct resource *found = resources_find(again, type, item->name);
        ASSERT(found);
        ASSERT(item->name.len == 0 || span_eq(found->version, item->version));
    }
    resources_unref(again);
    resources_unref(set);
    resources_unref(base);
    return 0;
}
