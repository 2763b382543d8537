/* schema_runtime: envoy.config.bootstrap.v3.LayeredRuntime, and whether its keys say something.
 *
 * Envoy takes any key and any value, and what it does not understand has no effect: a limit written as
 * "many" is no limit. Here what is heeded must make sense, and what is not heeded is warned of. */
#include <inttypes.h>

#include "config/load.h"
#include "config/runtime_layers.h"
#include "config/schema_tables.h"

#define LAYER ONEOF(struct cfg_runtime_layer, layer_specifier), .rules = CFG_ONEOF_REQUIRED
static const struct cfg_field layer_fields[] = {
    FIELD(struct cfg_runtime_layer, 1, name, CFG_STRING, .rules = CFG_REQUIRED,
          .doc = "For people; unique."),
    FIELD(struct cfg_runtime_layer, 2, static_layer, CFG_STRUCT, LAYER,
          .doc = "Keys and values. Heeded are "
                 "`envoy.resource_limits.listener.NAME.connection_limit` and "
                 "`overload.global_downstream_max_connections`, see "
                 "[connections.md](connections.md); of others there is a warning."),
};
static const struct cfg_missing layer_missing[] = {
    {3, "disk_layer"},
    {4, "admin_layer"},
    {5, "rtds_layer"},
};
static const struct cfg_schema layer_schema = {
    .name = "envoy.config.bootstrap.v3.RuntimeLayer",
    .doc = "Some runtime keys.",
    .size = sizeof(struct cfg_runtime_layer),
    MARK(struct cfg_runtime_layer),
    FIELDS(layer_fields),
    MISSING(layer_missing),
};

static const struct cfg_field layered_runtime_fields[] = {
    LIST(struct cfg_layered_runtime, 1, layers, struct cfg_runtime_layer, layer_schema,
         .doc = "A later layer hides what an earlier one says."),
};
const struct cfg_schema cfg_schema_layered_runtime = {
    .name = "envoy.config.bootstrap.v3.LayeredRuntime",
    .doc = "Settings by key, beside those that are fields.",
    .size = sizeof(struct cfg_layered_runtime),
    FIELDS(layered_runtime_fields),
};

/* ---- keys ---- */

struct keys {
    struct cfg_loader *loader;
    const struct cfg_bootstrap *bootstrap;
};

static bool has_listener(const struct cfg_bootstrap *bootstrap, struct span name) {
    const struct cfg_static_resources *resources = bootstrap->static_resources;
    for (size_t i = 0; resources && i < resources->listeners_count; i++)
        if (name.len && span_eq(resources->listeners[i].name, name))
            return true;
    return false;
}

/* The NAME of a key of a listener's limit. */
static bool is_listener_limit(struct span key, struct span *name) {
    static const size_t prefix = sizeof RUNTIME_LISTENER_PREFIX - 1;
    static const size_t suffix = sizeof RUNTIME_LISTENER_SUFFIX - 1;
    if (key.len < prefix + suffix || !span_starts_with(key, SPAN_LIT(RUNTIME_LISTENER_PREFIX)) ||
        !span_eq(span_from(key, key.len - suffix), SPAN_LIT(RUNTIME_LISTENER_SUFFIX)))
        return false;
    *name = span_make(key.ptr + prefix, key.len - prefix - suffix);
    return true;
}

static void check_key(const struct keys *keys, struct span key, uint32_t line,
                      const struct cfg_tree *node, const struct cfg_path *path,
                      const struct cfg_value *value) {
    struct span listener = span_none();
    bool is_limit = is_listener_limit(key, &listener);
    uint64_t number;
    if (value->kind == CFG_VALUE_NULL || value->kind == CFG_VALUE_LIST)
        cfg_report_line(keys->loader, CFG_PROBLEM_INVALID, node, line, path,
                        "a runtime key has a value: a number, a string, true, false or a fraction");
    else if (!is_limit && !span_eq(key, SPAN_LIT(RUNTIME_GLOBAL_CONNECTIONS)))
        cfg_report_line(keys->loader, CFG_PROBLEM_WARNING, node, line, path,
                        "the runtime key %.*s has no effect here; heeded are "
                        "" RUNTIME_LISTENER_PREFIX "NAME" RUNTIME_LISTENER_SUFFIX
                        " and " RUNTIME_GLOBAL_CONNECTIONS,
                        (int)key.len, key.ptr);
    else if (!cfg_runtime_number(value, &number))
        cfg_report_line(keys->loader, CFG_PROBLEM_INVALID, node, line, path,
                        "a limit of connections is a whole number from 0");
    else if (is_limit && !has_listener(keys->bootstrap, listener))
        cfg_report_line(keys->loader, CFG_PROBLEM_WARNING, node, line, path,
                        "there is no listener with the name '%.*s'", (int)listener.len,
                        listener.ptr);
    else if (!is_limit)
        cfg_report_line(keys->loader, CFG_PROBLEM_WARNING, node, line, path,
                        "deprecated: the resource monitor "
                        "envoy.resource_monitors.global_downstream_max_connections replaces it");
}

/* As Envoy has it: these are the value of a key, others go on with it. */
static bool is_value(const struct cfg_value *value) {
    if (value->kind != CFG_VALUE_STRUCT || value->fields_count == 0)
        return true;
    for (size_t i = 0; i < value->fields_count; i++)
        if (span_eq(value->fields[i].key, SPAN_LIT("numerator")) ||
            span_eq(value->fields[i].key, SPAN_LIT("denominator")))
            return true;
    return false;
}

/* node and value are the same Struct, before and after decoding: entries and fields go in step. */
static void check_layer(const struct keys *keys, struct span prefix, const struct cfg_tree *node,
                        const struct cfg_path *path, const struct cfg_value *value) {
    if (node->kind != NODE_MAP || value->kind != CFG_VALUE_STRUCT)
        return;
    for (size_t i = 0; i < node->count && i < value->fields_count; i++) {
        const struct cfg_tree_entry *entry = &node->entries[i];
        const struct cfg_path at = {.up = path, .key = entry->key};
        struct span key = cfg_printf(keys->loader->scratch, "%.*s%s%.*s", (int)prefix.len,
                                     prefix.ptr ? prefix.ptr : "", prefix.len ? "." : "",
                                     (int)entry->key.len, entry->key.ptr);
        if (is_value(&value->fields[i].value))
            check_key(keys, key, entry->line, node, &at, &value->fields[i].value);
        else
            check_layer(keys, key, entry->value, &at, &value->fields[i].value);
    }
}

static const struct cfg_tree *get(const struct cfg_tree *map, const char *name, const char *camel) {
    const struct cfg_tree *found = cfg_tree_get(map, span_of(name));
    return found ? found : cfg_tree_get(map, span_of(camel));
}

void cfg_check_runtime(struct cfg_loader *loader, const struct cfg_tree *node,
                       const struct cfg_path *path, void *message) {
    const struct cfg_bootstrap *bootstrap = message;
    const struct cfg_layered_runtime *runtime = bootstrap->layered_runtime;
    const struct keys keys = {loader, bootstrap};
    const struct cfg_tree *runtime_node =
        runtime ? get(node, "layered_runtime", "layeredRuntime") : NULL;
    const struct cfg_path runtime_path = {.up = path, .name = "layered_runtime", .within = node};
    const struct cfg_path list_path = {
        .up = &runtime_path, .name = "layers", .within = runtime_node};
    const struct cfg_tree *list =
        runtime_node ? cfg_tree_get(runtime_node, SPAN_LIT("layers")) : NULL;
    for (size_t i = 0; list && i < runtime->layers_count; i++) {
        const struct cfg_runtime_layer *layer = &runtime->layers[i];
        const struct cfg_tree *layer_node =
            list->kind == NODE_LIST && i < list->count ? list->items[i] : list; /* a lone item */
        const struct cfg_path index = {.up = &list_path, .index = i};
        for (size_t j = 0; j < i; j++)
            if (layer->name.len && span_eq(runtime->layers[j].name, layer->name))
                cfg_report(loader, CFG_PROBLEM_INVALID, layer_node, &index,
                           "the name '%.*s' is taken by the layer of line %" PRIu32,
                           (int)layer->name.len, layer->name.ptr, runtime->layers[j].mark.line);
        const struct cfg_tree *values =
            layer_node->kind == NODE_MAP ? get(layer_node, "static_layer", "staticLayer") : NULL;
        const struct cfg_path at = {.up = &index, .name = "static_layer", .within = layer_node};
        if (values && layer->static_layer)
            check_layer(&keys, span_none(), values, &at, layer->static_layer);
    }
}
