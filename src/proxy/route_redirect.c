/* route_redirect: the Location of a redirect, by Envoy's rules.
 *
 *   scheme "://" host [":" port] path
 *
 * The request's own host keeps its port unless the redirect sets one, or the scheme changes and the
 * port is the old scheme's default. The old scheme is what the client used (x-forwarded-proto). */
#include <stdio.h>

#include "http/path.h"
#include "proxy/exchange.h"
#include "proxy/route_internal.h"

static struct span request_host(const struct header_map *headers, struct span new_scheme,
                                bool new_port) {
    struct span host = header_get(headers, HDR_AUTHORITY);
    size_t port_start = route_port_start(host);
    if (port_start == host.len)
        return host;
    struct span port = span_from(host, port_start);
    struct span old_scheme = header_get(headers, HDR_X_FORWARDED_PROTO);
    bool drop = new_port;
    if (!span_eq(new_scheme, old_scheme)) {
        drop |= span_eq(old_scheme, SPAN_LIT("https")) && span_eq(port, SPAN_LIT(":443"));
        drop |= span_eq(old_scheme, SPAN_LIT("http")) && span_eq(port, SPAN_LIT(":80"));
    }
    return drop ? span_make(host.ptr, port_start) : host;
}

/* path_redirect with the request's query, unless it brings its own. */
static struct span redirect_path(const struct route *route, struct span path, struct arena *arena) {
    const struct cfg_redirect_action *redirect = route->config->redirect;
    if (redirect->path_rewrite_specifier_case != 2 || redirect->path_redirect.len == 0)
        return route_rewrite_path(route, path, arena);
    struct span query = path_query_suffix(path);
    if (route->redirect_path_has_query || query.len == 0)
        return redirect->path_redirect;
    struct span parts[] = {redirect->path_redirect, query};
    return arena_concat(arena, parts, 2);
}

struct span route_redirect_location(const struct route_entry *entry, struct exchange *x) {
    const struct route *route = route_choice_of(entry)->route;
    const struct cfg_redirect_action *redirect = route->config->redirect;
    const struct header_map *headers = &x->request.headers;
    struct span path = header_get(headers, HDR_PATH);
    if (!route->vhost) { /* require_tls: everything but the scheme stays */
        struct span parts[] = {SPAN_LIT("https://"), header_get(headers, HDR_AUTHORITY), path};
        return arena_concat(&x->arena, parts, 3);
    }

    struct span scheme = header_get(headers, HDR_SCHEME);
    if (redirect->scheme_redirect.len > 0)
        scheme = redirect->scheme_redirect;
    else if (redirect->https_redirect)
        scheme = SPAN_LIT("https");

    char port[16] = "";
    if (redirect->port_redirect > 0)
        snprintf(port, sizeof(port), ":%u", redirect->port_redirect);
    struct span host = redirect->host_redirect.len > 0
                           ? redirect->host_redirect
                           : request_host(headers, scheme, redirect->port_redirect > 0);

    path = redirect_path(route, path, &x->arena);
    if (span_is_none(path))
        return path;
    struct span slash = path.len > 0 && path.ptr[0] == '/' ? SPAN_LIT("") : SPAN_LIT("/");
    if (redirect->strip_query && !route->redirect_path_has_query)
        path = path_only(path);
    struct span parts[] = {scheme, SPAN_LIT("://"), host, span_of(port), slash, path};
    return arena_concat(&x->arena, parts, sizeof(parts) / sizeof(parts[0]));
}
