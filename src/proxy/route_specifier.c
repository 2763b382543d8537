/* route_specifier: the plugins of a RouteConfiguration, and of its routes, that choose clusters. */
#include "proxy/cluster_specifier.h"
#include "proxy/route_internal.h"

static void free_specifier(void *object) {
    const struct cluster_specifier *specifier = object;
    if (specifier->kind->free_config)
        specifier->kind->free_config(specifier->config);
}

struct cluster_specifier *route_specifier_build(struct route_builder *builder,
                                                const struct cfg_cluster_specifier_plugin *config) {
    const struct cluster_specifier_kind *kind = cluster_specifier_find(config->typed_config.schema);
    if (!kind) {
        route_problem(builder, &config->mark,
                      "cluster specifier plugin '%.*s': its typed_config is of none that this "
                      "release has",
                      (int)config->name.len, config->name.ptr);
        return NULL;
    }
    struct cluster_specifier *specifier = route_alloc(builder, 1, sizeof *specifier);
    if (!specifier)
        return NULL;
    *specifier = (struct cluster_specifier){.kind = kind, .name = config->name};
    if (kind->build(&config->typed_config, builder->problems, &specifier->config) != 0)
        return NULL;
    if (kind->label)
        kind->label(specifier->config, &specifier->labels);
    return route_own(builder, free_specifier, specifier) ? specifier : NULL;
}

void route_specifiers_build(struct route_builder *builder) {
    struct route_table *table = builder->table;
    const struct cfg_route_configuration *config = table->config;
    size_t count = config->cluster_specifier_plugins_count;
    table->specifiers = count ? route_alloc(builder, count, sizeof *table->specifiers) : NULL;
    for (size_t i = 0; table->specifiers && i < count; i++) {
        const struct cfg_cluster_specifier_plugin *plugin = &config->cluster_specifier_plugins[i];
        if (route_specifier_find(table, plugin->name))
            cfg_problem_add(builder->problems, CFG_PROBLEM_WARNING, &plugin->mark,
                            "there is a cluster specifier plugin '%.*s' before this one, which is "
                            "the one that routes get",
                            (int)plugin->name.len, plugin->name.ptr);
        struct cluster_specifier *built = route_specifier_build(builder, plugin);
        if (built)
            table->specifiers[table->specifier_count++] = built;
    }
}

const struct cluster_specifier *route_specifier_find(const struct route_table *table,
                                                     struct span name) {
    for (size_t i = 0; i < table->specifier_count; i++)
        if (span_eq(table->specifiers[i]->name, name))
            return table->specifiers[i];
    return NULL;
}
