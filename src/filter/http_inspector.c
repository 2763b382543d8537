/* http_inspector: envoy.filters.listener.http_inspector: does a client without TLS speak HTTP, and which? As Envoy's,
 * statistics too. A line longer than REQUEST_LINE_MAX closes the connection: it could not be served either. */
#include <errno.h>
#include <stdlib.h>

#include "config/listener_filter_config.h"
#include "filter/connection_facts.h"
#include "filter/listener_filters.h"
#include "io/request_line.h"
#include "proxy/downstream.h"

enum { REQUEST_LINE_MAX = 64 * 1024 };

struct http_inspector {
    struct statistic *read_error, *http10_found, *http11_found, *http2_found, *http_not_found;
};

static int build(const struct cfg_any *typed_config, struct cfg_problems *problems, void **config) {
    struct http_inspector *inspector = malloc(sizeof *inspector);
    if (!inspector)
        return -ENOMEM;
    *inspector = (struct http_inspector){
        .read_error = stats_get_plain(STAT_COUNTER, "http_inspector.read_error"),
        .http10_found = stats_get_plain(STAT_COUNTER, "http_inspector.http10_found"),
        .http11_found = stats_get_plain(STAT_COUNTER, "http_inspector.http11_found"),
        .http2_found = stats_get_plain(STAT_COUNTER, "http_inspector.http2_found"),
        .http_not_found = stats_get_plain(STAT_COUNTER, "http_inspector.http_not_found"),
    };
    *config = inspector;
    return 0;
}

static size_t max_bytes(const void *config) {
    return REQUEST_LINE_MAX;
}

static enum listener_filter_verdict found(struct connection_info *info, struct span protocol,
                                          const struct statistic *stat, unsigned shard) {
    stat_inc(stat, shard);
    note_application_protocol(info, protocol);
    return LISTENER_FILTER_DONE;
}

static enum listener_filter_verdict look(const void *config, struct downstream *d,
                                         struct connection_info *info, struct span bytes,
                                         bool ended, size_t *consume) {
    const struct http_inspector *inspector = config;
    unsigned shard = d->p_index;
    if (info->is_tls)
        return LISTENER_FILTER_DONE;
    switch (request_line_look(bytes)) {
    case REQUEST_LINE_HTTP_1_0:
        return found(info, SPAN_LIT("http/1.0"), inspector->http10_found, shard);
    case REQUEST_LINE_HTTP_1_1:
        return found(info, SPAN_LIT("http/1.1"), inspector->http11_found, shard);
    case REQUEST_LINE_H2C:
        return found(info, SPAN_LIT("h2c"), inspector->http2_found, shard);
    case REQUEST_LINE_NONE:
        break;
    case REQUEST_LINE_MORE:
        if (bytes.len >= REQUEST_LINE_MAX) {
            stat_inc(inspector->read_error, shard);
            return LISTENER_FILTER_CLOSE;
        }
        if (!ended)
            return LISTENER_FILTER_MORE;
    }
    stat_inc(inspector->http_not_found, shard);
    return LISTENER_FILTER_DONE;
}

static const struct listener_filter_itab itab = {
    .name = "envoy.filters.listener.http_inspector",
    .max_bytes = max_bytes,
    .look = look,
};

const struct listener_filter_kind listener_filter_kind_http_inspector = {
    .itab = &itab,
    .schema = &cfg_schema_http_inspector,
    .build = build,
    .free_config = free,
};
