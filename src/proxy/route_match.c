/* route_match: from the head of a request to the route that serves it. Runs once per request and
 * allocates nothing: one hash of the host, then those of the virtual host's routes that the index has for
 * the path, in order, cheapest test first. */
#include "proxy/regex.h"
#include "proxy/route_internal.h"

bool route_path_matches(const struct route *route, struct span path) {
    struct span want = route->path;
    switch (route->path_kind) {
    case CFG_PATH_PREFIX:
    case CFG_PATH_SEPARATED_PREFIX:
        if (path.len < want.len)
            return false;
        if (route->path_kind == CFG_PATH_SEPARATED_PREFIX && path.len > want.len &&
            path.ptr[want.len] != '/')
            return false;
        path.len = want.len;
        break;
    case CFG_PATH_EXACT:
        break;
    default:
        return regex_matches(route->path_regex, path);
    }
    return route->ignore_case ? span_eq_nocase(path, want) : span_eq(path, want);
}

static bool is_grpc(const struct header_map *headers) {
    struct span type = header_get(headers, HDR_CONTENT_TYPE);
    struct span want = SPAN_LIT("application/grpc");
    return span_starts_with(type, want) && (type.len == want.len || type.ptr[want.len] == '+');
}

bool route_matches(const struct route *route, const struct route_request *request) {
    if (!route_path_matches(route, request->just_path))
        return false;
    if (route->fraction_denominator > 0 &&
        request->random % route->fraction_denominator >= route->fraction_numerator)
        return false;
    if ((request->peer & route->peer_mask) != route->peer_want)
        return false;
    if (route->grpc && !is_grpc(request->headers))
        return false;
    if (route->header_count > 0 &&
        !header_matchers_match(route->headers, route->header_count, request->headers))
        return false;
    return route->query_count == 0 ||
           query_matchers_match(route->queries, route->query_count, request->path);
}

const struct route *route_first_of_all(const struct route_vhost *vhost,
                                       const struct route_request *request) {
    for (size_t i = 0; i < vhost->route_count; i++) {
        if (route_matches(&vhost->routes[i], request))
            return &vhost->routes[i];
    }
    return NULL;
}

static const struct route_entry *choose(const struct route *route, uint64_t random) {
    size_t i = 0;
    if (route->total_weight > 0) {
        uint64_t point = random % route->total_weight;
        while (i + 1 < route->choice_count && point >= route->choices[i].weight_end)
            i++;
    }
    return &route->choices[i].entry;
}

static bool needs_tls(const struct route_vhost *vhost, const struct header_map *headers) {
    if (span_eq_nocase(header_get(headers, HDR_X_FORWARDED_PROTO), SPAN_LIT("https")))
        return false;
    return vhost->config->require_tls == 2 ||
           !span_eq(header_get(headers, HDR_X_ENVOY_INTERNAL), SPAN_LIT("true"));
}

const struct route_entry *route_match(const struct route_table *table,
                                      const struct header_map *headers, uint64_t random,
                                      unsigned peer) {
    struct span host = header_get(headers, HDR_AUTHORITY);
    if (table->config->ignore_port_in_host_matching)
        host.len = route_port_start(host);
    const struct route_vhost *vhost = host_index_find(&table->hosts, host);
    if (!vhost)
        return NULL;
    if (vhost->tls_redirect && needs_tls(vhost, headers))
        return &vhost->tls_redirect->choices[0].entry;
    struct span path = header_get(headers, HDR_PATH);
    if (span_is_none(path))
        return NULL;
    const struct route_request request = {headers, path, route_just_path(path), random, peer};
    const struct route *route = vhost->index ? route_index_find(vhost->index, vhost, &request)
                                             : route_first_of_all(vhost, &request);
    return route ? choose(route, random) : NULL;
}

struct span route_cluster_name(const struct route_entry *entry, const struct header_map *headers) {
    /* A weighted cluster was chosen by route_match: entry is that cluster's. */
    const struct route_choice *choice = route_choice_of(entry);
    struct span header = choice->route->cluster_header;
    return span_is_none(header) ? choice->cluster : header_get_name(headers, header);
}

unsigned route_status(const struct route_entry *entry) {
    static const unsigned redirects[] = {301, 302, 303, 307, 308};
    const struct cfg_route *config = entry->config;
    if (config->action_case == CFG_ACTION_DIRECT_RESPONSE)
        return config->direct_response->status;
    if (config->action_case != CFG_ACTION_REDIRECT)
        return 0;
    int code = config->redirect->response_code;
    return redirects[code >= 0 && code < 5 ? code : 0];
}

unsigned route_filter_configs(const struct route_entry *entry, uint32_t filter_index,
                              const void *out[4]) {
    const struct route_choice *choice = route_choice_of(entry);
    const struct route *route = choice->route;
    if (!route->vhost || filter_index >= entry->table->filter_count)
        return 0;
    const struct route_level *levels[4] = {&entry->table->level, &route->vhost->level,
                                           &route->level, &choice->level};
    unsigned count = 0;
    for (unsigned i = 0; i < 4; i++) {
        if (levels[i]->filters && levels[i]->filters[filter_index])
            out[count++] = levels[i]->filters[filter_index];
    }
    return count;
}
