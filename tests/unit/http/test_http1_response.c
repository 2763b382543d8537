/* Response heads: what upstreams send, told whole, cut at every byte and byte by byte. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "http1_describe.h"

static const struct http1_limits envoy_limits = {.head_bytes = 60 * 1024, .header_count = 100};

struct row {
    const char *story, *method;
    struct span input;
    const char *expected; /* a prefix of the description */
};
#define ROW(story, method, input, expected)                                                        \
    { story, method, SPAN_INIT(input), expected }

static void check(struct describe *d, const struct row *row, const struct http1_limits *limits) {
    struct span method = span_of(row->method);
    char *whole = strdup(describe_whole(d, RESPONSE, method, limits, row->input));
    if (strncmp(whole, row->expected, strlen(row->expected)) != 0)
        fail_msg("%s:\n  expected %s\n  got      %s", row->story, row->expected, whole);
    const char *bytewise = describe_bytewise(d, RESPONSE, method, limits, row->input);
    if (strcmp(whole, bytewise) != 0)
        fail_msg("%s, byte by byte:\n  whole    %s\n  bytewise %s", row->story, whole, bytewise);
    for (size_t cut = 1; cut < row->input.len; cut++)
        if (strcmp(whole, describe_head(d, RESPONSE, method, limits, row->input, cut,
                                        row->input.len)) != 0)
            fail_msg("%s, cut at %zu: not the same", row->story, cut);
    free(whole);
}

static void check_rows(const struct row *rows, size_t count) {
    struct describe d;
    describe_init(&d);
    for (size_t i = 0; i < count; i++)
        check(&d, &rows[i], &envoy_limits);
    describe_fini(&d);
}
#define CHECK_ROWS(rows) check_rows(rows, sizeof rows / sizeof *rows)

#define BAD "BAD 400 http1.codec_error"
#define OK200 "HTTP/1.1 200 OK\r\n"

static void status_lines(void **state) {
    static const struct row rows[] = {
        ROW("the usual", "GET", OK200 "Content-Length: 2\r\n\r\nhi",
            "DONE 1.1, status 200, length 2|:status: 200|content-length: 2 [line]|"),
        ROW("a reason of several words", "GET", "HTTP/1.1 404 Not \xe9t\tFound\r\n\r\n",
            "DONE 1.1, close, status 404, until close|:status: 404|"),
        ROW("an empty reason", "GET", "HTTP/1.1 200 \r\n\r\n", "DONE 1.1, close, status 200"),
        ROW("no reason and no blank", "GET", "HTTP/1.1 200\r\n\r\n", "DONE 1.1, close, status 200"),
        ROW("a code without a name", "GET", "HTTP/1.1 999 x\r\n\r\n",
            "DONE 1.1, close, status 999"),
        ROW("two digits", "GET", "HTTP/1.1 99 x\r\n\r\n", BAD),
        ROW("four digits", "GET", "HTTP/1.1 2000 x\r\n\r\n", BAD),
        ROW("a code below 100", "GET", "HTTP/1.1 099 x\r\n\r\n", BAD),
        ROW("letters", "GET", "HTTP/1.1 2x0 OK\r\n\r\n", BAD),
        ROW("two blanks", "GET", "HTTP/1.1  200 OK\r\n\r\n", BAD),
        ROW("another version", "GET", "HTTP/2.0 200 OK\r\n\r\n", "BAD 505"),
        ROW("another protocol", "GET", "ICY 200 OK\r\n\r\n", BAD),
        ROW("garbage", "GET", "\x15\x03\x01", BAD),
        ROW("an empty line in front", "GET", "\r\n" OK200 "\r\n", BAD),
        ROW("a bare LF", "GET", "HTTP/1.1 200 OK\n\r\n", BAD),
        ROW("NUL in the reason", "GET", "HTTP/1.1 200 O\0\r\n\r\n", BAD),
        ROW("obs-fold", "GET", OK200 "A: b\r\n c\r\n\r\n", BAD),
        ROW("nothing yet", "GET", "", "MORE"),
    };
    CHECK_ROWS(rows);
}

static void framing(void **state) {
    static const struct row rows[] = {
        ROW("chunked", "GET", OK200 "Transfer-Encoding: chunked\r\n\r\n",
            "DONE 1.1, status 200, chunked|"),
        ROW("neither: until the connection ends", "GET", OK200 "\r\n",
            "DONE 1.1, close, status 200, until close|"),
        ROW("the answer to HEAD", "HEAD", OK200 "Content-Length: 5\r\n\r\n",
            "DONE 1.1, status 200, no body|:status: 200|content-length: 5 [line]|"),
        ROW("the answer to HEAD, chunked", "HEAD", OK200 "Transfer-Encoding: chunked\r\n\r\n",
            "DONE 1.1, status 200, no body|"),
        ROW("304 may tell a length", "GET", "HTTP/1.1 304 x\r\nContent-Length: 5\r\n\r\n",
            "DONE 1.1, status 304, no body|:status: 304|content-length: 5 [line]|"),
        ROW("204", "GET", "HTTP/1.1 204 x\r\n\r\n", "DONE 1.1, status 204, no body|"),
        ROW("204 with length 0", "GET", "HTTP/1.1 204 x\r\nContent-Length: 0\r\n\r\n",
            "DONE 1.1, status 204, no body|:status: 204|"),
        ROW("204 with a body", "GET", "HTTP/1.1 204 x\r\nContent-Length: 1\r\n\r\n",
            "BAD 400 http1.content_length_not_allowed"),
        ROW("204 chunked", "GET", "HTTP/1.1 204 x\r\nTransfer-Encoding: chunked\r\n\r\n",
            "BAD 400 http1.transfer_encoding_not_allowed"),
        ROW("100", "POST", "HTTP/1.1 100 Continue\r\n\r\n", "DONE 1.1, status 100, no body|"),
        ROW("101", "GET", "HTTP/1.1 101 x\r\nConnection: upgrade\r\nUpgrade: y\r\n\r\n",
            "DONE 1.1, upgrade, status 101, no body|"),
        ROW("the answer to CONNECT", "CONNECT", "HTTP/1.1 200 x\r\n\r\n",
            "DONE 1.1, status 200, no body|"),
        ROW("a refused CONNECT has a body", "CONNECT",
            "HTTP/1.1 403 x\r\nContent-Length: 1\r\n\r\n", "DONE 1.1, status 403, length 1|"),
        ROW("Connection: close", "GET", OK200 "Connection: close\r\nContent-Length: 0\r\n\r\n",
            "DONE 1.1, close, status 200, length 0|"),
        ROW("HTTP/1.0 closes", "GET", "HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n",
            "DONE 1.0, close, status 200, length 0|"),
        ROW("HTTP/1.0 that stays", "GET",
            "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 0\r\n\r\n",
            "DONE 1.0, status 200, length 0|"),
        ROW("Host is a field like any other", "GET", OK200 "Host: x\r\n\r\n",
            "DONE 1.1, close, status 200, until close|:status: 200|host: x [line]|"),
        ROW("any nomination", "GET", OK200 "Connection: x-forwarded-for\r\n\r\n", "DONE "),
        ROW("two lengths", "GET", OK200 "Content-Length: 1\r\nContent-Length: 1\r\n\r\n", BAD),
        ROW("chunked and a length", "GET",
            OK200 "Transfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n",
            "BAD 400 http1.content_length_not_allowed"),
        ROW("another coding", "GET", OK200 "Transfer-Encoding: gzip\r\n\r\n",
            "BAD 501 http1.invalid_transfer_encoding"),
        ROW("chunked in HTTP/1.0", "GET", "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            "BAD 400 http1.transfer_encoding_not_allowed"),
    };
    CHECK_ROWS(rows);
}

static void limits(void **state) {
    static const struct row row =
        ROW("beyond the limit", "GET", OK200 "A: 0123456789\r\n\r\n", "BAD 431 ");
    struct describe d;
    describe_init(&d);
    check(&d, &row, &(struct http1_limits){.head_bytes = 30, .header_count = 100});
    check(&d, &row, &(struct http1_limits){.head_bytes = 10, .header_count = 100});
    check(&d, &row, &(struct http1_limits){.head_bytes = 100, .header_count = 0});
    describe_fini(&d);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(status_lines),
        cmocka_unit_test(framing),
        cmocka_unit_test(limits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
