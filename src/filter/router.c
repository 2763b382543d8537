/* router: the request side ends here.
 *
 *   route ─┬ direct_response, redirect: a local reply
 *          └ cluster ─ connection ─ head (and what of the body is at hand) out ─ response head in
 *                                    └ rest of the body: the pump coroutine
 *
 * Timeouts  The route's timeout runs from the end of the request to the end of the response, and bounds
 *           the wait for a connection, during which nobody reads the request's body. Its timer
 *           replies in the exchange's name: 504 before the head, a reset after. */
#include "filter/router.h"

#include <errno.h>
#include <string.h>

#include "base/clock.h"
#include "filter/router_internal.h"
#include "http/authority.h"
#include "proxy/snapshot.h"
#include "proxy/tls_info.h"
#include "proxy/worker.h"

static void *router_create(struct exchange *x, const struct filter_factory *factory) {
    struct router *r = arena_alloc(&x->arena, sizeof *r);
    if (r) {
        memset(r, 0, offsetof(struct router, body));
        r->x = x;
        r->config = factory->config;
    }
    return r;
}

static bool is_here_whole(const struct exchange *x) {
    return x->request_complete || (x->serving->body && wire_body_is_here(x->serving->body));
}

static NOINLINE struct cluster *no_cluster(struct router *r, const struct route_entry *route) {
    static const unsigned statuses[] = {503, 404, 500};
    int code = route->config->route->cluster_not_found_response_code;
    stat_inc(r->x->hcm->stats.no_cluster, r->x->shard);
    router_reply_simple(r, statuses[code >= 0 && code < 3 ? code : 0], span_none(),
                        SPAN_LIT("cluster_not_found"), FLAG_NO_CLUSTER_FOUND);
    return NULL;
}

static NOINLINE void reply_no_choice(struct router *r) {
    router_reply_simple(r, 503, SPAN_LIT("extension failed"), r->x->choice.failure, 0);
}

/* NULL: it is answered. */
static struct cluster *find_cluster(struct router *r, const struct route_entry *route) {
    struct exchange *x = r->x;
    if (route->cluster)
        return route->cluster;
    if (route->specifier && !span_is_none(x->choice.failure)) {
        reply_no_choice(r);
        return NULL;
    }
    struct span name =
        route->specifier ? x->choice.name : route_cluster_name(route, &x->request.headers);
    struct cluster *cluster =
        span_is_none(name) ? NULL : snapshot_cluster(x->worker->snapshot, name);
    if (!cluster)
        return no_cluster(r, route);
    x->leased_cluster = cluster_ref(cluster); /* the next snapshot may be without it */
    return cluster;
}

static int rewrite_request(struct router *r, const struct route_entry *route, bool envoy_headers) {
    struct header_map *headers = &r->x->request.headers;
    bool had_path = header_has(headers, HDR_X_ENVOY_ORIGINAL_PATH);
    int rc = route_rewrite_request(route, r->x);
    if (!envoy_headers && !had_path)
        header_remove_id(headers, HDR_X_ENVOY_ORIGINAL_PATH);
    return rc;
}

static int prepare_request(struct router *r, const struct route_entry *route) {
    struct exchange *x = r->x;
    struct header_map *headers = &x->request.headers;
    bool envoy_headers = !(r->config && r->config->suppress_envoy_headers);
    int rc = 0;
    r->timeout_ns = route->timeout_ns;
    if (r->timeout_ns && envoy_headers)
        rc = header_set_id(headers, HDR_X_ENVOY_EXPECTED_RQ_TIMEOUT_MS, route->timeout_text);
    if (rc == 0 && route->counts_attempts)
        rc = header_set_id(headers, HDR_X_ENVOY_ATTEMPT_COUNT, SPAN_LIT("1"));
    if (rc == 0)
        rc = route_mutate_request(route, x);
    if (rc == 0 && route->rewrites)
        rc = rewrite_request(r, route, envoy_headers);
    return rc;
}

/* host_rewrite auto: only the endpoint knows its name. */
static int rewrite_host(struct router *r, const struct route_entry *route) {
    struct exchange *x = r->x;
    if (!route->rewrites_host_auto || !r->host->hostname.len)
        return 0;
    int rc = 0;
    if (route->config->route->append_x_forwarded_host)
        rc = header_append(&x->request.headers, HDR_X_FORWARDED_HOST, SPAN_LIT("x-forwarded-host"),
                           header_get(&x->request.headers, HDR_AUTHORITY));
    struct span name = arena_copy(&x->arena, r->host->hostname);
    return rc ? rc : header_set_id(&x->request.headers, HDR_AUTHORITY, name);
}

static void note_upstream(struct router *r) {
    struct exchange *x = r->x;
    x->info.upstream_attempts = 1;
    if (r->host) {
        x->info.upstream_remote = r->host->text;
        x->info.upstream_host_name = r->host->hostname.len ? r->host->hostname : r->host->text;
    }
    if (r->served) {
        x->info.upstream_local = span_make(r->served->local_text, r->served->local_len);
        if (r->served->socket.transport)
            x->info.upstream_tls = upstream_tls_copy(&r->served->socket, &x->arena);
    }
}

/* The name that the request's host gives to TLS; an IP is none that can be asked for, but can be checked. */
static void wish_for_host(struct router *r, struct transport_wishes *wishes) {
    const struct cfg_auto_sni *automatic = r->cluster->config->upstream_http_protocol_options;
    const struct header_map *headers = &r->x->request.headers;
    if (!automatic)
        return;
    struct span authority = span_none();
    if (automatic->override_auto_sni_header.len)
        authority = header_get_name(headers, automatic->override_auto_sni_header);
    if (authority.len == 0)
        authority = header_get(headers, HDR_AUTHORITY);
    struct span host = authority_host(authority);
    struct address address;
    if (automatic->auto_sni && !address_parse_loose(host, &address))
        wishes->server_name = host;
    if (automatic->auto_san_validation)
        wishes->verify_name = host;
}

static NOINLINE enum upstream_failure get_as_wished(struct router *r,
                                                    struct upstream_trouble *trouble) {
    struct transport_wishes wishes = {.server_name = span_of("")};
    const struct upstream_wants wants = {.wishes = &wishes, .deadline_ns = RT_FOREVER};
    wish_for_host(r, &wishes);
    if (r->cluster->transport.kind->itab->is_of_client)
        wishes.downstream = r->x->downstream;
    return upstream_get(r->cluster, r->x->shard, &wants, &r->host, &r->upstream, trouble);
}

static bool admit(struct router *r) {
    struct cluster *cluster = r->cluster;
    unsigned shard = r->x->shard;
    r->admitted = cluster_admit(cluster, shard);
    if (r->admitted) {
        stats_cell_add_on_p(cluster->cells.rq_active, shard, 1);
        return true;
    }
    stat_inc(cluster->stats.rq_pending_overflow, shard);
    router_connect_failure(r, UPSTREAM_OVERFLOW, NULL);
    return false;
}

static __attribute__((always_inline)) inline void forward(struct router *r,
                                                          const struct route_entry *route) {
    struct exchange *x = r->x;
    static const struct upstream_wants plain = {.deadline_ns = RT_FOREVER};
    int rc = 0;
    struct upstream_trouble trouble;
    trouble.failure[0] = '\0';
    router_start_timeout(r); /* nobody waits for a connection for ever */
    x->info.upstream_wanted_ns = rt_now_ns();
    enum upstream_failure failure =
        r->cluster->has_wishes
            ? get_as_wished(r, &trouble)
            : upstream_get(r->cluster, x->shard, &plain, &r->host, &r->upstream, &trouble);
    r->served = r->upstream;
    if (!is_here_whole(x))
        router_stop_timeout(r); /* its time begins when it is */
    note_upstream(r);
    if (failure != UPSTREAM_OK) {
        router_connect_failure(r, failure, &trouble);
        return;
    }
    if (!exchange_alive(x)) { /* it ended while a place in the pool was handed to it */
        upstream_put(r->upstream);
        r->upstream = NULL;
        return;
    }
    struct host_counters *counters = router_host_counters(r);
    r->upstream->requests++;
    stats_cell_add_on_p(r->cluster->cells.rq_total, x->shard, 1);
    if (__builtin_expect(r->virtual_cluster != NULL, false))
        stat_inc(r->virtual_cluster->rq_total, x->shard);
    router_bump(&counters->rq_total, 1);
    router_bump(&counters->rq_active, 1);
    rc = rewrite_host(r, route);
    if (rc == 0)
        rc = router_send_request(r);
    struct http1_head head = {.headers = &x->response.headers};
    bool local_failure = rc == -ENOMEM || rc == -EINVAL || rc == -EPROTO;
    if (!local_failure && rc != -ECANCELED) {
        /* A failed write may hide an early response: look before giving up. */
        int read_rc = router_read_head(r, &head);
        rc = read_rc;
    } else if (rc == -EPROTO) {
        rc = -EINVAL; /* our request, not the upstream's answer */
    }
    router_bump(&counters->rq_active, -1);
    if (rc == 0 && exchange_alive(x)) {
        router_take_response(r, &head);
    } else {
        header_map_init(&x->response.headers, &x->arena);
        router_response_failure(r, rc);
    }
}

static NOINLINE void note_virtual_cluster(struct router *r, const struct route_entry *route) {
    r->virtual_cluster = virtual_cluster_of(route, &r->x->request.headers);
    r->x->info.virtual_cluster = r->virtual_cluster->name;
}

static void router_request(struct exchange *x, void *self) {
    struct router *r = self;
    const struct route_entry *route = exchange_route(x);
    stat_inc(x->hcm->stats.router_rq_total, x->shard);
    if (!route) {
        stat_inc(x->hcm->stats.no_route, x->shard);
        router_reply_simple(r, 404, span_none(), SPAN_LIT("route_not_found"), FLAG_NO_ROUTE_FOUND);
        return;
    }
    if (route->action == CFG_ACTION_REDIRECT) {
        router_redirect(r, route);
        return;
    }
    if (route->action == CFG_ACTION_DIRECT_RESPONSE) {
        router_direct_response(r, route);
        return;
    }
    r->cluster = find_cluster(r, route);
    if (!r->cluster)
        return;
    x->info.upstream_cluster = r->cluster->name;
    x->info.cluster = r->cluster;
    if (__builtin_expect(route->virtual_clusters != NULL, false))
        note_virtual_cluster(r, route);
    if (prepare_request(r, route) != 0) {
        router_reply_simple(r, 500, span_none(), SPAN_LIT("request_headers_failed"), 0);
        return;
    }
    if (admit(r))
        forward(r, route);
}

/* A response from upstream has been given the route's fields already. */
static void router_response(struct exchange *x, void *self) {
    const struct router *r = self;
    if (x->local && r->replied && x->route && route_mutate_response(x->route, x) != 0)
        exchange_reset(x, SPAN_LIT("response_headers_failed"));
}

static void router_destroy(struct exchange *x, void *self) {
    struct router *r = self;
    router_release(r, r->head_seen && r->body.done);
    if (r->served)
        upstream_unref(r->served);
    else
        host_unref(r->host);
    if (r->admitted) {
        cluster_leave(r->cluster, x->shard);
        stats_cell_add_on_p(r->cluster->cells.rq_active, x->shard, UINT64_MAX); /* one less */
    }
}

static int router_build(const struct cfg_any *typed_config, struct cfg_problems *problems,
                        void **config) {
    *config = (void *)(uintptr_t)typed_config->message;
    return 0;
}

static const struct filter_itab router_itab = {
    .name = "envoy.filters.http.router",
    .create = router_create,
    .request = router_request,
    .response = router_response,
    .destroy = router_destroy,
};

const struct filter_kind filter_kind_router = {
    .itab = &router_itab,
    .schema = &cfg_schema_router,
    .terminal = true,
    .build = router_build,
};
