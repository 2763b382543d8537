/* tls_certificate: certificates and keys out of PEM, and what a certificate says as text. */
#include <arpa/inet.h>
#include <errno.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/tls_internal.h"

/* ---- PEM ---- */

static BIO *open_text(struct span pem) {
    return pem.len > INT32_MAX ? NULL : BIO_new_mem_buf(pem.len ? pem.ptr : "", (int)pem.len);
}

static bool is_end_of_pem(void) {
    unsigned long code = ERR_peek_last_error();
    return ERR_GET_LIB(code) == ERR_LIB_PEM && ERR_GET_REASON(code) == PEM_R_NO_START_LINE;
}

/* For errors. */
#define NAMED(span) (int)(span).len, (span).len ? (span).ptr : ""

STACK_OF(X509) *
    tls_certificates_read(struct span pem, struct span name, char error[TLS_ERROR_MAX]) {
    ERR_clear_error();
    BIO *text = open_text(pem);
    STACK_OF(X509) *all = sk_X509_new_null();
    if (!text || !all) {
        tls_error_say(error, "%.*s: out of memory", NAMED(name));
        goto fail;
    }
    X509 *one;
    while ((one = PEM_read_bio_X509_AUX(text, NULL, NULL, NULL)))
        if (!sk_X509_push(all, one)) {
            X509_free(one);
            tls_error_say(error, "%.*s: out of memory", NAMED(name));
            goto fail;
        }
    if (!is_end_of_pem()) {
        tls_error_say(error,
                      "%.*s: certificate %d cannot be read (%s): give PEM, as of openssl x509",
                      NAMED(name), sk_X509_num(all) + 1, tls_error_reason());
        goto fail;
    }
    if (sk_X509_num(all) == 0) {
        tls_error_say(error,
                      "%.*s: there is no certificate in it: give PEM with a line "
                      "\"-----BEGIN CERTIFICATE-----\"",
                      NAMED(name));
        goto fail;
    }
    BIO_free(text);
    ERR_clear_error();
    return all;
fail:
    BIO_free(text);
    sk_X509_pop_free(all, X509_free);
    ERR_clear_error();
    return NULL;
}

struct password {
    struct span text;
    bool asked;
};

static int give_password(char *into, int room, int writes, void *arg) {
    struct password *password = arg;
    password->asked = true;
    if (password->text.len == 0 || password->text.len > (size_t)room)
        return -1;
    memcpy(into, password->text.ptr, password->text.len);
    return (int)password->text.len;
}

static EVP_PKEY *read_key(const struct tls_certificate *from, char error[TLS_ERROR_MAX]) {
    struct password password = {from->password, false};
    ERR_clear_error();
    BIO *text = open_text(from->key);
    EVP_PKEY *key = text ? PEM_read_bio_PrivateKey(text, NULL, give_password, &password) : NULL;
    BIO_free(text);
    if (!key && password.asked)
        tls_error_say(
            error,
            from->password.len
                ? "%.*s: the password does not open the private key: give its own"
                : "%.*s: the private key is encrypted: give its password, or the key without",
            NAMED(from->key_name));
    else if (!key)
        tls_error_say(error,
                      "%.*s: there is no private key that can be read (%s): give PEM with a line "
                      "\"-----BEGIN PRIVATE KEY-----\"",
                      NAMED(from->key_name), is_end_of_pem() ? "no such line" : tls_error_reason());
    ERR_clear_error();
    return key;
}

bool tls_key_pair_read(const struct tls_certificate *from, struct tls_key_pair *out,
                       char error[TLS_ERROR_MAX]) {
    *out = (struct tls_key_pair){0};
    out->chain = tls_certificates_read(from->chain, from->chain_name, error);
    if (!out->chain)
        return false;
    out->leaf = sk_X509_shift(out->chain);
    out->key = read_key(from, error);
    if (!out->key)
        goto fail;
    if (X509_check_private_key(out->leaf, out->key) != 1) {
        tls_error_say(error,
                      "the private key %.*s does not belong to the certificate %.*s (%s): give the "
                      "key that the first certificate of the chain was made for",
                      NAMED(from->key_name), NAMED(from->chain_name), tls_error_reason());
        goto fail;
    }
    return true;
fail:
    tls_key_pair_free(out);
    ERR_clear_error();
    return false;
}

void tls_key_pair_free(struct tls_key_pair *pair) {
    X509_free(pair->leaf);
    sk_X509_pop_free(pair->chain, X509_free);
    EVP_PKEY_free(pair->key);
    *pair = (struct tls_key_pair){0};
}

/* ---- Text that grows ---- */

/* Spans into it would move with it: they are offsets until it is whole. */
struct text {
    char *bytes;
    size_t size, room;
    bool failed;
};

static void put_bytes(struct text *text, const void *bytes, size_t size) {
    if (size == 0)
        return; /* then there may be no pointer, either */
    if (text->size + size > text->room) {
        size_t room = 2 * (text->size + size) + 256;
        char *grown = text->failed ? NULL : realloc(text->bytes, room);
        if (!grown) {
            text->failed = true;
            return;
        }
        text->bytes = grown;
        text->room = room;
    }
    memcpy(text->bytes + text->size, bytes, size);
    text->size += size;
}

static void put_name(struct text *text, X509_NAME *name) {
    BIO *out = BIO_new(BIO_s_mem());
    if (!out || X509_NAME_print_ex(out, name, 0, XN_FLAG_RFC2253 & ~ASN1_STRFLGS_ESC_MSB) < 0) {
        text->failed = true;
    } else {
        char *bytes;
        long size = BIO_get_mem_data(out, &bytes);
        put_bytes(text, bytes, (size_t)size);
    }
    BIO_free(out);
}

/* ---- Names ---- */

/* The text of a name that we know, as an offset in `text`. False: of another kind. */
static bool put_san(struct text *text, const GENERAL_NAME *name, struct tls_san *out) {
    const ASN1_STRING *string = NULL;
    switch (name->type) {
    case GEN_EMAIL:
        out->type = TLS_SAN_EMAIL;
        string = name->d.rfc822Name;
        break;
    case GEN_DNS:
        out->type = TLS_SAN_DNS;
        string = name->d.dNSName;
        break;
    case GEN_URI:
        out->type = TLS_SAN_URI;
        string = name->d.uniformResourceIdentifier;
        break;
    case GEN_IPADD: {
        char ip[INET6_ADDRSTRLEN];
        int size = ASN1_STRING_length(name->d.iPAddress);
        out->type = TLS_SAN_IP;
        if ((size != 4 && size != 16) ||
            !inet_ntop(size == 4 ? AF_INET : AF_INET6, ASN1_STRING_get0_data(name->d.iPAddress), ip,
                       sizeof ip))
            return false;
        out->value.len = strlen(ip);
        put_bytes(text, ip, out->value.len);
        return true;
    }
    default:
        return false;
    }
    out->value.len = (size_t)ASN1_STRING_length(string);
    put_bytes(text, ASN1_STRING_get0_data(string), out->value.len);
    return true;
}

/* sans has room for all names; their values are without pointers yet, one behind the other from the present end
 * of text. */
static size_t put_sans(struct text *text, const GENERAL_NAMES *names, struct tls_san *sans) {
    size_t count = 0;
    for (int i = 0; i < sk_GENERAL_NAME_num(names); i++)
        if (put_san(text, sk_GENERAL_NAME_value(names, i), &sans[count]))
            count++;
    return count;
}

static void point_sans(struct tls_san *sans, size_t count, const char *at) {
    for (size_t i = 0; i < count; i++) {
        sans[i].value.ptr = at;
        at += sans[i].value.len;
    }
}

static GENERAL_NAMES *names_of(X509 *certificate) {
    return X509_get_ext_d2i(certificate, NID_subject_alt_name, NULL, NULL);
}

bool tls_sans_read(X509 *certificate, struct tls_sans *out) {
    GENERAL_NAMES *names = names_of(certificate);
    struct text text = {0};
    *out = (struct tls_sans){0};
    int most = names ? sk_GENERAL_NAME_num(names) : 0;
    if (most > 0) {
        out->sans = calloc((size_t)most, sizeof out->sans[0]);
        text.failed = !out->sans;
        if (out->sans)
            out->count = put_sans(&text, names, out->sans);
        point_sans(out->sans, out->count, text.bytes ? text.bytes : "");
    }
    GENERAL_NAMES_free(names);
    ERR_clear_error();
    out->memory = text.bytes;
    if (!text.failed)
        return true;
    tls_sans_free(out);
    return false;
}

void tls_sans_free(struct tls_sans *sans) {
    free(sans->sans);
    free(sans->memory);
    *sans = (struct tls_sans){0};
}

/* ---- Identity ---- */

static int64_t seconds_of(const ASN1_TIME *time) {
    struct tm tm;
    return ASN1_TIME_to_tm(time, &tm) == 1 ? (int64_t)timegm(&tm) : 0;
}

static void put_digest(struct text *text, X509 *certificate, const EVP_MD *md) {
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned size = 0;
    if (X509_digest(certificate, md, digest, &size) != 1)
        text->failed = true;
    char hex[2 * EVP_MAX_MD_SIZE];
    put_bytes(text, hex, span_put_hex(hex, digest, size));
}

static void put_serial(struct text *text, X509 *certificate) {
    BIGNUM *number = ASN1_INTEGER_to_BN(X509_get0_serialNumber(certificate), NULL);
    char *hex = number ? BN_bn2hex(number) : NULL;
    if (!hex)
        text->failed = true;
    for (char *at = hex; at && *at; at++) {
        char lower = *at >= 'A' && *at <= 'F' ? (char)(*at + 'a' - 'A') : *at;
        put_bytes(text, &lower, 1);
    }
    OPENSSL_free(hex);
    BN_free(number);
}

/* From one of these to the next is one of the spans. */
enum { SUBJECT, ISSUER, SERIAL, HASH1, HASH256, PARTS };

static struct span part(const char *bytes, const size_t *ends, int which) {
    size_t from = which ? ends[which - 1] : 0;
    return span_make(bytes + from, ends[which] - from);
}

bool tls_identity_init(struct tls_identity *identity, X509 *certificate) {
    struct text text = {0};
    size_t ends[PARTS];
    GENERAL_NAMES *names = names_of(certificate);
    int most = names ? sk_GENERAL_NAME_num(names) : 0;
    struct tls_san *sans = calloc((size_t)most + 1, sizeof *sans);
    size_t count = 0;
    put_name(&text, X509_get_subject_name(certificate));
    ends[SUBJECT] = text.size;
    put_name(&text, X509_get_issuer_name(certificate));
    ends[ISSUER] = text.size;
    put_serial(&text, certificate);
    ends[SERIAL] = text.size;
    put_digest(&text, certificate, EVP_sha1());
    ends[HASH1] = text.size;
    put_digest(&text, certificate, EVP_sha256());
    ends[HASH256] = text.size;
    if (sans && names)
        count = put_sans(&text, names, sans);
    GENERAL_NAMES_free(names);
    ERR_clear_error();
    if (!sans || text.failed) {
        free(sans);
        free(text.bytes);
        return false;
    }
    point_sans(sans, count, text.bytes + ends[HASH256]);
    *identity = (struct tls_identity){
        .subject = part(text.bytes, ends, SUBJECT), /* begins the memory: see tls_identity_fini */
        .issuer = part(text.bytes, ends, ISSUER),
        .serial = part(text.bytes, ends, SERIAL),
        .sha1 = part(text.bytes, ends, HASH1),
        .sha256 = part(text.bytes, ends, HASH256),
        .not_before_s = seconds_of(X509_get0_notBefore(certificate)),
        .not_after_s = seconds_of(X509_get0_notAfter(certificate)),
        .sans = sans,
        .san_count = count,
    };
    return true;
}

void tls_identity_fini(struct tls_identity *identity) {
    free((char *)(uintptr_t)identity->subject.ptr);
    free((struct tls_san *)(uintptr_t)identity->sans);
    *identity = (struct tls_identity){0};
}
