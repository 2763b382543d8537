/* Hop-by-hop fields: what goes, and what a peer may not take away by naming it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "http1_describe.h"

static const struct http1_limits limits = {.head_bytes = 60 * 1024, .header_count = 100};

static void check(enum message message, const char *fields, const char *expected) {
    struct describe d;
    describe_init(&d);
    struct arena arena;
    arena_init(&arena, &d.cache, 1 << 20);
    struct header_map map;
    header_map_init(&map, &arena);
    struct http1_head head = {.headers = &map};
    struct http1_parser parser;
    http1_parser_init(&parser, &limits);
    char text[1024];
    int len = snprintf(text, sizeof text, "%s%s\r\n",
                       message == REQUEST ? "GET / HTTP/1.1\r\nHost: h\r\n" : "HTTP/1.1 200 OK\r\n",
                       fields);
    enum http1_verdict verdict =
        message == REQUEST
            ? http1_parse_request(&parser, text, (size_t)len, &head)
            : http1_parse_response(&parser, text, (size_t)len, SPAN_LIT("GET"), &head);
    assert_int_equal(verdict, HTTP1_DONE);
    http1_strip_hop_by_hop(&map);
    tell_fields(&d.story, &map);
    const char *start = message == REQUEST
                            ? ":method: GET|:path: /|:authority: h [host]|:scheme: http|"
                            : ":status: 200|";
    assert_memory_equal(d.story.text, start, strlen(start));
    assert_string_equal(d.story.text + strlen(start), expected);
    arena_fini(&arena);
    describe_fini(&d);
}

static void connection_fields_go(void **state) {
    check(REQUEST, "A: b\r\n", "a: b [line]|");
    check(REQUEST,
          "Connection: keep-alive\r\nKeep-Alive: 3\r\nProxy-Connection: x\r\nA: b\r\n"
          "Upgrade: x\r\nTransfer-Encoding: chunked\r\nTrailer: t\r\n",
          "a: b [line]|trailer: t [line]|");
    check(RESPONSE, "Connection: close\r\nTransfer-Encoding: chunked\r\nKeep-Alive: 3\r\nA: b\r\n",
          "a: b [line]|");
}

static void nominated_fields_go(void **state) {
    check(REQUEST, "Connection: Foo , close,BAR\r\nfoo: 1\r\nA: b\r\nBar: 2\r\nfoo: 3\r\n",
          "a: b [line]|");
    check(REQUEST, "Foo: 1\r\nConnection: foo\r\nConnection: cookie\r\nCookie: x\r\n", "");
    check(REQUEST, "Connection: ,,foo,\r\nFoo: 1\r\nFoobar: 2\r\n", "foobar: 2 [line]|");
    check(REQUEST, "Connection: x-request-id\r\nX-Request-Id: 1\r\n", "");
}

static void what_frames_and_routes_stays(void **state) {
    check(REQUEST, "Connection: content-length\r\nContent-Length: 3\r\n",
          "content-length: 3 [line]|");
    check(RESPONSE,
          "Connection: x-forwarded-for, :status, content-length\r\n"
          "X-Forwarded-For: 1\r\nContent-Length: 0\r\n",
          "x-forwarded-for: 1 [line]|content-length: 0 [line]|");
}

static void te_keeps_only_trailers(void **state) {
    check(REQUEST, "TE: trailers\r\n", "te: trailers [line]|");
    check(REQUEST, "TE: gzip, Trailers\r\n", "te: trailers|");
    check(REQUEST, "Connection: TE\r\nTE: trailers\r\n", "te: trailers [line]|");
    check(REQUEST, "TE: gzip\r\n", "");
    check(REQUEST, "TE: trailers;q=1\r\n", "");
    check(REQUEST, "TE:\r\n", "");
}

static void responses_keep_what_connection_names(void **state) {
    check(RESPONSE, "Connection: x-cache\r\nX-Cache: hit\r\nTE: x\r\n",
          "x-cache: hit [line]|te: x [line]|");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(connection_fields_go),
        cmocka_unit_test(nominated_fields_go),
        cmocka_unit_test(what_frames_and_routes_stays),
        cmocka_unit_test(te_keeps_only_trailers),
        cmocka_unit_test(responses_keep_what_connection_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
