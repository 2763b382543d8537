/* tls_internal: what the files of tls share. OpenSSL's headers are included by these alone. */
#pragma once
#include <openssl/ssl.h>
#include <pthread.h>
#include <stdatomic.h>

#include "io/socket_raw.h"
#include "io/tls.h"

/* ---- tls_error.c: OpenSSL's queue of errors is the thread's, so it is emptied where it was filled ---- */

/* Takes all of the queue: "TLS_error:|code:library:OPENSSL_internal:REASON:TLS_error_end", "" when it is empty. */
void tls_error_take(char out[TLS_ERROR_MAX]);
/* The first error's reason in words, takes all. */
const char *tls_error_reason(void);
PRINTF_LIKE(2, 3) void tls_error_say(char out[TLS_ERROR_MAX], const char *format, ...);

/* ---- tls_certificate.c ---- */

/* What it points to is one piece of memory, freed by tls_identity_fini. False: no memory, or not readable. */
MUST_CHECK bool tls_identity_init(struct tls_identity *identity, X509 *certificate);
void tls_identity_fini(struct tls_identity *identity);
/* Its names; *out is freed with tls_sans_free. False: no memory. */
struct tls_sans {
    struct tls_san *sans;
    size_t count;
    void *memory;
};
MUST_CHECK bool tls_sans_read(X509 *certificate, struct tls_sans *out);
void tls_sans_free(struct tls_sans *sans);

struct tls_key_pair {
    X509 *leaf;
    STACK_OF(X509) * chain; /* without the leaf; may be NULL */
    EVP_PKEY *key;
};
MUST_CHECK bool tls_key_pair_read(const struct tls_certificate *from, struct tls_key_pair *out,
                                  char error[TLS_ERROR_MAX]);
void tls_key_pair_free(struct tls_key_pair *pair);
/* All certificates of a PEM text. NULL: error says why. */
MUST_CHECK STACK_OF(X509) *
    tls_certificates_read(struct span pem, struct span name, char error[TLS_ERROR_MAX]);

/* ---- tls_select.c: which certificate for which name ---- */

struct tls_name_entry {
    struct span name; /* lower case; of a wildcard what is behind the "*" */
    bool is_wildcard;
    SSL_CTX *ctx; /* leased */
};
struct tls_names {
    struct tls_name_entry *entries; /* sorted */
    size_t count;
};
/* Sorts; of equal names the one that came first stays. */
void tls_names_sort(struct tls_names *names);
/* NULL: none has it. */
SSL_CTX *tls_names_find(const struct tls_names *names, const char *server_name);
void tls_names_free(struct tls_names *names);

/* ---- tls_verify.c ---- */

struct tls_verifier {
    bool verifies_chain; /* there is a CA */
    bool accept_untrusted;
    uint8_t (*hashes)[TLS_HASH_SIZE];
    uint8_t (*spkis)[TLS_HASH_SIZE];
    size_t hash_count, spki_count;
    tls_match_fn match;
    void *match_arg;
};
/* ctx, with what the options want of a peer; digest gets all of that. False: error says why. */
MUST_CHECK bool tls_verifier_init(struct tls_context *context, SSL_CTX *ctx,
                                  const struct tls_options *options, EVP_MD_CTX *digest,
                                  char error[TLS_ERROR_MAX]);
/* Of another ctx of the same context: but for the store. */
void tls_verifier_use(struct tls_context *context, SSL_CTX *ctx, const struct tls_options *options);
void tls_verifier_fini(struct tls_verifier *verifier);

/* ---- tls_tickets.c, tls_session_cache.c, tls_sessions.c ---- */

void tls_tickets_use(SSL_CTX *ctx);
/* Kept by ctx, whose context has a lease of it. */
void tls_session_cache_use(struct tls_session_cache *cache, SSL_CTX *ctx);

struct tls;
struct tls_sessions { /* of a client's context; the last at the end */
    pthread_mutex_t lock;
    unsigned count, max;
    struct {
        SSL_SESSION *session;
        char *key; /* server name and verified name */
    } kept[TLS_SESSIONS_MAX];
};
void tls_sessions_init(struct tls_sessions *sessions, unsigned max);
void tls_sessions_fini(struct tls_sessions *sessions);
void tls_sessions_use(SSL_CTX *ctx);
/* After a handshake: OpenSSL does not tell of a new ticket that came with the resumption of an old session. */
void tls_sessions_renew(struct tls *tls);
/* Owned by the caller; NULL: none. */
SSL_SESSION *tls_sessions_take(struct tls_sessions *sessions, const char *key);

/* ---- tls_context.c ---- */

struct tls_context {
    _Atomic unsigned leases;
    bool is_server, blocking_keys;
    bool
        takes_long; /* a step of a handshake may, by its keys, its curves or what it has to verify */
    SSL_CTX *ctx;   /* with the default certificates */
    struct tls_names names;
    struct tls_verifier verifier;
    struct tls_tickets *tickets;             /* leased, as the next; may be NULL */
    struct tls_session_cache *session_cache; /* may be NULL */
    struct tls_sessions sessions;
    unsigned char alpn[TLS_ALPN_MAX];
    unsigned alpn_size;
    int key_log_fd; /* -1: none */
    bool (*key_log_wanted)(void *arg, const struct address *local, const struct address *remote);
    void *key_log_arg;
    const struct statistic *truncated; /* may be NULL */
    struct tls_identity *certificates, *authorities;
    size_t certificate_count, authority_count;
    void (*on_free)(void *arg);
    void *on_free_arg;
};

/* ---- tls.c: a connection ---- */

enum tls_rx { TLS_RX_OPEN, TLS_RX_END, TLS_RX_FAILED };

struct tls {
    struct transport transport;
    SSL *ssl;
    struct socket *socket;
    struct tls_context *context;
    uint8_t rx; /* enum tls_rx */
    bool handshaking, sent_end, tx_failed, logs_keys, raw_ended;
    bool had_many; /* the one recv of a receive of `many` is done */
    bool direct;   /* what OpenSSL writes goes to the kernel at once: nothing else waits to */
    enum tls_fault_kind verify_fault;
    int raw_error; /* of the wire */
    int error;     /* of the connection, for good */
    /* Of the wire, before what is in the kernel: during the handshake borrowed from the inbuf, else `early`. */
    struct span fed;
    char *early; /* malloc'ed */
    /* For the wire, what the kernel did not take yet. */
    char *unsent; /* malloc'ed */
    size_t unsent_at, unsent_size, unsent_room;
    /* During a receive into much room: how much of the wire it takes at once, into room of the P's. */
    size_t many;
    struct tls_out *out; /* of the P, while something is written into it */
    char *verify_name;   /* NULL: any */
    char *session_key;   /* of a client: what its sessions are good for */
    char *failure;       /* malloc'ed; NULL: none */
    /* Made when asked for. */
    struct tls_identity *peer, *local; /* malloc'ed */
    char *peer_pem, *chain_pem;
};

static inline struct tls *tls_of(const struct socket *socket) {
    return (struct tls *)(void *)socket->transport;
}
extern const struct transport_itab tls_transport;
/* NULL: no memory. The socket has no transport yet. */
MUST_CHECK struct tls *tls_new(struct socket *socket, struct tls_context *context);
void tls_free(struct tls *tls);
/* 0 or -ENOMEM. */
MUST_CHECK int tls_keep_unsent(struct tls *tls, const char *bytes, size_t size);
