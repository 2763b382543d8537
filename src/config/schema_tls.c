/* schema_tls: envoy.extensions.transport_sockets: tls, raw_buffer, and the secrets they refer to. */
#include "config/load.h"
#include "config/schema_tables.h"
#include "config/tls_config.h"

#define TLS "envoy.extensions.transport_sockets.tls.v3."

/* ---- parameters ---- */

static const struct cfg_enum_value protocol_values[] = {
    {CFG_TLS_AUTO, "TLS_AUTO", CFG_SUPPORTED}, {CFG_TLS_1_0, "TLSv1_0", CFG_SUPPORTED},
    {CFG_TLS_1_1, "TLSv1_1", CFG_SUPPORTED},   {CFG_TLS_1_2, "TLSv1_2", CFG_SUPPORTED},
    {CFG_TLS_1_3, "TLSv1_3", CFG_SUPPORTED},
};
static const struct cfg_enum protocol_enum =
    ENUM_TABLE(TLS "TlsParameters.TlsProtocol", protocol_values);

static const struct cfg_field params_fields[] = {
    ENUM(struct cfg_tls_params, 1, tls_minimum_protocol_version, protocol_enum,
         .default_text = "TLSv1_2", .doc = "The oldest version that is spoken."),
    ENUM(struct cfg_tls_params, 2, tls_maximum_protocol_version, protocol_enum,
         .default_text = "TLSv1_2 to a cluster, TLSv1_3 on a listener",
         .doc = "The newest version that is spoken."),
    SCALARS(struct cfg_tls_params, 3, cipher_suites, CFG_STRING,
            .default_text = "ECDHE with AES-GCM or ChaCha20-Poly1305",
            .doc = "Cipher suites of TLS 1.2 and older, OpenSSL's names, the best one first; "
                   "`[A|B]` are equally good. TLS 1.3 has its own, which cannot be chosen."),
    SCALARS(struct cfg_tls_params, 4, ecdh_curves, CFG_STRING, .default_text = "X25519, P-256",
            .doc = "Groups of the key exchange, the best one first."),
    SCALARS(struct cfg_tls_params, 5, signature_algorithms, CFG_STRING,
            .doc = "Signature algorithms, such as `rsa_pss_rsae_sha256`, the best one first."),
};

static void check_params(struct cfg_loader *loader, const struct cfg_tree *node,
                         const struct cfg_path *path, void *message) {
    const struct cfg_tls_params *params = message;
    int oldest = params->tls_minimum_protocol_version;
    int newest = params->tls_maximum_protocol_version;
    if (newest != CFG_TLS_AUTO && oldest > newest)
        cfg_report(loader, CFG_PROBLEM_INVALID, node, path,
                   "tls_minimum_protocol_version is above tls_maximum_protocol_version");
}

static const struct cfg_schema params_schema = {
    .name = TLS "TlsParameters",
    .doc = "Versions and algorithms.",
    .size = sizeof(struct cfg_tls_params),
    MARK(struct cfg_tls_params),
    FIELDS(params_fields),
    .check = check_params,
};

/* ---- directories ---- */

#define WATCHED(T, num)                                                                            \
    INLINE(T, num, watched_directory, struct span, cfg_schema_watched_directory,                   \
           .default_text = "the files' own directories",                                           \
           .doc = "Changes of this directory make the files be read again.")

/* ---- certificates ---- */

static const struct cfg_field provider_fields[] = {
    FIELD(struct cfg_private_key_provider, 1, provider_name, CFG_STRING, .rules = CFG_REQUIRED,
          .doc = "`" CFG_TLS_BLOCKING_KEYS "`, which Envoy has not: signs with private_key on a "
                 "thread of its own, not on a worker, so that large RSA keys hold up nobody else."),
    FIELD(struct cfg_private_key_provider, 4, fallback, CFG_BOOL, .status = CFG_INERT,
          .doc = "Do without the provider if it is not there. It is."),
};
static const struct cfg_missing provider_missing[] = {{3, "typed_config"}};

static void check_provider(struct cfg_loader *loader, const struct cfg_tree *node,
                           const struct cfg_path *path, void *message) {
    const struct cfg_private_key_provider *provider = message;
    if (provider->provider_name.len &&
        !span_eq(provider->provider_name, SPAN_LIT(CFG_TLS_BLOCKING_KEYS)))
        cfg_report(loader, CFG_PROBLEM_UNSUPPORTED, node, path,
                   "the private key provider \"%.*s\" is not supported; there is "
                   "\"" CFG_TLS_BLOCKING_KEYS "\"",
                   (int)provider->provider_name.len, provider->provider_name.ptr);
}

static const struct cfg_schema provider_schema = {
    .name = TLS "PrivateKeyProvider",
    .doc = "Who signs with a private key.",
    .size = sizeof(struct cfg_private_key_provider),
    MARK(struct cfg_private_key_provider),
    FIELDS(provider_fields),
    MISSING(provider_missing),
    .check = check_provider,
};

static const struct cfg_field certificate_fields[] = {
    POINTER(struct cfg_tls_certificate, 1, certificate_chain, struct cfg_data_source,
            cfg_schema_data_source, .rules = CFG_REQUIRED,
            .doc = "The certificate and those between it and the root, as PEM, in this order."),
    POINTER(struct cfg_tls_certificate, 2, private_key, struct cfg_data_source,
            cfg_schema_data_source, .rules = CFG_REQUIRED | CFG_SECRET,
            .doc = "Its private key, as PEM."),
    POINTER(struct cfg_tls_certificate, 3, password, struct cfg_data_source, cfg_schema_data_source,
            .rules = CFG_SECRET, .doc = "What private_key is encrypted with."),
    POINTER(struct cfg_tls_certificate, 6, private_key_provider, struct cfg_private_key_provider,
            provider_schema, .doc = "Who signs with private_key, if not the worker itself."),
    WATCHED(struct cfg_tls_certificate, 7),
};
static const struct cfg_missing certificate_missing[] = {
    {4, "ocsp_staple"},
    {5, "signed_certificate_timestamp"},
    {8, "pkcs12"},
};
static const struct cfg_schema certificate_schema = {
    .name = TLS "TlsCertificate",
    .doc = "A certificate and its key.",
    .size = sizeof(struct cfg_tls_certificate),
    MARK(struct cfg_tls_certificate),
    FIELDS(certificate_fields),
    MISSING(certificate_missing),
};

static const struct cfg_field ticket_keys_fields[] = {
    LIST(struct cfg_ticket_keys, 1, keys, struct cfg_data_source, cfg_schema_data_source,
         .rules = CFG_REQUIRED | CFG_MAX_ITEMS | CFG_SECRET, .max = 16,
         .doc = "80 random bytes each. The first one encrypts new tickets, all of them decrypt."),
};
static const struct cfg_schema ticket_keys_schema = {
    .name = TLS "TlsSessionTicketKeys",
    .doc = "Keys of session tickets.",
    .size = sizeof(struct cfg_ticket_keys),
    MARK(struct cfg_ticket_keys),
    FIELDS(ticket_keys_fields),
};

/* ---- validation ---- */

static const struct cfg_enum_value san_type_values[] = {
    {0, "SAN_TYPE_UNSPECIFIED", CFG_SUPPORTED}, {CFG_SAN_EMAIL, "EMAIL", CFG_SUPPORTED},
    {CFG_SAN_DNS, "DNS", CFG_SUPPORTED},        {CFG_SAN_URI, "URI", CFG_SUPPORTED},
    {CFG_SAN_IP, "IP_ADDRESS", CFG_SUPPORTED},  {5, "OTHER_NAME", CFG_UNSUPPORTED},
};
static const struct cfg_enum san_type_enum =
    ENUM_TABLE(TLS "SubjectAltNameMatcher.SanType", san_type_values);

static const struct cfg_field san_matcher_fields[] = {
    ENUM(struct cfg_san_matcher, 1, san_type, san_type_enum,
         .doc = "Of which type the name is. Required."),
    POINTER(struct cfg_san_matcher, 2, matcher, struct cfg_string_matcher,
            cfg_schema_string_matcher, .rules = CFG_REQUIRED,
            .doc = "What it is. An exact DNS name is also met by a wildcard of the certificate."),
};
static const struct cfg_missing san_matcher_missing[] = {{3, "oid"}};

static void check_san_matcher(struct cfg_loader *loader, const struct cfg_tree *node,
                              const struct cfg_path *path, void *message) {
    const struct cfg_san_matcher *matcher = message;
    if (matcher->san_type == 0 && !cfg_tree_get(node, SPAN_LIT("oid")))
        cfg_report(loader, CFG_PROBLEM_INVALID, node, path,
                   "san_type is required: EMAIL, DNS, URI or IP_ADDRESS");
}

static const struct cfg_schema san_matcher_schema = {
    .name = TLS "SubjectAltNameMatcher",
    .doc = "A name that a certificate must have.",
    .size = sizeof(struct cfg_san_matcher),
    MARK(struct cfg_san_matcher),
    FIELDS(san_matcher_fields),
    MISSING(san_matcher_missing),
    .check = check_san_matcher,
};

static const struct cfg_enum_value trust_values[] = {
    {0, "VERIFY_TRUST_CHAIN", CFG_SUPPORTED},
    {1, "ACCEPT_UNTRUSTED", CFG_SUPPORTED},
};
static const struct cfg_enum trust_enum =
    ENUM_TABLE(TLS "CertificateValidationContext.TrustChainVerification", trust_values);

static const struct cfg_field validation_fields[] = {
    POINTER(struct cfg_validation_context, 1, trusted_ca, struct cfg_data_source,
            cfg_schema_data_source,
            .doc = "Certificates that are trusted, as PEM. Without it nobody's is verified."),
    SCALARS(struct cfg_validation_context, 2, verify_certificate_hash, CFG_STRING,
            .rules = CFG_MAX_LEN, .max = 95,
            .doc = "SHA-256 of a certificate that is accepted: hexadecimal, with or without "
                   "colons."),
    SCALARS(struct cfg_validation_context, 3, verify_certificate_spki, CFG_STRING,
            .rules = CFG_MAX_LEN, .max = 44,
            .doc = "SHA-256 of a public key that is accepted: base64. It or a hash must match, if "
                   "there are any."),
    POINTER(struct cfg_validation_context, 7, crl, struct cfg_data_source, cfg_schema_data_source,
            .doc = "Revocation lists, as PEM, one for each authority of a chain."),
    FIELD(struct cfg_validation_context, 8, allow_expired_certificate, CFG_BOOL,
          .doc = "Accept certificates outside of their time."),
    LIST(struct cfg_validation_context, 9, match_subject_alt_names, struct cfg_string_matcher,
         cfg_schema_string_matcher,
         .doc = "Deprecated: as match_typed_subject_alt_names, of DNS, URI, e-mail and IP."),
    ENUM(struct cfg_validation_context, 10, trust_chain_verification, trust_enum,
         .default_text = "VERIFY_TRUST_CHAIN",
         .doc = "ACCEPT_UNTRUSTED lets everybody in; `validated` of a route's tls_context tells."),
    WATCHED(struct cfg_validation_context, 11),
    FIELD(struct cfg_validation_context, 14, only_verify_leaf_cert_crl, CFG_BOOL,
          .doc = "Look up only the last certificate of a chain in crl."),
    LIST(struct cfg_validation_context, 15, match_typed_subject_alt_names, struct cfg_san_matcher,
         san_matcher_schema,
         .doc = "Names of which a certificate must have one. With any, or with hashes, a client "
                "must have a certificate."),
    WRAPPER(struct cfg_validation_context, 16, max_verify_depth, CFG_U32, WITHIN(0, 100),
            .default_text = "100",
            .doc = "How many certificates may stand between a certificate and its root."),
};
static const struct cfg_missing validation_missing[] = {
    {6, "require_signed_certificate_timestamp"},
    {12, "custom_validator_config"},
    {13, "ca_certificate_provider_instance"},
    {17, "system_root_certs"},
};

static size_t count_digits(struct span text) {
    size_t count = 0;
    for (size_t i = 0; i < text.len; i++)
        count += (text.ptr[i] >= '0' && text.ptr[i] <= '9') ||
                 ((text.ptr[i] | 0x20) >= 'a' && (text.ptr[i] | 0x20) <= 'f');
    return count;
}

static void check_validation(struct cfg_loader *loader, const struct cfg_tree *node,
                             const struct cfg_path *path, void *message) {
    const struct cfg_validation_context *validation = message;
    for (size_t i = 0; i < validation->verify_certificate_hash_count; i++) {
        struct span hash = validation->verify_certificate_hash[i];
        if (count_digits(hash) != 64 || (hash.len != 64 && hash.len != 95))
            cfg_report(loader, CFG_PROBLEM_INVALID, node, path,
                       "verify_certificate_hash[%zu] is no SHA-256: 64 hexadecimal digits, or 32 "
                       "pairs with colons between them",
                       i);
    }
    for (size_t i = 0; i < validation->verify_certificate_spki_count; i++) {
        struct span spki = validation->verify_certificate_spki[i];
        if (spki.len != 44 || spki.ptr[43] != '=')
            cfg_report(loader, CFG_PROBLEM_INVALID, node, path,
                       "verify_certificate_spki[%zu] is no SHA-256 in base64: 44 characters, the "
                       "last one '='",
                       i);
    }
}

static const struct cfg_schema validation_schema = {
    .name = TLS "CertificateValidationContext",
    .doc = "Whose certificates are accepted.",
    .size = sizeof(struct cfg_validation_context),
    MARK(struct cfg_validation_context),
    FIELDS(validation_fields),
    MISSING(validation_missing),
    .check = check_validation,
};

/* ---- secrets ---- */

static const struct cfg_field reference_fields[] = {
    FIELD(struct cfg_secret_reference, 1, name, CFG_STRING, .rules = CFG_REQUIRED,
          .doc = "Of one of static_resources.secrets."),
};
static const struct cfg_missing reference_missing[] = {{2, "sds_config"}};
const struct cfg_schema cfg_schema_secret_reference = {
    .name = TLS "SdsSecretConfig",
    .doc = "A secret by its name.",
    .size = sizeof(struct cfg_secret_reference),
    MARK(struct cfg_secret_reference),
    FIELDS(reference_fields),
    MISSING(reference_missing),
};

#define KIND ONEOF(struct cfg_secret, type)
static const struct cfg_field secret_fields[] = {
    FIELD(struct cfg_secret, 1, name, CFG_STRING, .rules = CFG_REQUIRED,
          .doc = "What others call it; unique."),
    POINTER(struct cfg_secret, 2, tls_certificate, struct cfg_tls_certificate, certificate_schema,
            KIND, .rules = CFG_ONEOF_REQUIRED, .doc = "A certificate and its key."),
    POINTER(struct cfg_secret, 3, session_ticket_keys, struct cfg_ticket_keys, ticket_keys_schema,
            KIND, .rules = CFG_ONEOF_REQUIRED, .doc = "Keys of session tickets."),
    POINTER(struct cfg_secret, 4, validation_context, struct cfg_validation_context,
            validation_schema, KIND, .rules = CFG_ONEOF_REQUIRED,
            .doc = "Whose certificates are accepted."),
};
static const struct cfg_missing secret_missing[] = {{5, "generic_secret"}};
const struct cfg_schema cfg_schema_secret = {
    .name = TLS "Secret",
    .doc = "What several transport sockets share.",
    .size = sizeof(struct cfg_secret),
    MARK(struct cfg_secret),
    FIELDS(secret_fields),
    MISSING(secret_missing),
};

/* ---- contexts ---- */

static const struct cfg_field key_log_fields[] = {
    FIELD(struct cfg_key_log, 1, path, CFG_STRING, .rules = CFG_REQUIRED,
          .doc = "The file, in NSS' key log format. Whoever reads it reads the traffic."),
};
static const struct cfg_missing key_log_missing[] = {
    {2, "local_address_range"},
    {3, "remote_address_range"},
};
static const struct cfg_schema key_log_schema = {
    .name = TLS "TlsKeyLog",
    .doc = "Keys of connections, for debugging.",
    .size = sizeof(struct cfg_key_log),
    MARK(struct cfg_key_log),
    FIELDS(key_log_fields),
    MISSING(key_log_missing),
};

static const struct cfg_field combined_fields[] = {
    POINTER(struct cfg_tls_common, 1, default_validation_context, struct cfg_validation_context,
            validation_schema, .rules = CFG_REQUIRED,
            .doc = "What holds where the secret says nothing else; lists are joined."),
    POINTER_AS(struct cfg_tls_common, 2, "validation_context_sds_secret_config",
               combined_secret_config, struct cfg_secret_reference, cfg_schema_secret_reference,
               .rules = CFG_REQUIRED, .doc = "The secret."),
};
static const struct cfg_missing combined_missing[] = {
    {3, "validation_context_certificate_provider"},
    {4, "validation_context_certificate_provider_instance"},
};
static const struct cfg_schema combined_schema = {
    .name = TLS "CommonTlsContext.CombinedCertificateValidationContext",
    .doc = "Settings of its own over those of a secret.",
    .size = sizeof(struct cfg_tls_common),
    FIELDS(combined_fields),
    MISSING(combined_missing),
};

#define VALIDATION ONEOF(struct cfg_tls_common, validation_context_type)
static const struct cfg_field common_fields[] = {
    POINTER(struct cfg_tls_common, 1, tls_params, struct cfg_tls_params, params_schema,
            .doc = "Versions and algorithms."),
    LIST(struct cfg_tls_common, 2, tls_certificates, struct cfg_tls_certificate, certificate_schema,
         .doc = "Certificates: on a listener the one that the client's SNI asks for is shown."),
    POINTER(struct cfg_tls_common, 3, validation_context, struct cfg_validation_context,
            validation_schema, VALIDATION, .doc = "Whose certificates are accepted."),
    SCALARS(struct cfg_tls_common, 4, alpn_protocols, CFG_STRING,
            .doc = "Protocols in the order of preference: `http/1.1`. `h2` is not offered before "
                   "HTTP connection managers, which do not speak it yet."),
    LIST(struct cfg_tls_common, 6, tls_certificate_sds_secret_configs, struct cfg_secret_reference,
         cfg_schema_secret_reference,
         .doc = "Certificates by the names of secrets, instead of the above."),
    POINTER(struct cfg_tls_common, 7, validation_context_sds_secret_config,
            struct cfg_secret_reference, cfg_schema_secret_reference, VALIDATION,
            .doc = "validation_context by the name of a secret."),
    FLAT(struct cfg_tls_common, 8, "combined_validation_context", combined_schema, VALIDATION,
         .doc = "Both of the above."),
    POINTER(struct cfg_tls_common, 15, key_log, struct cfg_key_log, key_log_schema,
            .doc = "Writes the keys of connections to a file. Off by default."),
};
static const struct cfg_missing common_missing[] = {
    {9, "tls_certificate_certificate_provider"},
    {10, "validation_context_certificate_provider"},
    {11, "tls_certificate_certificate_provider_instance"},
    {12, "validation_context_certificate_provider_instance"},
    {13, "custom_handshaker"},
    {14, "tls_certificate_provider_instance"},
    {16, "custom_tls_certificate_selector"},
};

static void check_common(struct cfg_loader *loader, const struct cfg_tree *node,
                         const struct cfg_path *path, void *message) {
    const struct cfg_tls_common *common = message;
    if (common->tls_certificates_count && common->tls_certificate_sds_secret_configs_count)
        cfg_report(loader, CFG_PROBLEM_INVALID, node, path,
                   "tls_certificates and tls_certificate_sds_secret_configs cannot both be set");
    for (size_t i = 0; i < common->alpn_protocols_count; i++)
        if (common->alpn_protocols[i].len == 0 || common->alpn_protocols[i].len > 255)
            cfg_report(loader, CFG_PROBLEM_INVALID, node, path,
                       "alpn_protocols[%zu] must have 1 to 255 bytes", i);
}

static const struct cfg_schema common_schema = {
    .name = TLS "CommonTlsContext",
    .doc = "What both sides of TLS have in common.",
    .size = sizeof(struct cfg_tls_common),
    MARK(struct cfg_tls_common),
    FIELDS(common_fields),
    MISSING(common_missing),
    .check = check_common,
};

static const struct cfg_enum_value staple_values[] = {
    {0, "LENIENT_STAPLING", CFG_SUPPORTED},
    {1, "STRICT_STAPLING", CFG_UNSUPPORTED},
    {2, "MUST_STAPLE", CFG_UNSUPPORTED},
};
static const struct cfg_enum staple_enum =
    ENUM_TABLE(TLS "DownstreamTlsContext.OcspStaplePolicy", staple_values);

#define TICKETS ONEOF(struct cfg_downstream_tls, session_ticket_keys_type)
static const struct cfg_field downstream_fields[] = {
    INLINE_AS(struct cfg_downstream_tls, 1, "common_tls_context", common, struct cfg_tls_common,
              common_schema, .doc = "Certificates and more."),
    WRAPPER(struct cfg_downstream_tls, 2, require_client_certificate, CFG_BOOL,
            .default_text = "false", .doc = "Refuse clients without a certificate."),
    POINTER(struct cfg_downstream_tls, 4, session_ticket_keys, struct cfg_ticket_keys,
            ticket_keys_schema, TICKETS,
            .default_text = "random ones, of this process and this configuration",
            .doc = "Keys of session tickets, to be shared by several proxies."),
    POINTER(struct cfg_downstream_tls, 5, session_ticket_keys_sds_secret_config,
            struct cfg_secret_reference, cfg_schema_secret_reference, TICKETS,
            .doc = "The same by the name of a secret."),
    FIELD(struct cfg_downstream_tls, 6, session_timeout, CFG_DURATION, .default_text = "7200s",
          WITHIN(0, 4294967296000000000), .doc = "For how long a session can be resumed."),
    FIELD(struct cfg_downstream_tls, 7, disable_stateless_session_resumption, CFG_BOOL, TICKETS,
          .doc = "No session tickets."),
    ENUM(struct cfg_downstream_tls, 8, ocsp_staple_policy, staple_enum,
         .default_text = "LENIENT_STAPLING", .doc = "What is done about OCSP responses: nothing."),
    WRAPPER(struct cfg_downstream_tls, 9, full_scan_certs_on_sni_mismatch, CFG_BOOL,
            .status = CFG_INERT,
            .doc = "As if true: a server name that no certificate has gets the first one whose key "
                   "the client can use."),
    FIELD(struct cfg_downstream_tls, 10, disable_stateful_session_resumption, CFG_BOOL,
          .doc = "Keep no sessions of TLS 1.2 for clients that take no tickets."),
    FIELD(struct cfg_downstream_tls, 11, prefer_client_ciphers, CFG_BOOL,
          .doc = "The client's order of cipher suites counts, not ours."),
};
static const struct cfg_missing downstream_missing[] = {{3, "require_sni"}};

static bool has_certificate(const struct cfg_tls_common *common) {
    return common->tls_certificates_count || common->tls_certificate_sds_secret_configs_count;
}

static void check_downstream(struct cfg_loader *loader, const struct cfg_tree *node,
                             const struct cfg_path *path, void *message) {
    const struct cfg_downstream_tls *tls = message;
    /* With problems inside of it, it has said enough. */
    if (!has_certificate(&tls->common) && !cfg_tree_get(node, SPAN_LIT("commonTlsContext")))
        cfg_report(loader, CFG_PROBLEM_INVALID, node, path,
                   "no certificate: common_tls_context needs tls_certificates or "
                   "tls_certificate_sds_secret_configs");
}

const struct cfg_schema cfg_schema_downstream_tls = {
    .name = TLS "DownstreamTlsContext",
    .doc = "TLS with clients: see [tls.md](tls.md).",
    .size = sizeof(struct cfg_downstream_tls),
    MARK(struct cfg_downstream_tls),
    FIELDS(downstream_fields),
    MISSING(downstream_missing),
    .check = check_downstream,
};

static const struct cfg_field upstream_fields[] = {
    INLINE_AS(struct cfg_upstream_tls, 1, "common_tls_context", common, struct cfg_tls_common,
              common_schema, .doc = "Certificates and more."),
    FIELD(struct cfg_upstream_tls, 2, sni, CFG_STRING, .rules = CFG_MAX_LEN, .max = 255,
          .doc = "Server name to ask for."),
    FIELD(struct cfg_upstream_tls, 3, allow_renegotiation, CFG_BOOL, .rules = CFG_ONLY_FALSE,
          .doc = "Let servers negotiate anew."),
    WRAPPER(struct cfg_upstream_tls, 4, max_session_keys, CFG_U32, .default_text = "1",
            .doc = "How many sessions are kept to be resumed, at most 64; 0: none."),
    FIELD(struct cfg_upstream_tls, 6, auto_host_sni, CFG_BOOL,
          .doc = "Ask for the endpoint's hostname, where it has one."),
    FIELD(struct cfg_upstream_tls, 7, auto_sni_san_validation, CFG_BOOL,
          .doc = "The certificate must have the name that was asked for."),
};
static const struct cfg_missing upstream_missing[] = {{5, "enforce_rsa_key_usage"}};

static void check_upstream(struct cfg_loader *loader, const struct cfg_tree *node,
                           const struct cfg_path *path, void *message) {
    const struct cfg_upstream_tls *tls = message;
    if (tls->common.tls_certificates_count > 1 ||
        tls->common.tls_certificate_sds_secret_configs_count > 1)
        cfg_report(loader, CFG_PROBLEM_INVALID, node, path,
                   "a client has one certificate, or none; these are several");
}

const struct cfg_schema cfg_schema_upstream_tls = {
    .name = TLS "UpstreamTlsContext",
    .doc = "TLS with endpoints: see [tls.md](tls.md).",
    .size = sizeof(struct cfg_upstream_tls),
    MARK(struct cfg_upstream_tls),
    FIELDS(upstream_fields),
    MISSING(upstream_missing),
    .check = check_upstream,
};

/* ---- transport sockets ---- */

const struct cfg_schema cfg_schema_raw_buffer = {
    .name = "envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer",
    .doc = "Bytes as they are, which is also what happens without a transport_socket.",
    .size = 1,
};

static const struct cfg_field transport_socket_fields[] = {
    FIELD(struct cfg_transport_socket, 1, name, CFG_STRING, .rules = CFG_REQUIRED,
          .doc = "Any name, but without a typed_config `envoy.transport_sockets.raw_buffer`."),
    FIELD(struct cfg_transport_socket, 3, typed_config, CFG_ANY, .oneof = "config_type",
          .has_at = CFG_AT(struct cfg_transport_socket, has_typed_config),
          .slot = CFG_SLOT_TRANSPORT_SOCKET, .doc = "Which one, and its settings."),
};

static void check_transport_socket(struct cfg_loader *loader, const struct cfg_tree *node,
                                   const struct cfg_path *path, void *message) {
    const struct cfg_transport_socket *socket = message;
    if (!socket->has_typed_config && socket->name.len &&
        !span_eq(socket->name, SPAN_LIT("envoy.transport_sockets.raw_buffer")))
        cfg_report(
            loader, CFG_PROBLEM_INVALID, node, path,
            "typed_config is required: only envoy.transport_sockets.raw_buffer does without");
}

const struct cfg_schema cfg_schema_transport_socket = {
    .name = "envoy.config.core.v3.TransportSocket",
    .doc = "What is put between a connection's bytes and the network.",
    .size = sizeof(struct cfg_transport_socket),
    MARK(struct cfg_transport_socket),
    FIELDS(transport_socket_fields),
    .check = check_transport_socket,
};
