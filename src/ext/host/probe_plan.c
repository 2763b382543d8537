/* probe_plan: see the header. The chain of merges is the one that requests take: filter, route table, virtual
 * host, route, weighted cluster; a level without an entry for the plugin passes on the one above. */
#include "ext/host/probe_plan.h"

#include <stdlib.h>

#include "base/clock.h"
#include "config/cfg_buf.h"
#include "config/native_config.h"
#include "ext/go/go_any.h"

static const int64_t timeout_default_ns = 10 * NS_PER_S;

/* FNV-1a, 128 bits: nobody gains from two configurations of his own with one key. */
probe_key probe_key_add(probe_key key, const void *bytes, size_t len) {
    static const probe_key prime = ((probe_key)1 << 88) + 0x13b;
    const unsigned char *at = bytes;
    for (size_t i = 0; i < len; i++)
        key = (key ^ at[i]) * prime;
    return key;
}

static probe_key add_span(probe_key key, struct span text) {
    key = probe_key_add(key, &text.len, sizeof(text.len));
    return probe_key_add(key, text.ptr, text.len);
}

static void apply(struct probe_library *library, const struct cfg_go_probe *probe) {
    library->disabled |= probe->disabled;
    if (probe->timeout.set)
        library->timeout_ns = probe->timeout.ns;
}

static struct probe_library *library_of(struct probe_plan *plan, const struct probe_library *named,
                                        const struct cfg_go_probe *probe) {
    for (size_t i = 0; i < plan->count; i++)
        if (span_eq(plan->libraries[i].id, named->id) &&
            plan->libraries[i].is_native == named->is_native) {
            apply(&plan->libraries[i], probe);
            return &plan->libraries[i]; /* its first path and wishes count, as when loading */
        }
    if (plan->count == plan->room) {
        size_t room = 2 * plan->room + 4;
        struct probe_library *larger = realloc(plan->libraries, room * sizeof(*larger));
        if (!larger) {
            plan->memory_short = true;
            return NULL;
        }
        plan->libraries = larger;
        plan->room = room;
    }
    struct probe_library *library = &plan->libraries[plan->count++];
    *library = *named;
    library->timeout_ns = timeout_default_ns;
    apply(library, probe);
    return library;
}

static struct probe_library *go_library_of(struct probe_plan *plan,
                                           const struct cfg_go_library *cfg,
                                           const struct cfg_mark *mark) {
    return library_of(
        plan,
        &(struct probe_library){.id = cfg->id,
                                .path = cfg->path,
                                .wish = {.gogc = cfg->gogc, .memory_limit = cfg->go_memory_limit},
                                .mark = mark},
        &cfg->probe);
}

static void note_isolation(struct probe_library *library, const struct cfg_go_library *cfg) {
    const struct cfg_go_isolation *wish = &cfg->isolation;
    if (library->may_be_isolated)
        return;
    library->may_be_isolated = true;
    library->is_isolated = wish->where == CFG_ISOLATION_PROCESS;
    library->sandbox = wish->has_sandbox ? &wish->sandbox : NULL;
}

/* The index of the node, which may have been there; PROBE_NO_PARENT when memory is short. bytes are transferred; NULL:
 * there was none for them. */
static size_t add_node_bytes(struct probe_plan *plan, struct probe_library *library,
                             enum probe_kind kind, size_t parent, struct span plugin, char *bytes,
                             size_t len, const struct cfg_mark *mark) {
    if (!bytes)
        goto no_memory;
    probe_key key = parent == PROBE_NO_PARENT ? 1 : library->nodes[parent].key;
    key = probe_key_add(key, &kind, sizeof(kind));
    key = add_span(add_span(key, plugin), span_make(bytes, len));
    for (size_t i = 0; i < library->count; i++)
        if (library->nodes[i].key == key) {
            free(bytes);
            return i;
        }
    if (library->count == library->room) {
        size_t room = 2 * library->room + 4;
        struct probe_node *larger = realloc(library->nodes, room * sizeof(*larger));
        if (!larger)
            goto no_memory;
        library->nodes = larger;
        library->room = room;
    }
    library->nodes[library->count] = (struct probe_node){.kind = kind,
                                                         .parent = parent,
                                                         .plugin = plugin,
                                                         .bytes = bytes,
                                                         .len = len,
                                                         .mark = mark,
                                                         .key = key};
    return library->count++;
no_memory:
    free(bytes);
    plan->memory_short = true;
    return PROBE_NO_PARENT;
}

/* any NULL: an empty one. */
static size_t add_node(struct probe_plan *plan, struct probe_library *library, enum probe_kind kind,
                       size_t parent, struct span plugin, const struct cfg_any *any,
                       const struct cfg_mark *mark) {
    size_t len;
    char *bytes = go_any_bytes(any, &len);
    return add_node_bytes(plan, library, kind, parent, plugin, bytes, len, mark);
}

static size_t add_native(struct probe_plan *plan, struct probe_library *library, size_t parent,
                         const struct cfg_value *config, const struct cfg_mark *mark) {
    struct cfg_buf json = {0};
    cfg_native_json(&json, config);
    size_t len = json.len;
    return add_node_bytes(plan, library, PROBE_NATIVE, parent, SPAN_LIT(""), cfg_buf_take(&json),
                          len, mark);
}

/* One filter of a chain while its routes are walked. */
struct walk {
    struct probe_plan *plan;
    struct probe_library *library;
    struct span filter_name, plugin;
};

/* What an entry for the plugin makes of the level above. */
static size_t walk_go_entry(struct walk *walk, size_t above,
                            const struct cfg_golang_per_route *cfg) {
    for (size_t k = 0; k < cfg->plugins_config_count && above != PROBE_NO_PARENT; k++) {
        const struct cfg_golang_plugin_entry *entry = &cfg->plugins_config[k];
        if (span_eq(entry->key, walk->plugin))
            above =
                add_node(walk->plan, walk->library, PROBE_HTTP, above, walk->plugin,
                         entry->value.disabled ? NULL : &entry->value.config, &entry->value.mark);
    }
    return above;
}

/* What a level makes of the one above. */
static size_t walk_level(struct walk *walk, size_t above, const struct cfg_per_filter *entries,
                         size_t count) {
    for (size_t i = 0; i < count && above != PROBE_NO_PARENT; i++) {
        const struct cfg_any *any = &entries[i].value;
        if (!span_eq(entries[i].key, walk->filter_name))
            continue;
        if (walk->library->is_native && any->schema == &cfg_schema_native_per_route) {
            const struct cfg_native_per_route *cfg = any->message;
            above = add_native(walk->plan, walk->library, above, cfg->config, &cfg->mark);
        } else if (!walk->library->is_native && any->schema == &cfg_schema_golang_per_route) {
            above = walk_go_entry(walk, above, any->message);
        }
    }
    return above;
}

static void walk_routes(struct walk *walk, size_t own,
                        const struct cfg_route_configuration *table) {
    size_t in_table =
        walk_level(walk, own, table->typed_per_filter_config, table->typed_per_filter_config_count);
    for (size_t h = 0; h < table->virtual_hosts_count; h++) {
        const struct cfg_virtual_host *host = &table->virtual_hosts[h];
        size_t in_host = walk_level(walk, in_table, host->typed_per_filter_config,
                                    host->typed_per_filter_config_count);
        for (size_t r = 0; r < host->routes_count; r++) {
            const struct cfg_route *route = &host->routes[r];
            size_t in_route = walk_level(walk, in_host, route->typed_per_filter_config,
                                         route->typed_per_filter_config_count);
            const struct cfg_weighted_clusters *clusters =
                route->route ? route->route->weighted_clusters : NULL;
            for (size_t c = 0; clusters && c < clusters->clusters_count; c++)
                (void)walk_level(walk, in_route, clusters->clusters[c].typed_per_filter_config,
                                 clusters->clusters[c].typed_per_filter_config_count);
        }
    }
}

static void walk_filter(struct probe_plan *plan, const struct cfg_http_filter *filter,
                        const struct cfg_route_configuration *table) {
    const struct cfg_golang *cfg = filter->typed_config.message;
    struct probe_library *library = go_library_of(plan, &cfg->library, &cfg->mark);
    if (!library)
        return;
    note_isolation(library, &cfg->library);
    if (!library->has_http) /* the first one's number is announced */
        library->go_seats = cfg->library.go_seats.value;
    library->has_http = true;
    struct walk walk = {plan, library, filter->name, cfg->plugin_name};
    size_t own = add_node(plan, library, PROBE_HTTP, PROBE_NO_PARENT, cfg->plugin_name,
                          cfg->has_plugin_config ? &cfg->plugin_config : NULL, &cfg->mark);
    if (own != PROBE_NO_PARENT && table)
        walk_routes(&walk, own, table);
}

static void walk_native(struct probe_plan *plan, const struct cfg_http_filter *filter,
                        const struct cfg_route_configuration *table) {
    const struct cfg_native *cfg = filter->typed_config.message;
    struct probe_library *library = library_of(plan,
                                               &(struct probe_library){.is_native = true,
                                                                       .id = cfg->library_path,
                                                                       .path = cfg->library_path,
                                                                       .mark = &cfg->mark},
                                               &cfg->probe);
    if (!library)
        return;
    struct walk walk = {plan, library, filter->name, SPAN_LIT("")};
    size_t own = add_native(plan, library, PROBE_NO_PARENT, cfg->config, &cfg->mark);
    if (own != PROBE_NO_PARENT && table)
        walk_routes(&walk, own, table);
}

static void walk_specifier(struct probe_plan *plan,
                           const struct cfg_cluster_specifier_plugin *plugin) {
    if (!plugin || plugin->typed_config.schema != &cfg_schema_golang_cluster_specifier)
        return;
    const struct cfg_golang_cluster_specifier *cfg = plugin->typed_config.message;
    struct probe_library *library = go_library_of(plan, &cfg->library, &cfg->mark);
    if (!library)
        return;
    note_isolation(library, &cfg->library);
    (void)add_node(plan, library, PROBE_CLUSTER, PROBE_NO_PARENT, SPAN_LIT("(cluster specifier)"),
                   cfg->has_config ? &cfg->config : NULL, &cfg->mark);
}

static void walk_specifiers(struct probe_plan *plan, const struct cfg_route_configuration *table) {
    for (size_t i = 0; i < table->cluster_specifier_plugins_count; i++)
        walk_specifier(plan, &table->cluster_specifier_plugins[i]);
    for (size_t h = 0; h < table->virtual_hosts_count; h++)
        for (size_t r = 0; r < table->virtual_hosts[h].routes_count; r++) {
            const struct cfg_route_action *action = table->virtual_hosts[h].routes[r].route;
            if (action)
                walk_specifier(plan, action->inline_cluster_specifier_plugin);
        }
}

static void walk_network(struct probe_plan *plan, const struct cfg_golang_network *cfg) {
    struct probe_library *library = go_library_of(plan, &cfg->library, &cfg->mark);
    if (!library)
        return;
    note_isolation(library, &cfg->library);
    (void)add_node(plan, library, PROBE_NETWORK, PROBE_NO_PARENT, cfg->plugin_name,
                   cfg->has_plugin_config ? &cfg->plugin_config : NULL, &cfg->mark);
}

static void walk_chain(struct probe_plan *plan, const struct resources *resources,
                       const struct cfg_filter_chain *chain) {
    for (size_t i = 0; chain && i < chain->filters_count; i++) {
        const struct cfg_any *any = &chain->filters[i].typed_config;
        if (any->schema == &cfg_schema_golang_network)
            walk_network(plan, any->message);
        if (any->schema != &cfg_schema_hcm)
            continue;
        const struct cfg_hcm *hcm = any->message;
        const struct cfg_route_configuration *routes = resources_routes(resources, hcm);
        for (size_t k = 0; k < hcm->http_filters_count; k++) {
            const struct cfg_schema *schema = hcm->http_filters[k].typed_config.schema;
            if (schema == &cfg_schema_golang)
                walk_filter(plan, &hcm->http_filters[k], routes);
            else if (schema == &cfg_schema_native)
                walk_native(plan, &hcm->http_filters[k], routes);
        }
        if (routes)
            walk_specifiers(plan, routes);
    }
}

void probe_plan_make(const struct resources *resources, struct probe_plan *out) {
    *out = (struct probe_plan){0};
    const struct resource_list *listeners = &resources->of[RESOURCE_LISTENER];
    for (size_t i = 0; i < listeners->count; i++) {
        const struct cfg_listener *listener = listeners->items[i].message;
        for (size_t k = 0; k < listener->filter_chains_count; k++)
            walk_chain(out, resources, &listener->filter_chains[k]);
        walk_chain(out, resources, listener->default_filter_chain);
    }
}

void probe_plan_fini(struct probe_plan *plan) {
    for (size_t i = 0; i < plan->count; i++) {
        struct probe_library *library = &plan->libraries[i];
        for (size_t k = 0; k < library->count; k++)
            free(library->nodes[k].bytes);
        free(library->nodes);
        cfg_problems_fini(&library->problems);
    }
    free(plan->libraries);
}
