/* tls_context: what all connections of one configuration share. Built whole or not at all.
 *
 * A server with one certificate has one SSL_CTX. One with several has another for each set of certificates (an RSA and
 * an ECDSA one at most) that some name has, and the connection changes over to it when it has read the
 * name: cheaper than to give certificates to each connection. They are alike in all else, and
 * what belongs to sessions OpenSSL keeps asking of the first.
 *
 * What is ours to choose: AES-128 before AES-256, which costs a third less and is as safe; ChaCha first for
 * clients that put it first, because those have no AES in hardware. No renegotiation, no compression, no
 * early data, and no openssl.cnf: a proxy does what its own configuration says. */
#include <errno.h>
#include <fcntl.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "io/tls_internal.h"

enum { SESSION_TIMEOUT_S = 7200, LIST_MAX = 4096 };

#define CIPHERS                                                                                    \
    "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-ECDSA-CHACHA20-POLY1305:"                                 \
    "ECDHE-RSA-AES128-GCM-SHA256:ECDHE-RSA-CHACHA20-POLY1305:"                                     \
    "ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384"
#define CIPHERS_1_3 "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256"
#define CURVES "X25519:P-256"

#define NAMED(span) (int)(span).len, (span).len ? (span).ptr : ""

/* ---- Callbacks, on any thread ---- */

static int choose_alpn(SSL *ssl, const unsigned char **out, unsigned char *out_len,
                       const unsigned char *offered, unsigned offered_len, void *arg) {
    const struct tls_context *context = arg;
    unsigned char *chosen;
    if (SSL_select_next_proto(&chosen, out_len, context->alpn, context->alpn_size, offered,
                              offered_len) != OPENSSL_NPN_NEGOTIATED)
        return SSL_TLSEXT_ERR_NOACK; /* goes on without, as Envoy does */
    *out = chosen;
    return SSL_TLSEXT_ERR_OK;
}

static int choose_certificate(SSL *ssl, int *alert, void *arg) {
    const struct tls_context *context = arg;
    const char *name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
    SSL_CTX *ctx = name ? tls_names_find(&context->names, name) : NULL;
    if (ctx && !SSL_set_SSL_CTX(ssl, ctx))
        return SSL_TLSEXT_ERR_ALERT_FATAL;
    return SSL_TLSEXT_ERR_OK;
}

static void log_key(const SSL *ssl, const char *line) {
    const struct tls *tls = SSL_get_app_data(ssl);
    if (!tls->logs_keys)
        return;
    char whole[512];
    int size = snprintf(whole, sizeof whole, "%s\n", line);
    if (size > 0 && (size_t)size < sizeof whole)
        (void)!write(tls->context->key_log_fd, whole,
                     (size_t)size); /* one call: lines do not mix */
}

/* ---- Lists of names ---- */

/* One with a colon between each. Envoy's "[A|B]" are ciphers of equal rank, which OpenSSL does not have: the
 * first comes first. */
static bool join(const struct span *names, size_t count, const char *what, char out[LIST_MAX],
                 char error[TLS_ERROR_MAX]) {
    size_t used = 0;
    for (size_t i = 0; i < count; i++) {
        if (used + names[i].len + 2 > LIST_MAX) {
            tls_error_say(error, "%s: the list is too long", what);
            return false;
        }
        if (used)
            out[used++] = ':';
        for (size_t k = 0; k < names[i].len; k++) {
            char c = names[i].ptr[k];
            if (c != '[' && c != ']')
                out[used++] = c == '|' ? ':' : c;
        }
    }
    out[used] = '\0';
    return true;
}

static bool set_ciphers(SSL_CTX *ctx, const struct tls_options *options,
                        char error[TLS_ERROR_MAX]) {
    char all[LIST_MAX], old[LIST_MAX] = "", new[LIST_MAX] = "";
    if (SSL_CTX_set_ciphersuites(ctx, CIPHERS_1_3) != 1 ||
        SSL_CTX_set_cipher_list(ctx, CIPHERS) != 1) {
        tls_error_say(error, "OpenSSL lacks the usual ciphers: %s", tls_error_reason());
        return false;
    }
    if (options->cipher_count == 0)
        return true;
    if (!join(options->ciphers, options->cipher_count, "cipher_suites", all, error))
        return false;
    char *rest = NULL;
    for (char *name = strtok_r(all, ":", &rest); name; name = strtok_r(NULL, ":", &rest)) {
        bool is_new = strncmp(name, "TLS_", 4) == 0;
        char *list = is_new ? new : old;
        /* Alone, because a list is good as soon as one of its names is. */
        if ((is_new ? SSL_CTX_set_ciphersuites(ctx, name) : SSL_CTX_set_cipher_list(ctx, name)) !=
            1) {
            ERR_clear_error();
            tls_error_say(error,
                          "cipher_suites: no cipher is called \"%s\": use OpenSSL's names, as "
                          "openssl ciphers lists them",
                          name);
            return false;
        }
        if (*list)
            strcat(list, ":"); /* no longer than all */
        strcat(list, name);
    }
    if ((*old && SSL_CTX_set_cipher_list(ctx, old) != 1) ||
        SSL_CTX_set_ciphersuites(ctx, *new ? new : CIPHERS_1_3) != 1) {
        tls_error_say(error, "cipher_suites: %s", tls_error_reason());
        return false;
    }
    return true;
}

/* OpenSSL 3.0 takes milliseconds for others. */
static bool is_fast_curve(struct span name) {
    return span_eq(name, SPAN_LIT("X25519")) || span_eq(name, SPAN_LIT("P-256"));
}

static bool set_curves(struct tls_context *context, SSL_CTX *ctx, const struct tls_options *options,
                       char error[TLS_ERROR_MAX]) {
    char list[LIST_MAX] = CURVES;
    if (options->curve_count &&
        !join(options->curves, options->curve_count, "ecdh_curves", list, error))
        return false;
    if (SSL_CTX_set1_groups_list(ctx, list) == 1) {
        for (size_t i = 0; i < options->curve_count; i++)
            context->takes_long |= !is_fast_curve(options->curves[i]);
        return true;
    }
    tls_error_say(
        error, "ecdh_curves: one of \"%.200s\" is unknown: X25519, P-256, P-384 and P-521 are not",
        list);
    ERR_clear_error();
    return false;
}

static bool set_signatures(SSL_CTX *ctx, const struct tls_options *options,
                           char error[TLS_ERROR_MAX]) {
    char list[LIST_MAX];
    if (options->signature_algorithm_count == 0)
        return true;
    if (!join(options->signature_algorithms, options->signature_algorithm_count,
              "signature_algorithms", list, error))
        return false;
    if (SSL_CTX_set1_sigalgs_list(ctx, list) == 1)
        return true;
    tls_error_say(error,
                  "signature_algorithms: one of \"%.200s\" is unknown: they are called as "
                  "rsa_pss_rsae_sha256 or ecdsa_secp256r1_sha256",
                  list);
    ERR_clear_error();
    return false;
}

static bool set_alpn(struct tls_context *context, const struct tls_options *options,
                     char error[TLS_ERROR_MAX]) {
    unsigned size = 0;
    for (size_t i = 0; i < options->alpn_count; i++) {
        struct span name = options->alpn[i];
        if (name.len == 0 || size + 1 + name.len > TLS_ALPN_MAX) {
            tls_error_say(error,
                          name.len ? "alpn_protocols: together they are longer than %d bytes"
                                   : "alpn_protocols: a name is empty (of up to %d bytes)",
                          TLS_ALPN_MAX);
            return false;
        }
        context->alpn[size++] = (unsigned char)name.len;
        memcpy(context->alpn + size, name.ptr, name.len);
        size += (unsigned)name.len;
    }
    context->alpn_size = size;
    return true;
}

static int version_number(enum tls_version version, int otherwise) {
    switch (version) {
    case TLS_1_0:
        return TLS1_VERSION;
    case TLS_1_1:
        return TLS1_1_VERSION;
    case TLS_1_2:
        return TLS1_2_VERSION;
    case TLS_1_3:
        return TLS1_3_VERSION;
    case TLS_AUTO:
        break;
    }
    return otherwise;
}

static bool set_versions(SSL_CTX *ctx, const struct tls_options *options,
                         char error[TLS_ERROR_MAX]) {
    int least = version_number(options->min_version, TLS1_2_VERSION);
    int most = version_number(options->max_version, TLS1_3_VERSION);
    if (least > most) {
        tls_error_say(error, "tls_minimum_protocol_version is above tls_maximum_protocol_version");
        return false;
    }
    /* What is older signs with SHA-1, which OpenSSL has at its lowest level only. */
    SSL_CTX_set_security_level(ctx, least < TLS1_2_VERSION ? 0 : 1);
    return SSL_CTX_set_min_proto_version(ctx, least) == 1 &&
           SSL_CTX_set_max_proto_version(ctx, most) == 1;
}

/* ---- One SSL_CTX ---- */

static void set_sessions(struct tls_context *context, SSL_CTX *ctx,
                         const struct tls_options *options) {
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
    if (!context->is_server) {
        if (options->max_sessions)
            tls_sessions_use(ctx);
        return;
    }
    uint32_t timeout_s = options->session_timeout_s;
    SSL_CTX_set_timeout(ctx, timeout_s ? timeout_s : SESSION_TIMEOUT_S);
    if (context->tickets) {
        tls_tickets_use(ctx);
    } else {
        SSL_CTX_set_options(ctx, SSL_OP_NO_TICKET);
        SSL_CTX_set_num_tickets(ctx, 0);
    }
    if (context->session_cache)
        tls_session_cache_use(context->session_cache, ctx);
}

static SSL_CTX *new_ctx(struct tls_context *context, const struct tls_options *options,
                        char error[TLS_ERROR_MAX]) {
    SSL_CTX *ctx = SSL_CTX_new(context->is_server ? TLS_server_method() : TLS_client_method());
    if (!ctx) {
        tls_error_say(error, "OpenSSL does not work: %s", tls_error_reason());
        return NULL;
    }
    SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE |
                              SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_read_ahead(ctx, 1);
    SSL_CTX_set_options(ctx, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION |
                                 SSL_OP_IGNORE_UNEXPECTED_EOF); /* tls.c looks for itself */
    if (!options->prefer_client_ciphers)
        SSL_CTX_set_options(ctx, SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_PRIORITIZE_CHACHA);
    if (!set_versions(ctx, options, error) || !set_ciphers(ctx, options, error) ||
        !set_curves(context, ctx, options, error) || !set_signatures(ctx, options, error)) {
        SSL_CTX_free(ctx);
        return NULL;
    }
    set_sessions(context, ctx, options);
    if (context->key_log_fd >= 0)
        SSL_CTX_set_keylog_callback(ctx, log_key);
    if (context->alpn_size && context->is_server)
        SSL_CTX_set_alpn_select_cb(ctx, choose_alpn, context);
    else if (context->alpn_size)
        (void)SSL_CTX_set_alpn_protos(ctx, context->alpn, context->alpn_size); /* well-formed */
    return ctx;
}

/* ---- Certificates and names ---- */

enum kind { KIND_RSA, KIND_ECDSA, KINDS };

static enum kind kind_of(const struct tls_key_pair *pair) {
    return EVP_PKEY_is_a(pair->key, "RSA") || EVP_PKEY_is_a(pair->key, "RSA-PSS") ? KIND_RSA
                                                                                  : KIND_ECDSA;
}

/* Which certificates a name has; -1: none of that kind. */
struct choice {
    char *name; /* lower case */
    bool is_wildcard;
    int of[KINDS];
};

struct builder {
    struct tls_context *context;
    const struct tls_options *options;
    struct tls_key_pair *pairs;
    size_t pair_count;
    struct choice *choices;
    size_t choice_count;
    int defaults[KINDS];
    unsigned char sid[SHA256_DIGEST_LENGTH];
    char *error;
};

/* RSA of 2048 bits signs in 600 us, of 3072 in 2 ms; P-256 in 30 us, P-384 in a millisecond. */
static bool signs_slowly(const struct tls_key_pair *pair) {
    return kind_of(pair) == KIND_RSA ? EVP_PKEY_get_bits(pair->key) > 2048
                                     : EVP_PKEY_get_bits(pair->key) > 256;
}

static bool use_pair(SSL_CTX *ctx, const struct tls_key_pair *pair,
                     const struct tls_certificate *from, char error[TLS_ERROR_MAX]) {
    if (SSL_CTX_use_cert_and_key(ctx, pair->leaf, pair->key, pair->chain, 1) == 1)
        return true;
    tls_error_say(error, "%.*s cannot be used: %s", NAMED(from->chain_name), tls_error_reason());
    return false;
}

static bool use_choice(struct builder *b, SSL_CTX *ctx, const int of[KINDS]) {
    for (int kind = 0; kind < KINDS; kind++) {
        if (of[kind] < 0)
            continue;
        const struct tls_key_pair *pair = &b->pairs[of[kind]];
        if (!use_pair(ctx, pair, &b->options->certificates[of[kind]], b->error))
            return false;
        b->context->takes_long |= signs_slowly(pair);
    }
    return true;
}

static bool add_name(struct builder *b, struct span name, int which) {
    bool is_wildcard = span_starts_with(name, SPAN_LIT("*."));
    if (is_wildcard)
        name = span_from(name, 1);
    enum kind kind = kind_of(&b->pairs[which]);
    for (size_t i = 0; i < b->choice_count; i++) {
        struct choice *choice = &b->choices[i];
        if (choice->is_wildcard != is_wildcard || !span_eq_nocase(span_of(choice->name), name))
            continue;
        if (choice->of[kind] < 0)
            choice->of[kind] = which;
        return true;
    }
    struct choice *grown = realloc(b->choices, (b->choice_count + 1) * sizeof *grown);
    if (!grown)
        return false;
    b->choices = grown;
    struct choice *choice = &grown[b->choice_count];
    *choice = (struct choice){
        .name = strndup(name.ptr, name.len), .is_wildcard = is_wildcard, .of = {-1, -1}};
    if (!choice->name)
        return false;
    for (char *at = choice->name; *at; at++)
        *at = (char)(*at >= 'A' && *at <= 'Z' ? *at + 'a' - 'A' : *at);
    choice->of[kind] = which;
    b->choice_count++;
    return true;
}

/* Its DNS names; without any, the common name, as Envoy does. */
static bool add_names(struct builder *b, int which) {
    X509 *leaf = b->pairs[which].leaf;
    struct tls_sans sans;
    if (!tls_sans_read(leaf, &sans))
        return false;
    bool good = true, has_dns = false;
    for (size_t i = 0; good && i < sans.count; i++)
        if (sans.sans[i].type == TLS_SAN_DNS) {
            has_dns = true;
            good = add_name(b, sans.sans[i].value, which);
        }
    tls_sans_free(&sans);
    X509_NAME *subject = X509_get_subject_name(leaf);
    int at = X509_NAME_get_index_by_NID(subject, NID_commonName, -1);
    if (has_dns || at < 0)
        return good;
    const ASN1_STRING *name = X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, at));
    return add_name(b, span_make(ASN1_STRING_get0_data(name), (size_t)ASN1_STRING_length(name)),
                    which);
}

static bool read_certificates(struct builder *b) {
    struct tls_context *context = b->context;
    const struct tls_options *options = b->options;
    size_t count = options->certificate_count;
    if (count == 0 && !options->is_server)
        return true;
    if (count == 0 || count > (options->is_server ? (size_t)TLS_CERTIFICATES_MAX : 1)) {
        tls_error_say(b->error, options->is_server
                                    ? "tls_certificates: a server needs between 1 and 1024 of them"
                                    : "tls_certificates: a client has one at most");
        return false;
    }
    b->pairs = calloc(count, sizeof *b->pairs);
    context->certificates = calloc(count, sizeof *context->certificates);
    if (!b->pairs || !context->certificates) {
        tls_error_say(b->error, "out of memory");
        return false;
    }
    for (size_t i = 0; i < count; i++) {
        if (!tls_key_pair_read(&options->certificates[i], &b->pairs[i], b->error))
            return false;
        b->pair_count++;
        if (!tls_identity_init(&context->certificates[i], b->pairs[i].leaf)) {
            tls_error_say(b->error, "%.*s: out of memory",
                          NAMED(options->certificates[i].chain_name));
            return false;
        }
        context->certificate_count++;
        enum kind kind = kind_of(&b->pairs[i]);
        if (b->defaults[kind] < 0)
            b->defaults[kind] = (int)i;
    }
    return true;
}

static bool is_same(const int a[KINDS], const int b[KINDS]) {
    return memcmp(a, b, KINDS * sizeof *a) == 0;
}

/* Another SSL_CTX asks of the peer what the first one does. */
static bool ask_the_same(struct builder *b, SSL_CTX *ctx) {
    SSL_CTX *first = b->context->ctx;
    tls_verifier_use(b->context, ctx, b->options);
    SSL_CTX_set1_cert_store(ctx, SSL_CTX_get_cert_store(first));
    SSL_CTX_set_client_CA_list(ctx, SSL_dup_CA_list(SSL_CTX_get_client_CA_list(first)));
    return SSL_CTX_set_session_id_context(ctx, b->sid, sizeof b->sid) == 1;
}

static SSL_CTX *ctx_for(struct builder *b, size_t which) {
    const struct choice *choice = &b->choices[which];
    SSL_CTX *ctx = is_same(choice->of, b->defaults) ? b->context->ctx : NULL;
    for (size_t i = 0; !ctx && i < which; i++)
        if (is_same(choice->of, b->choices[i].of))
            ctx = b->context->names.entries[i].ctx;
    if (ctx) {
        (void)SSL_CTX_up_ref(ctx); /* only counts */
        return ctx;
    }
    ctx = new_ctx(b->context, b->options, b->error);
    if (!ctx)
        return NULL;
    if (ask_the_same(b, ctx) && use_choice(b, ctx, choice->of))
        return ctx;
    SSL_CTX_free(ctx);
    return NULL;
}

static bool build_names(struct builder *b) {
    struct tls_names *names = &b->context->names;
    if (!b->options->is_server || b->pair_count < 2)
        return true;
    for (size_t i = 0; i < b->pair_count; i++)
        if (!add_names(b, (int)i)) {
            tls_error_say(b->error, "out of memory");
            return false;
        }
    names->entries = calloc(b->choice_count + 1, sizeof *names->entries);
    if (!names->entries) {
        tls_error_say(b->error, "out of memory");
        return false;
    }
    for (size_t i = 0; i < b->choice_count; i++) {
        SSL_CTX *ctx = ctx_for(b, i);
        if (!ctx)
            return false;
        names->entries[i] = (struct tls_name_entry){
            .name = span_of(b->choices[i].name), /* transferred */
            .is_wildcard = b->choices[i].is_wildcard,
            .ctx = ctx,
        };
        b->choices[i].name = NULL;
        names->count++;
    }
    tls_names_sort(names);
    if (names->count) {
        SSL_CTX_set_tlsext_servername_callback(b->context->ctx, choose_certificate);
        SSL_CTX_set_tlsext_servername_arg(b->context->ctx, b->context);
    }
    return true;
}

/* ---- The whole ---- */

static bool open_key_log(struct tls_context *context, const struct tls_options *options,
                         char error[TLS_ERROR_MAX]) {
    if (!options->key_log_path)
        return true;
    context->key_log_fd =
        open(options->key_log_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    context->key_log_wanted = options->key_log_wanted;
    context->key_log_arg = options->key_log_arg;
    if (context->key_log_fd >= 0)
        return true;
    tls_error_say(error, "key_log: %s cannot be written: %s", options->key_log_path,
                  strerrordesc_np(errno));
    return false;
}

static bool build(struct builder *b) {
    struct tls_context *context = b->context;
    if (!open_key_log(context, b->options, b->error) || !set_alpn(context, b->options, b->error) ||
        !read_certificates(b))
        return false;
    context->ctx = new_ctx(context, b->options, b->error);
    if (!context->ctx || !use_choice(b, context->ctx, b->defaults))
        return false;
    EVP_MD_CTX *digest = EVP_MD_CTX_new();
    bool good = digest && EVP_DigestInit_ex(digest, EVP_sha256(), NULL) == 1 &&
                tls_verifier_init(context, context->ctx, b->options, digest, b->error) &&
                EVP_DigestFinal_ex(digest, b->sid, NULL) == 1 &&
                SSL_CTX_set_session_id_context(context->ctx, b->sid, sizeof b->sid) == 1;
    EVP_MD_CTX_free(digest);
    context->takes_long |= SSL_CTX_get_verify_mode(context->ctx) != SSL_VERIFY_NONE;
    return good && build_names(b);
}

static void init_library(void) {
    /* Nothing at exit: threads of the runtime may be inside. */
    (void)OPENSSL_init_ssl(OPENSSL_INIT_NO_LOAD_CONFIG | OPENSSL_INIT_NO_ATEXIT |
                               OPENSSL_INIT_LOAD_SSL_STRINGS | OPENSSL_INIT_LOAD_CRYPTO_STRINGS,
                           NULL);
}

struct tls_context *tls_context_new(const struct tls_options *options, char error[TLS_ERROR_MAX]) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    (void)pthread_once(&once, init_library);
    tls_error_say(error, "out of memory"); /* unless somebody knows better */
    struct tls_context *context = calloc(1, sizeof *context);
    if (!context)
        return NULL;
    context->leases = 1;
    context->is_server = options->is_server;
    context->blocking_keys = options->blocking_keys;
    context->takes_long = !options->is_server; /* verifies chains */
    context->key_log_fd = -1;
    context->truncated = options->truncated;
    context->tickets = options->tickets ? tls_tickets_ref(options->tickets) : NULL;
    context->session_cache =
        options->session_cache ? tls_session_cache_ref(options->session_cache) : NULL;
    tls_sessions_init(&context->sessions, options->max_sessions);
    struct builder b = {
        .context = context, .options = options, .defaults = {-1, -1}, .error = error};
    bool built = build(&b);
    for (size_t i = 0; i < b.pair_count; i++)
        tls_key_pair_free(&b.pairs[i]);
    free(b.pairs);
    for (size_t i = 0; i < b.choice_count; i++)
        free(b.choices[i].name);
    free(b.choices);
    ERR_clear_error();
    if (!built) {
        tls_context_unref(context);
        return NULL;
    }
    context->on_free = options->on_free;
    context->on_free_arg = options->on_free_arg;
    return context;
}

struct tls_context *tls_context_ref(struct tls_context *context) {
    atomic_fetch_add_explicit(&context->leases, 1, memory_order_relaxed);
    return context;
}

static void free_identities(struct tls_identity *identities, size_t count) {
    for (size_t i = 0; i < count; i++)
        tls_identity_fini(&identities[i]);
    free(identities);
}

void tls_context_unref(struct tls_context *context) {
    /* Releases what was done with it; the last one acquires that of all others. */
    if (atomic_fetch_sub_explicit(&context->leases, 1, memory_order_acq_rel) != 1)
        return;
    tls_names_free(&context->names);
    SSL_CTX_free(context->ctx);
    tls_verifier_fini(&context->verifier);
    tls_sessions_fini(&context->sessions);
    if (context->tickets)
        tls_tickets_unref(context->tickets);
    if (context->session_cache)
        tls_session_cache_unref(context->session_cache);
    if (context->key_log_fd >= 0)
        (void)close(context->key_log_fd);
    free_identities(context->certificates, context->certificate_count);
    free_identities(context->authorities, context->authority_count);
    if (context->on_free)
        context->on_free(context->on_free_arg);
    free(context);
}

const struct tls_identity *tls_context_certificates(const struct tls_context *context,
                                                    size_t *count) {
    *count = context->certificate_count;
    return context->certificates;
}

const struct tls_identity *tls_context_authorities(const struct tls_context *context,
                                                   size_t *count) {
    *count = context->authority_count;
    return context->authorities;
}
