/* format_tls: operators about TLS, of the client's connection and of the upstream's. */
#include "proxy/downstream.h"
#include "proxy/format_internal.h"
#include "proxy/tls_info.h"

static enum format_value_kind put_text(struct format_out *out, struct span text) {
    return text.len ? format_put_text(out, text, SIZE_MAX) : FORMAT_ABSENT;
}

static enum format_value_kind put_sans(struct format_out *out, const struct tls_identity *identity,
                                       enum tls_san_type type) {
    bool any = false;
    for (size_t i = 0; i < identity->san_count; i++) {
        if (identity->sans[i].type != type)
            continue;
        if (any)
            format_out_put(out, SPAN_LIT(","));
        format_out_put(out, identity->sans[i].value);
        any = true;
    }
    return any ? FORMAT_STRING : FORMAT_ABSENT;
}

static enum format_value_kind put_time(const struct format_op *op, int64_t seconds,
                                       struct format_out *out) {
    time_format_write(&op->time, seconds * INT64_C(1000000000), out);
    return FORMAT_STRING;
}

static enum format_value_kind put_identity(const struct format_op *op,
                                           const struct tls_identity *identity,
                                           struct format_out *out) {
    if (!identity)
        return FORMAT_ABSENT;
    switch ((enum format_tls)op->which) {
    case TLS_SUBJECT:
        return put_text(out, identity->subject);
    case TLS_ISSUER:
        return put_text(out, identity->issuer);
    case TLS_SERIAL:
        return put_text(out, identity->serial);
    case TLS_FINGERPRINT_1:
        return put_text(out, identity->sha1);
    case TLS_FINGERPRINT_256:
        return put_text(out, identity->sha256);
    case TLS_URI_SANS:
        return put_sans(out, identity, TLS_SAN_URI);
    case TLS_DNS_SANS:
        return put_sans(out, identity, TLS_SAN_DNS);
    case TLS_IP_SANS:
        return put_sans(out, identity, TLS_SAN_IP);
    case TLS_EMAIL_SANS:
        return put_sans(out, identity, TLS_SAN_EMAIL);
    case TLS_VALID_FROM:
        return put_time(op, identity->not_before_s, out);
    case TLS_VALID_TO:
        return put_time(op, identity->not_after_s, out);
    default:
        return FORMAT_ABSENT;
    }
}

static enum format_value_kind put_upstream(const struct format_op *op,
                                           const struct upstream_tls *tls, struct format_out *out) {
    if (!tls)
        return FORMAT_ABSENT;
    switch ((enum format_tls)op->which) {
    case TLS_VERSION:
        return put_text(out, tls->version);
    case TLS_CIPHER:
        return put_text(out, tls->cipher);
    case TLS_SESSION_ID:
        return put_text(out, tls->session_id);
    case TLS_PEM:
        return put_text(out, tls->pem);
    default:
        return put_identity(op, tls->has_certificate ? &tls->peer : NULL, out);
    }
}

static enum format_value_kind put_downstream(const struct format_op *op, struct socket *socket,
                                             struct format_out *out) {
    struct tls_facts facts;
    if (!socket->transport || !tls_facts(socket, &facts))
        return FORMAT_ABSENT;
    char id[64];
    switch ((enum format_tls)op->which) {
    case TLS_VERSION:
        return put_text(out, facts.version);
    case TLS_CIPHER:
        return put_text(out, facts.cipher);
    case TLS_SESSION_ID:
        return put_text(out, span_make(id, tls_session_id(socket, id)));
    case TLS_PEM:
        return put_text(out, tls_peer_pem(socket));
    default:
        return put_identity(
            op, op->part == TLS_LOCAL ? tls_local_identity(socket) : tls_peer_identity(socket),
            out);
    }
}

/* One column of a log, whatever OpenSSL says. */
static enum format_value_kind put_failure(const struct format_subject *of, struct format_out *out) {
    struct span text = of->connection ? of->connection->transport_failure : span_none();
    size_t start = out->len;
    if (text.len)
        format_out_put(out, text);
    for (size_t i = start; i < out->len; i++)
        if (out->data[i] == ' ')
            out->data[i] = '_';
    return text.len ? FORMAT_STRING : FORMAT_ABSENT;
}

enum format_value_kind format_put_tls(const struct format_op *op, const struct format_subject *of,
                                      struct format_out *out) {
    if (op->which == TLS_FAILURE)
        return put_failure(of, out);
    if (op->part == TLS_UPSTREAM)
        return put_upstream(op, of->info->upstream_tls, out);
    return of->downstream ? put_downstream(op, &of->downstream->socket, out) : FORMAT_ABSENT;
}
