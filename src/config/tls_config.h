/* tls_config: TLS as users write it: envoy.extensions.transport_sockets.tls.v3, as C structs. Conventions: bootstrap.h. */
#pragma once
#include "config/types.h"

struct cfg_data_source;
struct cfg_string_matcher;

enum cfg_tls_version {
    CFG_TLS_AUTO = 0,
    CFG_TLS_1_0 = 1,
    CFG_TLS_1_1 = 2,
    CFG_TLS_1_2 = 3,
    CFG_TLS_1_3 = 4,
};

struct cfg_tls_params { /* TlsParameters */
    struct cfg_mark mark;
    int tls_minimum_protocol_version, tls_maximum_protocol_version; /* enum cfg_tls_version */
    struct span *cipher_suites, *ecdh_curves, *signature_algorithms;
    size_t cipher_suites_count, ecdh_curves_count, signature_algorithms_count;
};

struct cfg_private_key_provider {
    struct cfg_mark mark;
    struct span provider_name; /* CFG_TLS_BLOCKING_KEYS is the only one there is */
    bool fallback;             /* inert: ours is always there */
};
#define CFG_TLS_BLOCKING_KEYS "sluice.private_keys.blocking_call"

struct cfg_tls_certificate { /* TlsCertificate */
    struct cfg_mark mark;
    struct cfg_data_source *certificate_chain, *private_key, *password;
    struct cfg_private_key_provider *private_key_provider;
    struct span watched_directory;
};

struct cfg_ticket_keys { /* TlsSessionTicketKeys */
    struct cfg_mark mark;
    struct cfg_data_source *keys; /* of 80 bytes each; the first one encrypts */
    size_t keys_count;
};

enum cfg_san_type { CFG_SAN_EMAIL = 1, CFG_SAN_DNS = 2, CFG_SAN_URI = 3, CFG_SAN_IP = 4 };
struct cfg_san_matcher { /* SubjectAltNameMatcher */
    struct cfg_mark mark;
    int san_type;
    struct cfg_string_matcher *matcher;
};

struct cfg_validation_context { /* CertificateValidationContext */
    struct cfg_mark mark;
    struct cfg_data_source *trusted_ca, *crl;
    struct span *verify_certificate_hash, *verify_certificate_spki;
    size_t verify_certificate_hash_count, verify_certificate_spki_count;
    struct cfg_string_matcher *match_subject_alt_names; /* deprecated: of any type */
    size_t match_subject_alt_names_count;
    struct cfg_san_matcher *match_typed_subject_alt_names;
    size_t match_typed_subject_alt_names_count;
    bool allow_expired_certificate;
    int trust_chain_verification; /* 0 VERIFY_TRUST_CHAIN, 1 ACCEPT_UNTRUSTED */
    bool only_verify_leaf_cert_crl;
    struct cfg_u32 max_verify_depth; /* default 100 */
    struct span watched_directory;
};

struct cfg_secret_reference { /* SdsSecretConfig: of static_resources.secrets */
    struct cfg_mark mark;
    struct span name;
};

enum cfg_validation_case {
    CFG_VALIDATION_HERE = 3,
    CFG_VALIDATION_SECRET = 7,
    CFG_VALIDATION_COMBINED = 8,
};
struct cfg_key_log { /* TlsKeyLog */
    struct cfg_mark mark;
    struct span path;
};
struct cfg_tls_common { /* CommonTlsContext */
    struct cfg_mark mark;
    struct cfg_tls_params *tls_params;
    struct cfg_tls_certificate *tls_certificates;
    size_t tls_certificates_count;
    struct cfg_secret_reference *tls_certificate_sds_secret_configs;
    size_t tls_certificate_sds_secret_configs_count;
    int validation_context_type_case; /* enum cfg_validation_case */
    struct cfg_validation_context *validation_context;
    struct cfg_secret_reference *validation_context_sds_secret_config;
    /* combined_validation_context: */
    struct cfg_validation_context *default_validation_context;
    struct cfg_secret_reference *combined_secret_config;
    struct span *alpn_protocols;
    size_t alpn_protocols_count;
    struct cfg_key_log *key_log;
};

enum cfg_ticket_case {
    CFG_TICKETS_KEYS = 4,
    CFG_TICKETS_SECRET = 5,
    CFG_TICKETS_DISABLED = 7,
};
struct cfg_downstream_tls { /* DownstreamTlsContext */
    struct cfg_mark mark;
    struct cfg_tls_common common;
    struct cfg_bool require_client_certificate; /* default false */
    int session_ticket_keys_type_case;          /* enum cfg_ticket_case */
    struct cfg_ticket_keys *session_ticket_keys;
    struct cfg_secret_reference *session_ticket_keys_sds_secret_config;
    bool disable_stateless_session_resumption;
    struct cfg_duration session_timeout; /* default 7200 s, BoringSSL's */
    int ocsp_staple_policy;              /* 0 LENIENT_STAPLING; others refused */
    struct cfg_bool full_scan_certs_on_sni_mismatch;
    bool disable_stateful_session_resumption;
    bool prefer_client_ciphers;
};

struct cfg_upstream_tls { /* UpstreamTlsContext */
    struct cfg_mark mark;
    struct cfg_tls_common common;
    struct span sni;
    bool allow_renegotiation;        /* only false */
    struct cfg_u32 max_session_keys; /* default 1; 0: no resumption */
    bool auto_host_sni, auto_sni_san_validation;
};

struct cfg_secret { /* Secret */
    struct cfg_mark mark;
    struct span name;
    int type_case; /* 2 tls_certificate, 3 session_ticket_keys, 4 validation_context */
    struct cfg_tls_certificate *tls_certificate;
    struct cfg_ticket_keys *session_ticket_keys;
    struct cfg_validation_context *validation_context;
};

extern const struct cfg_schema cfg_schema_downstream_tls;
extern const struct cfg_schema cfg_schema_upstream_tls;
extern const struct cfg_schema cfg_schema_raw_buffer;
