/* What contexts are made of: certificates and who is shown which, what is asked of a peer and how it fails, sessions
 * that are resumed, and configurations that are refused with a text that helps. */
#include "tls_story.h"

#include <fcntl.h>
#include <openssl/ssl.h>

#include "../file_tree.h"
#include "io/tls_internal.h"

static struct cert other_authority, a_test, star_test, rsa_a_test, client_cert, expired, stranger,
    plain;

static int setup(void **state) {
    (void)tls_story_setup(state);
    cert_make(&other_authority, (struct cert_wish){.common_name = "Other"});
    cert_make(&a_test,
              (struct cert_wish){.common_name = "a", .names = "DNS:A.test", .issuer = &authority});
    cert_make(&star_test, (struct cert_wish){.common_name = "star",
                                             .names = "DNS:*.star.test",
                                             .issuer = &authority});
    cert_make(&rsa_a_test,
              (struct cert_wish){
                  .common_name = "rsa", .names = "DNS:a.test", .issuer = &authority, .rsa = true});
    cert_make(&client_cert,
              (struct cert_wish){.common_name = "client",
                                 .names = "URI:spiffe://test/client,DNS:client.test,IP:10.0.0.1,"
                                          "IP:::1,email:who@test",
                                 .issuer = &authority});
    cert_make(&expired, (struct cert_wish){.common_name = "expired",
                                           .names = "DNS:server.test",
                                           .issuer = &authority,
                                           .expired = true});
    cert_make(&stranger, (struct cert_wish){.common_name = "stranger",
                                            .names = "DNS:server.test",
                                            .issuer = &other_authority});
    cert_make(&plain, (struct cert_wish){
                          .common_name = "plain.test", .issuer = &authority, .password = "secret"});
    return make_root(state);
}

static int teardown(void **state) {
    struct cert *all[] = {&other_authority, &a_test,  &star_test, &rsa_a_test,
                          &client_cert,     &expired, &stranger,  &plain};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        cert_free(all[i]);
    (void)tls_story_teardown(state);
    return remove_root(state);
}

/* ---- Which certificate ---- */

static void ask_for(const char *name, const char *shown) {
    to_server.server_name = span_of(name);
    shake_hands_well();
    const struct tls_identity *peer = tls_peer_identity(&client.socket);
    if (!is(peer->subject, shown))
        fprintf(stderr, "%s: %.*s\n", name, (int)peer->subject.len, peer->subject.ptr);
    CHECK(is(peer->subject, shown));
    const struct tls_identity *local = tls_local_identity(&server.socket);
    CHECK(span_eq(local->sha1, peer->sha1));
    speak_both_ways();
    close_pair();
}

static void names_story(void *arg) {
    struct tls_options of_server = server_options(), of_client = client_options();
    struct tls_certificate many[] = {cert_given(&server_cert), cert_given(&a_test),
                                     cert_given(&star_test), cert_given(&rsa_a_test),
                                     cert_given(&plain)};
    many[4].password = SPAN_LIT("secret");
    of_server.certificates = many;
    of_server.certificate_count = 5;
    contexts(&of_server, &of_client);
    ask_for("server.test", "CN=server,O=Tests");
    ask_for("a.test", "CN=a,O=Tests");
    ask_for("A.TEST", "CN=a,O=Tests");
    ask_for("x.star.test", "CN=star,O=Tests");
    ask_for("x.y.star.test", "CN=server,O=Tests"); /* one label only */
    ask_for("star.test", "CN=server,O=Tests");
    ask_for("plain.test", "CN=plain.test,O=Tests"); /* no other name than its common one */
    ask_for("unknown.test", "CN=server,O=Tests");
    ask_for("", "CN=server,O=Tests");
    size_t count;
    const struct tls_identity *own = tls_context_certificates(server.context, &count);
    CHECK(count == 5);
    CHECK(is(own[2].subject, "CN=star,O=Tests"));

    /* A client that knows RSA alone. */
    struct span rsa = SPAN_LIT("rsa_pss_rsae_sha256");
    of_client.signature_algorithms = &rsa;
    of_client.signature_algorithm_count = 1;
    tls_context_unref(client.context);
    validation.ca = span_none(); /* whose own signature is not RSA */
    client.context = context_of(&of_client);
    ask_for("a.test", "CN=rsa,O=Tests");
    ask_for("unknown.test", "CN=rsa,O=Tests"); /* the first of that kind */
    to_server.server_name = SPAN_LIT("x.star.test");
    shake_hands(); /* has none */
    CHECK(server.rc == -EPROTO);
    CHECK(server.fault.kind == TLS_FAULT_PROTOCOL);
    CHECK(strstr(server.fault.text, "NO_SUITABLE_SIGNATURE_ALGORITHM"));
    CHECK(strncmp(server.fault.text, "TLS_error:|", 11) == 0);
    CHECK(strstr(server.fault.text, ":TLS_error_end"));
    close_pair();
    end_story();
}

static void the_name_chooses_the_certificate(void **state) {
    story(1, names_story);
}

/* ---- What is asked of a peer ---- */

static bool matches_spiffe(void *arg, const struct tls_san *sans, size_t count) {
    for (size_t i = 0; i < count; i++)
        if (sans[i].type == TLS_SAN_URI && is(sans[i].value, arg))
            return true;
    return false;
}

static struct tls_validation asked; /* by the server */

static void with_client(const struct cert *cert, bool require) {
    struct tls_options of_server = server_options(), of_client = client_options();
    struct tls_certificate own;
    of_server.validation = &asked;
    of_server.require_peer_certificate = require;
    if (cert) {
        own = cert_given(cert);
        of_client.certificates = &own;
        of_client.certificate_count = 1;
    }
    contexts(&of_server, &of_client);
    shake_hands();
}

static void expect(int rc, enum tls_fault_kind kind, const char *text) {
    /* A TLS 1.3 client is through before the server has seen its certificate. */
    if (server.rc != rc || server.fault.kind != kind || !strstr(server.fault.text, text))
        fprintf(stderr, "server %d, kind %d: %s\n", server.rc, server.fault.kind,
                server.fault.text);
    CHECK(server.rc == rc);
    CHECK(server.fault.kind == kind);
    CHECK(strstr(server.fault.text, text));
    if (rc != 0) {
        CHECK(client.rc == 0);
        CHECK(socket_receive(&client.socket, &client.in, "receives", story_soon()) == -EPROTO);
        CHECK(strstr(tls_failure_text(&client.socket), "ALERT"));
    }
}

static void finish(void) {
    close_pair();
    end_contexts();
}

static void hash_of(const struct cert *cert, uint8_t out[TLS_HASH_SIZE]) {
    unsigned size;
    CHECK(X509_digest(cert->x509, EVP_sha256(), out, &size) == 1);
}

static void spki_of(const struct cert *cert, uint8_t out[TLS_HASH_SIZE]) {
    unsigned char *der = NULL;
    int size = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(cert->x509), &der);
    CHECK(EVP_Digest(der, (size_t)size, out, NULL, EVP_sha256(), NULL) == 1);
    OPENSSL_free(der);
}

static void client_story(void *arg) {
    asked = (struct tls_validation){.ca = span_of(authority.pem), .ca_name = SPAN_INIT("ca")};
    with_client(&client_cert, true);
    expect(0, TLS_FAULT_NONE, "");
    struct tls_facts facts = facts_of(&server);
    CHECK(facts.has_peer_certificate);
    CHECK(facts.peer_verified);
    const struct tls_identity *peer = tls_peer_identity(&server.socket);
    CHECK(peer->san_count == 5);
    static const struct {
        enum tls_san_type type;
        const char *value;
    } sans[] = {{TLS_SAN_URI, "spiffe://test/client"},
                {TLS_SAN_DNS, "client.test"},
                {TLS_SAN_IP, "10.0.0.1"},
                {TLS_SAN_IP, "::1"},
                {TLS_SAN_EMAIL, "who@test"}};
    for (size_t i = 0; i < 5; i++) {
        CHECK(peer->sans[i].type == sans[i].type);
        CHECK(is(peer->sans[i].value, sans[i].value));
    }
    speak_both_ways();
    finish();

    with_client(NULL, true);
    expect(-EPROTO, TLS_FAULT_NO_CERTIFICATE, "PEER_DID_NOT_RETURN_A_CERTIFICATE");
    finish();
    with_client(NULL, false);
    expect(0, TLS_FAULT_NONE, "");
    CHECK(!facts_of(&server).has_peer_certificate);
    CHECK(!facts_of(&server).peer_verified);
    finish();
    with_client(&stranger, false);
    expect(-EPROTO, TLS_FAULT_VERIFY, "CERTIFICATE_VERIFY_FAILED");
    finish();
    with_client(&expired, false);
    expect(-EPROTO, TLS_FAULT_VERIFY, "CERTIFICATE_VERIFY_FAILED");
    finish();
    asked.allow_expired = true;
    with_client(&expired, false);
    expect(0, TLS_FAULT_NONE, "");
    finish();
    asked.allow_expired = false;
    asked.accept_untrusted = true;
    with_client(&stranger, false);
    expect(0, TLS_FAULT_NONE, "");
    CHECK(!facts_of(&server).peer_verified);
    finish();
    asked.accept_untrusted = false;

    asked.match = matches_spiffe;
    asked.match_arg = (void *)(uintptr_t) "spiffe://test/client";
    with_client(&client_cert, true);
    expect(0, TLS_FAULT_NONE, "");
    finish();
    asked.match_arg = (void *)(uintptr_t) "spiffe://test/other";
    with_client(&client_cert, true);
    expect(-EPROTO, TLS_FAULT_SAN, "CERTIFICATE_VERIFY_FAILED");
    finish();
    asked.match = NULL;

    uint8_t hashes[2][TLS_HASH_SIZE] = {{1}}, spkis[1][TLS_HASH_SIZE];
    asked.hashes = hashes;
    asked.hash_count = 2;
    hash_of(&stranger, hashes[1]);
    with_client(&client_cert, true);
    expect(-EPROTO, TLS_FAULT_HASH, "CERTIFICATE_VERIFY_FAILED");
    finish();
    spki_of(&client_cert, spkis[0]);
    asked.spkis = spkis;
    asked.spki_count = 1;
    with_client(&client_cert, true); /* either will do */
    expect(0, TLS_FAULT_NONE, "");
    finish();
    asked.ca = span_none(); /* a pin alone */
    with_client(&stranger, true);
    expect(0, TLS_FAULT_NONE, "");
    CHECK(facts_of(&server).peer_verified);
    finish();
    asked = (struct tls_validation){0};

    static char crl[CERT_TEXT_MAX];
    cert_revoke(&authority, &client_cert, crl);
    asked = (struct tls_validation){.ca = span_of(authority.pem), .crl = span_of(crl)};
    with_client(&client_cert, true);
    expect(-EPROTO, TLS_FAULT_VERIFY, "CERTIFICATE_VERIFY_FAILED");
    finish();
    with_client(&a_test, true); /* is not on the list */
    expect(0, TLS_FAULT_NONE, "");
    finish();
    rt_stop(0);
}

static void a_client_is_who_the_server_asks_for(void **state) {
    story(1, client_story);
}

static void refused_by_client(enum tls_fault_kind kind) {
    shake_hands();
    CHECK(client.rc == -EPROTO);
    CHECK(client.fault.kind == kind);
    CHECK(strstr(client.fault.text, "CERTIFICATE_VERIFY_FAILED"));
    CHECK(server.rc == -EPROTO);
    CHECK(strstr(server.fault.text, "ALERT"));
    finish();
}

static void server_story(void *arg) {
    struct tls_options of_server = server_options(), of_client = client_options();
    certificates[0] = cert_given(&stranger);
    contexts(&of_server, &of_client);
    refused_by_client(TLS_FAULT_VERIFY);
    certificates[0] = cert_given(&expired);
    contexts(&of_server, &of_client);
    refused_by_client(TLS_FAULT_VERIFY);
    certificates[0] = cert_given(&client_cert);
    static const char *good[] = {"client.test", "10.0.0.1", "::1"};
    for (int i = 0; i < 3; i++) {
        contexts(&of_server, &of_client);
        to_server.verify_name = span_of(good[i]);
        shake_hands_well();
        finish();
    }
    contexts(&of_server, &of_client);
    to_server.verify_name = SPAN_LIT("10.0.0.2");
    refused_by_client(TLS_FAULT_SAN);
    rt_stop(0);
}

static void a_server_is_who_the_client_asks_for(void **state) {
    story(1, server_story);
}

/* ---- What both know ---- */

static void alpn_of(struct tls_options *options, const struct span *names, size_t count) {
    options->alpn = names;
    options->alpn_count = count;
}

static void terms_story(void *arg) {
    struct span both[] = {SPAN_LIT("h2"), SPAN_LIT("http/1.1")}, old[] = {SPAN_LIT("http/1.1")},
                other[] = {SPAN_LIT("redis")};
    struct tls_options of_server = server_options(), of_client = client_options();
    alpn_of(&of_server, both, 2);
    alpn_of(&of_client, old, 1);
    contexts(&of_server, &of_client);
    shake_hands_well();
    CHECK(is(facts_of(&server).alpn, "http/1.1"));
    CHECK(is(facts_of(&client).alpn, "http/1.1"));
    close_pair();
    to_server.alpn = SPAN_LIT("h2");
    shake_hands_well();
    CHECK(is(facts_of(&server).alpn, "h2"));
    to_server.alpn = span_none();
    finish();
    alpn_of(&of_client, other, 1); /* then without */
    contexts(&of_server, &of_client);
    shake_hands_well();
    CHECK(facts_of(&server).alpn.len == 0);
    finish();

    struct span cipher = SPAN_LIT("[ECDHE-ECDSA-AES256-GCM-SHA384|ECDHE-RSA-AES256-GCM-SHA384]");
    of_client = client_options();
    of_client.ciphers = &cipher;
    of_client.cipher_count = 1;
    of_client.max_version = TLS_1_2;
    contexts(&of_server, &of_client);
    shake_hands_well();
    CHECK(is(facts_of(&client).version, "TLSv1.2"));
    CHECK(is(facts_of(&client).cipher, "ECDHE-ECDSA-AES256-GCM-SHA384"));
    speak_both_ways();
    /* It asks to begin anew: it is not done, and says so. */
    struct tls *tls = tls_of(&client.socket);
    CHECK(!SSL_renegotiate(tls->ssl) || SSL_do_handshake(tls->ssl) != 1);
    finish();

    of_client = client_options();
    of_client.max_version = TLS_1_2;
    of_server.min_version = TLS_1_3;
    contexts(&of_server, &of_client);
    shake_hands();
    CHECK(server.rc == -EPROTO);
    CHECK(strstr(server.fault.text, "UNSUPPORTED_PROTOCOL"));
    CHECK(client.rc == -EPROTO);
    CHECK(strstr(client.fault.text, "TLSV1_ALERT_PROTOCOL_VERSION"));
    finish();

    of_server = server_options();
    of_server.min_version = TLS_1_0;
    of_client.min_version = TLS_1_0;
    of_client.max_version = TLS_1_0;
    struct span shas[] = {SPAN_LIT("ECDHE-ECDSA-AES128-SHA")};
    of_client.ciphers = of_server.ciphers = shas;
    of_client.cipher_count = of_server.cipher_count = 1;
    contexts(&of_server, &of_client);
    shake_hands_well();
    CHECK(is(facts_of(&client).version, "TLSv1"));
    speak_both_ways();
    finish();
    rt_stop(0);
}

static void both_take_what_both_know(void **state) {
    story(1, terms_story);
}

/* ---- Sessions ---- */

static bool resumes(void) {
    shake_hands_well();
    speak_both_ways(); /* its tickets come with the answer */
    bool resumed = facts_of(&server).resumed;
    CHECK(facts_of(&client).resumed == resumed);
    CHECK(facts_of(&client).peer_verified);
    CHECK(tls_peer_identity(&client.socket));
    close_pair();
    return resumed;
}

static void resume_with(enum tls_version most) {
    struct tls_tickets *tickets = tls_tickets_new(NULL, 0);
    CHECK(tickets);
    struct tls_options of_server = server_options(), of_client = client_options();
    of_server.tickets = tickets;
    of_server.max_version = most;
    of_client.max_sessions = 1;
    contexts(&of_server, &of_client);
    CHECK(!resumes());
    CHECK(resumes());
    CHECK(resumes());
    tls_tickets_rotate(tickets); /* the key before still decrypts */
    CHECK(resumes());
    CHECK(resumes());
    tls_tickets_rotate(tickets);
    tls_tickets_rotate(tickets); /* and no older one */
    CHECK(!resumes());
    CHECK(resumes());
    to_server.server_name = SPAN_LIT("other.test");
    CHECK(!resumes()); /* what another name's certificate was verified for */
    to_server.server_name = SPAN_LIT("server.test");

    /* A context that replaces this one, with the same keys; and one that asks for more. */
    CHECK(!resumes());
    tls_context_unref(server.context);
    server.context = context_of(&of_server);
    CHECK(resumes());
    tls_context_unref(server.context);
    asked = (struct tls_validation){.ca = span_of(authority.pem)};
    of_server.validation = &asked;
    server.context = context_of(&of_server);
    CHECK(!resumes());
    end_contexts();

    /* No keys, no resumption. */
    of_server.tickets = NULL;
    contexts(&of_server, &of_client);
    CHECK(!resumes());
    CHECK(!resumes());
    end_contexts();

    of_server.tickets = tickets;
    of_client.max_sessions = 0;
    contexts(&of_server, &of_client);
    CHECK(!resumes());
    CHECK(!resumes());
    end_contexts();
    tls_tickets_unref(tickets);
}

static void sessions_story(void *arg) {
    resume_with(TLS_1_3);
    resume_with(TLS_1_2);
    rt_stop(0);
}

static void sessions_are_resumed_while_their_keys_last(void **state) {
    story(1, sessions_story);
}

/* As a client that knows nothing of tickets: the server gives none. */
static void by_id_story(void *arg) {
    struct tls_session_cache *cache = tls_session_cache_new(TLS_SESSION_CACHE_BYTES);
    CHECK(cache);
    struct tls_options of_server = server_options(), of_client = client_options();
    of_server.session_cache = cache;
    of_server.max_version = TLS_1_2;
    of_client.max_sessions = 1;
    contexts(&of_server, &of_client);
    CHECK(!resumes());
    CHECK(resumes());
    CHECK(resumes()); /* as often as it likes */

    /* A certificate that was renewed changes nothing; whoever asks for more of a client asks anew. */
    tls_context_unref(server.context);
    server.context = context_of(&of_server);
    CHECK(resumes());
    tls_context_unref(server.context);
    asked = (struct tls_validation){.ca = span_of(authority.pem)};
    of_server.validation = &asked;
    server.context = context_of(&of_server);
    CHECK(!resumes());
    tls_context_unref(server.context);

    /* After an alert that ends a connection its session is nobody's any more. */
    of_server.validation = NULL;
    server.context = context_of(&of_server);
    CHECK(!resumes());
    CHECK(resumes());
    shake_hands_well();
    CHECK(facts_of(&server).resumed);
    struct iovec nonsense = {(char[]){"\x17\x03\x03\x00\x20 this is not what was encrypted.."}, 37};
    CHECK(socket_raw_try_send(&client.socket, &nonsense, 1, 37) == 37);
    CHECK(socket_receive(&server.socket, &server.in, "receives", story_soon()) == -EPROTO);
    close_pair();
    CHECK(!resumes());
    tls_context_unref(server.context);

    /* Of 1.3 only tickets resume. */
    of_server.max_version = TLS_AUTO;
    server.context = context_of(&of_server);
    CHECK(!resumes());
    CHECK(!resumes());
    end_contexts();
    tls_session_cache_unref(cache);
    rt_stop(0);
}

static void sessions_are_resumed_by_id(void **state) {
    story(1, by_id_story);
}

/* Sessions of three names; then which of them are resumed, asked in the same order. */
static void remember_three(size_t room, bool resumed[3]) {
    static const struct span names[] = {SPAN_INIT("server.test"), SPAN_INIT("b.test"),
                                        SPAN_INIT("c.test")};
    struct tls_session_cache *cache = tls_session_cache_new(room);
    struct tls_options of_server = server_options(), of_client = client_options();
    of_server.max_version = TLS_1_2;
    of_server.session_cache = cache;
    of_client.max_sessions = 3;
    contexts(&of_server, &of_client);
    for (int i = 0; i < 3; i++) {
        to_server.server_name = names[i];
        CHECK(!resumes());
    }
    for (int i = 3; i-- > 0;) { /* the latest first: what is not resumed is kept again */
        to_server.server_name = names[i];
        resumed[i] = resumes();
    }
    to_server.server_name = names[0];
    end_contexts();
    tls_session_cache_unref(cache);
}

/* A session takes some 230 bytes. The third pushes the first out; and what fits nowhere is not kept. */
static void little_room_story(void *arg) {
    bool resumed[3];
    remember_three(600, resumed);
    CHECK(!resumed[0] && resumed[1] && resumed[2]);
    remember_three(200, resumed);
    CHECK(!resumed[0] && !resumed[1] && !resumed[2]);
    rt_stop(0);
}

static void the_cache_of_sessions_has_an_end(void **state) {
    story(1, little_room_story);
}

static void shared_story(void *arg) {
    char keys[2][TLS_TICKET_KEY_SIZE];
    memset(keys[0], 'a', sizeof keys[0]);
    memset(keys[1], 'b', sizeof keys[1]);
    struct span spans[] = {span_make(keys[0], sizeof keys[0]), span_make(keys[1], sizeof keys[1])};
    struct tls_tickets *first = tls_tickets_new(spans, 1);
    struct tls_tickets *second = tls_tickets_new(&spans[1], 1);
    struct tls_tickets *newer = tls_tickets_new((struct span[]){spans[1], spans[0]}, 2);
    struct tls_options of_server = server_options(), of_client = client_options();
    of_server.tickets = first;
    of_client.max_sessions = 1;
    contexts(&of_server, &of_client);
    CHECK(!resumes());
    tls_context_unref(server.context);
    of_server.tickets = newer;
    server.context = context_of(&of_server);
    CHECK(resumes()); /* decrypted by the second key, and got one of the first */
    tls_context_unref(server.context);
    of_server.tickets = second;
    server.context = context_of(&of_server);
    CHECK(resumes());
    tls_context_unref(server.context);
    of_server.tickets = first;
    server.context = context_of(&of_server);
    CHECK(!resumes());
    tls_tickets_rotate(first); /* its keys are the config's */
    CHECK(resumes());
    end_contexts();
    tls_tickets_unref(first);
    tls_tickets_unref(second);
    tls_tickets_unref(newer);
    rt_stop(0);
}

static void processes_with_the_same_keys_resume_each_others_sessions(void **state) {
    story(1, shared_story);
}

/* ---- The key log ---- */

static bool is_wanted;
static bool wanted(void *arg, const struct address *local, const struct address *remote) {
    return is_wanted;
}

static void key_log_story(void *arg) {
    char path[sizeof root + 16];
    snprintf(path, sizeof path, "%s/keys", root);
    struct tls_options of_server = server_options(), of_client = client_options();
    of_server.key_log_path = path;
    of_server.key_log_wanted = wanted;
    contexts(&of_server, &of_client);
    char text[4096] = "";
    for (int i = 0; i < 2; i++) {
        is_wanted = i;
        shake_hands_well();
        FILE *file = fopen(path, "r");
        size_t size = fread(text, 1, sizeof text - 1, file);
        CHECK((size > 0) == (bool)i);
        CHECK(fclose(file) == 0);
        close_pair();
    }
    CHECK(strstr(text, "CLIENT_HANDSHAKE_TRAFFIC_SECRET "));
    CHECK(strstr(text, "SERVER_TRAFFIC_SECRET_0 "));
    end_story();
}

static void keys_are_logged_when_wanted(void **state) {
    write_file("/keys", "");
    story(1, key_log_story);
}

/* ---- What is refused ---- */

static char refusal[TLS_ERROR_MAX];

static bool refuses(const struct tls_options *options, const char *text) {
    refusal[0] = '\0';
    struct tls_context *context = tls_context_new(options, refusal);
    if (context || !strstr(refusal, text))
        fprintf(stderr, "not \"%s\" but: %s\n", text, refusal);
    return !context && strstr(refusal, text);
}

static void bad_configurations_are_told_what_would_be_right(void **state) {
    struct tls_options options = server_options();
    options.certificate_count = 0;
    assert_true(refuses(&options, "a server needs"));

    options = server_options();
    certificates[0].key = span_of(a_test.key_pem);
    assert_true(refuses(&options, "key.pem does not belong to the certificate chain.pem"));
    certificates[0].key = span_of(server_cert.pem);
    assert_true(refuses(&options, "key.pem: there is no private key"));
    certificates[0].key = span_none();
    assert_true(refuses(&options, "key.pem: there is no private key"));
    certificates[0].key = span_of(plain.key_pem);
    assert_true(refuses(&options, "is encrypted: give its password"));
    certificates[0].password = SPAN_LIT("wrong");
    assert_true(refuses(&options, "the password does not open"));
    certificates[0] = cert_given(&server_cert);
    certificates[0].chain = SPAN_LIT("nothing");
    assert_true(refuses(&options, "chain.pem: there is no certificate in it"));
    certificates[0].chain =
        SPAN_LIT("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    assert_true(refuses(&options, "chain.pem: certificate 1 cannot be read"));

    struct span list[] = {SPAN_LIT("ECDHE-ECDSA-AES128-GCM-SHA256"), SPAN_LIT("NO-SUCH")};
    options = server_options();
    options.ciphers = list;
    options.cipher_count = 2;
    assert_true(refuses(&options, "no cipher is called \"NO-SUCH\""));
    options = server_options();
    options.curves = list + 1;
    options.curve_count = 1;
    assert_true(refuses(&options, "ecdh_curves: one of \"NO-SUCH\" is unknown"));
    options = server_options();
    options.signature_algorithms = list + 1;
    options.signature_algorithm_count = 1;
    assert_true(refuses(&options, "signature_algorithms: one of \"NO-SUCH\""));
    options = server_options();
    options.min_version = TLS_1_3;
    options.max_version = TLS_1_2;
    assert_true(refuses(&options, "is above"));
    options = server_options();
    struct span empty = SPAN_LIT("");
    options.alpn = &empty;
    options.alpn_count = 1;
    assert_true(refuses(&options, "a name is empty"));
    options = server_options();
    options.key_log_path = "/nowhere/keys";
    assert_true(refuses(&options, "key_log: /nowhere/keys cannot be written"));
    options = client_options();
    validation.ca = SPAN_LIT("nothing");
    assert_true(refuses(&options, "ca.pem: there is no certificate in it"));
    options = client_options();
    validation.crl = SPAN_LIT("nothing");
    validation.crl_name = SPAN_LIT("crl.pem");
    assert_true(refuses(&options, "crl.pem: no list of revoked certificates"));
    options.is_server = true; /* it has a copy of nothing that it was given, nor leaks it */
    assert_true(refuses(&options, "a server needs"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_name_chooses_the_certificate),
        cmocka_unit_test(a_client_is_who_the_server_asks_for),
        cmocka_unit_test(a_server_is_who_the_client_asks_for),
        cmocka_unit_test(both_take_what_both_know),
        cmocka_unit_test(sessions_are_resumed_while_their_keys_last),
        cmocka_unit_test(sessions_are_resumed_by_id),
        cmocka_unit_test(the_cache_of_sessions_has_an_end),
        cmocka_unit_test(processes_with_the_same_keys_resume_each_others_sessions),
        cmocka_unit_test(keys_are_logged_when_wanted),
        cmocka_unit_test(bad_configurations_are_told_what_would_be_right),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
