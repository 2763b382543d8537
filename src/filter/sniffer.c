/* sniffer: sluice.filters.listener.sniffer: what flows, in one pass over the first bytes, where Envoy's filters take
 * one each: PROXY headers, TLS with its host and protocols, HTTP/1.x, h2c and Redis. And it gives the connection its
 * stamps: flow_id, timestamp_ns, protocol.
 *
 *     [PROXY header] ─► TLS ─► ClientHello whole ─► is_tls, server_name, application_protocols of the client
 *                    └► else ─► application_protocols: "http/1.0", "http/1.1", "h2c", "redis", or none
 *
 * flow_id   The connection's number (%CONNECTION_ID%): distinct in the process, growing with time on a processor.
 * PROXY     What the header says is believed only if the configuration says that it may be; else a header is what
 *           anybody can send: unknown. */
#include <errno.h>
#include <stdlib.h>

#include "config/listener_filter_config.h"
#include "filter/connection_facts.h"
#include "filter/listener_filters.h"
#include "io/sniff.h"
#include "proxy/downstream.h"

struct sniffer {
    uint32_t max_hello_bytes;
    bool accept_proxy;
    struct statistic *found[SNIFF_TLS + 1]; /* by enum sniff_protocol */
    struct statistic *proxy_found, *proxy_error, *client_hello_too_large;
};

static int build(const struct cfg_any *typed_config, struct cfg_problems *problems, void **config) {
    const struct cfg_sniffer *cfg = typed_config->message;
    struct sniffer *sniffer = calloc(1, sizeof *sniffer);
    if (!sniffer)
        return -ENOMEM;
    sniffer->accept_proxy = cfg->accept_proxy_protocol;
    sniffer->max_hello_bytes = cfg->max_client_hello_size.set ? cfg->max_client_hello_size.value
                                                              : CLIENT_HELLO_MESSAGE_MAX;
    sniffer->found[SNIFF_UNKNOWN] = stats_get_plain(STAT_COUNTER, "sniffer.unknown");
    sniffer->found[SNIFF_HTTP_1_0] = stats_get_plain(STAT_COUNTER, "sniffer.http10_found");
    sniffer->found[SNIFF_HTTP_1_1] = stats_get_plain(STAT_COUNTER, "sniffer.http11_found");
    sniffer->found[SNIFF_H2C] = stats_get_plain(STAT_COUNTER, "sniffer.http2_found");
    sniffer->found[SNIFF_REDIS] = stats_get_plain(STAT_COUNTER, "sniffer.redis_found");
    sniffer->found[SNIFF_TLS] = stats_get_plain(STAT_COUNTER, "sniffer.tls_found");
    sniffer->proxy_found = stats_get_plain(STAT_COUNTER, "sniffer.proxy_found");
    sniffer->proxy_error = stats_get_plain(STAT_COUNTER, "sniffer.proxy_error");
    sniffer->client_hello_too_large =
        stats_get_plain(STAT_COUNTER, "sniffer.client_hello_too_large");
    *config = sniffer;
    return 0;
}

static size_t max_bytes(const void *config) {
    const struct sniffer *sniffer = config;
    return sniffer->max_hello_bytes + (sniffer->accept_proxy ? PROXY_HEADER_MAX : 0);
}

static void stamp(struct connection_info *info, struct downstream *d,
                  enum sniff_protocol protocol) {
    int64_t now_ns = rt_now_ns();
    info->flow_id = d->id;
    info->timestamp_ns = worker_wall_ns(worker_here(), now_ns) - (now_ns - d->opened_ns);
    info->protocol = sniff_name(protocol);
}

static enum listener_filter_verdict done(const struct sniffer *sniffer,
                                         struct connection_info *info, struct downstream *d,
                                         enum sniff_protocol protocol) {
    stat_inc(sniffer->found[protocol], d->p_index);
    stamp(info, d, protocol);
    if (protocol != SNIFF_UNKNOWN && protocol != SNIFF_TLS)
        note_application_protocol(info, info->protocol);
    return LISTENER_FILTER_DONE;
}

static enum listener_filter_verdict look_at_tls(const struct sniffer *sniffer,
                                                struct connection_info *info, struct downstream *d,
                                                struct span bytes, bool ended) {
    struct client_hello hello;
    switch (client_hello_read(bytes, &hello)) {
    case CLIENT_HELLO_NONE:
        return done(sniffer, info, d, SNIFF_UNKNOWN);
    case CLIENT_HELLO_MORE:
        if (bytes.len < sniffer->max_hello_bytes)
            return ended ? LISTENER_FILTER_CLOSE : LISTENER_FILTER_MORE;
        stat_inc(sniffer->client_hello_too_large, d->p_index);
        return LISTENER_FILTER_CLOSE;
    case CLIENT_HELLO_DONE:
        break;
    }
    return note_client_hello(info, &hello) ? done(sniffer, info, d, SNIFF_TLS)
                                           : LISTENER_FILTER_CLOSE;
}

static enum listener_filter_verdict look_behind_proxy(const struct sniffer *sniffer,
                                                      struct connection_info *info,
                                                      struct downstream *d, struct span bytes,
                                                      bool ended) {
    enum sniff_protocol found = sniff(bytes);
    if (found == SNIFF_TLS)
        return look_at_tls(sniffer, info, d, bytes, ended);
    if (found == SNIFF_MORE && !ended)
        return LISTENER_FILTER_MORE;
    return done(sniffer, info, d,
                found == SNIFF_MORE || found == SNIFF_PROXY ? SNIFF_UNKNOWN : found);
}

static enum listener_filter_verdict look(const void *config, struct downstream *d,
                                         struct connection_info *info, struct span bytes,
                                         bool ended, size_t *consume) {
    const struct sniffer *sniffer = config;
    struct proxy_header header = {.bytes = 0};
    enum proxy_header_verdict proxy = sniffer->accept_proxy
                                          ? proxy_header_read(bytes, PROXY_HEADER_ANY, &header)
                                          : PROXY_HEADER_ABSENT;
    if (proxy == PROXY_HEADER_MORE && !ended)
        return LISTENER_FILTER_MORE;
    if (proxy == PROXY_HEADER_BAD || (proxy == PROXY_HEADER_MORE && header.version)) {
        stat_inc(sniffer->proxy_error, d->p_index);
        return LISTENER_FILTER_CLOSE;
    }
    struct span behind = proxy == PROXY_HEADER_DONE ? span_from(bytes, header.bytes) : bytes;
    enum listener_filter_verdict verdict = look_behind_proxy(sniffer, info, d, behind, ended);
    if (proxy == PROXY_HEADER_DONE && verdict == LISTENER_FILTER_DONE) {
        if (!note_proxy_addresses(info, d, &header))
            return LISTENER_FILTER_CLOSE;
        stat_inc(sniffer->proxy_found, d->p_index);
        *consume = header.bytes;
    }
    return verdict;
}

static const struct listener_filter_itab itab = {
    .name = "sluice.filters.listener.sniffer",
    .max_bytes = max_bytes,
    .look = look,
};

const struct listener_filter_kind listener_filter_kind_sniffer = {
    .itab = &itab,
    .schema = &cfg_schema_sniffer,
    .build = build,
    .free_config = free,
};
