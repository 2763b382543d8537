/* The first line of HTTP, as Envoy's http_inspector takes it: the verdicts of the first table were asked of Envoy
 * 1.40, the few of the second one are where we differ. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "io/request_line.h"
#include "prefix_story.h"

struct row {
    enum request_line expected;
    struct span bytes;
};
#define ROW(expected, bytes)                                                                       \
    { expected, SPAN_INIT(bytes) }
#define MORE REQUEST_LINE_MORE
#define NONE REQUEST_LINE_NONE
#define H10 REQUEST_LINE_HTTP_1_0
#define H11 REQUEST_LINE_HTTP_1_1
#define H2C REQUEST_LINE_H2C

static int judge(struct span prefix) {
    return (int)request_line_look(prefix);
}

static void check_rows(const struct row *rows, size_t count) {
    for (size_t i = 0; i < count; i++) {
        size_t decided;
        int got = verdict_bytewise(judge, MORE, rows[i].bytes, &decided);
        if (got != (int)rows[i].expected)
            fail_msg("row %zu, \"%.40s\": %d, not %d", i, rows[i].bytes.ptr, got, rows[i].expected);
    }
}
#define CHECK_ROWS(rows) check_rows(rows, sizeof rows / sizeof *rows)

static void as_envoy(void **state) {
    static const struct row rows[] = {
        ROW(H11, "GET / HTTP/1.1\r\n"),
        ROW(H10, "GET / HTTP/1.0\r\n"),
        ROW(H11, "GET / HTTP/1.1\n"),
        ROW(H10, "GET /\r\n"),
        ROW(NONE, "GET key\r\n"),
        ROW(NONE, "PING\r\n"),
        ROW(NONE, "SET a b\r\n"),
        ROW(H11, "SET /a HTTP/1.1\r\n"),
        ROW(H11, "get / HTTP/1.1\r\n"),
        ROW(H10, "GET / HTTP/1.2\r\n"),
        ROW(H10, "GET / HTTP/3.7\r\n"),
        ROW(H11, "GET / HTTP/1.1 \r\n"),
        ROW(H11, "GET  /  HTTP/1.1\r\n"),
        ROW(H11, "GET\t/\tHTTP/1.1\r\n"),
        ROW(NONE, "\r\nGET / HTTP/1.1\r\n"),
        ROW(NONE, "\n"),
        ROW(NONE, " GET / HTTP/1.1\r\n"),
        ROW(NONE, "G@T / HTTP/1.1\r\n"),
        ROW(NONE, "(G / HTTP/1.1\r\n"),
        ROW(NONE, "GET h HTTP/1.1\r\n"),
        ROW(H11, "CONNECT h:80 HTTP/1.1\r\n"),
        ROW(H11, "CONNECT h HTTP/1.1\r\n"),
        ROW(H11, "CONNECT /a HTTP/1.1\r\n"),
        ROW(NONE, "CONNECT h@@x HTTP/1.1\r\n"),
        ROW(H11, "OPTIONS * HTTP/1.1\r\n"),
        ROW(H11, "GET http://h/ HTTP/1.1\r\n"),
        ROW(H11, "GET ftp://h/ HTTP/1.1\r\n"),
        ROW(H11, "GET a1+.-://h?q HTTP/1.1\r\n"),
        ROW(NONE, "GET 1a://h HTTP/1.1\r\n"),
        ROW(NONE, "GET http://h\"/ HTTP/1.1\r\n"),
        ROW(NONE, "GET /a b HTTP/1.1\r\n"),
        ROW(NONE, "GET /\xff HTTP/1.1\r\n"),
        ROW(NONE, "GET / http/1.1\r\n"),
        ROW(NONE, "GET / HTTP/11\r\n"),
        ROW(NONE, "GET / HTTP/1.10\r\n"),
        ROW(NONE, "GET / HTTP/1x1\r\n"),
        ROW(NONE, "GET ? HTTP/1.1\r\n"),
        ROW(H11, "GET /#x HTTP/1.1\r\n"),
        ROW(NONE, "GET HTTP/1.1\r\n"),
        ROW(NONE, "GET \r\n"),
        ROW(NONE, "GET\r\n"),
        ROW(NONE, "\0\1\2"),
        ROW(NONE, "\x16\x03\x01"),
        ROW(MORE, "P"),
        ROW(MORE, "GET / HTTP/1.1\r"),
        ROW(NONE, "GET / HTTP/1.1\rx\n"),
        ROW(MORE, "PRI * HTTP/2.0\r\n"),
        ROW(H2C, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
        ROW(H10, "PRI * HTTP/2.0\r\nfoo"),
        ROW(H11, "PRI * HTTP/1.1\r\n"),
        ROW(MORE, ""),
    };
    CHECK_ROWS(rows);
}

static void not_as_envoy(void **state) {
    static const struct row rows[] = {
        ROW(NONE, "GET /\x01 HTTP/1.1\r\n"), /* there a blank */
        ROW(NONE, "GET\x01/ HTTP/1.1\r\n"),
        ROW(NONE, "GET\x7f"), /* there not before the end of the line */
    };
    CHECK_ROWS(rows);
}

static void what_begins_a_request(void **state) {
    assert_true(request_line_begins(SPAN_LIT("GET /a")));
    assert_true(request_line_begins(SPAN_LIT("GET http://h/x")));
    assert_true(request_line_begins(SPAN_LIT("CONNECT host")));
    assert_false(request_line_begins(SPAN_LIT("GET key")));
    assert_false(request_line_begins(SPAN_LIT("GET")));
    assert_false(request_line_begins(SPAN_LIT("GET ")));
    assert_false(request_line_begins(SPAN_LIT(" /")));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(as_envoy),
        cmocka_unit_test(not_as_envoy),
        cmocka_unit_test(what_begins_a_request),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
