/* route_table: builds the table of a RouteConfiguration and owns everything in it. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "proxy/route_internal.h"
#include "proxy/virtual_cluster.h"

struct route_owned {
    struct route_owned *next;
    void (*fn)(void *object);
    void *object;
};
struct route_memory {
    struct route_memory *next;
    _Alignas(16) char data[];
};

/* ---- what build steps share ---- */

static void *table_alloc(struct route_table *table, size_t count, size_t size) {
    size_t bytes;
    struct route_memory *memory = NULL;
    if (!__builtin_mul_overflow(count, size, &bytes) &&
        !__builtin_add_overflow(bytes, sizeof(*memory) + 1, &bytes))
        memory = calloc(1, bytes); /* one byte more: an empty array is not NULL */
    if (!memory) {
        table->memory_short = true;
        return NULL;
    }
    memory->next = table->memory;
    table->memory = memory;
    return memory->data;
}

void *route_alloc(struct route_builder *builder, size_t count, size_t size) {
    return table_alloc(builder->table, count, size);
}

bool route_own(struct route_builder *builder, void (*fn)(void *object), void *object) {
    struct route_owned *owned = route_alloc(builder, 1, sizeof(*owned));
    if (!owned) {
        fn(object);
        return false;
    }
    *owned = (struct route_owned){builder->table->owned, fn, object};
    builder->table->owned = owned;
    return true;
}

struct span route_lower(struct route_builder *builder, struct span text) {
    char *copy = route_alloc(builder, text.len + 1, 1);
    if (!copy)
        return span_none();
    for (size_t i = 0; i < text.len; i++) {
        char c = text.ptr[i];
        copy[i] = c >= 'A' && c <= 'Z' ? (char)(c | 0x20) : c;
    }
    return span_make(copy, text.len);
}

void route_problem(struct route_builder *builder, const struct cfg_mark *mark, const char *format,
                   ...) {
    char text[1024];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(text, sizeof(text), format, args); /* a longer text is cut */
    va_end(args);
    cfg_problem_add(builder->problems, CFG_PROBLEM_INVALID, mark, "%s", text);
}

/* ---- the table ---- */

/* The redirect that require_tls answers with: a route of its own without levels. */
static struct route *tls_redirect(struct route_builder *builder,
                                  const struct cfg_virtual_host *vhost) {
    static const struct cfg_redirect_action action = {
        .scheme_rewrite_specifier_case = 4,
        .https_redirect = true,
    };
    static const struct cfg_route_match match = {
        .path_specifier_case = CFG_PATH_PREFIX,
        .prefix = SPAN_INIT("/"),
    };
    static const struct cfg_route config = {
        .match = (struct cfg_route_match *)(uintptr_t)&match,
        .action_case = CFG_ACTION_REDIRECT,
        .redirect = (struct cfg_redirect_action *)(uintptr_t)&action,
    };
    struct route *route = route_alloc(builder, 1, sizeof(*route));
    if (!route)
        return NULL;
    route->config = &config;
    struct route_choice *choices = route_build_choices(builder, route, 1);
    if (!choices)
        return NULL;
    choices[0].entry.virtual_host = vhost;
    choices[0].entry.virtual_host_name = vhost->name;
    route_label(&choices[0].entry, SPAN_LIT("require_tls"));
    return route;
}

static void build_vhost(struct route_builder *builder, const struct cfg_virtual_host *config,
                        struct route_vhost *vhost) {
    vhost->config = config;
    vhost->level = ROUTE_LEVEL_BUILD(builder, config);
    vhost->virtual_clusters = virtual_clusters_build(builder, config);
    vhost->routes = route_alloc(builder, config->routes_count, sizeof(*vhost->routes));
    if (!vhost->routes)
        return;
    vhost->route_count = config->routes_count;
    for (size_t i = 0; i < config->routes_count; i++)
        route_build_one(builder, vhost, &config->routes[i], &vhost->routes[i]);
    if (vhost->route_count >= ROUTE_INDEX_MIN)
        vhost->index = route_index_build(builder, vhost);
    if (config->require_tls != 0)
        vhost->tls_redirect = tls_redirect(builder, config);
    for (size_t i = 0; i < config->domains_count; i++)
        host_index_add(builder, &builder->table->hosts, config->domains[i], vhost);
}

static size_t count_refusals(const struct cfg_problems *problems) {
    size_t count = 0;
    for (size_t i = 0; i < problems->count; i++)
        count += problems->items[i].kind != CFG_PROBLEM_WARNING;
    return count;
}

struct route_table *route_table_build(const struct cfg_route_configuration *config,
                                      const struct route_build *build,
                                      struct cfg_problems *problems) {
    struct route_table *table = calloc(1, sizeof(*table));
    if (!table) {
        cfg_problem_add(problems, CFG_PROBLEM_INVALID, &config->mark, "out of memory");
        return NULL;
    }
    size_t refusals = count_refusals(problems);
    table->config = config;
    table->filter_count = (uint32_t)build->filter_count;
    table->vhost_count = config->virtual_hosts_count;
    struct route_builder builder = {table, build, problems};
    table->level = ROUTE_LEVEL_BUILD(&builder, config);
    route_specifiers_build(&builder);
    table->vhosts = route_alloc(&builder, table->vhost_count, sizeof(*table->vhosts));
    if (table->vhosts && host_index_init(&builder, &table->hosts)) {
        for (size_t i = 0; i < table->vhost_count; i++)
            build_vhost(&builder, &config->virtual_hosts[i], &table->vhosts[i]);
        host_index_finish(&table->hosts);
    }
    if (table->memory_short)
        cfg_problem_add(problems, CFG_PROBLEM_INVALID, &config->mark, "out of memory");
    if (count_refusals(problems) != refusals) {
        route_table_free(table);
        return NULL;
    }
    return table;
}

void route_table_free(struct route_table *table) {
    if (!table)
        return;
    for (struct route_owned *owned = table->owned; owned; owned = owned->next)
        owned->fn(owned->object);
    while (table->memory) {
        struct route_memory *next = table->memory->next;
        free(table->memory);
        table->memory = next;
    }
    free(table);
}
