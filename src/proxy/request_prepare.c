#include "proxy/request_prepare.h"

#include <endian.h>
#include <errno.h>
#include <stdio.h>

#include "http/authority.h"
#include "http/path.h"
#include "proxy/client_cert.h"
#include "proxy/downstream.h"
#include "proxy/upgrade.h"

static COLD void refuse(struct exchange *x, unsigned status, struct span body, struct span details,
                        bool close) {
    struct local_reply reply = {.status = status,
                                .body = body,
                                .details = details,
                                .grpc_status = GRPC_STATUS_UNSET,
                                .close_connection = close};
    exchange_reply(x, &reply);
}

/* What Envoy's codec refuses: the status' own words, a flag in the log, a counter. */
static COLD void refuse_protocol(struct exchange *x, unsigned status, struct span details) {
    x->info.flags |= FLAG_DOWNSTREAM_PROTOCOL_ERROR;
    stat_inc(x->hcm->stats.cx_protocol_error, x->shard);
    refuse(x, status, http1_reason(status), details, true);
}

/* The protocol that a head with an Upgrade field asks for; absent: none. A client that would also speak HTTP/2
 * is answered in HTTP/1.1; the fields that say so end here. Two such fields are no type that anybody allows. */
static COLD struct span wanted_upgrade(const struct exchange *x) {
    const struct header_map *headers = &x->request.headers;
    struct span type = header_get(headers, HDR_UPGRADE);
    if (headers->repeated >> HDR_UPGRADE & 1)
        return SPAN_LIT("");
    return span_eq_nocase(type, SPAN_LIT("h2c")) ? span_none() : type;
}

static bool check_version(struct exchange *x, const struct http1_head *head) {
    if (head->minor_version == 0 && !x->hcm->accept_http_10) {
        refuse_protocol(x, 426, SPAN_LIT("low_version"));
        return false;
    }
    return true;
}

static bool check_host(struct exchange *x, const struct http1_head *head) {
    struct header_map *headers = &x->request.headers;
    if (header_has(headers, HDR_AUTHORITY))
        return true;
    const struct cfg_http1_options *options = x->hcm->config->http_protocol_options;
    if (head->minor_version == 0 && options && options->default_host_for_http_10.len)
        return header_set_id(headers, HDR_AUTHORITY, options->default_host_for_http_10) == 0;
    refuse(x, 400, span_none(), SPAN_LIT("missing_host_header"), true);
    return false;
}

static bool check_path(struct exchange *x) {
    struct header_map *headers = &x->request.headers;
    struct span path = header_get(headers, HDR_PATH);
    struct span method = header_get(headers, HDR_METHOD);
    if (span_eq(method,
                SPAN_LIT("CONNECT"))) { /* no route matches it, as nothing may be tunnelled */
        x->info.flags |= FLAG_NO_ROUTE_FOUND;
        stat_inc(x->hcm->stats.no_route, x->shard);
        refuse(x, 404, span_none(), SPAN_LIT("route_not_found"), true);
        return false;
    }
    bool is_options_star = span_eq(path, SPAN_LIT("*")) && span_eq(method, SPAN_LIT("OPTIONS"));
    if (path.len == 0 || (path.ptr[0] != '/' && !is_options_star)) {
        stat_inc(x->hcm->stats.rq_non_relative_path, x->shard);
        refuse(x, 404, span_none(), SPAN_LIT("absolute_path_rejected"), false);
        return false;
    }
    x->info.original_path = path;
    int rc = 0;
    if (x->hcm->normalize_path && !is_options_star) {
        rc = path_normalize(&x->arena, path, &path);
        if (rc == 0)
            rc = header_set_id(headers, HDR_PATH, path);
    }
    if (rc == 0 && x->hcm->config->merge_slashes) {
        rc = path_merge_slashes(&x->arena, path, &path);
        if (rc == 0)
            rc = header_set_id(headers, HDR_PATH, path);
    }
    if (rc != 0) {
        stat_inc(x->hcm->stats.rq_failed_path_normalization, x->shard);
        refuse(x, 400, span_none(), SPAN_LIT("path_normalization_failed"), true);
        return false;
    }
    return true;
}

static bool check_underscores(struct exchange *x) {
    const struct cfg_http_options *options = x->hcm->config->common_http_protocol_options;
    int action = options ? options->headers_with_underscores_action : 0;
    struct header_map *headers = &x->request.headers;
    for (uint32_t i = 0; action != 0 && i < headers->count;) {
        struct span name = header_name(&headers->entries[i]);
        if (headers->entries[i].id != HDR_OTHER || span_find(name, '_') < 0) {
            i++;
        } else if (action == 1) {
            refuse_protocol(x, 400, SPAN_LIT("http1.unexpected_underscore"));
            return false;
        } else {
            header_remove(headers, HDR_OTHER, name);
        }
    }
    return true;
}

/* The address that `hops` trusted proxies before us vouch for: the hops-th from the right. */
static bool address_from_xff(struct span xff, uint32_t hops, struct address *out) {
    for (;;) {
        size_t comma = xff.len;
        while (comma > 0 && xff.ptr[comma - 1] != ',')
            comma--;
        struct span last = span_trim(span_make(xff.ptr + comma, xff.len - comma));
        if (hops == 0)
            return address_parse_loose(last, out);
        if (comma == 0)
            return false;
        xff.len = comma - 1;
        hops--;
    }
}

static void set_remote(struct exchange *x, const struct address *address) {
    char *text = arena_alloc(&x->arena, ADDRESS_TEXT_MAX);
    if (text)
        x->info.downstream_remote = span_make(text, address_text(address, text));
}

static struct span host_text(struct exchange *x, const struct address *address) {
    char *text = arena_alloc(&x->arena, ADDRESS_TEXT_MAX);
    return text ? span_make(text, address_host_text(address, text)) : span_none();
}

/* The transports that a client's connection can have are all secret: there is TLS only. */
static bool is_secure(const struct exchange *x) {
    return x->downstream->socket.transport != NULL;
}

static struct span scheme_of(const struct exchange *x) {
    return is_secure(x) ? SPAN_LIT("https") : SPAN_LIT("http");
}

/* We are the first hop: what the peer says of others is not believed, but for what trusted ones added. */
static int forwarded_at_edge(struct exchange *x, struct span xff) {
    struct header_map *headers = &x->request.headers;
    uint32_t hops = x->hcm->config->xff_num_trusted_hops;
    struct address peer, client;
    downstream_remote_address(x->downstream, &peer);
    if (hops > 0 && !span_is_none(xff) && address_from_xff(xff, hops - 1, &client))
        set_remote(x, &client);
    else
        client = peer;
    int rc = 0;
    if (!x->hcm->config->skip_xff_append)
        rc = header_append(headers, HDR_X_FORWARDED_FOR, SPAN_LIT("x-forwarded-for"),
                           host_text(x, address_is_loopback(&peer) ? &x->hcm->machine : &peer));
    if (rc == 0 && (hops == 0 || !header_has(headers, HDR_X_FORWARDED_PROTO)))
        rc = header_set_id(headers, HDR_X_FORWARDED_PROTO, scheme_of(x));
    if (rc == 0 && client.len) {
        struct span text = host_text(x, &client);
        rc = span_is_none(text) ? -ENOMEM
                                : header_set_id(headers, HDR_X_ENVOY_EXTERNAL_ADDRESS, text);
    }
    return rc;
}

static int forwarded(struct exchange *x) {
    struct header_map *headers = &x->request.headers;
    struct span xff = header_get(headers, HDR_X_FORWARDED_FOR);
    if (x->hcm->use_remote_address)
        return forwarded_at_edge(x, xff);
    struct address address;
    if (!span_is_none(xff) && address_from_xff(xff, x->hcm->config->xff_num_trusted_hops, &address))
        set_remote(x, &address);
    return header_has(headers, HDR_X_FORWARDED_PROTO)
               ? 0
               : header_set_id(headers, HDR_X_FORWARDED_PROTO, scheme_of(x));
}

/* Fields that steer Envoy's router, believed only from an internal peer. */
static void remove_internal_fields(struct exchange *x) {
    static const struct span always[] = {
        SPAN_INIT("x-envoy-internal"),
        SPAN_INIT("x-envoy-retry-on"),
        SPAN_INIT("x-envoy-retry-grpc-on"),
        SPAN_INIT("x-envoy-max-retries"),
        SPAN_INIT("x-envoy-upstream-alt-stat-name"),
        SPAN_INIT("x-envoy-upstream-rq-timeout-ms"),
        SPAN_INIT("x-envoy-upstream-rq-per-try-timeout-ms"),
        SPAN_INIT("x-envoy-upstream-rq-timeout-alt-response"),
        SPAN_INIT("x-envoy-expected-rq-timeout-ms"),
        SPAN_INIT("x-envoy-force-trace"),
        SPAN_INIT("x-envoy-ip-tags"),
        SPAN_INIT("x-envoy-original-url"),
        SPAN_INIT("x-envoy-hedge-on-per-try-timeout"),
        SPAN_INIT("x-envoy-retriable-header-names"),
        SPAN_INIT("x-envoy-retriable-status-codes"),
        SPAN_INIT("x-envoy-upstream-stream-duration-ms"),
    };
    static const struct span at_the_edge[] = {
        SPAN_INIT("x-envoy-decorator-operation"),
        SPAN_INIT("x-envoy-downstream-service-cluster"),
        SPAN_INIT("x-envoy-downstream-service-node"),
        SPAN_INIT("x-envoy-original-path"),
    };
    struct header_map *headers = &x->request.headers;
    bool any = false;
    for (uint32_t i = 0; i < headers->count && !any; i++)
        any = span_starts_with(header_name(&headers->entries[i]), SPAN_LIT("x-envoy-"));
    if (!any)
        return;
    for (size_t i = 0; i < sizeof always / sizeof always[0]; i++)
        header_remove(headers, header_id_of(always[i]), always[i]);
    for (size_t i = 0; x->hcm->use_remote_address && i < sizeof at_the_edge / sizeof at_the_edge[0];
         i++)
        header_remove(headers, header_id_of(at_the_edge[i]), at_the_edge[i]);
}

/* Eight hexadecimal digits at once, the highest first, as the bytes of a word. */
static void put_hex(char out[8], uint32_t value) {
    const uint64_t ones = 0x0101010101010101;
    uint64_t digits = value; /* nibbles into bytes of their own, halves first */
    digits = (digits | digits << 16) & 0x0000ffff0000ffff;
    digits = (digits | digits << 8) & 0x00ff00ff00ff00ff;
    digits = (digits | digits << 4) & 0x0f0f0f0f0f0f0f0f;
    uint64_t letters = (digits + 6 * ones) >> 4 & ones; /* 1 where the digit is above 9 */
    uint64_t text = htobe64(digits + '0' * ones + letters * ('a' - '0' - 10));
    memcpy(out, &text, 8);
}

/* RFC 9562 version 4, "xxxxxxxx-xxxx-4xxx-yxxx-xxxxxxxxxxxx". */
static struct span make_uuid(struct exchange *x) {
    char *out = arena_alloc(&x->arena, 36);
    if (!out)
        return span_none();
    uint64_t halves[2] = {worker_random(x->worker), worker_random(x->worker)};
    halves[0] = (halves[0] & ~0xf000ull) | 0x4000;
    halves[1] = (halves[1] & ~(3ull << 62)) | 2ull << 62;
    char hex[32];
    for (unsigned i = 0; i < 4; i++)
        put_hex(hex + 8 * i, (uint32_t)(halves[i / 2] >> (i % 2 ? 0 : 32)));
    memcpy(out, hex, 8);
    memcpy(out + 9, hex + 8, 4);
    memcpy(out + 14, hex + 12, 4);
    memcpy(out + 19, hex + 16, 4);
    memcpy(out + 24, hex + 20, 12);
    out[8] = out[13] = out[18] = out[23] = '-';
    return span_make(out, 36);
}

static int request_id(struct exchange *x) {
    bool edge = x->hcm->use_remote_address;
    bool have = header_has(&x->request.headers, HDR_X_REQUEST_ID);
    if (!x->hcm->generate_request_id ||
        (have && !(edge && !x->hcm->config->preserve_external_request_id)))
        return 0;
    struct span uuid = make_uuid(x);
    return span_is_none(uuid) ? -ENOMEM
                              : header_set_id(&x->request.headers, HDR_X_REQUEST_ID, uuid);
}

static int strip_host_port(struct exchange *x) {
    const struct cfg_hcm *cfg = x->hcm->config;
    if (!cfg->strip_any_host_port && !cfg->strip_matching_host_port)
        return 0;
    struct span authority = header_get(&x->request.headers, HDR_AUTHORITY);
    uint64_t port;
    if (!span_to_u64(authority_port(authority), &port))
        return 0;
    struct address local;
    socket_local_address(&x->downstream->socket, &local);
    if (!cfg->strip_any_host_port && port != address_port(&local))
        return 0;
    return header_set_id(&x->request.headers, HDR_AUTHORITY, authority_host(authority));
}

bool request_is_grpc(const struct exchange *x) {
    struct span type = header_get(&x->request.headers, HDR_CONTENT_TYPE);
    return span_starts_with(type, SPAN_LIT("application/grpc")) &&
           (type.len == 16 || type.ptr[16] == '+' || type.ptr[16] == ';');
}

void request_prepare(struct exchange *x, const struct http1_head *head) {
    struct header_map *headers = &x->request.headers;
    if (!check_version(x, head) || !check_host(x, head) || !check_path(x) || !check_underscores(x))
        return;
    struct span upgrade = head->upgrade ? wanted_upgrade(x) : span_none();
    http1_strip_hop_by_hop(headers);
    int rc = is_secure(x) ? header_set_id(headers, HDR_SCHEME, SPAN_LIT("https")) : 0;
    x->is_grpc = request_is_grpc(x);
    remove_internal_fields(x);
    if (!x->hcm->config->proxy_100_continue)
        header_remove_id(headers, HDR_EXPECT);
    if (rc == 0)
        rc = strip_host_port(x);
    if (rc == 0)
        rc = forwarded(x);
    if (rc == 0)
        rc = client_cert_forward(x);
    if (rc == 0)
        rc = request_id(x);
    if (rc == 0 && x->hcm->config->add_user_agent.set && x->hcm->config->add_user_agent.value &&
        !header_has(headers, HDR_USER_AGENT))
        rc = header_set_id(headers, HDR_USER_AGENT, SPAN_LIT("envoy"));
    if (rc == 0)
        rc = hcm_append_via(x->hcm, headers);
    if (rc == 0 && !span_is_none(upgrade))
        rc = upgrade_begin(x, head, upgrade);
    if (rc != 0)
        refuse(x, 500, span_none(), SPAN_LIT("request_headers_failed"), true);
}
