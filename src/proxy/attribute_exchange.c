/* attribute_exchange: an exchange that is asked about on a coroutine of its own, so all of it stands still. */
#include "proxy/attribute.h"
#include "proxy/downstream.h"
#include "proxy/exchange.h"
#include "proxy/tls_info.h"

bool attribute_tls_of(struct socket *socket, struct attribute_tls *out) {
    struct tls_facts tls;
    if (!socket->transport || !tls_facts(socket, &tls))
        return false;
    *out = (struct attribute_tls){.version = tls.version,
                                  .local = tls_local_identity(socket),
                                  .peer = tls_peer_identity(socket),
                                  .has_peer = tls.has_peer_certificate};
    return true;
}

static const struct header_map *if_any(const struct header_map *map) {
    return map->count ? map : NULL;
}

enum attribute_result attribute_of_exchange(struct exchange *x, struct span path,
                                            struct format_out *out) {
    struct attribute_tls tls;
    bool has_tls = x->downstream && span_starts_with(path, SPAN_LIT("connection.")) &&
                   attribute_tls_of(&x->downstream->socket, &tls);
    const struct attribute_subject of = {
        .info = &x->info,
        .request = if_any(&x->request.headers),
        .response = if_any(&x->response.headers),
        .trailers = if_any(&x->response.trailers),
        .route = x->route,
        .downstream = x->downstream,
        .tls = has_tls ? &tls : NULL,
        .metadata = exchange_metadata_if(x),
        .filter_state = exchange_filter_state_if(x),
    };
    return attribute_text(&of, path, out);
}
