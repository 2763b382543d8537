/* tls_verify: whether a peer's certificate will do, in Envoy's order: the chain, then the alternative names, then the
 * hashes. What was wrong is left in the connection (verify_fault), because OpenSSL's own error only says that
 * something was.
 *
 * A resumed session is not verified again, so one is good only where the same would be asked: all of what is asked
 * goes into the session id context (digest), and a client also looks at the name (tls_handshake.c). */
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdlib.h>
#include <string.h>

#include "io/tls_internal.h"

enum { DEPTH_DEFAULT = 100 };

static bool hash_is_among(const unsigned char *hash, uint8_t (*all)[TLS_HASH_SIZE], size_t count) {
    for (size_t i = 0; i < count; i++)
        if (memcmp(hash, all[i], TLS_HASH_SIZE) == 0)
            return true;
    return false;
}

static bool is_pinned(const struct tls_verifier *verifier, X509 *leaf) {
    unsigned char hash[EVP_MAX_MD_SIZE];
    unsigned size;
    if (verifier->hash_count && X509_digest(leaf, EVP_sha256(), hash, &size) == 1 &&
        hash_is_among(hash, verifier->hashes, verifier->hash_count))
        return true;
    if (!verifier->spki_count)
        return false;
    unsigned char *der = NULL;
    int der_size = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(leaf), &der);
    bool is = der_size > 0 &&
              EVP_Digest(der, (size_t)der_size, hash, &size, EVP_sha256(), NULL) == 1 &&
              hash_is_among(hash, verifier->spkis, verifier->spki_count);
    OPENSSL_free(der);
    return is;
}

static bool is_for(X509 *leaf, const char *name) {
    return X509_check_host(leaf, name, 0, 0, NULL) == 1 || X509_check_ip_asc(leaf, name, 0) == 1;
}

static bool names_match(const struct tls_verifier *verifier, const struct tls *tls, X509 *leaf) {
    if (tls->verify_name && !is_for(leaf, tls->verify_name))
        return false;
    if (!verifier->match)
        return true;
    struct tls_sans sans;
    if (!tls_sans_read(leaf, &sans))
        return false;
    bool matches = verifier->match(verifier->match_arg, sans.sans, sans.count);
    tls_sans_free(&sans);
    return matches;
}

static int refuse(struct tls *tls, X509_STORE_CTX *store, enum tls_fault_kind kind, int error) {
    tls->verify_fault = kind;
    if (error != X509_V_OK)
        X509_STORE_CTX_set_error(store, error);
    return 0;
}

/* Any thread. */
static int verify(X509_STORE_CTX *store, void *arg) {
    const struct tls_context *context = arg;
    const struct tls_verifier *verifier = &context->verifier;
    SSL *ssl = X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx());
    struct tls *tls = SSL_get_app_data(ssl);
    X509 *leaf = X509_STORE_CTX_get0_cert(store);
    bool chain_is_good = verifier->verifies_chain && X509_verify_cert(store) == 1;
    if (verifier->verifies_chain && !chain_is_good && !verifier->accept_untrusted)
        return refuse(tls, store, TLS_FAULT_VERIFY, X509_V_OK); /* it said what is wrong */
    if (!names_match(verifier, tls, leaf))
        return refuse(tls, store, TLS_FAULT_SAN, X509_V_ERR_APPLICATION_VERIFICATION);
    bool pins = verifier->hash_count || verifier->spki_count;
    if (pins && !is_pinned(verifier, leaf))
        return refuse(tls, store, TLS_FAULT_HASH, X509_V_ERR_APPLICATION_VERIFICATION);
    ERR_clear_error(); /* of a chain that may be bad; the session remembers that it was */
    if (!verifier->verifies_chain)
        X509_STORE_CTX_set_error(store, X509_V_OK);
    return 1;
}

/* ---- Building ---- */

static bool add_authorities(struct tls_context *context, SSL_CTX *ctx,
                            const struct tls_validation *from, char error[TLS_ERROR_MAX]) {
    STACK_OF(X509) *all = tls_certificates_read(from->ca, from->ca_name, error);
    if (!all)
        return false;
    X509_STORE *store = SSL_CTX_get_cert_store(ctx);
    size_t count = (size_t)sk_X509_num(all);
    bool good = true;
    context->authorities = calloc(count, sizeof context->authorities[0]);
    for (size_t i = 0; good && i < count; i++) {
        X509 *one = sk_X509_value(all, (int)i);
        good = context->authorities && X509_STORE_add_cert(store, one) == 1 &&
               tls_identity_init(&context->authorities[i], one) &&
               (!context->is_server || SSL_CTX_add_client_CA(ctx, one) == 1);
        context->authority_count += good;
    }
    if (!good)
        tls_error_say(error, "%.*s: %s", (int)from->ca_name.len, from->ca_name.ptr,
                      tls_error_reason());
    sk_X509_pop_free(all, X509_free);
    return good;
}

static bool add_revocations(SSL_CTX *ctx, const struct tls_validation *from,
                            char error[TLS_ERROR_MAX]) {
    X509_STORE *store = SSL_CTX_get_cert_store(ctx);
    BIO *text = BIO_new_mem_buf(from->crl.ptr, (int)from->crl.len);
    X509_CRL *crl;
    unsigned count = 0;
    ERR_clear_error();
    while (text && (crl = PEM_read_bio_X509_CRL(text, NULL, NULL, NULL))) {
        count += X509_STORE_add_crl(store, crl) == 1;
        X509_CRL_free(crl);
    }
    bool whole = ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE;
    BIO_free(text);
    if (count == 0 || !whole)
        tls_error_say(error,
                      "%.*s: no list of revoked certificates that can be read (%s): give PEM with "
                      "lines \"-----BEGIN X509 CRL-----\"",
                      (int)from->crl_name.len, from->crl_name.ptr,
                      whole ? "no such line" : tls_error_reason());
    ERR_clear_error();
    X509_STORE_set_flags(store, X509_V_FLAG_CRL_CHECK |
                                    (from->only_leaf_crl ? 0 : X509_V_FLAG_CRL_CHECK_ALL));
    return count && whole;
}

static bool copy_hashes(const uint8_t (*from)[TLS_HASH_SIZE], size_t count,
                        uint8_t (**out)[TLS_HASH_SIZE], size_t *out_count) {
    if (count == 0)
        return true;
    *out = malloc(count * TLS_HASH_SIZE);
    if (!*out)
        return false;
    memcpy(*out, from, count * TLS_HASH_SIZE);
    *out_count = count;
    return true;
}

static void digest_bytes(EVP_MD_CTX *digest, const void *bytes, size_t size) {
    uint64_t count = size; /* so that what moves from one to the next is not the same */
    (void)EVP_DigestUpdate(digest, &count, sizeof count);
    (void)EVP_DigestUpdate(digest, bytes, size);
}

static void digest_all(EVP_MD_CTX *digest, const struct tls_options *options,
                       const struct tls_validation *from) {
    unsigned char flags[] = {options->require_peer_certificate, from->only_leaf_crl,
                             from->allow_expired, from->accept_untrusted, from->match != NULL};
    digest_bytes(digest, flags, sizeof flags);
    digest_bytes(digest, &from->max_depth, sizeof from->max_depth);
    digest_bytes(digest, from->ca.ptr, from->ca.len);
    digest_bytes(digest, from->crl.ptr, from->crl.len);
    digest_bytes(digest, from->hashes, from->hash_count * TLS_HASH_SIZE);
    digest_bytes(digest, from->spkis, from->spki_count * TLS_HASH_SIZE);
    digest_bytes(digest, from->match_text.ptr, from->match_text.len);
}

void tls_verifier_use(struct tls_context *context, SSL_CTX *ctx,
                      const struct tls_options *options) {
    const struct tls_validation *from = options->validation;
    int mode = from ? SSL_VERIFY_PEER : SSL_VERIFY_NONE;
    if (options->is_server && options->require_peer_certificate)
        mode = SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT;
    SSL_CTX_set_verify(ctx, mode, NULL);
    SSL_CTX_set_verify_depth(ctx, from && from->max_depth ? (int)from->max_depth : DEPTH_DEFAULT);
    SSL_CTX_set_cert_verify_callback(ctx, verify, context);
}

bool tls_verifier_init(struct tls_context *context, SSL_CTX *ctx, const struct tls_options *options,
                       EVP_MD_CTX *digest, char error[TLS_ERROR_MAX]) {
    static const struct tls_validation nothing;
    const struct tls_validation *from = options->validation ? options->validation : &nothing;
    struct tls_verifier *verifier = &context->verifier;
    digest_all(digest, options, from);
    tls_verifier_use(context, ctx, options);
    if (SSL_CTX_get_verify_mode(ctx) == SSL_VERIFY_NONE)
        return true;
    verifier->verifies_chain = from->ca.len != 0;
    verifier->accept_untrusted = from->accept_untrusted;
    verifier->match = from->match;
    verifier->match_arg = from->match_arg;
    if (!copy_hashes(from->hashes, from->hash_count, &verifier->hashes, &verifier->hash_count) ||
        !copy_hashes(from->spkis, from->spki_count, &verifier->spkis, &verifier->spki_count)) {
        tls_error_say(error, "out of memory");
        return false;
    }
    X509_STORE_set_flags(SSL_CTX_get_cert_store(ctx),
                         X509_V_FLAG_PARTIAL_CHAIN |
                             (from->allow_expired ? X509_V_FLAG_NO_CHECK_TIME : 0));
    if (from->ca.len && !add_authorities(context, ctx, from, error))
        return false;
    return from->crl.len == 0 || add_revocations(ctx, from, error);
}

void tls_verifier_fini(struct tls_verifier *verifier) {
    free(verifier->hashes);
    free(verifier->spkis);
}
