/* tls_session_cache: sessions of TLS 1.2 that a server keeps, because the client takes no tickets (or gets none).
 *
 *     buckets, by id:  [ ]──► session ──► session
 *     by age:          oldest ⇄ ... ⇄ latest          those that are over, and then the oldest, make room
 *
 * A session lies here as OpenSSL writes it (i2d), with the peer's certificate but without the rest of its chain: a few
 * hundred bytes whose number is known, where a live SSL_SESSION is several kilobytes of unknown size. So the bound is
 * on bytes. The table is made with the first session, which on most listeners never comes.
 *
 * Ids are random and ours, so their beginning is as good a hash as any; what a client asks for can only miss.
 *
 * Threads   Any: handshakes of all Ps, on whatever threads. The lock is held for some pointers and one copy of at most
 *           SESSION_MAX bytes; OpenSSL's own coding is outside of it. Requests never come here.
 * Rejected  OpenSSL's own cache: it counts sessions, not bytes, keeps the chains of clients' certificates, and ends with
 *           its SSL_CTX, that is with each certificate that is renewed. */
#include <openssl/err.h>
#include <openssl/x509.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/list.h"
#include "io/tls_internal.h"

enum {
    BUCKETS = 4096,
    SESSION_MAX = 8192, /* bytes of one: a certificate that is larger is verified each time */
};

struct kept_session {
    struct kept_session *next; /* of the bucket */
    struct list by_age;
    int64_t over_ns;
    uint16_t size;
    uint8_t id_size;
    unsigned char id[SSL_MAX_SSL_SESSION_ID_LENGTH];
    unsigned char bytes[];
};

struct tls_session_cache {
    _Atomic unsigned leases;
    size_t bytes_max;
    pthread_mutex_t lock;
    struct kept_session *
        *buckets;       /* under the lock, as what follows; NULL: nothing was kept so far */
    struct list by_age; /* the oldest first */
    size_t bytes;       /* of all sessions, with what is around them */
};

struct tls_session_cache *tls_session_cache_new(size_t bytes_max) {
    struct tls_session_cache *cache = calloc(1, sizeof *cache);
    if (!cache)
        return NULL;
    cache->leases = 1;
    cache->bytes_max = bytes_max;
    list_init(&cache->by_age);
    (void)pthread_mutex_init(&cache->lock, NULL);
    return cache;
}

struct tls_session_cache *tls_session_cache_ref(struct tls_session_cache *cache) {
    atomic_fetch_add_explicit(&cache->leases, 1, memory_order_relaxed);
    return cache;
}

static size_t weight_of(const struct kept_session *kept) {
    return sizeof *kept + kept->size;
}

/* Where the pointer to it is, or would be put. */
static struct kept_session **find(struct tls_session_cache *cache, const unsigned char *id,
                                  size_t id_size) {
    uint64_t hash = 0;
    memcpy(&hash, id, id_size < sizeof hash ? id_size : sizeof hash);
    struct kept_session **at = &cache->buckets[hash % BUCKETS];
    while (*at && ((*at)->id_size != id_size || memcmp((*at)->id, id, id_size) != 0))
        at = &(*at)->next;
    return at;
}

static void forget(struct tls_session_cache *cache, struct kept_session **at) {
    struct kept_session *kept = *at;
    *at = kept->next;
    list_remove(&kept->by_age);
    cache->bytes -= weight_of(kept);
    OPENSSL_cleanse(kept, weight_of(kept));
    free(kept);
}

static struct kept_session *oldest(const struct tls_session_cache *cache) {
    return container_of(cache->by_age.next, struct kept_session, by_age);
}

static void forget_oldest(struct tls_session_cache *cache) {
    const struct kept_session *kept = oldest(cache);
    forget(cache, find(cache, kept->id, kept->id_size));
}

void tls_session_cache_unref(struct tls_session_cache *cache) {
    /* Releases what was done with it; the last one acquires that of all others. */
    if (atomic_fetch_sub_explicit(&cache->leases, 1, memory_order_acq_rel) != 1)
        return;
    while (!list_is_empty(&cache->by_age))
        forget_oldest(cache);
    (void)pthread_mutex_destroy(&cache->lock);
    free(cache->buckets);
    free(cache);
}

/* ---- What OpenSSL calls ---- */

/* Transfers kept. */
static void put(struct tls_session_cache *cache, struct kept_session *kept) {
    int64_t now_ns = clock_mono_ns();
    (void)pthread_mutex_lock(&cache->lock);
    if (!cache->buckets)
        cache->buckets = calloc(BUCKETS, sizeof *cache->buckets);
    if (!cache->buckets || weight_of(kept) > cache->bytes_max) {
        (void)pthread_mutex_unlock(&cache->lock);
        OPENSSL_cleanse(kept, weight_of(kept));
        free(kept);
        return;
    }
    while (!list_is_empty(&cache->by_age) &&
           (cache->bytes + weight_of(kept) > cache->bytes_max || oldest(cache)->over_ns <= now_ns))
        forget_oldest(cache);
    struct kept_session **at = find(cache, kept->id, kept->id_size);
    if (*at)
        forget(cache, at);
    kept->next = *at;
    *at = kept;
    list_push_back(&cache->by_age, &kept->by_age);
    cache->bytes += weight_of(kept);
    (void)pthread_mutex_unlock(&cache->lock);
}

/* A handshake made one. 0: we have not kept the reference. */
static int session_made(SSL *ssl, SSL_SESSION *session) {
    const struct tls *tls = SSL_get_app_data(ssl);
    unsigned id_size;
    const unsigned char *id = SSL_SESSION_get_id(session, &id_size);
    int size = i2d_SSL_SESSION(session, NULL);
    /* Those of TLS 1.3, and all that were given tickets, are not looked up by id. */
    if (SSL_SESSION_get_protocol_version(session) >= TLS1_3_VERSION || id_size == 0 || size <= 0 ||
        size > SESSION_MAX)
        return 0;
    struct kept_session *kept = malloc(sizeof *kept + (size_t)size);
    if (!kept)
        return 0;
    *kept = (struct kept_session){
        .over_ns = clock_mono_ns() + (int64_t)SSL_SESSION_get_timeout(session) * NS_PER_S,
        .size = (uint16_t)size,
        .id_size = (uint8_t)id_size,
    };
    memcpy(kept->id, id, id_size);
    unsigned char *end = kept->bytes;
    (void)i2d_SSL_SESSION(session, &end);
    put(tls->context->session_cache, kept);
    return 0;
}

/* A client asks for one. It, or NULL, is OpenSSL's, which looks whether it is over and what was asked of the peer. */
static SSL_SESSION *session_wanted(SSL *ssl, const unsigned char *id, int id_size, int *copies) {
    const struct tls *tls = SSL_get_app_data(ssl);
    struct tls_session_cache *cache = tls->context->session_cache;
    unsigned char bytes[SESSION_MAX];
    uint16_t size = 0;
    *copies = 0;
    (void)pthread_mutex_lock(&cache->lock);
    const struct kept_session *kept = cache->buckets ? *find(cache, id, (size_t)id_size) : NULL;
    if (kept) {
        size = kept->size;
        memcpy(bytes, kept->bytes, size);
    }
    (void)pthread_mutex_unlock(&cache->lock);
    if (size == 0)
        return NULL;
    const unsigned char *at = bytes;
    SSL_SESSION *session = d2i_SSL_SESSION(NULL, &at, size);
    OPENSSL_cleanse(bytes, size);
    if (!session)
        ERR_clear_error(); /* no memory: the handshake is a whole one */
    return session;
}

/* It is over, or its connection ended badly (RFC 5246, section 7.2.2). */
static void session_ended(SSL_CTX *ctx, SSL_SESSION *session) {
    struct tls_session_cache *cache = SSL_CTX_get_app_data(ctx);
    unsigned id_size;
    const unsigned char *id = SSL_SESSION_get_id(session, &id_size);
    if (SSL_SESSION_get_protocol_version(session) >= TLS1_3_VERSION)
        return;
    (void)pthread_mutex_lock(&cache->lock);
    struct kept_session **at = cache->buckets ? find(cache, id, id_size) : NULL;
    if (at && *at)
        forget(cache, at);
    (void)pthread_mutex_unlock(&cache->lock);
}

void tls_session_cache_use(struct tls_session_cache *cache, SSL_CTX *ctx) {
    (void)SSL_CTX_set_app_data(ctx, cache);
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_SERVER | SSL_SESS_CACHE_NO_INTERNAL |
                                            SSL_SESS_CACHE_NO_AUTO_CLEAR);
    SSL_CTX_sess_set_new_cb(ctx, session_made);
    SSL_CTX_sess_set_get_cb(ctx, session_wanted);
    SSL_CTX_sess_set_remove_cb(ctx, session_ended);
}
