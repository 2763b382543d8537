/* upgrade: see the header. As on Envoy the whole value of the field is one type: "websocket, x" is not
 * "websocket".
 *
 * Differences from Envoy (1.40; tests/differential/test_upgrades_as_envoy.py holds us to the rest):
 *
 *   case                                        Envoy                    here
 *   ------------------------------------------  -----------------------  ----------------------------------------
 *   a request with a body                       its bytes are the        400: what the next hop makes of it is
 *                                               protocol's               not known
 *   HEAD; HTTP/1.0                              upgraded                 403: nothing is behind an answer to HEAD;
 *                                                                        RFC 9110 7.8
 *   one side ends its direction                 the connection is cut    the other goes on until it ends too
 *   101 without Upgrade or Connection: upgrade  a 101, and closed        502
 *   2xx or 3xx to a WebSocket's client          its body is dropped      its body is passed on
 *   Connection, and what it nominates           passed on                "upgrade" alone: it speaks of one hop */
#include "proxy/upgrade.h"

#include "proxy/downstream.h"
#include "proxy/route_rollout.h"
#include "proxy/tls_info.h"

/* What a list says of a type: -1 nothing, 0 not here, 1 welcome. */
static int look_up(const struct cfg_upgrade *list, size_t count, struct span type) {
    for (size_t i = 0; i < count; i++)
        if (span_eq_nocase(list[i].upgrade_type, type))
            return !list[i].enabled.set || list[i].enabled.value;
    return -1;
}

/* The route is looked at, not chosen: filters may change what it is chosen by. */
static bool is_allowed(struct exchange *x, struct span type) {
    const struct cfg_hcm *hcm = x->hcm->config;
    const struct route_table *routes = exchange_routes(x);
    const struct route_entry *route = routes ? route_match(routes, &x->request.headers, x->random,
                                                           tls_peer_bits(&x->downstream->socket))
                                             : NULL;
    int said = -1;
    if (route && route->config && route->config->route)
        said = look_up(route->config->route->upgrade_configs,
                       route->config->route->upgrade_configs_count, type);
    if (said < 0 && hcm)
        said = look_up(hcm->upgrade_configs, hcm->upgrade_configs_count, type);
    return said > 0;
}

static void refuse(struct exchange *x, unsigned status, struct span body, struct span details) {
    const struct local_reply reply = {.status = status,
                                      .body = body,
                                      .details = details,
                                      .grpc_status = GRPC_STATUS_UNSET,
                                      .close_connection = true};
    exchange_reply(x, &reply);
}

int upgrade_mark(struct header_map *headers, struct span type BORROWED_BY(headers)) {
    int rc = header_set_id(headers, HDR_CONNECTION, SPAN_LIT("upgrade"));
    return rc ? rc : header_set_id(headers, HDR_UPGRADE, type);
}

int upgrade_begin(struct exchange *x, const struct http1_head *head,
                  struct span type BORROWED_BY(x)) {
    bool has_body = head->framing != HTTP1_BODY_NONE &&
                    !(head->framing == HTTP1_BODY_LENGTH && head->content_length == 0);
    if (head->minor_version == 0 || x->is_head || !is_allowed(x, type)) {
        stat_inc(x->hcm->stats.rq_ws_on_non_ws_route, x->shard);
        refuse(x, 403, span_none(), SPAN_LIT("upgrade_failed"));
        return 0;
    }
    if (has_body) {
        x->info.flags |= FLAG_DOWNSTREAM_PROTOCOL_ERROR;
        stat_inc(x->hcm->stats.cx_protocol_error, x->shard);
        refuse(x, 400, SPAN_LIT("Bad Request"), SPAN_LIT("http1.body_disallowed"));
        return 0;
    }
    int rc = upgrade_mark(&x->request.headers, type);
    if (rc)
        return rc;
    header_remove_id(&x->request.headers, HDR_CONTENT_LENGTH);
    x->upgrade = UPGRADE_ASKED;
    x->close_after = true;
    downstream_open_body(x->serving);
    stat_inc(x->hcm->stats.cx_upgrades_total, x->shard);
    stat_inc(x->hcm->stats.cx_upgrades_active, x->shard);
    return 0;
}
