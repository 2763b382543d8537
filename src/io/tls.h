/* tls: TLS on a socket, both ways: a handshake, and from then on the socket's bytes are those inside.
 *
 *     tls_context_new (once per config) ─► tls_accept / tls_connect (per connection) ─► socket_receive, ...
 *
 * Ownership  A context is counted and does not change; a connection holds a lease, so one that has been replaced
 *            lives as long as its last connection. Spans in options are borrowed until the call returns. What
 *            tls_accept and tls_connect make belongs to the socket and goes with socket_close.
 * Threads    Contexts: any thread, to build, lease and ask; building reads and checks keys, which takes a
 *            while: not on a P. Connections: the socket's P.
 * Parks      tls_accept and tls_connect, in the socket, or in blocking_call when the context wants its
 *            private keys used there. Nothing else.
 * Errors     Of the handshake: those of socket.h, -ENOMEM, -EPROTO: they do not come to terms, and
 *            -ECONNRESET: the peer went away; *fault says more. The socket is then of no more use
 *            than to be closed. Afterwards what a socket's functions say: -EPROTO (the peer broke the
 *            protocol, or sent an alert: tls_failure_text), and -ECONNRESET where the wire ends in the
 *            middle of a record. 0 is an end: by close_notify, behind which all is ignored, or by a wire that ends
 *            between two records, which is what many peers do and what an attacker can. Whoever has nothing but
 *            the end to tell that he has everything asks transport.truncated (transport.h) which of them it was.
 * Closing    socket_shutdown and socket_close send close_notify. Each direction ends by itself.
 * Counts     socket.rx_bytes and tx_bytes are the bytes inside (as Envoy counts). */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/check.h"
#include "base/span.h"
#include "io/address.h"
#include "io/inbuf.h"

struct socket;
struct statistic;
struct tls_context;
struct tls_session_cache;
struct tls_tickets;

enum {
    TLS_ERROR_MAX = 512, /* text of an error, with its NUL */
    TLS_HASH_SIZE = 32,  /* SHA-256 */
    TLS_TICKET_KEY_SIZE = 80,
    TLS_TICKET_KEYS_MAX = 16,
    TLS_CERTIFICATES_MAX = 1024,
    TLS_ALPN_MAX = 255,    /* bytes of all names with their lengths */
    TLS_SESSIONS_MAX = 64, /* kept by a client's context */
    TLS_SESSION_CACHE_BYTES =
        4 << 20 /* for over ten thousand sessions without clients' certificates */
};

/* ---- Certificates, as facts ---- */

enum tls_san_type { TLS_SAN_EMAIL = 1, TLS_SAN_DNS = 2, TLS_SAN_URI = 3, TLS_SAN_IP = 4 };
struct tls_san {
    enum tls_san_type type;
    struct span value; /* an IP as text */
};
/* What a certificate says. Spans borrow from whoever lent the struct. */
struct tls_identity {
    struct span subject, issuer; /* RFC 2253 */
    struct span serial;          /* lower-case hex, as all of these */
    struct span sha1, sha256;
    int64_t not_before_s, not_after_s; /* Unix time */
    const struct tls_san *sans;
    size_t san_count;
};

/* ---- Contexts ---- */

struct tls_certificate {
    struct span chain, key, password; /* PEM; the leaf first */
    struct span chain_name, key_name; /* for errors: file names, or what they are called else */
};

/* Whether a peer with these alternative names is welcome. Any thread; must not park. */
typedef bool (*tls_match_fn)(void *arg, const struct tls_san *sans, size_t count);

struct tls_validation {
    struct span ca, ca_name;   /* PEM, any number; absent: chains are not verified */
    struct span crl, crl_name; /* PEM; absent: none */
    bool only_leaf_crl;
    bool allow_expired;
    bool accept_untrusted; /* the chain is looked at, and may be bad; see tls_facts.peer_verified */
    unsigned max_depth;    /* 0: 100 */
    /* The peer's certificate must be one of these; either kind will do. */
    const uint8_t (*hashes)[TLS_HASH_SIZE], (*spkis)[TLS_HASH_SIZE]; /* of DER */
    size_t hash_count, spki_count;
    tls_match_fn match; /* NULL: all names are welcome */
    void *match_arg;    /* kept by the context */
    struct span
        match_text; /* whatever tells this matcher from others: sessions of another are not resumed */
};

enum tls_version { TLS_AUTO, TLS_1_0, TLS_1_1, TLS_1_2, TLS_1_3 };

struct tls_options {
    bool is_server;
    /* A server needs one at least; a client has one at most. Of one name there may be an RSA and an ECDSA
     * one; the first certificate (and the first of the other kind) is for all names that none has. */
    const struct tls_certificate *certificates;
    size_t certificate_count;
    const struct tls_validation
        *validation;               /* NULL: the peer is not asked (server), or not checked */
    bool require_peer_certificate; /* server */
    enum tls_version min_version, max_version;                  /* auto: 1.2, 1.3 */
    const struct span *ciphers, *curves, *signature_algorithms; /* NULL: good ones */
    size_t cipher_count, curve_count, signature_algorithm_count;
    const struct span *alpn; /* most wanted first */
    size_t alpn_count;
    bool prefer_client_ciphers;
    bool blocking_keys; /* handshakes of a server run in blocking_call: for keys that take long */
    /* Server: resumption by ticket, and by id (TLS 1.2). NULL: none. Leased. */
    struct tls_tickets *tickets;
    struct tls_session_cache *session_cache;
    uint32_t session_timeout_s; /* 0: 7200 */
    /* Client: how many sessions it keeps for resumption; 0: none. */
    unsigned max_sessions;
    /* Secrets of connections, for debugging, in NSS format, appended to the file. NULL: none. */
    const char *key_log_path;
    /* Counts ends without close_notify. NULL: nothing does. */
    const struct statistic *truncated;
    /* NULL: of all. On the connection's P. */
    bool (*key_log_wanted)(void *arg, const struct address *local, const struct address *remote);
    void *key_log_arg; /* kept by the context */
    /* Runs when the context is freed, on whichever thread: for match_arg and key_log_arg. May be NULL. */
    void (*on_free)(void *arg);
    void *on_free_arg;
};

/* NULL: error says what is wrong and what would be right. */
MUST_CHECK struct tls_context *tls_context_new(const struct tls_options *options,
                                               char error[TLS_ERROR_MAX]);
struct tls_context *tls_context_ref(struct tls_context *context);
void tls_context_unref(struct tls_context *context);
/* Its own certificates, in the order of the options; borrowed from the context. */
const struct tls_identity *tls_context_certificates(const struct tls_context *context,
                                                    size_t *count);
/* Those it trusts. */
const struct tls_identity *tls_context_authorities(const struct tls_context *context,
                                                   size_t *count);

/* Keys of session tickets. With keys of the config (TLS_TICKET_KEY_SIZE bytes each, as Envoy's: name, HMAC key,
 * AES key) the first encrypts and all decrypt. Without (count 0) they are made, and replaced now and
 * then. Contexts that share one resume each other's sessions, if they ask the same of a peer. NULL:
 * memory is short, or no randomness to be had. */
MUST_CHECK struct tls_tickets *tls_tickets_new(const struct span *keys, size_t count);
struct tls_tickets *tls_tickets_ref(struct tls_tickets *tickets);
void tls_tickets_unref(struct tls_tickets *tickets);
/* Makes a new key now, if its keys are of its own making; the one before it still decrypts. */
void tls_tickets_rotate(struct tls_tickets *tickets);

/* What a server keeps of sessions of TLS 1.2 whose clients take no tickets: so many bytes at most, of all contexts that
 * share one. They resume each other's sessions, if they ask the same of a peer. NULL: memory is short. */
MUST_CHECK struct tls_session_cache *tls_session_cache_new(size_t bytes_max);
struct tls_session_cache *tls_session_cache_ref(struct tls_session_cache *cache);
void tls_session_cache_unref(struct tls_session_cache *cache);

/* ---- Connections ---- */

enum tls_fault_kind { /* as Envoy counts them */
                      TLS_FAULT_NONE,
                      TLS_FAULT_SOCKET, /* the peer or the network went away, or it took too long */
                      TLS_FAULT_PROTOCOL,       /* ssl.connection_error */
                      TLS_FAULT_NO_CERTIFICATE, /* ssl.fail_verify_no_cert */
                      TLS_FAULT_VERIFY,         /* ssl.fail_verify_error */
                      TLS_FAULT_SAN,            /* ssl.fail_verify_san */
                      TLS_FAULT_HASH,           /* ssl.fail_verify_cert_hash */
};
struct tls_fault {
    enum tls_fault_kind kind;
    char text[TLS_ERROR_MAX]; /* as %DOWNSTREAM_TRANSPORT_FAILURE_REASON% has it; may be "" */
};

/* A client speaks to us. in: what was received of it already, and room for the handshake; empty afterwards. */
MUST_CHECK int tls_accept(struct socket *socket, struct tls_context *context, struct inbuf *in,
                          int64_t deadline_ns, struct tls_fault *fault);

struct tls_peer {
    struct span server_name; /* SNI; absent: none */
    struct span
        verify_name;  /* a DNS name, or an IP, that the certificate must be for; absent: any */
    struct span alpn; /* one name instead of the context's; absent: those */
};
/* We speak to a server, first. in: room, empty before and afterwards. */
MUST_CHECK int tls_connect(struct socket *socket, struct tls_context *context,
                           const struct tls_peer *peer, struct inbuf *in, int64_t deadline_ns,
                           struct tls_fault *fault);

struct tls_facts {
    struct span version;   /* "TLSv1.3" */
    struct span cipher;    /* OpenSSL's name */
    uint16_t cipher_id;    /* IANA's */
    struct span group;     /* key exchange: "x25519"; absent: none */
    struct span signature; /* the peer's, "ecdsa_secp256r1_sha256"; absent: none */
    struct span alpn;
    struct span server_name;
    bool resumed;
    bool has_peer_certificate;
    bool peer_verified; /* and it is good, or was when the session began */
};
/* False: the socket has no TLS. Spans are borrowed until the socket is closed. */
bool tls_facts(const struct socket *socket, struct tls_facts *out);
/* Hex of up to 32 bytes; its length. */
size_t tls_session_id(const struct socket *socket, char out[64]);
/* NULL: no TLS, no certificate, or no memory. Made at the first call; borrowed until the socket is closed. */
const struct tls_identity *tls_peer_identity(struct socket *socket);
const struct tls_identity *tls_local_identity(struct socket *socket);
/* The peer's certificate as PEM, and with all that it sent behind it, percent-encoded as x-forwarded-client-cert
 * wants it. Absent as above; a resumed session has no chain, only the certificate. Made and borrowed as above. */
struct span tls_peer_pem(struct socket *socket);
struct span tls_peer_chain_pem(struct socket *socket);
/* Why the socket's functions say -EPROTO or -ECONNRESET; "" when they do not. Borrowed as above. */
const char *tls_failure_text(const struct socket *socket);
