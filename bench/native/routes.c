/* bench_routes: what it costs to find the route of a request in a table of many.
 *
 *     bench_routes HOW MIX ROUTES LOOKUPS    does LOOKUPS in look_up_all, prints how many found their route
 *
 *   HOW   index: as the proxy does it; walk: one route after the other, as it does in short tables
 *   MIX   prefix, exact, regex, or mixed: each of them in turn
 *
 * bench/routes.py counts the instructions of look_up_all. Every route is asked for equally often, in an
 * order that jumps about. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/stats.h"
#include "proxy/route_internal.h"

enum { HOST_AND_PATH_BYTES = 1 << 20, JUMP = 7919 };

static void die(const char *what) {
    fprintf(stderr, "bench_routes: %s\n", what);
    exit(1);
}

/* ---- the table ---- */

static const char *const mixes[] = {"prefix", "exact", "regex", "mixed"};

static unsigned mix_of(const char *name) {
    for (unsigned i = 0; i < sizeof mixes / sizeof mixes[0]; i++)
        if (strcmp(mixes[i], name) == 0)
            return i;
    die("no such mix");
    return 0;
}

static void put_route(FILE *out, unsigned kind, unsigned number) {
    static const char *const matches[] = {
        "prefix: /api/v1/team%u/",
        "path: /static/pages/page%u.html",
        "safe_regex: {regex: '/users/region%u/[0-9]+/profile'}",
    };
    fputs("            - {match: {", out);
    fprintf(out, matches[kind], number);
    fputs("}, direct_response: {status: 200}}\n", out);
}

static void put_path(FILE *out, unsigned kind, unsigned number) {
    static const char *const paths[] = {
        "/api/v1/team%u/services/list",
        "/static/pages/page%u.html",
        "/users/region%u/12345/profile",
    };
    fprintf(out, paths[kind], number);
}

static char *table_text(unsigned mix, unsigned routes) {
    static const char before[] =
        "static_resources:\n"
        "  listeners:\n"
        "  - address: {socket_address: {address: 127.0.0.1, port_value: 1}}\n"
        "    filter_chains:\n"
        "    - filters:\n"
        "      - name: hcm\n"
        "        typed_config:\n"
        "          '@type': type.googleapis.com/envoy.extensions.filters.network."
        "http_connection_manager.v3.HttpConnectionManager\n"
        "          stat_prefix: x\n"
        "          http_filters: [{name: r, typed_config: {'@type': type.googleapis.com/"
        "envoy.extensions.filters.http.router.v3.Router}}]\n"
        "          route_config:\n"
        "            virtual_hosts:\n"
        "            - name: v\n"
        "              domains: ['www.example.com']\n"
        "              routes:\n";
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    if (!out)
        die("out of memory");
    fputs(before, out);
    for (unsigned i = 0; i < routes; i++) {
        fputs("  ", out);
        put_route(out, mix == 3 ? i % 3 : mix, i);
    }
    fclose(out);
    return text;
}

static struct route_table *load(char *text) {
    struct cfg_problems problems = {0};
    struct config *config;
    if (config_load_text(SPAN_LIT("routes.yaml"), span_of(text), span_none(), &config, &problems) <
        0) {
        cfg_problems_print(&problems, stderr);
        die("the table was refused");
    }
    const struct cfg_bootstrap *bootstrap = config_bootstrap(config);
    const struct cfg_hcm *hcm =
        bootstrap->static_resources->listeners[0].filter_chains[0].filters[0].typed_config.message;
    const struct route_build build = {0};
    struct route_table *table = route_table_build(hcm->route_config, &build, &problems);
    if (!table)
        die("the table was refused");
    return table;
}

/* ---- requests ---- */

struct request {
    struct header_map headers;
    char *path;
    const struct cfg_route *expected;
};

static void make_request(struct request *request, struct arena *arena, unsigned mix,
                         unsigned number) {
    size_t size = 0;
    FILE *out = open_memstream(&request->path, &size);
    if (!out)
        die("out of memory");
    put_path(out, mix == 3 ? number % 3 : mix, number);
    fclose(out);
    header_map_init(&request->headers, arena);
    if (header_set_id(&request->headers, HDR_AUTHORITY, SPAN_LIT("www.example.com")) != 0 ||
        header_set_id(&request->headers, HDR_PATH, span_of(request->path)) != 0)
        die("no request");
}

static NOINLINE unsigned look_up_all(const struct route_table *table,
                                     const struct request *requests, unsigned count) {
    unsigned found = 0;
    for (unsigned i = 0; i < count; i++) {
        const struct route_entry *entry = route_match(table, &requests[i].headers, 0, 0);
        found += entry && entry->config == requests[i].expected;
    }
    return found;
}

int main(int argc, char **argv) {
    if (argc != 5)
        die("HOW MIX ROUTES LOOKUPS");
    unsigned mix = mix_of(argv[2]), routes = (unsigned)strtoul(argv[3], NULL, 10),
             count = (unsigned)strtoul(argv[4], NULL, 10);
    if (routes == 0 || count == 0 || stats_init(1) != 0)
        die("there is nothing to do");
    char *text = table_text(mix, routes);
    struct route_table *table = load(text);
    if (strcmp(argv[1], "walk") == 0)
        table->vhosts[0].index = NULL;
    struct block_cache cache;
    struct arena arena;
    block_cache_init(&cache);
    arena_init(&arena, &cache, SIZE_MAX);
    struct request *requests = calloc(count, sizeof *requests);
    if (!requests)
        die("out of memory");
    for (unsigned i = 0; i < count; i++) {
        unsigned number = (unsigned)((uint64_t)i * JUMP % routes);
        make_request(&requests[i], &arena, mix, number);
        requests[i].expected = table->vhosts[0].routes[number].config;
    }
    /* Twice: the first round fills caches, of the regexes too. */
    if (look_up_all(table, requests, count) != count)
        die("a request found another route than its own");
    printf("%u\n", look_up_all(table, requests, count));
    return 0;
}
