/* router_reply: what the router answers by itself.
 *
 * Threads  The exchange's P; router_start_timeout's timer replies from a callback there. */
#include <errno.h>
#include <string.h>

#include "base/clock.h"
#include "filter/router_internal.h"

/* A reply of the router's own: it gets the route's response fields, as on Envoy. */
static void reply(struct router *r, const struct local_reply *reply) {
    r->replied |= exchange_alive(r->x); /* the first reply wins */
    exchange_reply(r->x, reply);
}

void router_reply_simple(struct router *r, unsigned status, struct span body, struct span details,
                         uint32_t flags) {
    struct local_reply simple = {.status = status,
                                 .body = body,
                                 .details = details,
                                 .grpc_status = GRPC_STATUS_UNSET,
                                 .flags = flags};
    reply(r, &simple);
}
/* ---- routes that answer by themselves ---- */

void router_redirect(struct router *r, const struct route_entry *route) {
    struct exchange *x = r->x;
    struct span location = route_redirect_location(route, x);
    struct header field = header_make(HDR_LOCATION, header_name_of(HDR_LOCATION), location);
    struct local_reply made = {.status = route_status(route),
                               .headers = &field,
                               .header_count = 1,
                               .details = SPAN_LIT("direct_response"),
                               .grpc_status = GRPC_STATUS_UNSET};
    stat_inc(x->hcm->stats.rq_redirect, x->shard);
    reply(r, &made);
}

/* A 201 or 3xx says where: at what was asked for (RFC 9110 15.3.2). */
static struct span own_location(struct exchange *x) {
    const struct header_map *headers = &x->request.headers;
    struct span parts[] = {header_get(headers, HDR_SCHEME), SPAN_LIT("://"),
                           header_get(headers, HDR_AUTHORITY), header_get(headers, HDR_PATH)};
    return arena_concat(&x->arena, parts, 4);
}

void router_direct_response(struct router *r, const struct route_entry *route) {
    struct exchange *x = r->x;
    unsigned status = route_status(route);
    bool located = status == 201 || status / 100 == 3;
    struct header field = header_make(HDR_LOCATION, header_name_of(HDR_LOCATION),
                                      located ? own_location(x) : span_none());
    struct local_reply made = {.status = status,
                               .body = route->direct_body,
                               .headers = &field,
                               .header_count = located ? 1 : 0,
                               .details = SPAN_LIT("direct_response"),
                               .grpc_status = GRPC_STATUS_UNSET};
    stat_inc(x->hcm->stats.rq_direct_response, x->shard);
    reply(r, &made);
}
/* ---- failures of the upstream, in Envoy's words ---- */

#define RESET_TEXT "upstream connect error or disconnect/reset before headers. reset reason: "

/* Envoy's details have no blanks: they stand in one column of the access log. */
static struct span underscored(struct arena *arena, struct span text) {
    char *copy = arena_alloc(arena, text.len ? text.len : 1);
    if (!copy)
        return span_none();
    for (size_t i = 0; i < text.len; i++)
        copy[i] = text.ptr[i] == ' ' ? '_' : text.ptr[i];
    return span_make(copy, text.len);
}

static void upstream_reset(struct router *r, unsigned status, const char *reason,
                           struct span transport, uint32_t flags) {
    struct exchange *x = r->x;
    /* The transport's words are for the log: the client has no business with our upstreams. */
    struct span body = arena_printf(&x->arena, RESET_TEXT "%s", reason);
    struct span details;
    if (transport.len) {
        x->info.upstream_transport_failure = arena_copy(&x->arena, transport);
        details = arena_printf(&x->arena, "upstream_reset_before_response_started{%s|%.*s}", reason,
                               (int)transport.len, transport.ptr);
    } else {
        details = arena_printf(&x->arena, "upstream_reset_before_response_started{%s}", reason);
    }
    router_count_response(r, status);
    router_reply_simple(r, status, body, underscored(&x->arena, details), flags);
}

void router_connect_failure(struct router *r, enum upstream_failure failure,
                            const struct upstream_trouble *trouble) {
    struct exchange *x = r->x;
    switch (failure) {
    case UPSTREAM_NO_HOST:
        router_count_response(r, 503);
        router_reply_simple(r, 503, SPAN_LIT("no healthy upstream"),
                            SPAN_LIT("no_healthy_upstream"), FLAG_NO_HEALTHY_UPSTREAM);
        break;
    case UPSTREAM_OVERFLOW: {
        struct header overloaded =
            header_make(HDR_OTHER, SPAN_LIT("x-envoy-overloaded"), SPAN_LIT("true"));
        struct local_reply made = {
            .status = 503,
            .body = SPAN_LIT(RESET_TEXT "overflow"),
            .headers = &overloaded,
            .header_count = r->config && r->config->suppress_envoy_headers ? 0 : 1,
            .details = SPAN_LIT("upstream_reset_before_response_started{overflow}"),
            .grpc_status = GRPC_STATUS_UNSET,
            .flags = FLAG_UPSTREAM_OVERFLOW};
        router_count_response(r, 503);
        reply(r, &made);
        break;
    }
    case UPSTREAM_CONNECT_TIMEOUT:
        upstream_reset(r, 503, "connection timeout", span_none(), FLAG_UPSTREAM_CONNECTION_FAILURE);
        break;
    case UPSTREAM_CONNECT_FAILED: {
        struct span why = trouble->failure[0] ? span_of(trouble->failure)
                                              : arena_printf(&x->arena, "delayed connect error: %s",
                                                             strerrordesc_np(-trouble->rc));
        upstream_reset(r, 503, "remote connection failure", why, FLAG_UPSTREAM_CONNECTION_FAILURE);
        break;
    }
    default: /* cancelled: whoever cancelled has said why */
        break;
    }
}

void router_response_failure(struct router *r, int rc) {
    struct exchange *x = r->x;
    if (!exchange_alive(x)) {
        stat_inc(r->cluster->stats.rq_tx_reset, x->shard);
        return;
    }
    router_bump(&router_host_counters(r)->rq_error, 1);
    if (rc == -EPROTO) {
        stat_inc(r->cluster->stats.cx_protocol_error, x->shard);
        upstream_reset(r, 502, "protocol error", span_none(), FLAG_UPSTREAM_PROTOCOL_ERROR);
    } else if (rc == -ENOMEM || rc == -EINVAL) {
        router_reply_simple(r, 500, span_none(), SPAN_LIT("request_failed"), 0);
    } else {
        stat_inc(r->cluster->stats.rq_rx_reset, x->shard);
        upstream_reset(r, 503, "connection termination", span_none(),
                       FLAG_UPSTREAM_CONNECTION_TERMINATION);
    }
}

/* ---- timeout ---- */

static void timed_out(struct exchange *x, void *self) {
    struct router *r = self;
    stat_inc(r->cluster->stats.rq_timeout, x->shard);
    if (r->virtual_cluster)
        stat_inc(r->virtual_cluster->rq_timeout, x->shard);
    if (r->host)
        router_bump(&router_host_counters(r)->rq_timeout, 1);
    router_count_response(r, 504);
    router_reply_simple(r, 504, SPAN_LIT("upstream request timeout"), SPAN_LIT("response_timeout"),
                        FLAG_UPSTREAM_REQUEST_TIMEOUT);
}

void router_start_timeout(struct router *r) {
    if (r->timeout_ns && !r->timeout_runs)
        exchange_set_deadline(r->x, rt_now_ns() + r->timeout_ns, timed_out, r);
    r->timeout_runs = true;
}

void router_stop_timeout(struct router *r) {
    exchange_set_deadline(r->x, RT_FOREVER, timed_out, r);
    r->timeout_runs = false;
}
