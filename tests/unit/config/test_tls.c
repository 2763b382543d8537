/* tls_config.h: how TLS is written, where it may be written, and what is said of what it may not be. */
#include "config_test.h"

#include "config/tls_config.h"

#define TLS_TYPE TYPE "envoy.extensions.transport_sockets.tls.v3."
#define WITH_DOWNSTREAM(fields)                                                                    \
    WITH_LISTENER("filter_chains: [{transport_socket: {name: t, typed_config: {\"@type\": "        \
                  "" TLS_TYPE "DownstreamTlsContext, " fields "}}}]")
#define WITH_COMMON(fields) WITH_DOWNSTREAM("common_tls_context: {" fields "}")
#define CERTIFICATE                                                                                \
    "tls_certificates: [{certificate_chain: {filename: c.pem}, private_key: {filename: k.pem}}]"
#define WITH_UPSTREAM(fields)                                                                      \
    WITH_CLUSTER("transport_socket: {name: t, typed_config: {\"@type\": " TLS_TYPE                 \
                 "UpstreamTlsContext, " fields "}}")
#define SOCKET_PATH LISTENER_PATH "filter_chains[0].transport_socket"
#define COMMON_PATH SOCKET_PATH ".typed_config.common_tls_context"

static const struct cfg_downstream_tls *downstream_of(const struct config *config) {
    const struct cfg_transport_socket *socket =
        listener_of(config)->filter_chains[0].transport_socket;
    assert_non_null(socket);
    assert_ptr_equal(socket->typed_config.schema, &cfg_schema_downstream_tls);
    return socket->typed_config.message;
}

static void a_listener_says_what_it_shows_and_whom_it_takes(void **state) {
    struct config *config = load_ok(WITH_DOWNSTREAM(
        "require_client_certificate: true, session_timeout: 60s,"
        "session_ticket_keys: {keys: [{inline_string: a}, {environment_variable: B}]},"
        "common_tls_context: {" CERTIFICATE ", alpn_protocols: [h2, http/1.1],"
        "tls_params: {tls_minimum_protocol_version: TLSv1_3, cipher_suites: [\"[A|B]\", C]},"
        "validation_context: {trusted_ca: {filename: ca.pem}, max_verify_depth: 2,"
        "match_typed_subject_alt_names: [{san_type: DNS, matcher: {exact: a.test}}],"
        "watched_directory: {path: /certs}}}"));
    const struct cfg_downstream_tls *tls = downstream_of(config);
    const struct cfg_tls_common *common = &tls->common;
    assert_true(tls->require_client_certificate.value);
    assert_int_equal(tls->session_timeout.ns, 60000000000);
    assert_int_equal(tls->session_ticket_keys_type_case, CFG_TICKETS_KEYS);
    assert_int_equal(tls->session_ticket_keys->keys_count, 2);
    assert_int_equal(tls->session_ticket_keys->keys[1].specifier_case, CFG_DATA_ENVIRONMENT);
    assert_span(tls->session_ticket_keys->keys[1].environment_variable, "B");
    assert_span(common->tls_certificates[0].certificate_chain->filename, "c.pem");
    assert_span(common->tls_certificates[0].private_key->filename, "k.pem");
    assert_span(common->alpn_protocols[1], "http/1.1");
    assert_span(common->tls_params->cipher_suites[0], "[A|B]");
    assert_int_equal(common->tls_params->tls_minimum_protocol_version, CFG_TLS_1_3);
    assert_int_equal(common->validation_context_type_case, CFG_VALIDATION_HERE);
    assert_int_equal(common->validation_context->match_typed_subject_alt_names[0].san_type,
                     CFG_SAN_DNS);
    assert_int_equal(common->validation_context->max_verify_depth.value, 2);
    assert_span(common->validation_context->watched_directory, "/certs");
    config_unref(config);
}

static void secrets_are_referred_to_by_name(void **state) {
    struct config *config =
        load_ok("static_resources: {secrets: [{name: s, tls_certificate: {certificate_chain: "
                "{filename: c}, private_key: {filename: k}}}, {name: v, validation_context: {}}],"
                "clusters: [{name: c, transport_socket: {name: t, typed_config: {\"@type\": "
                "" TLS_TYPE "UpstreamTlsContext, sni: a.test, common_tls_context: {"
                "tls_certificate_sds_secret_configs: [{name: s}], combined_validation_context: "
                "{default_validation_context: {}, validation_context_sds_secret_config: {name: "
                "v}}}}}}]}\n");
    const struct cfg_static_resources *resources = config_bootstrap(config)->static_resources;
    assert_int_equal(resources->secrets_count, 2);
    assert_span(resources->secrets[0].tls_certificate->private_key->filename, "k");
    const struct cfg_upstream_tls *tls = cluster_of(config)->transport_socket->typed_config.message;
    assert_span(tls->sni, "a.test");
    assert_span(tls->common.tls_certificate_sds_secret_configs[0].name, "s");
    assert_int_equal(tls->common.validation_context_type_case, CFG_VALIDATION_COMBINED);
    assert_span(tls->common.combined_secret_config->name, "v");
    assert_non_null(tls->common.default_validation_context);
    config_unref(config);
}

static void raw_buffer_is_known_by_its_name_alone(void **state) {
    config_unref(
        load_ok(WITH_CLUSTER("transport_socket: {name: envoy.transport_sockets.raw_buffer}")));
    config_unref(load_ok(WITH_CLUSTER("transport_socket: {name: r, typed_config: {\"@type\": " TYPE
                                      "envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer"
                                      "}}")));
    refused(WITH_CLUSTER("transport_socket: {name: tls}"),
            CLUSTER_PATH "transport_socket: typed_config is required: only "
                         "envoy.transport_sockets.raw_buffer does without\n");
}

static void what_is_wrong_is_said_with_what_would_be_right(void **state) {
    refused(WITH_COMMON("alpn_protocols: [http/1.1]"),
            SOCKET_PATH ".typed_config: no certificate: common_tls_context needs tls_certificates "
                        "or tls_certificate_sds_secret_configs\n");
    refused(WITH_COMMON(CERTIFICATE ", alpn_protocols: [\"\"]"),
            COMMON_PATH ": alpn_protocols[0] must have 1 to 255 bytes\n");
    refused(WITH_COMMON(CERTIFICATE ", tls_params: {tls_minimum_protocol_version: TLSv1_3, "
                                    "tls_maximum_protocol_version: TLSv1_2}"),
            COMMON_PATH ".tls_params: tls_minimum_protocol_version is above "
                        "tls_maximum_protocol_version\n");
    refused(WITH_COMMON(CERTIFICATE ", validation_context: {verify_certificate_hash: [ab]}"),
            COMMON_PATH ".validation_context: verify_certificate_hash[0] is no SHA-256: 64 "
                        "hexadecimal digits, or 32 pairs with colons between them\n");
    refused(WITH_COMMON(CERTIFICATE ", validation_context: {verify_certificate_spki: [ab]}"),
            COMMON_PATH ".validation_context: verify_certificate_spki[0] is no SHA-256 in base64: "
                        "44 characters, the last one '='\n");
    refused(WITH_COMMON(CERTIFICATE ", validation_context: {match_typed_subject_alt_names: "
                                    "[{matcher: {exact: a}}]}"),
            COMMON_PATH ".validation_context.match_typed_subject_alt_names[0]: san_type is "
                        "required: EMAIL, DNS, URI or IP_ADDRESS\n");
    refused(WITH_UPSTREAM("common_tls_context: {tls_certificates: [{certificate_chain: {filename: "
                          "a}, private_key: {filename: a}}, {certificate_chain: {filename: b}, "
                          "private_key: {filename: b}}]}"),
            CLUSTER_PATH "transport_socket.typed_config: a client has one certificate, or none; "
                         "these are several\n");
}

static void what_there_is_not_is_refused(void **state) {
    refused(WITH_UPSTREAM("allow_renegotiation: true"),
            CLUSTER_PATH "transport_socket.typed_config.allow_renegotiation: true is not supported "
                         "yet: only false, the default, is\n");
    refused(WITH_COMMON("tls_certificates: [{certificate_chain: {filename: c}, private_key: "
                        "{filename: k}, private_key_provider: {provider_name: qat}}]"),
            COMMON_PATH ".tls_certificates[0].private_key_provider: the private key provider "
                        "\"qat\" is not supported; there is \"" CFG_TLS_BLOCKING_KEYS "\"\n");
    refused(
        WITH_DOWNSTREAM("ocsp_staple_policy: MUST_STAPLE, common_tls_context: {" CERTIFICATE "}"),
        SOCKET_PATH ".typed_config.ocsp_staple_policy: MUST_STAPLE is not supported yet: Envoy has "
                    "it, this release does not\n");
    refused(WITH_COMMON("tls_certificate_sds_secret_configs: [{name: s, sds_config: {}}]"),
            COMMON_PATH ".tls_certificate_sds_secret_configs[0].sds_config: not supported yet: "
                        "Envoy has this field, this release does not\n");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_listener_says_what_it_shows_and_whom_it_takes),
        cmocka_unit_test(secrets_are_referred_to_by_name),
        cmocka_unit_test(raw_buffer_is_known_by_its_name_alone),
        cmocka_unit_test(what_is_wrong_is_said_with_what_would_be_right),
        cmocka_unit_test(what_there_is_not_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
