/* config_dump: the served configuration in the shape of Envoy's /config_dump.
 *
 * Bootstrap, clusters and listeners come from one config, and route tables from inside its HTTP
 * connection managers; until configuration arrives piecemeal all carry the same last_updated.
 * ?resource and ?mask are refused rather than ignored: an answer with more than was asked for may
 * end up somewhere that it was not meant for. */
#include <stdlib.h>

#include "admin/json.h"
#include "admin/page.h"
#include "config/schema.h"

enum { DUMP_INDENT = 1 };

struct dump {
    struct json json;
    const struct cfg_bootstrap *bootstrap;
    int64_t since_wall_ns;
};

/* The table of a nested message, by the name of its field. */
static const struct cfg_schema *child(const struct cfg_schema *schema, struct span field) {
    const struct cfg_field *found = cfg_field_find(schema, field);
    ASSERT(found);
    ASSERT(found->schema);
    return found->schema;
}

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

/* {key: message, "last_updated": ...}, an item of one of the lists. */
static void put_item(struct dump *dump, const char *key, const struct cfg_schema *schema,
                     const void *message) {
    json_open(&dump->json, '{');
    json_key(&dump->json, key);
    put_message(dump, schema, message, true);
    json_field_time(&dump->json, "last_updated", dump->since_wall_ns);
    json_close(&dump->json, '}');
}

static void put_bootstrap(struct dump *dump) {
    open_dump(dump, "BootstrapConfigDump");
    json_key(&dump->json, "bootstrap");
    put_message(dump, &cfg_schema_bootstrap, dump->bootstrap, false);
    json_field_time(&dump->json, "last_updated", dump->since_wall_ns);
    json_close(&dump->json, '}');
}

static void put_clusters(struct dump *dump, const struct cfg_schema *resources) {
    const struct cfg_static_resources *from = dump->bootstrap->static_resources;
    open_dump(dump, "ClustersConfigDump");
    if (from && from->clusters_count > 0) {
        json_key(&dump->json, "static_clusters");
        json_open(&dump->json, '[');
        for (size_t i = 0; i < from->clusters_count; i++)
            put_item(dump, "cluster", child(resources, SPAN_LIT("clusters")), &from->clusters[i]);
        json_close(&dump->json, ']');
    }
    json_close(&dump->json, '}');
}

static void put_listeners(struct dump *dump, const struct cfg_schema *resources) {
    const struct cfg_static_resources *from = dump->bootstrap->static_resources;
    open_dump(dump, "ListenersConfigDump");
    if (from && from->listeners_count > 0) {
        json_key(&dump->json, "static_listeners");
        json_open(&dump->json, '[');
        for (size_t i = 0; i < from->listeners_count; i++)
            put_item(dump, "listener", child(resources, SPAN_LIT("listeners")),
                     &from->listeners[i]);
        json_close(&dump->json, ']');
    }
    json_close(&dump->json, '}');
}

/* The routes of the connection managers of one chain. *opened: the list was begun. */
static void put_chain_routes(struct dump *dump, const struct cfg_filter_chain *chain,
                             bool *opened) {
    for (size_t i = 0; i < chain->filters_count; i++) {
        const struct cfg_any *any = &chain->filters[i].typed_config;
        if (any->schema != &cfg_schema_hcm || !any->message)
            continue;
        const struct cfg_hcm *hcm = any->message;
        if (!hcm->route_config)
            continue;
        if (!*opened) {
            json_key(&dump->json, "static_route_configs");
            json_open(&dump->json, '[');
            *opened = true;
        }
        put_item(dump, "route_config", child(&cfg_schema_hcm, SPAN_LIT("route_config")),
                 hcm->route_config);
    }
}

static void put_routes(struct dump *dump) {
    const struct cfg_static_resources *from = dump->bootstrap->static_resources;
    bool opened = false;
    open_dump(dump, "RoutesConfigDump");
    for (size_t i = 0; from && i < from->listeners_count; i++) {
        const struct cfg_listener *listener = &from->listeners[i];
        for (size_t k = 0; k < listener->filter_chains_count; k++)
            put_chain_routes(dump, &listener->filter_chains[k], &opened);
        if (listener->default_filter_chain)
            put_chain_routes(dump, listener->default_filter_chain, &opened);
    }
    if (opened)
        json_close(&dump->json, ']');
    json_close(&dump->json, '}');
}

static void put_version(const struct admin_config *config, void *arg) {
    struct dump *dump = arg;
    json_open(&dump->json, '{');
    json_key(&dump->json, "version");
    json_u64(&dump->json, config->version);
    json_field(&dump->json, "state", config->version ? SPAN_LIT("TAKEN") : SPAN_LIT("REFUSED"));
    json_field_time(&dump->json, "time", config->at_wall_ns);
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
        const struct cfg_schema *resources =
            child(&cfg_schema_bootstrap, SPAN_LIT("static_resources"));
        dump.bootstrap = config_bootstrap(config);
        put_bootstrap(&dump);
        put_clusters(&dump, resources);
        put_listeners(&dump, resources);
        put_routes(&dump);
        put_versions(&dump);
    }
    json_close(&dump.json, ']');
    json_close(&dump.json, '}');
    if (config)
        config_unref(config);
}
