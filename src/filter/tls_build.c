#include "filter/tls_build.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "filter/san_rules.h"

/* What hangs on a context beside what OpenSSL has of it. */
struct attachment {
    struct san_rules *names; /* NULL: none */
    struct config *config;   /* leased: texts of the names are its */
};

static void detach(void *arg) {
    struct attachment *attachment = arg;
    san_rules_free(attachment->names);
    config_unref(attachment->config);
    free(attachment);
}

/* ---- hashes ---- */

struct hashes {
    uint8_t (*items)[TLS_HASH_SIZE];
    size_t count;
};

static int hex_digit(char c) {
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* 64 digits, whatever stands between them: config/schema_tls.c has checked. */
static void read_hex(struct span text, uint8_t out[TLS_HASH_SIZE]) {
    unsigned digits = 0;
    for (size_t i = 0; i < text.len && digits < 2 * TLS_HASH_SIZE; i++) {
        int digit = hex_digit(text.ptr[i]);
        if (digit < 0)
            continue;
        out[digits / 2] = (uint8_t)(out[digits / 2] << 4 | digit);
        digits++;
    }
}

static bool read_base64(struct span text, uint8_t out[TLS_HASH_SIZE]) {
    static const char alphabet[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    uint32_t bits = 0;
    unsigned have = 0, n = 0;
    for (size_t i = 0; i + 1 < text.len; i++) { /* the last one is '=' */
        const char *at = text.ptr[i] ? strchr(alphabet, text.ptr[i]) : NULL;
        if (!at)
            return false;
        bits = bits << 6 | (uint32_t)(at - alphabet);
        have += 6;
        if (have >= 8 && n < TLS_HASH_SIZE) {
            have -= 8;
            out[n++] = (uint8_t)(bits >> have);
        }
    }
    return n == TLS_HASH_SIZE;
}

/* ---- validation ---- */

struct validation {
    struct tls_validation options;
    struct hashes hashes, spkis;
    struct san_rules *names;
};

static bool read_hashes(const struct tls_validation_material *material, struct validation *out,
                        struct cfg_problems *problems) {
    size_t hash_count = 0, spki_count = 0;
    for (unsigned i = 0; i < material->part_count; i++) {
        hash_count += material->parts[i]->verify_certificate_hash_count;
        spki_count += material->parts[i]->verify_certificate_spki_count;
    }
    out->hashes.items = calloc(hash_count + 1, TLS_HASH_SIZE);
    out->spkis.items = calloc(spki_count + 1, TLS_HASH_SIZE);
    if (!out->hashes.items || !out->spkis.items) {
        problems->lost = true;
        return false;
    }
    for (unsigned i = 0; i < material->part_count; i++) {
        const struct cfg_validation_context *part = material->parts[i];
        for (size_t k = 0; k < part->verify_certificate_hash_count; k++)
            read_hex(part->verify_certificate_hash[k], out->hashes.items[out->hashes.count++]);
        for (size_t k = 0; k < part->verify_certificate_spki_count; k++) {
            if (read_base64(part->verify_certificate_spki[k], out->spkis.items[out->spkis.count]))
                out->spkis.count++;
            else
                cfg_problem_add(problems, CFG_PROBLEM_INVALID, &part->mark,
                                "verify_certificate_spki[%zu] is no base64", k);
        }
    }
    return true;
}

static bool read_validation(const struct tls_material *material, struct validation *out,
                            struct cfg_problems *problems) {
    const struct tls_validation_material *source = &material->validation;
    if (!read_hashes(source, out, problems))
        return false;
    int rc = san_rules_build(source->parts, source->part_count, problems, &out->names);
    if (rc != 0) {
        problems->lost |= rc != -EINVAL;
        return false;
    }
    out->options = (struct tls_validation){
        .ca = source->trusted_ca.bytes,
        .ca_name = source->trusted_ca.source,
        .crl = source->crl.bytes,
        .crl_name = source->crl.source,
        .hashes = (const uint8_t(*)[TLS_HASH_SIZE])out->hashes.items,
        .hash_count = out->hashes.count,
        .spkis = (const uint8_t(*)[TLS_HASH_SIZE])out->spkis.items,
        .spki_count = out->spkis.count,
        .match = out->names ? san_rules_match : NULL,
        .match_arg = out->names,
        .match_text = out->names ? san_rules_text(out->names) : span_none(),
    };
    for (unsigned i = 0; i < source->part_count; i++) {
        const struct cfg_validation_context *part = source->parts[i];
        out->options.allow_expired |= part->allow_expired_certificate;
        out->options.only_leaf_crl |= part->only_verify_leaf_cert_crl;
        out->options.accept_untrusted |= part->trust_chain_verification == 1;
        if (part->max_verify_depth.set)
            out->options.max_depth = part->max_verify_depth.value;
    }
    return true;
}

/* ---- algorithms ---- */

struct names {
    struct span *items;
    size_t count;
};

/* "[A|B]" are equally good to BoringSSL: whichever the client likes better. OpenSSL has one order. */
static bool add_names(struct names *names, struct span text) {
    if (text.len >= 2 && text.ptr[0] == '[' && text.ptr[text.len - 1] == ']')
        text = span_make(text.ptr + 1, text.len - 2);
    for (;;) {
        ptrdiff_t bar = span_find(text, '|');
        struct span *grown = realloc(names->items, (names->count + 1) * sizeof *names->items);
        if (!grown)
            return false;
        names->items = grown;
        grown[names->count++] = bar < 0 ? text : span_make(text.ptr, (size_t)bar);
        if (bar < 0)
            return true;
        text = span_from(text, (size_t)bar + 1);
    }
}

/* Envoy takes a list whose items are lists themselves: "A:B". */
static bool read_ciphers(const struct cfg_tls_params *params, struct names *names) {
    for (size_t i = 0; params && i < params->cipher_suites_count; i++) {
        struct span rest = params->cipher_suites[i];
        for (;;) {
            ptrdiff_t colon = span_find(rest, ':');
            if (!add_names(names, colon < 0 ? rest : span_make(rest.ptr, (size_t)colon)))
                return false;
            if (colon < 0)
                break;
            rest = span_from(rest, (size_t)colon + 1);
        }
    }
    return true;
}

/* Envoy's default for clients ends at 1.2, that for servers at 1.3. */
static void set_params(const struct cfg_tls_params *params, struct tls_options *options) {
    int min = params ? params->tls_minimum_protocol_version : CFG_TLS_AUTO;
    int max = params ? params->tls_maximum_protocol_version : CFG_TLS_AUTO;
    options->min_version = min == CFG_TLS_AUTO ? TLS_1_2 : (enum tls_version)min;
    if (max == CFG_TLS_AUTO)
        max = options->is_server || min == CFG_TLS_1_3 ? CFG_TLS_1_3 : CFG_TLS_1_2;
    options->max_version = (enum tls_version)max;
    if (options->min_version > options->max_version)
        options->min_version = options->max_version;
    if (!params)
        return;
    options->curves = params->ecdh_curves;
    options->curve_count = params->ecdh_curves_count;
    options->signature_algorithms = params->signature_algorithms;
    options->signature_algorithm_count = params->signature_algorithms_count;
}
static_assert((int)TLS_1_0 == CFG_TLS_1_0 && (int)TLS_1_3 == CFG_TLS_1_3, "the same numbers");

/* ---- the whole ---- */

static void warn_of_times(const struct tls_context *context, const struct tls_material *material,
                          struct cfg_problems *problems) {
    size_t count;
    const struct tls_identity *own = tls_context_certificates(context, &count);
    int64_t now_s = clock_wall_ns() / NS_PER_S;
    for (size_t i = 0; i < count && i < material->certificate_count; i++) {
        const struct tls_certificate_material *source = &material->certificates[i];
        if (own[i].not_after_s < now_s)
            cfg_problem_add(problems, CFG_PROBLEM_WARNING, source->mark,
                            "%.*s: the certificate (%.*s) expired %lld days ago",
                            (int)source->chain.source.len, source->chain.source.ptr,
                            (int)own[i].subject.len, own[i].subject.ptr,
                            (long long)((now_s - own[i].not_after_s) / 86400));
        else if (own[i].not_before_s > now_s)
            cfg_problem_add(problems, CFG_PROBLEM_WARNING, source->mark,
                            "%.*s: the certificate (%.*s) is not valid yet",
                            (int)source->chain.source.len, source->chain.source.ptr,
                            (int)own[i].subject.len, own[i].subject.ptr);
    }
}

static struct tls_certificate *list_certificates(const struct tls_material *material,
                                                 struct tls_options *options) {
    struct tls_certificate *list = calloc(material->certificate_count + 1, sizeof *list);
    for (size_t i = 0; list && i < material->certificate_count; i++) {
        const struct tls_certificate_material *source = &material->certificates[i];
        list[i] = (struct tls_certificate){
            .chain = source->chain.bytes,
            .key = source->key.bytes,
            .password = source->password.bytes,
            .chain_name = source->chain.source,
            .key_name = source->key.source,
        };
        options->blocking_keys |= source->blocking_keys;
    }
    options->certificates = list;
    options->certificate_count = material->certificate_count;
    return list;
}

static const struct cfg_mark *mark_of(const struct tls_build *build) {
    return build->downstream ? &build->downstream->mark : &build->upstream->mark;
}

struct tls_context *tls_build(const struct tls_build *build, const struct tls_material *material,
                              struct cfg_problems *problems) {
    struct tls_context *context = NULL;
    struct validation validation = {.names = NULL};
    struct names ciphers = {NULL, 0};
    struct tls_options options = {
        .is_server = build->downstream != NULL,
        .alpn = build->alpn,
        .alpn_count = build->alpn_count,
        .tickets = build->tickets,
        .session_cache = build->session_cache,
        .truncated = build->truncated,
        .on_free = detach,
    };
    struct attachment *attachment = calloc(1, sizeof *attachment);
    struct tls_certificate *certificates = list_certificates(material, &options);
    char error[TLS_ERROR_MAX];
    if (!attachment || !certificates || !read_ciphers(build->common->tls_params, &ciphers)) {
        problems->lost = true;
        goto done;
    }
    if (material->validation.part_count) {
        if (!read_validation(material, &validation, problems))
            goto done;
        options.validation = &validation.options;
    }
    options.ciphers = ciphers.items;
    options.cipher_count = ciphers.count;
    set_params(build->common->tls_params, &options);
    if (build->downstream) {
        /* As on Envoy: whoever asks for a certain one asks for one. */
        options.require_peer_certificate = (build->downstream->require_client_certificate.set &&
                                            build->downstream->require_client_certificate.value) ||
                                           validation.names || validation.hashes.count ||
                                           validation.spkis.count;
        options.prefer_client_ciphers = build->downstream->prefer_client_ciphers;
        if (build->downstream->session_timeout.set)
            options.session_timeout_s =
                (uint32_t)(build->downstream->session_timeout.ns / NS_PER_S);
    } else {
        const struct cfg_u32 *max = &build->upstream->max_session_keys;
        uint32_t sessions = max->set ? max->value : 1;
        options.max_sessions = sessions < TLS_SESSIONS_MAX ? sessions : TLS_SESSIONS_MAX;
    }
    if (build->common->key_log)
        options.key_log_path = build->common->key_log->path.ptr;
    attachment->names = validation.names;
    attachment->config = config_ref(build->config);
    options.on_free_arg = attachment;
    context = tls_context_new(&options, error);
    if (context) {
        attachment = NULL; /* the context's */
        validation.names = NULL;
        warn_of_times(context, material, problems);
    } else {
        config_unref(attachment->config);
        cfg_problem_add(problems, CFG_PROBLEM_INVALID,
                        material->certificate_count == 1 ? material->certificates[0].mark
                                                         : mark_of(build),
                        "%s", error);
    }
done:
    san_rules_free(validation.names);
    free(validation.hashes.items);
    free(validation.spkis.items);
    free(ciphers.items);
    free(certificates);
    free(attachment);
    return context;
}
