/* config_dump: the served configuration in the shape of Envoy's /config_dump.
 *
 * Clusters, listeners and routes come from the bootstrap and from files, each with the time since when it is what it
 * is; routes also from inside HTTP connection managers. A resource for which its file is refused has an error_state: in
 * its item when another version of it runs, else in one of its own. What is wrong with the file as a whole has an item
 * without a name.
 * ?resource and ?mask are refused rather than ignored: an answer with more than was asked for may
 * end up somewhere that it was not meant for. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "admin/json.h"
#include "admin/page.h"
#include "config/schema.h"
#include "config/tls_config.h"
#include "discovery/discovery_status.h"

enum { DUMP_INDENT = 1 };

struct dump {
    struct json json;
    const struct cfg_bootstrap *bootstrap;
    const struct resources *resources;
    int64_t since_wall_ns;
    const char *list; /* the key of the list that is not open yet; NULL: it is */
    enum resource_type type;
    const struct resource *item; /* the one that is put */
};

/* A message, with its type in front when it stands in an Any. */
static void put_message(struct dump *dump, const struct cfg_schema *schema, const void *message,
                        bool with_type) {
    char *text = cfg_to_json_without_secrets(schema, message, DUMP_INDENT);
    if (!text) {
        dump->json.out->failed = true;
        return;
    }
    struct span object = span_of(text);
    if (!with_type) {
        json_raw(&dump->json, object);
    } else { /* "{" type "," what follows the brace */
        struct text typed = {0};
        bool is_empty = span_starts_with(object, SPAN_LIT("{}"));
        text_printf(&typed, "{\n \"@type\": \"type.googleapis.com/%s\"%s", schema->name,
                    is_empty ? "\n" : ",");
        text_put(&typed, span_from(object, 1));
        json_raw(&dump->json, text_span(&typed));
        dump->json.out->failed |= typed.failed;
        text_fini(&typed);
    }
    free(text);
}

static void open_dump(struct dump *dump, const char *type) {
    json_open(&dump->json, '{');
    json_key(&dump->json, "@type");
    struct text name = {0};
    text_printf(&name, "type.googleapis.com/envoy.admin.v3.%s", type);
    json_string(&dump->json, text_span(&name));
    text_fini(&name);
}

static void open_item(struct dump *dump) {
    if (dump->list) {
        json_key(&dump->json, dump->list);
        json_open(&dump->json, '[');
        dump->list = NULL;
    }
    json_open(&dump->json, '{');
}

static void close_list(struct dump *dump) {
    if (!dump->list)
        json_close(&dump->json, ']');
    dump->list = NULL;
}

static void put_dated(struct dump *dump, const struct cfg_schema *schema, const void *message,
                      int64_t since_wall_ns) {
    static const struct {
        const struct cfg_schema *schema;
        const char *key;
    } keys[] = {{&cfg_schema_listener, "listener"},
                {&cfg_schema_cluster, "cluster"},
                {&cfg_schema_route_configuration, "route_config"}};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        if (keys[i].schema == schema)
            json_key(&dump->json, keys[i].key);
    put_message(dump, schema, message, true);
    json_field_time(&dump->json, "last_updated", since_wall_ns);
}

static void put_bootstrap(struct dump *dump) {
    open_dump(dump, "BootstrapConfigDump");
    json_key(&dump->json, "bootstrap");
    put_message(dump, &cfg_schema_bootstrap, dump->bootstrap, false);
    json_field_time(&dump->json, "last_updated", dump->since_wall_ns);
    json_close(&dump->json, '}');
}

static bool is_static(const struct resource *item) {
    return span_eq(item->origin, RESOURCE_STATIC);
}

static void put_static(struct dump *dump, const char *list) {
    const struct resource_list *items = &dump->resources->of[dump->type];
    dump->list = list;
    for (size_t i = 0; i < items->count; i++) {
        if (!is_static(&items->items[i]))
            continue;
        open_item(dump);
        put_dated(dump, resource_schema(dump->type), items->items[i].message,
                  items->items[i].since_wall_ns);
        json_close(&dump->json, '}');
    }
    close_list(dump);
}

static void put_error_state(struct dump *dump, const struct discovery_status *status,
                            const struct discovery_refusal *refusal) {
    json_key(&dump->json, "error_state");
    json_open(&dump->json, '{');
    if (refusal->name) {
        json_key(&dump->json, "failed_configuration");
        json_open(&dump->json, '{');
        json_key(&dump->json, "@type");
        struct text type = {0};
        text_printf(&type, "type.googleapis.com/%s", resource_schema(dump->type)->name);
        json_string(&dump->json, text_span(&type));
        text_fini(&type);
        json_field(&dump->json, "name", span_of(refusal->name));
        json_close(&dump->json, '}');
    }
    json_field_time(&dump->json, "last_update_attempt", status->refused_wall_ns);
    json_field(&dump->json, "details", span_of(refusal->details));
    if (*status->refused_version)
        json_field(&dump->json, "version_info", span_of(status->refused_version));
    json_close(&dump->json, '}');
}

static bool is_of(const struct resource *item, const struct discovery_status *status,
                  const struct discovery_refusal *refusal) {
    return refusal->name && span_eq(span_of(refusal->name), item->name) &&
           span_eq(span_of(status->origin), item->origin);
}

static void put_error_of_item(const struct discovery_status *status, void *arg) {
    struct dump *dump = arg;
    for (size_t i = 0; status->type == dump->type && i < status->refusal_count; i++)
        if (is_of(dump->item, status, &status->refusals[i]))
            put_error_state(dump, status, &status->refusals[i]);
}

/* Of what does not run, not in another version either. */
static void put_other_errors(const struct discovery_status *status, void *arg) {
    struct dump *dump = arg;
    for (size_t i = 0; status->type == dump->type && i < status->refusal_count; i++) {
        const struct discovery_refusal *refusal = &status->refusals[i];
        const struct resource *item =
            refusal->name ? resources_find(dump->resources, dump->type, span_of(refusal->name))
                          : NULL;
        if (item && is_of(item, status, refusal))
            continue;
        open_item(dump);
        if (refusal->name && dump->type == RESOURCE_LISTENER)
            json_field(&dump->json, "name", span_of(refusal->name));
        put_error_state(dump, status, refusal);
        json_close(&dump->json, '}');
    }
}

static void put_source_version(const struct discovery_status *status, void *arg) {
    struct dump *dump = arg;
    if (status->type == dump->type && status->version)
        json_field(&dump->json, "version_info", span_of(status->version));
}

static void put_dynamic_item(struct dump *dump, const struct resource *item) {
    bool is_listener = dump->type == RESOURCE_LISTENER;
    open_item(dump);
    if (is_listener) {
        json_field(&dump->json, "name", item->name);
        json_key(&dump->json, "active_state");
        json_open(&dump->json, '{');
    }
    json_field(&dump->json, "version_info", item->version);
    put_dated(dump, resource_schema(dump->type), item->message, item->since_wall_ns);
    if (is_listener)
        json_close(&dump->json, '}');
    dump->item = item;
    discovery_each_status(put_error_of_item, dump);
    json_close(&dump->json, '}');
}

static void put_dynamic(struct dump *dump, const char *list) {
    const struct resource_list *items = &dump->resources->of[dump->type];
    dump->list = list;
    for (size_t i = 0; i < items->count; i++)
        if (!is_static(&items->items[i]))
            put_dynamic_item(dump, &items->items[i]);
    discovery_each_status(put_other_errors, dump);
    close_list(dump);
}

static void put_resources(struct dump *dump, enum resource_type type, const char *name,
                          const char *of_bootstrap, const char *discovered) {
    open_dump(dump, name);
    dump->type = type;
    discovery_each_status(put_source_version, dump);
    put_static(dump, of_bootstrap);
    put_dynamic(dump, discovered);
    json_close(&dump->json, '}');
}

/* The routes that stand in the connection managers of one chain. */
static void put_chain_routes(struct dump *dump, const struct cfg_filter_chain *chain,
                             int64_t since_wall_ns) {
    for (size_t i = 0; i < chain->filters_count; i++) {
        const struct cfg_any *any = &chain->filters[i].typed_config;
        const struct cfg_hcm *hcm = any->schema == &cfg_schema_hcm ? any->message : NULL;
        if (!hcm || !hcm->route_config)
            continue;
        open_item(dump);
        put_dated(dump, &cfg_schema_route_configuration, hcm->route_config, since_wall_ns);
        json_close(&dump->json, '}');
    }
}

static void put_routes(struct dump *dump) {
    const struct resource_list *listeners = &dump->resources->of[RESOURCE_LISTENER];
    open_dump(dump, "RoutesConfigDump");
    dump->list = "static_route_configs";
    for (size_t i = 0; i < listeners->count; i++) {
        const struct cfg_listener *listener = listeners->items[i].message;
        int64_t since_wall_ns = listeners->items[i].since_wall_ns;
        for (size_t k = 0; k < listener->filter_chains_count; k++)
            put_chain_routes(dump, &listener->filter_chains[k], since_wall_ns);
        if (listener->default_filter_chain)
            put_chain_routes(dump, listener->default_filter_chain, since_wall_ns);
    }
    close_list(dump);
    dump->type = RESOURCE_ROUTES;
    put_dynamic(dump, "dynamic_route_configs");
    json_close(&dump->json, '}');
}

static void put_version(const struct admin_config *config, void *arg) {
    struct dump *dump = arg;
    json_open(&dump->json, '{');
    json_key(&dump->json, "version");
    json_u64(&dump->json, config->version);
    json_field(&dump->json, "state", config->version ? SPAN_LIT("TAKEN") : SPAN_LIT("REFUSED"));
    json_field_time(&dump->json, "time", config->at_wall_ns);
    if (config->hash) { /* as a report of a crash has it */
        char hash[17];
        snprintf(hash, sizeof hash, "%016" PRIx64, config->hash);
        json_field(&dump->json, "hash", span_of(hash));
    }
    json_field(&dump->json, "origin", config->origin);
    json_field(&dump->json, "details", config->said);
    json_close(&dump->json, '}');
}

/* Ours: which configurations were tried, the latest first. */
static void put_versions(struct dump *dump) {
    json_open(&dump->json, '{');
    json_field(&dump->json, "@type",
               SPAN_LIT("type.googleapis.com/sluice.admin.ConfigVersionsDump"));
    json_key(&dump->json, "versions");
    json_open(&dump->json, '[');
    admin_hooks()->each_config(put_version, dump);
    json_close(&dump->json, ']');
    json_close(&dump->json, '}');
}

void page_config_dump(const struct query *query, struct page *page) {
    static const char *const refused[] = {"resource", "mask", "name_regex"};
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        if (query_has(query, refused[i])) {
            page_fail(page, 501,
                      "the parameter %s is not supported yet; without it, all of the "
                      "configuration is dumped\n",
                      refused[i]);
            return;
        }
    }
    struct dump dump = {.json = {.out = &page->body, .style = JSON_PRETTY}};
    struct config *config = admin_hooks()->config(&dump.since_wall_ns);
    page->content_type = content_type_json;
    json_open(&dump.json, '{');
    json_key(&dump.json, "configs");
    json_open(&dump.json, '[');
    if (config) {
        struct resources *resources = admin_hooks()->resources();
        dump.bootstrap = config_bootstrap(config);
        dump.resources = resources;
        put_bootstrap(&dump);
        put_resources(&dump, RESOURCE_CLUSTER, "ClustersConfigDump", "static_clusters",
                      "dynamic_active_clusters");
        put_resources(&dump, RESOURCE_LISTENER, "ListenersConfigDump", "static_listeners",
                      "dynamic_listeners");
        put_routes(&dump);
        resources_unref(resources);
        put_versions(&dump);
    }
    json_close(&dump.json, ']');
    json_close(&dump.json, '}');
    if (config)
        config_unref(config);
}
