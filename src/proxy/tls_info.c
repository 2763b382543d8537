#include "proxy/tls_info.h"

static bool copy_span(struct arena *arena, struct span *span) {
    if (span_is_none(*span))
        return true;
    *span = arena_copy(arena, *span);
    return !span_is_none(*span);
}

static bool copy_identity(struct arena *arena, const struct tls_identity *from,
                          struct tls_identity *to) {
    *to = *from;
    struct tls_san *sans = arena_alloc(arena, (from->san_count + 1) * sizeof *sans);
    if (!sans)
        return false;
    for (size_t i = 0; i < from->san_count; i++) {
        sans[i] = from->sans[i];
        if (!copy_span(arena, &sans[i].value))
            return false;
    }
    to->sans = sans;
    return copy_span(arena, &to->subject) && copy_span(arena, &to->issuer) &&
           copy_span(arena, &to->serial) && copy_span(arena, &to->sha1) &&
           copy_span(arena, &to->sha256);
}

const struct upstream_tls *upstream_tls_copy(struct socket *socket, struct arena *arena) {
    struct tls_facts facts;
    if (!tls_facts(socket, &facts))
        return NULL;
    struct upstream_tls *copy = arena_alloc(arena, sizeof *copy);
    if (!copy)
        return NULL;
    char id[64];
    struct span session_id = arena_copy(arena, span_make(id, tls_session_id(socket, id)));
    if (span_is_none(session_id))
        return NULL;
    *copy = (struct upstream_tls){
        .version = facts.version, .cipher = facts.cipher, .session_id = session_id};
    const struct tls_identity *peer = tls_peer_identity(socket);
    copy->has_certificate = peer != NULL;
    copy->pem = tls_peer_pem(socket);
    bool copied = copy_span(arena, &copy->version) && copy_span(arena, &copy->cipher) &&
                  copy_span(arena, &copy->pem) &&
                  (!peer || copy_identity(arena, peer, &copy->peer));
    return copied ? copy : NULL;
}
