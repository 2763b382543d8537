/* client_cert: By=URI;Hash=SHA256;Cert="PEM";Chain="PEM";Subject="DN";URI=U;DNS=D, as Envoy writes it and in that
 * order. The text is made once per request: what it is made of is kept with the connection (io/tls.h).
 * Source: envoyproxy.io, x-forwarded-client-cert. */
#include "proxy/client_cert.h"

#include <errno.h>

#include "proxy/tls_info.h"

enum { PARTS_MAX = 256 }; /* names of a certificate beyond that are left out */

struct details {
    struct span parts[PARTS_MAX];
    size_t count;
};

static void add(struct details *details, const char *key, struct span value, const char *end) {
    if (details->count + 4 > PARTS_MAX)
        return;
    if (details->count)
        details->parts[details->count++] = SPAN_LIT(";");
    details->parts[details->count++] = span_of(key);
    details->parts[details->count++] = value;
    details->parts[details->count++] = span_of(end);
}

static bool add_sans(struct details *details, const char *key, const struct tls_identity *identity,
                     enum tls_san_type type) {
    bool any = false;
    for (size_t i = 0; identity && i < identity->san_count; i++) {
        if (identity->sans[i].type != type)
            continue;
        add(details, key, identity->sans[i].value, "");
        any = true;
    }
    return any;
}

static struct span describe(struct exchange *x, const struct tls_identity *peer) {
    struct socket *socket = &x->downstream->socket;
    const struct cfg_current_cert *wanted = x->hcm->config->set_current_client_cert_details;
    struct details details;
    details.count = 0;
    (void)add_sans(&details, "By=", tls_local_identity(socket), TLS_SAN_URI); /* often none */
    if (peer->sha256.len)
        add(&details, "Hash=", peer->sha256, "");
    if (wanted) {
        struct span pem = wanted->cert ? tls_peer_pem(socket) : span_none();
        if (pem.len)
            add(&details, "Cert=\"", pem, "\"");
        struct span chain = wanted->chain ? tls_peer_chain_pem(socket) : span_none();
        if (chain.len)
            add(&details, "Chain=\"", chain, "\"");
        if (wanted->subject.set && wanted->subject.value)
            add(&details, "Subject=\"", peer->subject, "\"");
        if (wanted->uri && !add_sans(&details, "URI=", peer, TLS_SAN_URI))
            add(&details, "URI=", SPAN_LIT(""), "");
        if (wanted->dns)
            (void)add_sans(&details, "DNS=", peer, TLS_SAN_DNS); /* Envoy leaves it out then */
    }
    return arena_concat(&x->arena, details.parts, details.count);
}

/* A name may hold any byte, a field's value may not: what would end the field ends the request's hopes. */
static bool may_be_sent(struct span text) {
    for (size_t i = 0; i < text.len; i++)
        if (text.ptr[i] == '\r' || text.ptr[i] == '\n' || text.ptr[i] == '\0')
            return false;
    return true;
}

int client_cert_forward_tls(struct exchange *x) {
    struct header_map *headers = &x->request.headers;
    int how = x->hcm->config->forward_client_cert_details;
    if (how == CFG_CERT_ALWAYS_FORWARD_ONLY)
        return 0;
    struct socket *socket = &x->downstream->socket;
    const struct tls_identity *peer =
        how != CFG_CERT_SANITIZE && (tls_peer_bits(socket) & PEER_CERTIFICATE_PRESENTED)
            ? tls_peer_identity(socket)
            : NULL;
    if (!peer) {
        header_remove_id(headers, HDR_X_FORWARDED_CLIENT_CERT);
        return 0;
    }
    if (how == CFG_CERT_FORWARD_ONLY)
        return 0;
    struct span text = describe(x, peer);
    if (span_is_none(text))
        return -ENOMEM;
    if (!may_be_sent(text))
        return -EINVAL;
    struct span before = header_get(headers, HDR_X_FORWARDED_CLIENT_CERT);
    if (how == CFG_CERT_APPEND_FORWARD && before.len) {
        struct span parts[] = {before, SPAN_LIT(","), text};
        text = arena_concat(&x->arena, parts, 3);
        if (span_is_none(text))
            return -ENOMEM;
    }
    return header_set_id(headers, HDR_X_FORWARDED_CLIENT_CERT, text);
}
