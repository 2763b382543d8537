/* tls_material: each source is read once per reading and kept as a copy of its own, so that a reading is of one moment
 * as far as files allow: a certificate and its key are two files, and whoever replaces them one after the other shows
 * us a pair that does not match in between. That is an error of the reading, the next event brings the other file. */
#include "filter/tls_material.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "config/data_source.h"

enum { TICKET_KEY_BYTES = 80 };

struct reading {
    const struct config *config;
    struct cfg_problems *problems;
    struct tls_material *out;
    bool failed;
};

#define REPORT(reading, mark, ...)                                                                 \
    do {                                                                                           \
        (reading)->failed = true;                                                                  \
        cfg_problem_add((reading)->problems, CFG_PROBLEM_INVALID, mark, __VA_ARGS__);              \
    } while (0)

/* ---- files and other sources ---- */

static bool add_span(struct span **list, size_t *count, struct span item) {
    for (size_t i = 0; i < *count; i++)
        if (span_eq((*list)[i], item))
            return true;
    struct span *grown = realloc(*list, (*count + 1) * sizeof **list);
    if (!grown)
        return false;
    *list = grown;
    grown[(*count)++] = item;
    return true;
}

static struct tls_bytes read_source(struct reading *reading, const struct cfg_data_source *source,
                                    const char *what) {
    struct tls_bytes none = {.bytes = span_none()};
    if (!source || (source->specifier_case == CFG_DATA_FILENAME && source->filename.len == 0))
        return none; /* the latter was refused when the config was read */
    bool is_file = source->specifier_case == CFG_DATA_FILENAME;
    if (is_file && !add_span(&reading->out->files, &reading->out->file_count, source->filename))
        reading->problems->lost = reading->failed = true;
    size_t len;
    char *bytes =
        cfg_data_source_read(source, what, TLS_FILE_MAX, &source->mark, reading->problems, &len);
    if (!bytes) {
        reading->failed = true;
        return none;
    }
    return (struct tls_bytes){.memory = bytes,
                              .bytes = span_make(bytes, len),
                              .source = is_file ? source->filename : SPAN_LIT("<inline>")};
}

static void watch(struct reading *reading, struct span directory) {
    if (directory.len &&
        !add_span(&reading->out->directories, &reading->out->directory_count, directory))
        reading->problems->lost = reading->failed = true;
}

/* ---- secrets ---- */

static const struct cfg_secret *find_secret(struct reading *reading,
                                            const struct cfg_secret_reference *reference,
                                            int type_case, const char *what) {
    const struct cfg_static_resources *resources =
        config_bootstrap(reading->config)->static_resources;
    for (size_t i = 0; resources && i < resources->secrets_count; i++) {
        const struct cfg_secret *secret = &resources->secrets[i];
        if (!span_eq(secret->name, reference->name))
            continue;
        if (secret->type_case == type_case)
            return secret;
        REPORT(reading, &reference->mark, "the secret '%.*s' of line %u is not a %s",
               (int)reference->name.len, reference->name.ptr, secret->mark.line, what);
        return NULL;
    }
    REPORT(reading, &reference->mark, "there is no secret '%.*s' in static_resources.secrets",
           (int)reference->name.len, reference->name.ptr);
    return NULL;
}

/* ---- certificates ---- */

static void read_certificate(struct reading *reading, const struct cfg_tls_certificate *config) {
    struct tls_certificate_material *certificate =
        &reading->out->certificates[reading->out->certificate_count++];
    certificate->mark = &config->mark;
    certificate->chain = read_source(reading, config->certificate_chain, "certificate_chain");
    certificate->key = read_source(reading, config->private_key, "private_key");
    certificate->password = read_source(reading, config->password, "password");
    certificate->blocking_keys = config->private_key_provider != NULL;
    watch(reading, config->watched_directory);
}

static void read_certificates(struct reading *reading, const struct cfg_tls_common *common) {
    size_t count =
        common->tls_certificates_count + common->tls_certificate_sds_secret_configs_count;
    reading->out->certificates = calloc(count + 1, sizeof *reading->out->certificates);
    if (!reading->out->certificates) {
        reading->problems->lost = reading->failed = true;
        return;
    }
    for (size_t i = 0; i < common->tls_certificates_count; i++)
        read_certificate(reading, &common->tls_certificates[i]);
    for (size_t i = 0; i < common->tls_certificate_sds_secret_configs_count; i++) {
        const struct cfg_secret *secret = find_secret(
            reading, &common->tls_certificate_sds_secret_configs[i], 2, "tls_certificate");
        if (secret)
            read_certificate(reading, secret->tls_certificate);
    }
}

/* ---- validation ---- */

static const struct cfg_validation_context *
validation_secret(struct reading *reading, const struct cfg_secret_reference *reference) {
    const struct cfg_secret *secret = find_secret(reading, reference, 4, "validation_context");
    return secret ? secret->validation_context : NULL;
}

/* As Envoy: without authorities nothing of a chain is verified, so to ask for more is a mistake. */
static void check_validation(struct reading *reading,
                             const struct tls_validation_material *validation) {
    if (!span_is_none(validation->trusted_ca.bytes) || reading->failed)
        return;
    if (!span_is_none(validation->crl.bytes))
        REPORT(reading, validation->mark, "crl needs trusted_ca: without it no chain is verified");
    for (unsigned i = 0; i < validation->part_count; i++) {
        const struct cfg_validation_context *part = validation->parts[i];
        if (part->match_subject_alt_names_count || part->match_typed_subject_alt_names_count)
            REPORT(reading, &part->mark,
                   "names of a certificate that nobody has verified say nothing: set trusted_ca, "
                   "or leave out match_typed_subject_alt_names");
        if (part->allow_expired_certificate)
            REPORT(reading, &part->mark,
                   "without trusted_ca a certificate's time is never looked at: leave out "
                   "allow_expired_certificate");
    }
}

static void read_validation(struct reading *reading, const struct cfg_tls_common *common) {
    struct tls_validation_material *validation = &reading->out->validation;
    const struct cfg_validation_context *parts[2] = {NULL, NULL};
    switch (common->validation_context_type_case) {
    case CFG_VALIDATION_HERE:
        parts[0] = common->validation_context;
        break;
    case CFG_VALIDATION_SECRET:
        parts[0] = validation_secret(reading, common->validation_context_sds_secret_config);
        break;
    case CFG_VALIDATION_COMBINED:
        parts[0] = common->default_validation_context;
        if (common->combined_secret_config)
            parts[1] = validation_secret(reading, common->combined_secret_config);
        break;
    default:
        return;
    }
    for (unsigned i = 0; i < 2; i++) {
        if (!parts[i])
            continue;
        validation->parts[validation->part_count++] = parts[i];
        validation->mark = &parts[i]->mark;
        watch(reading, parts[i]->watched_directory);
    }
    /* What the secret has replaces what the default has, as protobuf's MergeFrom. */
    const struct cfg_data_source *ca = NULL, *crl = NULL;
    for (unsigned i = 0; i < validation->part_count; i++) {
        ca = validation->parts[i]->trusted_ca ? validation->parts[i]->trusted_ca : ca;
        crl = validation->parts[i]->crl ? validation->parts[i]->crl : crl;
    }
    validation->trusted_ca = read_source(reading, ca, "trusted_ca");
    validation->crl = read_source(reading, crl, "crl");
    if (validation->part_count)
        check_validation(reading, validation);
}

/* ---- ticket keys ---- */

static void read_ticket_keys(struct reading *reading, const struct cfg_downstream_tls *tls) {
    const struct cfg_ticket_keys *config = NULL;
    if (tls->session_ticket_keys_type_case == CFG_TICKETS_KEYS) {
        config = tls->session_ticket_keys;
    } else if (tls->session_ticket_keys_type_case == CFG_TICKETS_SECRET) {
        const struct cfg_secret *secret = find_secret(
            reading, tls->session_ticket_keys_sds_secret_config, 3, "session_ticket_keys");
        config = secret ? secret->session_ticket_keys : NULL;
    }
    if (!config)
        return;
    struct tls_material *out = reading->out;
    out->has_ticket_keys = true;
    out->ticket_keys = calloc(config->keys_count + 1, sizeof *out->ticket_keys);
    if (!out->ticket_keys) {
        reading->problems->lost = reading->failed = true;
        return;
    }
    for (size_t i = 0; i < config->keys_count; i++) {
        struct tls_bytes key = read_source(reading, &config->keys[i], "keys");
        out->ticket_keys[out->ticket_key_count++] = key;
        if (!span_is_none(key.bytes) && key.bytes.len != TICKET_KEY_BYTES)
            REPORT(reading, &config->keys[i].mark,
                   "a session ticket key has %d bytes, %.*s has %zu: make one with "
                   "\"openssl rand %d\"",
                   TICKET_KEY_BYTES, (int)key.source.len, key.source.ptr, key.bytes.len,
                   TICKET_KEY_BYTES);
    }
}

/* ---- the whole ---- */

int tls_material_read(const struct cfg_tls_common *common,
                      const struct cfg_downstream_tls *downstream, const struct config *config,
                      struct cfg_problems *problems, struct tls_material *out) {
    *out = (struct tls_material){.certificates = NULL};
    struct reading reading = {.config = config, .problems = problems, .out = out};
    read_certificates(&reading, common);
    read_validation(&reading, common);
    if (downstream)
        read_ticket_keys(&reading, downstream);
    return reading.failed ? -EINVAL : 0;
}

static void release(struct tls_bytes *bytes) {
    if (!bytes->memory)
        return;
    /* Keys and passwords lie nowhere longer than they must. */
    explicit_bzero(bytes->memory, bytes->bytes.len);
    free(bytes->memory);
}

void tls_material_fini(struct tls_material *material) {
    for (size_t i = 0; i < material->certificate_count; i++) {
        release(&material->certificates[i].chain);
        release(&material->certificates[i].key);
        release(&material->certificates[i].password);
    }
    for (size_t i = 0; i < material->ticket_key_count; i++)
        release(&material->ticket_keys[i]);
    release(&material->validation.trusted_ca);
    release(&material->validation.crl);
    free(material->certificates);
    free(material->ticket_keys);
    free(material->directories);
    free(material->files);
    *material = (struct tls_material){.certificates = NULL};
}

static bool same_bytes(const struct tls_bytes *a, const struct tls_bytes *b) {
    return span_is_none(a->bytes) == span_is_none(b->bytes) && span_eq(a->bytes, b->bytes);
}

bool tls_material_same(const struct tls_material *a, const struct tls_material *b) {
    if (a->certificate_count != b->certificate_count ||
        a->ticket_key_count != b->ticket_key_count ||
        !same_bytes(&a->validation.trusted_ca, &b->validation.trusted_ca) ||
        !same_bytes(&a->validation.crl, &b->validation.crl))
        return false;
    for (size_t i = 0; i < a->certificate_count; i++)
        if (!same_bytes(&a->certificates[i].chain, &b->certificates[i].chain) ||
            !same_bytes(&a->certificates[i].key, &b->certificates[i].key) ||
            !same_bytes(&a->certificates[i].password, &b->certificates[i].password))
            return false;
    for (size_t i = 0; i < a->ticket_key_count; i++)
        if (!same_bytes(&a->ticket_keys[i], &b->ticket_keys[i]))
            return false;
    return true;
}
