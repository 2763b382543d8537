/* tls_sessions: what a client keeps to resume sessions, as Envoy's max_session_keys: the last ones that servers gave
 * it, the latest first. A TLS 1.3 session is used once (RFC 8446, appendix C.4), an older one until it is pushed out.
 *
 * Threads  Any: handshakes of all Ps share a context. The lock is held for a few pointers. */
#include <stdlib.h>
#include <string.h>

#include "io/tls_internal.h"

void tls_sessions_init(struct tls_sessions *sessions, unsigned max) {
    (void)pthread_mutex_init(&sessions->lock, NULL);
    sessions->count = 0;
    sessions->max = max < TLS_SESSIONS_MAX ? max : TLS_SESSIONS_MAX;
}

void tls_sessions_fini(struct tls_sessions *sessions) {
    for (unsigned i = 0; i < sessions->count; i++) {
        SSL_SESSION_free(sessions->kept[i].session);
        free(sessions->kept[i].key);
    }
    (void)pthread_mutex_destroy(&sessions->lock);
}

static void remove_locked(struct tls_sessions *sessions, unsigned i) {
    sessions->count--;
    memmove(&sessions->kept[i], &sessions->kept[i + 1],
            (sessions->count - i) * sizeof sessions->kept[0]);
}

/* A server gave one. 1: it is ours now. */
static int keep(SSL *ssl, SSL_SESSION *session) {
    const struct tls *tls = SSL_get_app_data(ssl);
    struct tls_sessions *sessions = &tls->context->sessions;
    char *key = strdup(tls->session_key), *old_key = NULL;
    SSL_SESSION *old = NULL;
    if (!key)
        return 0;
    (void)pthread_mutex_lock(&sessions->lock);
    if (sessions->count == sessions->max) {
        old = sessions->kept[0].session;
        old_key = sessions->kept[0].key;
        remove_locked(sessions, 0);
    }
    sessions->kept[sessions->count].session = session;
    sessions->kept[sessions->count++].key = key;
    (void)pthread_mutex_unlock(&sessions->lock);
    SSL_SESSION_free(old);
    free(old_key);
    return 1;
}

void tls_sessions_renew(struct tls *tls) {
    struct tls_sessions *sessions = &tls->context->sessions;
    SSL_SESSION *session = SSL_get1_session(tls->ssl), *old = NULL;
    if (session && sessions->max && SSL_session_reused(tls->ssl) &&
        SSL_SESSION_get_protocol_version(session) < TLS1_3_VERSION) {
        (void)pthread_mutex_lock(&sessions->lock);
        for (unsigned i = sessions->count; !old && i-- > 0;)
            if (strcmp(sessions->kept[i].key, tls->session_key) == 0) {
                old = sessions->kept[i].session;
                sessions->kept[i].session = session;
            }
        (void)pthread_mutex_unlock(&sessions->lock);
        session = old ? old : session;
    }
    SSL_SESSION_free(session);
}

SSL_SESSION *tls_sessions_take(struct tls_sessions *sessions, const char *key) {
    SSL_SESSION *found = NULL;
    char *dropped = NULL;
    if (sessions->max == 0)
        return NULL;
    (void)pthread_mutex_lock(&sessions->lock);
    for (unsigned i = sessions->count; !found && i-- > 0;) {
        if (strcmp(sessions->kept[i].key, key) != 0)
            continue;
        found = sessions->kept[i].session;
        if (SSL_SESSION_get_protocol_version(found) >= TLS1_3_VERSION) {
            dropped = sessions->kept[i].key;
            remove_locked(sessions, i);
        } else {
            (void)SSL_SESSION_up_ref(found); /* only counts */
        }
    }
    (void)pthread_mutex_unlock(&sessions->lock);
    free(dropped);
    return found;
}

void tls_sessions_use(SSL_CTX *ctx) {
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
    SSL_CTX_sess_set_new_cb(ctx, keep);
}
