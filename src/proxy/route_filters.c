/* route_filters: typed_per_filter_config of one level, parsed when the table is built, so that a
 * filter finds its configs by index and a mistake stops the config and not a request. */
#include <stdlib.h>

#include "proxy/route_internal.h"

struct built_config {
    const struct filter_kind *kind;
    void *config;
};

static void free_built(void *arg) {
    struct built_config *built = arg;
    if (built->kind->free_route)
        built->kind->free_route(built->config);
    free(built);
}

static void *build_one(struct route_builder *builder, const struct cfg_per_filter *entry,
                       const struct filter_factory *factory) {
    const struct filter_kind *kind = factory->kind;
    const struct cfg_any *any = &entry->value;
    if (!kind->route_schema || !kind->build_route) {
        route_problem(builder, &any->mark,
                      "the filter '%.*s' does not support virtual host or route specific "
                      "configurations",
                      (int)factory->name.len, factory->name.ptr);
        return NULL;
    }
    if (any->schema != kind->route_schema) {
        route_problem(builder, &any->mark,
                      "'%.*s' is not the type of per-route configs of the filter '%.*s'",
                      (int)any->type_url.len, any->type_url.ptr ? any->type_url.ptr : "",
                      (int)factory->name.len, factory->name.ptr);
        return NULL;
    }
    struct built_config *built = calloc(1, sizeof(*built));
    if (!built) {
        builder->table->memory_short = true;
        return NULL;
    }
    built->kind = kind;
    if (kind->build_route(any, factory->config, builder->problems, &built->config) < 0) {
        free(built);
        return NULL;
    }
    return route_own(builder, free_built, built) ? built->config : NULL;
}

const void **route_filters_build(struct route_builder *builder,
                                 const struct cfg_per_filter *entries, size_t count) {
    const struct route_build *build = builder->build;
    if (count == 0)
        return NULL;
    const void **configs = route_alloc(builder, build->filter_count, sizeof(*configs));
    for (size_t i = 0; configs && i < count; i++) {
        bool known = false;
        for (size_t f = 0; f < build->filter_count; f++) {
            const struct filter_factory *factory = build->filters[f];
            if (span_eq(factory->name, entries[i].key)) {
                known = true;
                configs[f] = build_one(builder, &entries[i], factory);
            }
        }
        if (!known) /* Envoy takes it without a word: route tables are shared between chains */
            cfg_problem_add(builder->problems, CFG_PROBLEM_WARNING, &entries[i].value.mark,
                            "no http filter is named '%.*s': the entry has no effect",
                            (int)entries[i].key.len, entries[i].key.ptr ? entries[i].key.ptr : "");
    }
    return configs;
}
