/* tls_tickets: keys that session tickets are encrypted with, shared by all contexts that are to resume each other's
 * sessions.
 *
 * A ticket is AES-256-CBC and HMAC-SHA-256 (RFC 5077, section 4), as Envoy's, nginx's and OpenSSL's own, so
 * key files of those work here. The first key encrypts; a ticket of another one is good, and the client gets
 * a new one in its place. Keys of our own making live for ROTATE_S as the first and as long again as the
 * second, and are forgotten: who steals the process's memory later reads nothing older.
 *
 * Threads  Any. The lock is held for a copy of 80 bytes. */
#include <assert.h>
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "io/tls_internal.h"

static const int64_t rotate_ns = 12 * 3600 * NS_PER_S;

struct ticket_key {
    unsigned char name[16], hmac[32], aes[32];
};
static_assert(sizeof(struct ticket_key) == TLS_TICKET_KEY_SIZE, "as in files");

struct tls_tickets {
    _Atomic unsigned leases;
    bool own;
    EVP_CIPHER *cipher;
    pthread_mutex_t lock;
    unsigned count; /* under the lock, as what follows */
    int64_t rotate_at_ns;
    struct ticket_key keys[TLS_TICKET_KEYS_MAX];
};

static void rotate_locked(struct tls_tickets *tickets) {
    struct ticket_key fresh;
    tickets->rotate_at_ns = clock_mono_ns() + rotate_ns;
    if (RAND_priv_bytes((unsigned char *)&fresh, sizeof fresh) != 1) {
        ERR_clear_error();
        return; /* the old one goes on */
    }
    tickets->keys[1] = tickets->keys[0];
    tickets->keys[0] = fresh;
    tickets->count += tickets->count < 2;
    OPENSSL_cleanse(&fresh, sizeof fresh);
}

struct tls_tickets *tls_tickets_new(const struct span *keys, size_t count) {
    ASSERT(count <= TLS_TICKET_KEYS_MAX);
    struct tls_tickets *tickets = calloc(1, sizeof *tickets);
    if (!tickets)
        return NULL;
    tickets->leases = 1;
    tickets->own = count == 0;
    tickets->cipher = EVP_CIPHER_fetch(NULL, "AES-256-CBC", NULL);
    (void)pthread_mutex_init(&tickets->lock, NULL);
    for (size_t i = 0; i < count; i++) {
        ASSERT(keys[i].len == TLS_TICKET_KEY_SIZE);
        memcpy(&tickets->keys[i], keys[i].ptr, TLS_TICKET_KEY_SIZE);
    }
    tickets->count = (unsigned)count;
    if (tickets->own)
        rotate_locked(tickets);
    if (tickets->cipher && tickets->count)
        return tickets;
    ERR_clear_error();
    tls_tickets_unref(tickets);
    return NULL;
}

struct tls_tickets *tls_tickets_ref(struct tls_tickets *tickets) {
    atomic_fetch_add_explicit(&tickets->leases, 1, memory_order_relaxed);
    return tickets;
}

void tls_tickets_unref(struct tls_tickets *tickets) {
    /* Releases what was done with it; the last one acquires that of all others. */
    if (atomic_fetch_sub_explicit(&tickets->leases, 1, memory_order_acq_rel) != 1)
        return;
    EVP_CIPHER_free(tickets->cipher);
    (void)pthread_mutex_destroy(&tickets->lock);
    OPENSSL_cleanse(tickets, sizeof *tickets);
    free(tickets);
}

void tls_tickets_rotate(struct tls_tickets *tickets) {
    (void)pthread_mutex_lock(&tickets->lock);
    if (tickets->own)
        rotate_locked(tickets);
    (void)pthread_mutex_unlock(&tickets->lock);
}

/* The key of that name, or the first one. -1: there is none; else which it is. */
static int find(struct tls_tickets *tickets, const unsigned char *name, struct ticket_key *out) {
    int found = -1;
    (void)pthread_mutex_lock(&tickets->lock);
    if (!name) {
        if (tickets->own && clock_mono_ns() >= tickets->rotate_at_ns)
            rotate_locked(tickets);
        found = 0;
    }
    for (unsigned i = 0; name && found < 0 && i < tickets->count; i++)
        if (memcmp(tickets->keys[i].name, name, sizeof out->name) == 0)
            found = (int)i;
    if (found >= 0)
        *out = tickets->keys[found];
    (void)pthread_mutex_unlock(&tickets->lock);
    return found;
}

enum { TICKET_ERROR = -1, TICKET_UNKNOWN = 0, TICKET_GOOD = 1, TICKET_RENEW = 2 }; /* OpenSSL's */

static int set_keys(const struct tls_tickets *tickets, struct ticket_key *key, unsigned char *iv,
                    EVP_CIPHER_CTX *cipher, EVP_MAC_CTX *mac, bool encrypts) {
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_octet_string(OSSL_MAC_PARAM_KEY, key->hmac, sizeof key->hmac),
        OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, (char[]){"SHA256"}, 0),
        OSSL_PARAM_construct_end(),
    };
    if (EVP_MAC_CTX_set_params(mac, params) != 1)
        return TICKET_ERROR;
    int rc = encrypts ? EVP_EncryptInit_ex2(cipher, tickets->cipher, key->aes, iv, NULL)
                      : EVP_DecryptInit_ex2(cipher, tickets->cipher, key->aes, iv, NULL);
    return rc == 1 ? TICKET_GOOD : TICKET_ERROR;
}

static int ticket_key(SSL *ssl, unsigned char name[16], unsigned char *iv, EVP_CIPHER_CTX *cipher,
                      EVP_MAC_CTX *mac, int encrypts) {
    const struct tls *tls = SSL_get_app_data(ssl);
    struct tls_tickets *tickets = tls->context->tickets;
    struct ticket_key key;
    int found = find(tickets, encrypts ? NULL : name, &key);
    if (found < 0)
        return TICKET_UNKNOWN;
    if (encrypts) {
        memcpy(name, key.name, sizeof key.name);
        if (RAND_bytes(iv, EVP_CIPHER_get_iv_length(tickets->cipher)) != 1)
            return TICKET_ERROR;
    }
    int rc = set_keys(tickets, &key, iv, cipher, mac, encrypts);
    OPENSSL_cleanse(&key, sizeof key);
    /* A TLS 1.3 client uses a ticket once. */
    bool renews = found > 0 || (!encrypts && SSL_version(ssl) >= TLS1_3_VERSION);
    return rc == TICKET_GOOD && renews ? TICKET_RENEW : rc;
}

void tls_tickets_use(SSL_CTX *ctx) {
    (void)SSL_CTX_set_tlsext_ticket_key_evp_cb(ctx, ticket_key); /* a macro that always is 1 */
}
