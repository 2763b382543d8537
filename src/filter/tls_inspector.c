/* tls_inspector: envoy.filters.listener.tls_inspector: does the client speak TLS, which host does it want, which
 * protocols does it offer? Nothing is decrypted and nothing is used up.
 *
 * As Envoy's, statistics too, but for tls_inspector.bytes_processed. A client that ends in the middle of its hello
 * is closed. */
#include <errno.h>
#include <stdlib.h>

#include "config/listener_filter_config.h"
#include "filter/connection_facts.h"
#include "filter/listener_filters.h"
#include "proxy/downstream.h"

static const struct span name_space = SPAN_INIT("envoy.filters.listener.tls_inspector");

struct tls_inspector {
    uint32_t max_hello_bytes;
    bool close_on_errors;
    struct statistic *client_hello_too_large, *tls_found, *tls_not_found, *alpn_found,
        *alpn_not_found, *sni_found, *sni_not_found;
};

static int build(const struct cfg_any *typed_config, struct cfg_problems *problems, void **config) {
    const struct cfg_tls_inspector *cfg = typed_config->message;
    struct tls_inspector *inspector = malloc(sizeof *inspector);
    if (!inspector)
        return -ENOMEM;
    *inspector = (struct tls_inspector){
        .max_hello_bytes = cfg->max_client_hello_size.set ? cfg->max_client_hello_size.value
                                                          : CLIENT_HELLO_MESSAGE_MAX,
        .close_on_errors = cfg->close_on_errors,
        .client_hello_too_large =
            stats_get_plain(STAT_COUNTER, "tls_inspector.client_hello_too_large"),
        .tls_found = stats_get_plain(STAT_COUNTER, "tls_inspector.tls_found"),
        .tls_not_found = stats_get_plain(STAT_COUNTER, "tls_inspector.tls_not_found"),
        .alpn_found = stats_get_plain(STAT_COUNTER, "tls_inspector.alpn_found"),
        .alpn_not_found = stats_get_plain(STAT_COUNTER, "tls_inspector.alpn_not_found"),
        .sni_found = stats_get_plain(STAT_COUNTER, "tls_inspector.sni_found"),
        .sni_not_found = stats_get_plain(STAT_COUNTER, "tls_inspector.sni_not_found"),
    };
    *config = inspector;
    return 0;
}

static size_t max_bytes(const void *config) {
    const struct tls_inspector *inspector = config;
    return inspector->max_hello_bytes;
}

static enum listener_filter_verdict found(const struct tls_inspector *inspector, unsigned shard,
                                          struct connection_info *info,
                                          const struct client_hello *hello) {
    stat_inc(inspector->tls_found, shard);
    stat_inc(hello->has_protocols ? inspector->alpn_found : inspector->alpn_not_found, shard);
    stat_inc(hello->server_name_len ? inspector->sni_found : inspector->sni_not_found, shard);
    return note_client_hello(info, hello) ? LISTENER_FILTER_DONE : LISTENER_FILTER_CLOSE;
}

static enum listener_filter_verdict not_found(const struct tls_inspector *inspector, unsigned shard,
                                              struct connection_info *info) {
    if (inspector->close_on_errors)
        return LISTENER_FILTER_CLOSE;
    stat_inc(inspector->tls_not_found, shard);
    return note_metadata(info, name_space, SPAN_LIT("failure_reason"),
                         SPAN_LIT("ClientHelloNotDetected"))
               ? LISTENER_FILTER_DONE
               : LISTENER_FILTER_CLOSE;
}

static enum listener_filter_verdict look(const void *config, struct downstream *d,
                                         struct connection_info *info, struct span bytes,
                                         bool ended, size_t *consume) {
    const struct tls_inspector *inspector = config;
    struct client_hello hello;
    switch (client_hello_read(bytes, &hello)) {
    case CLIENT_HELLO_DONE:
        return found(inspector, d->p_index, info, &hello);
    case CLIENT_HELLO_NONE:
        return not_found(inspector, d->p_index, info);
    case CLIENT_HELLO_MORE:
        break;
    }
    if (bytes.len < inspector->max_hello_bytes)
        return ended ? LISTENER_FILTER_CLOSE : LISTENER_FILTER_MORE;
    stat_inc(inspector->client_hello_too_large, d->p_index);
    return LISTENER_FILTER_CLOSE;
}

static const struct listener_filter_itab itab = {
    .name = "envoy.filters.listener.tls_inspector",
    .max_bytes = max_bytes,
    .look = look,
};

const struct listener_filter_kind listener_filter_kind_tls_inspector = {
    .itab = &itab,
    .schema = &cfg_schema_tls_inspector,
    .build = build,
    .free_config = free,
};
