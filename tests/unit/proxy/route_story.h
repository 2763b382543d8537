/* route_story: what the tests of routes and formats share: a route configuration written as YAML, a
 * request written as lines, and the problems of a config as text. */
#pragma once
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "config/config.h"
#include "mem/block.h"
#include "proxy/exchange.h"
#include "proxy/route.h"

/* ---- a request and its exchange ---- */

struct story {
    struct block_cache cache;
    struct exchange x;
};
/* lines: "GET /path" first, then "name: value" per line; host defaults to a.com, :scheme and
 * x-forwarded-proto to http. */
void story_begin(struct story *story, const char *lines);
void story_end(struct story *story);
/* All fields as "name: value" lines, pseudo headers too. Valid until story_end. */
const char *story_text(struct story *story, const struct header_map *headers);
/* Adds fields from "name: value" lines. */
void story_add(struct story *story, struct header_map *headers, const char *lines);

/* ---- a route configuration ---- */

struct routes {
    struct config *config;
    const struct cfg_hcm *hcm;
    struct route_table *table;
    char *problems; /* as printed, with "(inline)" paths cut to what follows route_config */
    bool refused;
};
/* yaml: the members of a RouteConfiguration. Clusters "up" and "other" exist. */
void routes_load(struct routes *routes, const char *yaml);
void routes_load_with(struct routes *routes, const char *yaml,
                      struct filter_factory *const *filters, size_t filter_count);
void routes_free(struct routes *routes);
/* Name of the route that serves the request; "none" when there is none. */
const char *routes_pick(const struct routes *routes, const char *lines);
