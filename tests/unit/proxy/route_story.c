#include "route_story.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ARENA_LIMIT = 1 << 20, INDENT = 12 };

/* ---- requests ---- */

static void add_line(struct story *story, struct header_map *headers, struct span line) {
    ptrdiff_t colon = span_find(span_from(line, 1), ':') + 1;
    assert_true(colon > 0);
    struct span name = arena_copy(&story->x.arena, span_make(line.ptr, (size_t)colon));
    struct span value = arena_copy(&story->x.arena, span_trim(span_from(line, (size_t)colon + 1)));
    assert_int_equal(header_add(headers, header_id_of(name), name, value), 0);
}

void story_add(struct story *story, struct header_map *headers, const char *lines) {
    struct span rest = span_of(lines);
    while (rest.len > 0) {
        ptrdiff_t end = span_find(rest, '\n');
        struct span line = end < 0 ? rest : span_make(rest.ptr, (size_t)end);
        rest = end < 0 ? span_none() : span_from(rest, (size_t)end + 1);
        if (line.len > 0)
            add_line(story, headers, line);
    }
}

void story_begin(struct story *story, const char *lines) {
    memset(story, 0, sizeof(*story));
    block_cache_init(&story->cache);
    struct exchange *x = &story->x;
    arena_init(&x->arena, &story->cache, ARENA_LIMIT);
    header_map_init(&x->request.headers, &x->arena);
    header_map_init(&x->request.trailers, &x->arena);
    header_map_init(&x->response.headers, &x->arena);
    header_map_init(&x->response.trailers, &x->arena);
    if (!lines)
        return;
    struct header_map *headers = &x->request.headers;
    const char *space = strchr(lines, ' ');
    const char *end = strchr(lines, '\n');
    end = end ? end : lines + strlen(lines);
    struct span method = arena_copy(&x->arena, span_make(lines, (size_t)(space - lines)));
    struct span path = arena_copy(&x->arena, span_make(space + 1, (size_t)(end - space - 1)));
    assert_int_equal(header_set_id(headers, HDR_METHOD, method), 0);
    assert_int_equal(header_set_id(headers, HDR_PATH, path), 0);
    story_add(story, headers, end);
    if (!header_has(headers, HDR_AUTHORITY))
        assert_int_equal(header_set_id(headers, HDR_AUTHORITY, SPAN_LIT("a.com")), 0);
    if (!header_has(headers, HDR_SCHEME))
        assert_int_equal(header_set_id(headers, HDR_SCHEME, SPAN_LIT("http")), 0);
    if (!header_has(headers, HDR_X_FORWARDED_PROTO))
        assert_int_equal(header_set_id(headers, HDR_X_FORWARDED_PROTO, SPAN_LIT("http")), 0);
}

void story_end(struct story *story) {
    arena_fini(&story->x.arena);
    block_cache_fini(&story->cache);
}

const char *story_text(struct story *story, const struct header_map *headers) {
    struct span text = SPAN_LIT("");
    for (uint32_t i = 0; i < headers->count; i++) {
        const struct header *h = &headers->entries[i];
        text = arena_printf(&story->x.arena, "%.*s%.*s: %.*s\n", (int)text.len, text.ptr,
                            (int)h->name_len, h->name_ptr, (int)h->value_len, h->value_ptr);
    }
    return text.ptr;
}

/* ---- configurations ---- */

/* Routes only hand it on. */
static struct cluster *find_cluster(void *arg, struct span name) {
    static char up, other;
    (void)arg;
    if (span_eq(name, SPAN_LIT("up")))
        return (struct cluster *)(void *)&up;
    return span_eq(name, SPAN_LIT("other")) ? (struct cluster *)(void *)&other : NULL;
}

/* The config around a route configuration, which is indented to its place. */
static char *whole_config(const char *yaml) {
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
        "          route_config:\n";
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    assert_non_null(out);
    fputs(before, out);
    for (const char *line = yaml; *line;) {
        const char *end = strchr(line, '\n');
        size_t len = end ? (size_t)(end - line) : strlen(line);
        fprintf(out, "%*s%.*s\n", INDENT, "", (int)len, line);
        line += len + (end != NULL);
    }
    fclose(out);
    return text;
}

/* What was reported, one problem per line: kind, path behind route_config, text. */
static char *problems_text(const struct cfg_problems *problems) {
    static const char *const kinds[] = {"invalid", "unknown", "unsupported", "warning"};
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    assert_non_null(out);
    for (size_t i = 0; i < problems->count; i++) {
        const struct cfg_problem *p = &problems->items[i];
        const char *path = p->mark.path.ptr ? p->mark.path.ptr : "";
        const char *inner = strstr(path, "route_config");
        inner = inner ? inner + strlen("route_config") : path;
        fprintf(out, "%s %s: %s\n", kinds[p->kind], *inner == '.' ? inner + 1 : inner, p->text);
    }
    fclose(out);
    return text;
}

void routes_load_with(struct routes *routes, const char *yaml,
                      struct filter_factory *const *filters, size_t filter_count) {
    memset(routes, 0, sizeof(*routes));
    struct cfg_problems problems = {0};
    char *text = whole_config(yaml);
    int rc = config_load_text(SPAN_LIT("test.yaml"), span_of(text), span_none(), &routes->config,
                              &problems);
    free(text);
    if (rc < 0)
        cfg_problems_print(&problems, stderr);
    assert_int_equal(rc, 0);
    const struct cfg_bootstrap *bootstrap = config_bootstrap(routes->config);
    const struct cfg_filter_chain *chain =
        &bootstrap->static_resources->listeners[0].filter_chains[0];
    routes->hcm = chain->filters[0].typed_config.message;
    struct route_build build = {
        .filters = filters, .filter_count = filter_count, .find_cluster = find_cluster};
    routes->table = route_table_build(routes->hcm->route_config, &build, &problems);
    routes->refused = cfg_problems_refuse(&problems);
    routes->problems = problems_text(&problems);
    assert_true((routes->table == NULL) == routes->refused);
    cfg_problems_fini(&problems);
}

void routes_load(struct routes *routes, const char *yaml) {
    routes_load_with(routes, yaml, NULL, 0);
}

void routes_free(struct routes *routes) {
    route_table_free(routes->table);
    config_unref(routes->config);
    free(routes->problems);
}

const char *routes_pick(const struct routes *routes, const char *lines) {
    struct story story;
    story_begin(&story, lines);
    assert_non_null(routes->table);
    const struct route_entry *entry = route_match(routes->table, &story.x.request.headers, 0, 0);
    const char *name = entry ? entry->name.ptr : "none"; /* of the config: NUL-terminated */
    story_end(&story);
    return name ? name : "";
}
