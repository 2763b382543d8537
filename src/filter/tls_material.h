/* tls_material: the bytes that a transport socket's configuration refers to: certificates, keys, authorities. Read from
 * files, the configuration itself or the environment, with secrets looked up by their names.
 *
 * Ownership  What it points to is the config's, which it outlives nowhere, but for what was read, which it owns.
 * Threads    Off the Ps, as files are read. Then read-only.
 * Errors     Problems with the place in the configuration: whoever reads them knows which file to look at. */
#pragma once
#include "config/config.h"
#include "config/tls_config.h"

enum {
    TLS_FILE_MAX = 4 << 20
}; /* bytes of a file: the usual bundle of all authorities has a quarter of it */

struct tls_bytes {
    char *memory;       /* owned; NULL: not given */
    struct span bytes;  /* NUL-terminated beyond; absent: not given */
    struct span source; /* how messages call it: the file's path, or "<inline>", as Envoy does */
};

struct tls_certificate_material {
    const struct cfg_mark *mark; /* of the certificate in the configuration */
    struct tls_bytes chain, key, password;
    bool blocking_keys;
};

/* A validation context with what a secret says put over it. Lists of both are joined. */
struct tls_validation_material {
    const struct cfg_mark *mark;
    /* [0] the configuration's own, [1] the secret's or NULL: what is a scalar counts where it is set last. */
    const struct cfg_validation_context *parts[2];
    unsigned part_count; /* 0: there is none */
    struct tls_bytes trusted_ca, crl;
};

struct tls_material {
    struct tls_certificate_material *certificates;
    size_t certificate_count;
    struct tls_validation_material validation;
    struct tls_bytes *ticket_keys; /* 80 bytes each */
    size_t ticket_key_count;
    bool has_ticket_keys;     /* then there is at least one, or a problem was reported */
    struct span *directories; /* to be watched, as configured; borrowed of the config */
    size_t directory_count;
    struct span *files; /* that were read; borrowed of the config */
    size_t file_count;
};

/* downstream: NULL for an upstream's. 0, or -EINVAL with problems reported; then *out has what could be read, and is
 * to be released all the same. */
MUST_CHECK int tls_material_read(const struct cfg_tls_common *common,
                                 const struct cfg_downstream_tls *downstream,
                                 const struct config *config, struct cfg_problems *problems,
                                 struct tls_material *out);
void tls_material_fini(struct tls_material *material);
/* Whether both were read alike: then there is nothing to be done. */
bool tls_material_same(const struct tls_material *a, const struct tls_material *b);
