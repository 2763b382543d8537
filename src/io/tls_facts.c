/* tls_facts: what a connection is, for logs and headers. All of it is asked of OpenSSL when somebody wants it. */
#include <openssl/err.h>
#include <openssl/pem.h>
#include <stdlib.h>
#include <string.h>

#include "io/tls_internal.h"

/* NULL: another transport, or none. */
static struct tls *tls_if(const struct socket *socket) {
    return socket->transport && socket->transport->itab == &tls_transport ? tls_of(socket) : NULL;
}

static struct span group_name(SSL *ssl) {
    static const struct {
        int nid;
        struct span name;
    } known[] = {
        {NID_X25519, SPAN_INIT("X25519")},   {NID_X9_62_prime256v1, SPAN_INIT("P-256")},
        {NID_secp384r1, SPAN_INIT("P-384")}, {NID_secp521r1, SPAN_INIT("P-521")},
        {NID_X448, SPAN_INIT("X448")},
    };
    int nid = (int)SSL_get_negotiated_group(ssl);
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (known[i].nid == nid)
            return known[i].name;
    return span_none();
}

/* IANA's names, of what a peer signs with. */
static struct span signature_name(SSL *ssl) {
    static const struct {
        int type, digest;
        struct span name;
    } known[] = {
        {EVP_PKEY_EC, NID_sha256, SPAN_INIT("ecdsa_secp256r1_sha256")},
        {EVP_PKEY_EC, NID_sha384, SPAN_INIT("ecdsa_secp384r1_sha384")},
        {EVP_PKEY_EC, NID_sha512, SPAN_INIT("ecdsa_secp521r1_sha512")},
        {EVP_PKEY_EC, NID_sha1, SPAN_INIT("ecdsa_sha1")},
        {EVP_PKEY_RSA_PSS, NID_sha256, SPAN_INIT("rsa_pss_rsae_sha256")},
        {EVP_PKEY_RSA_PSS, NID_sha384, SPAN_INIT("rsa_pss_rsae_sha384")},
        {EVP_PKEY_RSA_PSS, NID_sha512, SPAN_INIT("rsa_pss_rsae_sha512")},
        {EVP_PKEY_RSA, NID_sha256, SPAN_INIT("rsa_pkcs1_sha256")},
        {EVP_PKEY_RSA, NID_sha384, SPAN_INIT("rsa_pkcs1_sha384")},
        {EVP_PKEY_RSA, NID_sha512, SPAN_INIT("rsa_pkcs1_sha512")},
        {EVP_PKEY_RSA, NID_sha1, SPAN_INIT("rsa_pkcs1_sha1")},
        {EVP_PKEY_ED25519, NID_undef, SPAN_INIT("ed25519")},
    };
    int type = NID_undef, digest = NID_undef;
    if (SSL_get_peer_signature_type_nid(ssl, &type) != 1)
        return span_none();
    (void)SSL_get_peer_signature_nid(ssl, &digest); /* there is none with Ed25519 */
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (known[i].type == type && known[i].digest == digest)
            return known[i].name;
    return span_none();
}

static bool vouches(const struct tls_verifier *verifier) {
    return verifier->verifies_chain || verifier->hash_count || verifier->spki_count;
}

NOINLINE bool tls_facts(const struct socket *socket, struct tls_facts *out) {
    const struct tls *tls = tls_if(socket);
    if (!tls)
        return false;
    SSL *ssl = tls->ssl;
    const SSL_CIPHER *cipher = SSL_get_current_cipher(ssl);
    const unsigned char *alpn;
    unsigned alpn_len;
    SSL_get0_alpn_selected(ssl, &alpn, &alpn_len);
    bool resumed = SSL_session_reused(ssl);
    bool has_peer = SSL_get0_peer_certificate(ssl) != NULL;
    *out = (struct tls_facts){
        .version = span_of(SSL_get_version(ssl)),
        .cipher = span_of(cipher ? SSL_CIPHER_get_name(cipher) : NULL),
        .cipher_id = cipher ? SSL_CIPHER_get_protocol_id(cipher) : 0,
        .group = group_name(ssl),
        .signature = signature_name(ssl),
        .alpn = span_make(alpn, alpn_len),
        .server_name = span_of(SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name)),
        .resumed = resumed,
        .has_peer_certificate = has_peer,
        .peer_verified = has_peer && vouches(&tls->context->verifier) &&
                         SSL_get_verify_result(ssl) == X509_V_OK, /* the session's, if resumed */
    };
    ERR_clear_error();
    return true;
}

NOINLINE size_t tls_session_id(const struct socket *socket, char out[64]) {
    const struct tls *tls = tls_if(socket);
    const SSL_SESSION *session = tls ? SSL_get_session(tls->ssl) : NULL;
    unsigned size = 0;
    const unsigned char *id = session ? SSL_SESSION_get_id(session, &size) : NULL;
    return span_put_hex(out, id, size < 32 ? size : 32);
}

static const struct tls_identity *identity_once(struct tls_identity **kept, X509 *certificate) {
    if (*kept || !certificate)
        return *kept;
    *kept = malloc(sizeof **kept);
    if (*kept && !tls_identity_init(*kept, certificate)) {
        free(*kept);
        *kept = NULL;
    }
    return *kept;
}

NOINLINE const struct tls_identity *tls_peer_identity(struct socket *socket) {
    struct tls *tls = tls_if(socket);
    return tls ? identity_once(&tls->peer, SSL_get0_peer_certificate(tls->ssl)) : NULL;
}

NOINLINE const struct tls_identity *tls_local_identity(struct socket *socket) {
    struct tls *tls = tls_if(socket);
    return tls ? identity_once(&tls->local, SSL_get_certificate(tls->ssl)) : NULL;
}

/* ---- PEM ---- */

/* As Envoy does: all but unreserved characters (RFC 3986). */
static char *percent_encoded(struct span text) {
    static const char digits[] = "0123456789ABCDEF";
    char *out = malloc(3 * text.len + 1), *at = out;
    if (!out)
        return NULL;
    for (size_t i = 0; i < text.len; i++) {
        unsigned char c = (unsigned char)text.ptr[i];
        if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
            c == '-' || c == '_' || c == '.' || c == '~') {
            *at++ = (char)c;
        } else {
            *at++ = '%';
            *at++ = digits[c >> 4];
            *at++ = digits[c & 15];
        }
    }
    *at = '\0';
    return out;
}

/* Of the leaf, and then those of the chain that are not it: what a client has of its server begins with it. */
static char *pem_of(X509 *leaf, const STACK_OF(X509) * chain) {
    BIO *text = BIO_new(BIO_s_mem());
    char *bytes, *out = NULL;
    if (text && PEM_write_bio_X509(text, leaf) == 1) {
        for (int i = 0; chain && i < sk_X509_num(chain); i++)
            if (X509_cmp(sk_X509_value(chain, i), leaf) != 0)
                (void)PEM_write_bio_X509(text, sk_X509_value(chain, i));
        size_t size = (size_t)BIO_get_mem_data(text, &bytes);
        out = percent_encoded(span_make(bytes, size));
    }
    BIO_free(text);
    ERR_clear_error();
    return out;
}

static struct span pem_once(struct tls *tls, char **kept, bool with_chain) {
    X509 *leaf = SSL_get0_peer_certificate(tls->ssl);
    if (!*kept && leaf)
        *kept = pem_of(leaf, with_chain ? SSL_get_peer_cert_chain(tls->ssl) : NULL);
    return span_of(*kept);
}

NOINLINE struct span tls_peer_pem(struct socket *socket) {
    struct tls *tls = tls_if(socket);
    return tls ? pem_once(tls, &tls->peer_pem, false) : span_none();
}

NOINLINE struct span tls_peer_chain_pem(struct socket *socket) {
    struct tls *tls = tls_if(socket);
    return tls ? pem_once(tls, &tls->chain_pem, true) : span_none();
}

const char *tls_failure_text(const struct socket *socket) {
    const struct tls *tls = tls_if(socket);
    return tls && tls->failure ? tls->failure : "";
}
