/* Attributes: what each path of Envoy's list is for an exchange, and what text becomes of it. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "proxy/attribute.h"
#include "proxy/cluster.h"
#include "proxy/downstream.h"
#include "proxy/filter_state.h"
#include "proxy/metadata.h"
#include "proxy/tls_info.h"
#include "route_story.h"

static struct story story;
static struct attribute_subject of;

static struct format_out made;

static const char *text_or_verdict(enum attribute_result result) {
    static const char *const verdicts[] = {[ATTRIBUTE_ABSENT] = "(absent)",
                                           [ATTRIBUTE_NO_TEXT] = "(no text)",
                                           [ATTRIBUTE_NO_MEMORY] = "(no memory)"};
    if (result != ATTRIBUTE_TEXT) {
        assert_int_equal(made.len, 0);
        return verdicts[result];
    }
    format_out_put(&made, span_make("", 1));
    return made.data;
}

/* Valid until the next one. */
static const char *get(const char *path) {
    made.len = 0;
    return text_or_verdict(attribute_text(&of, span_of(path), &made));
}

#define IS(path, expected) assert_string_equal(get(path), expected)

static int begin(void **state) {
    story_begin(&story, "POST /z/p?k=vv&k=2#frag\nx-h: hello\nx-h: two\nx-request-id: id-1\n"
                        "user-agent: ua\nreferer: http://r\nx-empty:\ncontent-length: 12");
    struct stream_info *info = &story.x.info;
    info->protocol = 1;
    info->start_wall_ns = 1774872123LL * NS_PER_S + 4005006;
    info->start_ns = NS_PER_S;
    info->bytes_received = 7;
    info->filter_chain = SPAN_LIT("chain");
    info->downstream_local = SPAN_LIT("127.0.0.1:80");
    info->downstream_remote = SPAN_LIT("[::1]:4567");
    info->connection_id = 17;
    of = (struct attribute_subject){.info = info, .request = &story.x.request.headers};
    return 0;
}

static int end(void **state) {
    metadata_unref(of.metadata);
    filter_state_unref(of.filter_state);
    free(made.data);
    made = (struct format_out){0};
    story_end(&story);
    return 0;
}

static void of_the_request(void **state) {
    IS("request.path", "/z/p?k=vv&k=2#frag");
    IS("request.url_path", "/z/p");
    IS("request.query", "k=vv&k=2");
    IS("request.host", "a.com");
    IS("request.scheme", "http");
    IS("request.method", "POST");
    IS("request.headers.x-h", "hello,two");
    IS("request.headers.X-H", "hello,two");
    IS("request.headers.x-empty", "");
    IS("request.headers.host", "a.com");
    IS("request.headers.:path", "/z/p?k=vv&k=2#frag");
    IS("request.headers.x-none", "(absent)");
    IS("request.headers.x-h.more", "(absent)");
    IS("request.referer", "http://r");
    IS("request.useragent", "ua");
    IS("request.id", "id-1");
    IS("request.protocol", "HTTP/1.1");
    IS("request.time", "2026-03-30T12:02:03.004005006+00:00");
    IS("request.size", "12");
    char all[32];
    (void)snprintf(all, sizeof all, "%zu", (size_t)7 + story.x.request.headers.bytes);
    IS("request.total_size", all);
    IS("request.duration", "(absent)");
    story.x.info.end_ns = story.x.info.start_ns + 1500 * NS_PER_MS;
    IS("request.duration", "1.5s");
}

static void of_a_request_that_cannot_be_seen(void **state) {
    of.request = NULL;
    IS("request.path", "(absent)");
    IS("request.query", "(absent)");
    IS("request.headers.x-h", "(absent)");
    IS("request.headers", "(no text)");
    IS("request.size", "7");
    IS("request.total_size", "7");
}

static void strange_paths(void **state) {
    IS("", "(no text)");
    IS("request", "(no text)");
    IS("request.", "(no text)");
    IS("request.headers", "(no text)");
    IS("request.path.", "/z/p?k=vv&k=2#frag");
    IS(".", "(absent)");
    IS("..", "(absent)");
    IS(".request", "(absent)");
    IS("request..path", "(absent)");
    IS("request.nothing", "(absent)");
    IS("nothing", "(absent)");
    IS("xds.node", "(absent)");
    IS("request.path.more", "(absent)");
    IS("metadatax", "(absent)");
    static char path[ATTRIBUTE_PATH_MAX + 2];
    memset(path, '.', sizeof path - 1);
    memcpy(path, "filter_state", 12);
    IS(path, "(absent)");
}

static void of_the_response(void **state) {
    IS("response.code", "(absent)");
    IS("response.code_details", "(absent)");
    IS("response.headers.x-up", "(absent)");
    IS("response.size", "0");
    IS("response.flags", "0");
    IS("response.grpc_status", "(absent)");
    IS("response.backend_latency", "(absent)");
    struct stream_info *info = &story.x.info;
    story_add(&story, &story.x.response.headers, ":status: 503\nx-up: one\nx-up: two");
    of.response = &story.x.response.headers;
    IS("response.code", "503"); /* not counted yet, but there */
    IS("response.code_details", "via_upstream");
    IS("response.grpc_status", "14");
    IS("response.headers.x-up", "one,two");
    IS("response.headers", "(no text)");
    story_add(&story, &story.x.response.trailers, "grpc-status: 5\nx-t: end");
    of.trailers = &story.x.response.trailers;
    IS("response.grpc_status", "5");
    IS("response.trailers.x-t", "end");
    info->response_code = 200;
    info->response_code_details = SPAN_LIT("why");
    info->flags = FLAG_NO_ROUTE_FOUND | FLAG_UPSTREAM_CONNECTION_FAILURE;
    info->bytes_sent = 10;
    info->upstream_tx_first_ns = NS_PER_S;
    info->upstream_rx_last_ns = NS_PER_S + 2500;
    IS("response.code", "200");
    IS("response.code_details", "why");
    IS("response.flags", "288");
    IS("response.size", "10");
    IS("response.backend_latency", "2.5us");
}

static void of_the_connection_and_its_ends(void **state) {
    IS("connection.id", "17");
    IS("connection.mtls", "false");
    IS("connection.requested_server_name", "");
    IS("connection.tls_version", "(absent)");
    IS("connection.termination_details", "(absent)");
    IS("connection.transport_failure_reason", "(absent)");
    IS("source.address", "[::1]:4567");
    IS("source.port", "4567");
    IS("destination.address", "127.0.0.1:80");
    IS("destination.port", "80");
    IS("destination", "(no text)");
    const struct tls_san names[] = {{TLS_SAN_DNS, SPAN_INIT("d1")},
                                    {TLS_SAN_DNS, SPAN_INIT("d2")},
                                    {TLS_SAN_URI, SPAN_INIT("u1")}};
    const struct tls_identity peer = {
        .subject = SPAN_LIT("CN=p"), .sha256 = SPAN_LIT("abcd"), .sans = names, .san_count = 3};
    const struct attribute_tls tls = {
        .version = SPAN_LIT("TLSv1.3"), .peer = &peer, .has_peer = true};
    of.tls = &tls;
    IS("connection.mtls", "true");
    IS("connection.tls_version", "TLSv1.3");
    IS("connection.subject_peer_certificate", "CN=p");
    IS("connection.subject_local_certificate", "");
    IS("connection.dns_san_peer_certificate", "d1");
    IS("connection.uri_san_peer_certificate", "u1");
    IS("connection.dns_san_local_certificate", "(absent)");
    IS("connection.sha256_peer_certificate_digest", "abcd");
    of.tls = NULL;
}

static void of_the_upstream_and_the_configuration(void **state) {
    IS("upstream.address", "(absent)");
    IS("upstream.port", "(absent)");
    IS("upstream.local_address", "(absent)");
    IS("upstream.transport_failure_reason", "(absent)");
    IS("upstream.request_attempt_count", "0");
    IS("upstream.cx_pool_ready_duration", "(absent)");
    IS("xds.cluster_name", "(absent)");
    IS("xds.route_name", "(absent)");
    IS("xds.filter_chain_name", "chain");
    IS("xds.upstream_host_metadata", "(absent)");
    IS("xds.listener_direction", "(absent)");
    struct stream_info *info = &story.x.info;
    info->upstream_remote = SPAN_LIT("10.0.0.1:8080");
    info->upstream_local = SPAN_LIT("10.0.0.2:999");
    info->upstream_cluster = SPAN_LIT("up");
    info->upstream_attempts = 1;
    info->upstream_wanted_ns = NS_PER_S;
    info->upstream_tx_first_ns = NS_PER_S;
    struct upstream_tls tls = {.version = SPAN_LIT("TLSv1.2")};
    info->upstream_tls = &tls;
    IS("upstream.address", "10.0.0.1:8080");
    IS("upstream.port", "8080");
    IS("upstream.local_address", "10.0.0.2:999");
    IS("upstream.transport_failure_reason", "");
    IS("upstream.request_attempt_count", "1");
    IS("upstream.cx_pool_ready_duration", "0");
    IS("upstream.tls_version", "TLSv1.2");
    IS("upstream.subject_peer_certificate", "");
    IS("xds.cluster_name", "up");
    IS("xds.upstream_host_metadata", "");
    IS("xds.upstream_host_metadata.filter_metadata", "(no text)");
}

static void of_a_route(void **state) {
    struct routes routes;
    routes_load(&routes, "virtual_hosts: [{name: v, domains: ['*'],\n"
                         "  metadata: {filter_metadata: {f: {k: 1}}},\n"
                         "  routes: [{name: r, match: {prefix: /}, route: {cluster: up},\n"
                         "    metadata: {filter_metadata: {a.b: {k: [x, {n: 0.5}]}}}}]}]");
    assert_non_null(routes.table);
    of.route = route_match(routes.table, of.request, 0, 0);
    assert_non_null(of.route);
    IS("xds.route_name", "r");
    IS("xds.virtual_host_name", "v");
    IS("xds.virtual_host_metadata", "\n\25\n\1f\22\20\n\16\n\1k\22\11\21");
    IS("xds.virtual_host_metadata.filter_metadata.f.k", "1");
    IS("xds.route_metadata.filter_metadata.a.b.k.0", "x");
    IS("xds.route_metadata.filter_metadata.a.b.k.1.n", "0.5");
    IS("xds.route_metadata.filter_metadata.a.b.k.2", "(absent)");
    IS("xds.route_metadata.filter_metadata.a.b.k.x", "(absent)");
    IS("xds.route_metadata.filter_metadata.a.b.k", "(no text)");
    IS("xds.route_metadata.filter_metadata.a", "(absent)");
    IS("xds.route_metadata.filter_metadata", "(no text)");
    IS("xds.route_metadata.typed_filter_metadata", "(no text)");
    IS("xds.route_metadata.typed_filter_metadata.x", "(absent)");
    IS("xds.route_metadata.else", "(absent)");
    routes_free(&routes);
}

static void of_what_filters_noted(void **state) {
    IS("metadata", "");
    IS("metadata.filter_metadata.f.a", "(absent)");
    IS("filter_state.a", "(absent)");
    of.metadata = metadata_new();
    of.filter_state = filter_state_new();
    assert_non_null(of.metadata);
    assert_non_null(of.filter_state);
    struct cfg_value values[] = {{.kind = CFG_VALUE_BOOL},
                                 {.kind = CFG_VALUE_NULL},
                                 {.kind = CFG_VALUE_NUMBER, .number = 1e6}};
    static const char *const keys[] = {"bool", "null", "number"};
    for (int i = 0; i < 3; i++)
        assert_int_equal(metadata_set(of.metadata, SPAN_LIT("f.x"), span_of(keys[i]), &values[i]),
                         0);
    assert_int_equal(metadata_set_text(of.metadata, SPAN_LIT("f"), SPAN_LIT("a"), SPAN_LIT("text")),
                     0);
    IS("metadata.filter_metadata.f.a", "text");
    IS("metadata.filter_metadata.f.x.bool", "false");
    IS("metadata.filter_metadata.f.x.null", "(no text)");
    IS("metadata.filter_metadata.f.x.number", "1e+06");
    IS("metadata.filter_metadata.f.x", "(no text)");
    IS("metadata.filter_metadata", "(no text)");
    IS("metadata.typed_filter_metadata.f", "(absent)");
    struct filter_state_object object = {.key = SPAN_LIT("a.b"), .text = SPAN_LIT("state")};
    assert_int_equal(filter_state_set(of.filter_state, NULL, &object), 0);
    object.key = SPAN_LIT("s");
    object.sharing = FILTER_STATE_SHARED_UPSTREAM;
    assert_int_equal(filter_state_set(of.filter_state, NULL, &object), 0);
    IS("filter_state.a.b", "state");
    IS("filter_state.a.b.", "state");
    IS("filter_state.a.b.c", "(absent)");
    IS("filter_state.a", "(absent)");
    IS("filter_state", "(no text)");
    IS("upstream_filter_state.s", "(absent)");
    story.x.info.upstream_local = SPAN_LIT("10.0.0.2:999");
    IS("upstream_filter_state.s", "state");
    IS("upstream_filter_state.a.b", "(absent)");
}

/* ---- forms ---- */

static const char *duration_text(int64_t ns) {
    made.len = 0;
    attribute_put_duration(&made, ns);
    return text_or_verdict(ATTRIBUTE_TEXT);
}

static void durations(void **state) {
    static const struct {
        int64_t ns;
        const char *text;
    } cases[] = {
        {0, "0"},
        {1, "1ns"},
        {999, "999ns"},
        {1000, "1us"},
        {1001, "1.001us"},
        {NS_PER_MS, "1ms"},
        {1234567, "1.234567ms"},
        {NS_PER_S, "1s"},
        {1500 * NS_PER_MS, "1.5s"},
        {60 * NS_PER_S, "1m"},
        {61 * NS_PER_S + 1, "1m1.000000001s"},
        {3600 * NS_PER_S, "1h"},
        {90061 * NS_PER_S + 20 * NS_PER_MS, "25h1m1.02s"},
        {-1500, "-1.5us"},
        {INT64_MIN, "-2562047h47m16.854775808s"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        assert_string_equal(duration_text(cases[i].ns), cases[i].text);
}

static void times_and_numbers(void **state) {
    made.len = 0;
    attribute_put_time(&made, 0);
    assert_string_equal(text_or_verdict(ATTRIBUTE_TEXT), "1970-01-01T00:00:00+00:00");
    static const struct {
        double number;
        const char *text;
    } cases[] = {{0, "0"},           {0.5, "0.5"},   {1234567, "1.23457e+06"},
                 {100000, "100000"}, {1e6, "1e+06"}, {1e-5, "1e-05"},
                 {-3, "-3"}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        made.len = 0;
        attribute_put_double(&made, cases[i].number);
        assert_string_equal(text_or_verdict(ATTRIBUTE_TEXT), cases[i].text);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(of_the_request, begin, end),
        cmocka_unit_test_setup_teardown(of_a_request_that_cannot_be_seen, begin, end),
        cmocka_unit_test_setup_teardown(strange_paths, begin, end),
        cmocka_unit_test_setup_teardown(of_the_response, begin, end),
        cmocka_unit_test_setup_teardown(of_the_connection_and_its_ends, begin, end),
        cmocka_unit_test_setup_teardown(of_the_upstream_and_the_configuration, begin, end),
        cmocka_unit_test_setup_teardown(of_a_route, begin, end),
        cmocka_unit_test_setup_teardown(of_what_filters_noted, begin, end),
        cmocka_unit_test_setup_teardown(durations, begin, end),
        cmocka_unit_test_setup_teardown(times_and_numbers, begin, end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
