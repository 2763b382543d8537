/* route_path: what a route action changes in :path and :authority before the request goes out. */
#include <errno.h>
#include <stdlib.h>

#include "proxy/exchange.h"
#include "proxy/format.h"
#include "proxy/regex.h"
#include "proxy/route_internal.h"

/* How much of the path the route's match took: what prefix_rewrite replaces. */
static size_t matched_length(const struct route *route, struct span just_path) {
    switch (route->path_kind) {
    case CFG_PATH_PREFIX:
    case CFG_PATH_EXACT:
    case CFG_PATH_SEPARATED_PREFIX:
        /* A filter may have changed the path since it was matched. */
        return route->path.len < just_path.len ? route->path.len : just_path.len;
    default:
        return just_path.len;
    }
}

static struct span replace_by_regex(const struct route_rewrite *rewrite, struct span path,
                                    struct span just_path, struct arena *arena) {
    struct format_out out = {0};
    regex_replace_all(rewrite->regex, just_path, rewrite->substitution, &out);
    struct span result = path; /* a path that would be empty stays, as on Envoy */
    if (out.failed) {
        result = span_none();
    } else if (out.len > 0) {
        struct span parts[] = {span_make(out.data, out.len), span_from(path, just_path.len)};
        result = arena_concat(arena, parts, 2);
    }
    free(out.data);
    return result;
}

struct span route_rewrite_path(const struct route *route, struct span path, struct arena *arena) {
    struct span just_path = route_just_path(path);
    if (route->rewrite.regex)
        return replace_by_regex(&route->rewrite, path, just_path, arena);
    if (route->rewrite.prefix.len == 0)
        return path;
    struct span parts[] = {route->rewrite.prefix,
                           span_from(path, matched_length(route, just_path))};
    return arena_concat(arena, parts, 2);
}

static int rewrite_path(const struct route *route, struct exchange *x) {
    if (!route->rewrite.regex && route->rewrite.prefix.len == 0)
        return 0;
    struct header_map *headers = &x->request.headers;
    struct span path = header_get(headers, HDR_PATH);
    struct span rewritten = route_rewrite_path(route, path, &x->arena);
    if (span_is_none(rewritten))
        return -ENOMEM;
    if (rewritten.ptr == path.ptr)
        return 0;
    int rc = header_set_id(headers, HDR_X_ENVOY_ORIGINAL_PATH, path);
    return rc < 0 ? rc : header_set_id(headers, HDR_PATH, rewritten);
}

/* Adds the host that came to x-forwarded-host, unless it is the last one there. */
static int append_forwarded_host(struct header_map *headers, struct span host) {
    struct span forwarded = header_get(headers, HDR_X_FORWARDED_HOST);
    struct span last = span_none();
    struct span token;
    while (span_next_token(&forwarded, ',', &token))
        last = token;
    if (host.len == 0 || span_eq(last, host))
        return 0;
    return header_append(headers, HDR_X_FORWARDED_HOST, header_name_of(HDR_X_FORWARDED_HOST), host);
}

static int rewrite_host(const struct route *route, struct exchange *x) {
    const struct cfg_route_action *action = route->config->route;
    struct header_map *headers = &x->request.headers;
    struct span host = span_none();
    if (action->host_rewrite_specifier_case == CFG_HOST_REWRITE_LITERAL)
        host = action->host_rewrite_literal;
    else if (action->host_rewrite_specifier_case == CFG_HOST_REWRITE_HEADER)
        host = header_get_name(headers, route->host_header);
    if (host.len == 0)
        return 0;
    struct span old = header_get(headers, HDR_AUTHORITY);
    int rc = old.len > 0 ? header_set_id(headers, HDR_X_ENVOY_ORIGINAL_HOST, old) : 0;
    if (rc == 0 && action->append_x_forwarded_host)
        rc = append_forwarded_host(headers, old);
    return rc < 0 ? rc : header_set_id(headers, HDR_AUTHORITY, host);
}

int route_rewrite_request(const struct route_entry *entry, struct exchange *x) {
    const struct route *route = route_choice_of(entry)->route;
    if (!entry->rewrites)
        return 0;
    int rc = rewrite_host(route, x);
    return rc < 0 ? rc : rewrite_path(route, x);
}
