#include "discovery/route_asks.h"

#include <errno.h>
#include <stdlib.h>

#include "config/discovery_config.h"
#include "discovery/discovery_file.h"

void route_asks_fini(struct route_asks *asks) {
    free(asks->items);
    *asks = (struct route_asks){0};
}

static int add(struct route_asks *asks, const struct cfg_hcm *hcm) {
    if (asks->count == asks->capacity) {
        size_t capacity = asks->capacity ? 2 * asks->capacity : 8;
        struct route_ask *grown = realloc(asks->items, capacity * sizeof *grown);
        if (!grown)
            return -ENOMEM;
        asks->items = grown;
        asks->capacity = capacity;
    }
    asks->items[asks->count++] = (struct route_ask){.name = hcm->rds->route_config_name,
                                                    .stat_prefix = hcm->stat_prefix,
                                                    .source = hcm->rds->config_source,
                                                    .mark = &hcm->rds->mark};
    return 0;
}

static int add_chain(struct route_asks *asks, const struct cfg_filter_chain *chain) {
    for (size_t i = 0; i < chain->filters_count; i++) {
        const struct cfg_any *any = &chain->filters[i].typed_config;
        const struct cfg_hcm *hcm = any->schema == &cfg_schema_hcm ? any->message : NULL;
        int rc = hcm && hcm->rds ? add(asks, hcm) : 0;
        if (rc != 0)
            return rc;
    }
    return 0;
}

int route_asks_add(struct route_asks *asks, const struct cfg_listener *listener) {
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < listener->filter_chains_count; i++)
        rc = add_chain(asks, &listener->filter_chains[i]);
    if (rc == 0 && listener->default_filter_chain)
        rc = add_chain(asks, listener->default_filter_chain);
    return rc;
}

static int compare(const void *a, const void *b) {
    const struct route_ask *left = a, *right = b;
    return span_compare(left->name, right->name);
}

int route_asks_of(const struct resources *set, struct route_asks *out) {
    struct route_asks asks = {0};
    const struct resource_list *listeners = &set->of[RESOURCE_LISTENER];
    for (size_t i = 0; i < listeners->count; i++)
        if (route_asks_add(&asks, listeners->items[i].message) != 0) {
            route_asks_fini(&asks);
            return -ENOMEM;
        }
    if (asks.count)
        qsort(asks.items, asks.count, sizeof *asks.items, compare);
    *out = asks;
    return 0;
}

const struct route_ask *route_asks_find(const struct route_asks *asks, struct span name,
                                        struct span origin) {
    size_t low = 0, high = asks->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (span_compare(asks->items[middle].name, name) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    for (; low < asks->count && span_eq(asks->items[low].name, name); low++)
        if (span_eq(cfg_source_path(asks->items[low].source), origin))
            return &asks->items[low];
    return NULL;
}

static bool has_name(const struct resource_item *items, size_t count, struct span name) {
    for (size_t i = 0; i < count; i++)
        if (span_eq(items[i].name, name))
            return true;
    return false;
}

struct resource_item *route_asks_select(const struct route_asks *asks, struct span origin,
                                        const struct discovery_file *file, size_t *count,
                                        struct cfg_problems *problems) {
    struct resource_item *selected = calloc(file->count + 1, sizeof *selected);
    *count = 0;
    if (!selected) {
        problems->lost = true;
        return NULL;
    }
    for (size_t i = 0; i < file->count; i++)
        if (route_asks_find(asks, file->items[i].name, origin))
            selected[(*count)++] = file->items[i];
    for (size_t i = 0; i < asks->count; i++) {
        const struct route_ask *ask = &asks->items[i];
        if (span_eq(cfg_source_path(ask->source), origin) && !has_name(selected, *count, ask->name))
            cfg_problem_add(problems, CFG_PROBLEM_INVALID, ask->mark,
                            "'%.*s' has no route configuration '%.*s'", (int)origin.len, origin.ptr,
                            (int)ask->name.len, ask->name.ptr);
    }
    return selected;
}
