/* tls_build: a TLS context of what the configuration says and of the bytes it refers to.
 *
 * Threads  Off the Ps: keys are read and checked. */
#pragma once
#include "filter/tls_material.h"
#include "io/tls.h"

struct tls_build {
    const struct cfg_tls_common *common;
    const struct cfg_downstream_tls *downstream; /* NULL: an upstream's */
    const struct cfg_upstream_tls *upstream;     /* or this */
    struct config *config;
    const struct span *alpn; /* instead of what is configured: what can be served */
    size_t alpn_count;
    struct tls_tickets *tickets;             /* NULL: no resumption by them */
    struct tls_session_cache *session_cache; /* NULL: none by id */
    const struct statistic *truncated;       /* as of tls_options */
};

/* NULL with problems reported: what is wrong, where in the configuration it comes from, and what would be right. A
 * certificate that has expired is a warning. The context holds the config as long as it lives. */
struct tls_context *tls_build(const struct tls_build *build, const struct tls_material *material,
                              struct cfg_problems *problems);
