/* tls_certs: certificates and keys for tests, made anew by each program that includes this (once, in one file). */
#pragma once
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <string.h>

#include "base/span.h"
#include "io/tls.h"

enum { CERT_TEXT_MAX = 4096 };

/* Who signs, or is signed. */
struct cert {
    X509 *x509;
    EVP_PKEY *key;
    char pem[CERT_TEXT_MAX], key_pem[CERT_TEXT_MAX];
};

struct cert_wish {
    const char *common_name;
    const char *names;         /* as in openssl.cnf: "DNS:a.test,IP:1.2.3.4"; NULL: none */
    const struct cert *issuer; /* NULL: signs itself, and may sign others */
    bool rsa, expired;
    const char *password; /* of the key; NULL: none */
};

static inline void cert_check(bool good, int line) {
    if (good)
        return;
    fprintf(stderr, "tls_certs.h:%d: OpenSSL does not do it\n", line);
    abort();
}
#define CERT_CHECK(condition) cert_check(condition, __LINE__)

static inline void cert_text(BIO *from, char to[CERT_TEXT_MAX]) {
    char *bytes;
    long size = BIO_get_mem_data(from, &bytes);
    CERT_CHECK(size > 0 && size < CERT_TEXT_MAX);
    memcpy(to, bytes, (size_t)size);
    to[size] = '\0';
    BIO_free(from);
}

static inline void cert_extend(X509 *x509, X509 *issuer, int what, const char *value) {
    X509V3_CTX context;
    X509V3_set_ctx_nodb(&context);
    X509V3_set_ctx(&context, issuer, x509, NULL, NULL, 0);
    X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, &context, what, value);
    CERT_CHECK(extension != NULL);
    CERT_CHECK(X509_add_ext(x509, extension, -1) == 1);
    X509_EXTENSION_free(extension);
}

static inline void cert_make(struct cert *out, struct cert_wish wish) {
    static long serial = 0x1234;
    out->key = wish.rsa ? EVP_RSA_gen(2048) : EVP_EC_gen("P-256");
    out->x509 = X509_new();
    CERT_CHECK(out->key && out->x509);
    X509 *x509 = out->x509;
    CERT_CHECK(X509_set_version(x509, X509_VERSION_3) == 1);
    CERT_CHECK(ASN1_INTEGER_set(X509_get_serialNumber(x509), serial++) == 1);
    CERT_CHECK(X509_gmtime_adj(X509_getm_notBefore(x509), -7200) != NULL);
    CERT_CHECK(X509_gmtime_adj(X509_getm_notAfter(x509), wish.expired ? -3600 : 3600) != NULL);
    CERT_CHECK(X509_set_pubkey(x509, out->key) == 1);
    X509_NAME *name = X509_get_subject_name(x509);
    CERT_CHECK(X509_NAME_add_entry_by_txt(name, "O", MBSTRING_UTF8, (const unsigned char *)"Tests",
                                          -1, -1, 0) == 1);
    CERT_CHECK(X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_UTF8,
                                          (const unsigned char *)wish.common_name, -1, -1, 0) == 1);
    const struct cert *issuer = wish.issuer ? wish.issuer : out;
    CERT_CHECK(X509_set_issuer_name(x509, X509_get_subject_name(issuer->x509)) == 1);
    if (!wish.issuer)
        cert_extend(x509, issuer->x509, NID_basic_constraints, "critical,CA:TRUE");
    if (wish.names)
        cert_extend(x509, issuer->x509, NID_subject_alt_name, wish.names);
    CERT_CHECK(X509_sign(x509, issuer->key, EVP_sha256()) > 0);
    BIO *text = BIO_new(BIO_s_mem());
    CERT_CHECK(PEM_write_bio_X509(text, x509) == 1);
    cert_text(text, out->pem);
    text = BIO_new(BIO_s_mem());
    const EVP_CIPHER *cipher = wish.password ? EVP_aes_128_cbc() : NULL;
    CERT_CHECK(
        PEM_write_bio_PrivateKey(text, out->key, cipher, (const unsigned char *)wish.password,
                                 wish.password ? (int)strlen(wish.password) : 0, NULL, NULL) == 1);
    cert_text(text, out->key_pem);
}

/* A list in which `revoked` is. */
static inline void cert_revoke(const struct cert *issuer, const struct cert *revoked,
                               char out[CERT_TEXT_MAX]) {
    X509_CRL *crl = X509_CRL_new();
    X509_REVOKED *entry = X509_REVOKED_new();
    ASN1_TIME *now = X509_gmtime_adj(NULL, -60), *next = X509_gmtime_adj(NULL, 3600);
    CERT_CHECK(X509_CRL_set_version(crl, X509_CRL_VERSION_2) == 1);
    CERT_CHECK(X509_CRL_set_issuer_name(crl, X509_get_subject_name(issuer->x509)) == 1);
    CERT_CHECK(X509_CRL_set1_lastUpdate(crl, now) == 1 && X509_CRL_set1_nextUpdate(crl, next) == 1);
    CERT_CHECK(X509_REVOKED_set_serialNumber(entry, X509_get_serialNumber(revoked->x509)) == 1);
    CERT_CHECK(X509_REVOKED_set_revocationDate(entry, now) == 1);
    CERT_CHECK(X509_CRL_add0_revoked(crl, entry) == 1);
    CERT_CHECK(X509_CRL_sign(crl, issuer->key, EVP_sha256()) > 0);
    BIO *text = BIO_new(BIO_s_mem());
    CERT_CHECK(PEM_write_bio_X509_CRL(text, crl) == 1);
    cert_text(text, out);
    ASN1_TIME_free(now);
    ASN1_TIME_free(next);
    X509_CRL_free(crl);
}

static inline void cert_free(struct cert *cert) {
    X509_free(cert->x509);
    EVP_PKEY_free(cert->key);
}

/* As a config has it. */
static inline struct tls_certificate cert_given(const struct cert *cert) {
    return (struct tls_certificate){
        .chain = span_of(cert->pem),
        .key = span_of(cert->key_pem),
        .chain_name = SPAN_LIT("chain.pem"),
        .key_name = SPAN_LIT("key.pem"),
    };
}
