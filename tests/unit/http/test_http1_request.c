/* Request heads: each row of a table is a story of something a client sends, and is told whole, in
 * two pieces cut at every byte, and byte by byte, always ending at an unreadable page. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "http1_describe.h"

static const struct http1_limits envoy_limits = {.head_bytes = 60 * 1024, .header_count = 100};

struct row {
    const char *story;
    struct span input;
    const char *expected; /* a prefix of the description */
};
#define ROW(story, input, expected)                                                                \
    { story, SPAN_INIT(input), expected }

static void check(struct describe *d, const struct http1_limits *limits, const char *story,
                  struct span input, const char *expected) {
    char *whole = strdup(describe_whole(d, REQUEST, span_none(), limits, input));
    if (strncmp(whole, expected, strlen(expected)) != 0)
        fail_msg("%s:\n  expected %s\n  got      %s", story, expected, whole);
    const char *bytewise = describe_bytewise(d, REQUEST, span_none(), limits, input);
    if (strcmp(whole, bytewise) != 0)
        fail_msg("%s, byte by byte:\n  whole    %s\n  bytewise %s", story, whole, bytewise);
    for (size_t cut = 1; cut < input.len && input.len < 2000; cut++) {
        const char *cut_up = describe_head(d, REQUEST, span_none(), limits, input, cut, input.len);
        if (strcmp(whole, cut_up) != 0)
            fail_msg("%s, cut at %zu:\n  whole %s\n  cut   %s", story, cut, whole, cut_up);
    }
    free(whole);
}

static void check_rows(const struct row *rows, size_t count) {
    struct describe d;
    describe_init(&d);
    for (size_t i = 0; i < count; i++)
        check(&d, &envoy_limits, rows[i].story, rows[i].input, rows[i].expected);
    describe_fini(&d);
}
#define CHECK_ROWS(rows) check_rows(rows, sizeof rows / sizeof *rows)

#define OK_START ":method: GET|:path: /|:authority: h [host]|:scheme: http|"
#define BAD "BAD 400 http1.codec_error"
#define BAD_CHARS "BAD 400 http1.invalid_characters"
#define BAD_LENGTH "BAD 400 http1.codec_error"
#define BAD_CODING "BAD 501 http1.invalid_transfer_encoding"
#define BAD_HOST "BAD 400 http.invalid_authority"
#define BAD_URL "BAD 400 http1.invalid_url"
#define NOMINATED "BAD 400 http1.connection_header_rejected"
#define GET "GET / HTTP/1.1\r\nHost: h\r\n"
#define POST "POST / HTTP/1.1\r\nHost: h\r\n"

static void good_heads(void **state) {
    static const struct row rows[] = {
        ROW("the smallest request", GET "\r\n", "DONE 1.1, no body|" OK_START),
        ROW("what curl sends",
            "GET /a?b=c HTTP/1.1\r\nHost: 127.0.0.1:8080\r\nUser-Agent: curl/7.88.1\r\n"
            "Accept: */*\r\n\r\n",
            "DONE 1.1, no body|:method: GET|:path: /a?b=c|:authority: 127.0.0.1:8080 "
            "[host]|:scheme: http|user-agent: curl/7.88.1 [line]|accept: */* [line]|"),
        ROW("names are lower-cased, values are not", GET "X-Some-THING: VaLue\r\n\r\n",
            "DONE 1.1, no body|" OK_START "x-some-thing: VaLue [line]|"),
        ROW("no blank behind the colon", GET "A:b\r\n\r\n", "DONE 1.1, no body|" OK_START "a: b|"),
        ROW("several blanks around the value", GET "A: \t b c\t \r\n\r\n",
            "DONE 1.1, no body|" OK_START "a: b c|"),
        ROW("a tab behind the colon", GET "A:\tb\r\n\r\n", "DONE 1.1, no body|" OK_START "a: b|"),
        ROW("a blank behind the value", GET "A: b \r\n\r\n", "DONE 1.1, no body|" OK_START "a: b|"),
        ROW("an empty value", GET "A: \r\nB:\r\nC: d\r\n\r\n",
            "DONE 1.1, no body|" OK_START "a:  [line]|b: |c: d [line]|"),
        ROW("a tab and bytes above 0x7f inside a value", GET "A: b\tc\xe9\r\n\r\n",
            "DONE 1.1, no body|" OK_START "a: b\\x09c\\xe9 [line]|"),
        ROW("every character that a name may have", GET "!#$%&'*+-.^_`|~09azAZ: x\r\n\r\n",
            "DONE 1.1, no body|" OK_START "!#$%&'*+-.^_`|~09azaz: x [line]|"),
        ROW("Host is not the first field", "GET / HTTP/1.1\r\nA: b\r\nHost: h\r\n\r\n",
            "DONE 1.1, no body|" OK_START "a: b [line]|"),
        ROW("Host in another shape", "GET / HTTP/1.1\r\nHost:h \r\n\r\n",
            "DONE 1.1, no body|:method: GET|:path: /|:authority: h|:scheme: http|"),
        ROW("empty lines in front", "\r\n\r\n" GET "\r\n", "DONE 1.1, no body|" OK_START),
        ROW("a method nobody registered", "BREW / HTTP/1.1\r\nHost: h\r\n\r\n",
            "DONE 1.1, no body|:method: BREW|"),
        ROW("HTTP/1.0 closes", "GET / HTTP/1.0\r\nHost: h\r\n\r\n",
            "DONE 1.0, close, no body|" OK_START),
        ROW("HTTP/1.0 needs no Host", "GET / HTTP/1.0\r\nA: b\r\n\r\n",
            "DONE 1.0, close, no body|:method: GET|:path: /|:scheme: http|a: b [line]|"),
        ROW("HTTP/1.0 may ask to stay",
            "GET / HTTP/1.0\r\nHost: h\r\nConnection: Keep-Alive\r\n\r\n", "DONE 1.0, no body|"),
        ROW("Connection: close", GET "Connection: foo, Close\r\n\r\n", "DONE 1.1, close, no body|"),
        ROW("close wins over keep-alive", GET "Connection: keep-alive\r\nConnection: close\r\n\r\n",
            "DONE 1.1, close, no body|"),
        ROW("Proxy-Connection: close closes, as on Envoy", GET "Proxy-Connection: close\r\n\r\n",
            "DONE 1.1, close, no body|"),
        ROW("a length", POST "Content-Length: 42\r\n\r\n", "DONE 1.1, length 42|"),
        ROW("length 0", POST "Content-Length: 0\r\n\r\n", "DONE 1.1, length 0|"),
        ROW("the greatest length", POST "Content-Length: 9223372036854775807\r\n\r\n",
            "DONE 1.1, length 9223372036854775807|"),
        ROW("chunked", POST "Transfer-Encoding: Chunked\r\n\r\n", "DONE 1.1, chunked|"),
        ROW("100-continue", POST "Expect: 100-Continue\r\nContent-Length: 1\r\n\r\n",
            "DONE 1.1, expect, length 1|"),
        ROW("100-continue means nothing in HTTP/1.0",
            "POST / HTTP/1.0\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n",
            "DONE 1.0, close, length 1|"),
        ROW("another expectation is passed on", GET "Expect: tea\r\n\r\n",
            "DONE 1.1, no body|" OK_START "expect: tea [line]|"),
        ROW("an upgrade", GET "Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
            "DONE 1.1, upgrade, no body|"),
        ROW("Upgrade without Connection is none", GET "Upgrade: websocket\r\n\r\n",
            "DONE 1.1, no body|"),
        ROW("an empty Host", "GET / HTTP/1.1\r\nHost: \r\n\r\n",
            "DONE 1.1, no body|:method: GET|:path: /|:authority:  [host]|"),
        ROW("what follows the head stays out of it", GET "\r\nGET /2 HTTP/1.1\r\n",
            "DONE 1.1, no body|" OK_START),
    };
    CHECK_ROWS(rows);
}

static void targets(void **state) {
    static const struct row rows[] = {
        ROW("absolute form", "GET http://G:8/x?y HTTP/1.1\r\nHost: h\r\n\r\n",
            "DONE 1.1, absolute, no body|:method: GET|:path: /x?y|:authority: "
            "G:8|:scheme: http|"),
        ROW("absolute form, https", "GET HTTPS://g/ HTTP/1.1\r\nHost: h\r\n\r\n",
            "DONE 1.1, absolute, no body|:method: GET|:path: /|:authority: g|:scheme: "
            "https|"),
        ROW("absolute form without a path", "GET http://g HTTP/1.1\r\nHost: h\r\n\r\n",
            "DONE 1.1, absolute, no body|:method: GET|:path: /|:authority: g|"),
        ROW("absolute form with a query only", "GET http://g?x HTTP/1.1\r\nHost: h\r\n\r\n",
            "DONE 1.1, absolute, no body|:method: GET|:path: /?x|:authority: g|"),
        ROW("absolute form without Host", "GET http://g/ HTTP/1.1\r\n\r\n",
            "DONE 1.1, absolute, no body|:method: GET|:path: /|:authority: g|"),
        ROW("absolute form does not excuse a bad Host",
            "GET http://g/ HTTP/1.1\r\nHost: a/b\r\n\r\n", BAD_HOST),
        ROW("absolute form does not excuse two Hosts",
            "GET http://g/ HTTP/1.1\r\nHost: g\r\nHost: g\r\n\r\n", BAD_HOST),
        ROW("absolute form without a host", "GET http:///x HTTP/1.1\r\nHost: h\r\n\r\n", BAD_URL),
        ROW("user information", "GET http://u:p@g/ HTTP/1.1\r\nHost: h\r\n\r\n", BAD_URL),
        ROW("a port that is none", "GET http://g:65536/ HTTP/1.1\r\nHost: h\r\n\r\n", BAD_URL),
        ROW("another scheme", "GET ftp://g/ HTTP/1.1\r\nHost: h\r\n\r\n",
            "BAD 400 http1.invalid_scheme"),
        ROW("OPTIONS *", "OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n",
            "DONE 1.1, no body|:method: OPTIONS|:path: *|:authority: h [host]|"),
        ROW("* belongs to OPTIONS", "GET * HTTP/1.1\r\nHost: h\r\n\r\n", BAD_URL),
        ROW("CONNECT", "CONNECT h:443 HTTP/1.1\r\nHost: x\r\n\r\n",
            "DONE 1.1, no body|:method: CONNECT|:authority: h:443|"),
        ROW("CONNECT to an IPv6 address", "CONNECT [::1]:443 HTTP/1.1\r\nHost: x\r\n\r\n",
            "DONE 1.1, no body|:method: CONNECT|:authority: [::1]:443|"),
        ROW("CONNECT without a port", "CONNECT h HTTP/1.1\r\nHost: x\r\n\r\n", BAD_URL),
        ROW("CONNECT with an empty port", "CONNECT h: HTTP/1.1\r\nHost: x\r\n\r\n", BAD_URL),
        ROW("CONNECT with a path", "CONNECT / HTTP/1.1\r\nHost: x\r\n\r\n", BAD_URL),
        ROW("CONNECT with length 0", "CONNECT h:1 HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n",
            "DONE 1.1, no body|:method: CONNECT|:authority: h:1|"),
        ROW("CONNECT with a body", "CONNECT h:1 HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n",
            "BAD 400 http1.body_disallowed"),
        ROW("CONNECT with a chunked body",
            "CONNECT h:1 HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n", BAD_CODING),
        ROW("a path with two slashes in front", "GET //x/y HTTP/1.1\r\nHost: h\r\n\r\n",
            "DONE 1.1, no body|:method: GET|:path: //x/y|"),
        ROW("characters that Envoy lets pass", "GET /\"<>\\^`{|}%zz HTTP/1.1\r\nHost: h\r\n\r\n",
            "DONE 1.1, no body|:method: GET|:path: /\"<>\\^`{|}%zz|"),
        ROW("a fragment", "GET /a#b HTTP/1.1\r\nHost: h\r\n\r\n",
            "BAD 400 path_normalization_failed"),
        ROW("a byte above 0x7f", "GET /\xe9 HTTP/1.1\r\nHost: h\r\n\r\n", BAD),
        ROW("no slash in front", "GET a HTTP/1.1\r\nHost: h\r\n\r\n", BAD),
        ROW("a query alone", "GET ?a HTTP/1.1\r\nHost: h\r\n\r\n", BAD),
    };
    CHECK_ROWS(rows);
}

static void request_lines(void **state) {
    static const struct row rows[] = {
        ROW("two blanks before the target", "GET  / HTTP/1.1\r\n", BAD),
        ROW("two blanks behind the target", "GET /  HTTP/1.1\r\n", BAD),
        ROW("a blank in the target", "GET /a b HTTP/1.1\r\n", BAD),
        ROW("a blank in front", " GET / HTTP/1.1\r\n", BAD),
        ROW("a blank at the end", "GET / HTTP/1.1 \r\n", BAD),
        ROW("a tab between", "GET\t/ HTTP/1.1\r\n", BAD),
        ROW("a tab in the target", "GET /a\tb HTTP/1.1\r\n", BAD),
        ROW("no method", " / HTTP/1.1\r\n", BAD),
        ROW("no target", "GET HTTP/1.1\r\n", BAD),
        ROW("an empty target", "GET  HTTP/1.1\r\n", BAD),
        ROW("a method that is no token", "G(T / HTTP/1.1\r\n", BAD),
        ROW("HTTP/0.9", "GET /\r\n", BAD),
        ROW("HTTP/2", "GET / HTTP/2.0\r\n", "BAD 505 "),
        ROW("HTTP/1.2", "GET / HTTP/1.2\r\n", "BAD 505 "),
        ROW("two digits", "GET / HTTP/1.10\r\n", BAD),
        ROW("another protocol", "GET / ICAP/1.1\r\n", BAD),
        ROW("lower case", "GET / http/1.1\r\n", BAD),
        ROW("a bare LF", "GET / HTTP/1.1\nHost: h\r\n", BAD),
        ROW("a bare CR", "GET / HTTP/1.1\rHost: h\r\n", BAD),
        ROW("CR CR LF", "GET / HTTP/1.1\r\r\n", BAD),
        ROW("NUL", "GET /\0 HTTP/1.1\r\n", BAD),
        ROW("DEL", "GET /\x7f HTTP/1.1\r\n", BAD),
        ROW("a bare LF in front", "\nGET / HTTP/1.1\r\n", BAD),
        ROW("a bare CR in front", "\rGET / HTTP/1.1\r\n", BAD),
        ROW("a TLS client is told at its first byte", "\x16", BAD),
        ROW("nothing at all", "", "MORE"),
        ROW("half a line", "GET / HT", "MORE"),
    };
    CHECK_ROWS(rows);
}

static void field_lines(void **state) {
    static const struct row rows[] = {
        ROW("obs-fold", GET "A: b\r\n c: d\r\n\r\n", BAD),
        ROW("obs-fold with a tab", GET "A: b\r\n\tc\r\n\r\n", BAD),
        ROW("a blank before the first field", "GET / HTTP/1.1\r\n Host: h\r\n\r\n", BAD),
        ROW("a blank before the colon", GET "A : b\r\n\r\n", BAD),
        ROW("a blank in the name", GET "A B: c\r\n\r\n", BAD),
        ROW("an empty name", GET ": b\r\n\r\n", BAD),
        ROW("no colon", GET "Abc\r\n\r\n", BAD),
        ROW("a pseudo header", GET ":path: /x\r\n\r\n", BAD),
        ROW("a parenthesis in the name", GET "A(b: c\r\n\r\n", BAD),
        ROW("a byte above 0x7f in the name", GET "A\xe9: c\r\n\r\n", BAD),
        ROW("NUL in the name", GET "A\0: c\r\n\r\n", BAD),
        ROW("NUL in a value", GET "A: b\0c\r\n\r\n", BAD_CHARS),
        ROW("a control byte in a value", GET "A: b\x01\r\n\r\n", BAD_CHARS),
        ROW("DEL in a value", GET "A: \x7f\r\n\r\n", BAD_CHARS),
        ROW("a bare CR in a value", GET "A: b\rc\r\n\r\n", BAD_CHARS),
        ROW("a bare LF ends a value", GET "A: b\nC: d\r\n\r\n", BAD_CHARS),
        ROW("a bare LF ends the head", GET "\n", BAD),
        ROW("a bare CR ends the head", GET "\rX", BAD),
        ROW("the head is not over", GET "A: b\r\n", "MORE"),
        ROW("the head lacks its last byte", GET "A: b\r\n\r", "MORE"),
    };
    CHECK_ROWS(rows);
}

static void hosts(void **state) {
    static const struct row rows[] = {
        ROW("HTTP/1.1 without Host", "GET / HTTP/1.1\r\nA: b\r\n\r\n",
            "BAD 400 missing_host_header"),
        ROW("Host twice, the same", GET "Host: h\r\n\r\n", BAD_HOST),
        ROW("Host twice, different", GET "Host: g\r\n\r\n", BAD_HOST),
        ROW("Host twice in HTTP/1.0", "GET / HTTP/1.0\r\nHost: h\r\nHost: g\r\n\r\n", BAD_HOST),
        ROW("a slash", "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", BAD_HOST),
        ROW("a blank", "GET / HTTP/1.1\r\nHost: a b\r\n\r\n", BAD_HOST),
        ROW("user information", "GET / HTTP/1.1\r\nHost: u@h\r\n\r\n", BAD_HOST),
        ROW("a port with letters", "GET / HTTP/1.1\r\nHost: h:http\r\n\r\n", BAD_HOST),
        ROW("a port out of range", "GET / HTTP/1.1\r\nHost: h:65536\r\n\r\n", BAD_HOST),
        ROW("two ports", "GET / HTTP/1.1\r\nHost: h:1:2\r\n\r\n", BAD_HOST),
        ROW("a port alone", "GET / HTTP/1.1\r\nHost: :80\r\n\r\n", BAD_HOST),
        ROW("an open bracket", "GET / HTTP/1.1\r\nHost: [::1\r\n\r\n", BAD_HOST),
        ROW("a byte above 0x7f", "GET / HTTP/1.1\r\nHost: \xe9\r\n\r\n", BAD_HOST),
        ROW("an IPv6 address and port", "GET / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n",
            "DONE 1.1, no body|:method: GET|:path: /|:authority: [::1]:80 [host]|"),
    };
    CHECK_ROWS(rows);
}

static void smuggling(void **state) {
    static const struct row rows[] = {
        ROW("Content-Length twice, equal", POST "Content-Length: 3\r\nContent-Length: 3\r\n\r\n",
            BAD_LENGTH),
        ROW("Content-Length twice", POST "Content-Length: 3\r\nContent-Length: 4\r\n\r\n",
            BAD_LENGTH),
        ROW("a list of lengths", POST "Content-Length: 3, 3\r\n\r\n", BAD_LENGTH),
        ROW("a sign", POST "Content-Length: +3\r\n\r\n", BAD_LENGTH),
        ROW("a negative length", POST "Content-Length: -3\r\n\r\n", BAD_LENGTH),
        ROW("a blank inside", POST "Content-Length: 3 3\r\n\r\n", BAD_LENGTH),
        ROW("hexadecimal", POST "Content-Length: 0x3\r\n\r\n", BAD_LENGTH),
        ROW("letters", POST "Content-Length: 3a\r\n\r\n", BAD_LENGTH),
        ROW("empty", POST "Content-Length:\r\n\r\n", BAD_LENGTH),
        ROW("2^63", POST "Content-Length: 9223372036854775808\r\n\r\n", BAD_LENGTH),
        ROW("2^64 + 3", POST "Content-Length: 18446744073709551619\r\n\r\n", BAD_LENGTH),
        ROW("chunked and a length", POST "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n",
            "BAD 400 http1.content_length_and_chunked_not_allowed"),
        ROW("a length and chunked", POST "Content-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n",
            "BAD 400 http1.content_length_and_chunked_not_allowed"),
        ROW("chunked twice in a line", POST "Transfer-Encoding: chunked, chunked\r\n\r\n",
            BAD_CODING),
        ROW("chunked twice",
            POST "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", BAD_CODING),
        ROW("identity, then chunked",
            POST "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n\r\n", BAD_CODING),
        ROW("gzip, chunked", POST "Transfer-Encoding: gzip, chunked\r\n\r\n", BAD_CODING),
        ROW("chunked, gzip", POST "Transfer-Encoding: chunked, gzip\r\n\r\n", BAD_CODING),
        ROW("identity", POST "Transfer-Encoding: identity\r\n\r\n", BAD_CODING),
        ROW("a parameter", POST "Transfer-Encoding: chunked;q=1\r\n\r\n", BAD_CODING),
        ROW("a quoted coding", POST "Transfer-Encoding: \"chunked\"\r\n\r\n", BAD_CODING),
        ROW("an empty element", POST "Transfer-Encoding: chunked,\r\n\r\n", BAD_CODING),
        ROW("an empty coding", POST "Transfer-Encoding:\r\n\r\n", BAD_CODING),
        ROW("a vertical tab",
            POST "Transfer-Encoding: \x0b"
                 "chunked\r\n\r\n",
            BAD_CHARS),
        ROW("a misspelt coding", POST "Transfer-Encoding: xchunked\r\n\r\n", BAD_CODING),
        ROW("chunked in HTTP/1.0",
            "POST / HTTP/1.0\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n", BAD_LENGTH),
        ROW("x-forwarded-for as hop-by-hop", GET "Connection: close, X-Forwarded-For\r\n\r\n",
            NOMINATED),
        ROW("a pseudo header as hop-by-hop", GET "Connection: :path\r\n\r\n", NOMINATED),
        ROW("Host as hop-by-hop", GET "Connection: host\r\n\r\n", NOMINATED),
        ROW("nine nominations", GET "Connection: a,b,c,d,e,f,g,h,i\r\n\r\n", "DONE "),
        ROW("ten nominations", GET "Connection: a,b,c,d,e,f,g,h,i,j\r\n\r\n", NOMINATED),
        ROW("ten nominations on two lines",
            GET "Connection: a,b,c,d,e\r\nConnection: f,g,h,i,j\r\n\r\n", NOMINATED),
    };
    CHECK_ROWS(rows);
}

static void chunked_wins_over_length_when_the_option_says_so(void **state) {
    struct describe d;
    describe_init(&d);
    struct http1_limits limits = envoy_limits;
    limits.allow_chunked_length = true;
    check(&d, &limits, "both",
          SPAN_LIT(POST "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n"),
          "DONE 1.1, chunked|:method: POST|:path: /|:authority: h [host]|:scheme: "
          "http|transfer-encoding: chunked [line]|");
    describe_fini(&d);
}

/* A head of exactly `bytes`, most of it in the path or in one value. */
static struct span long_head(char *out, size_t bytes, bool in_path) {
    const char *before = in_path ? "GET /" : GET "A: ";
    const char *after = in_path ? " HTTP/1.1\r\nHost: h\r\n\r\n" : "\r\n\r\n";
    size_t fill = bytes - strlen(before) - strlen(after);
    memcpy(out, before, strlen(before));
    memset(out + strlen(before), 'x', fill);
    memcpy(out + strlen(before) + fill, after, strlen(after));
    return span_make(out, bytes);
}

static void limits_of_size(void **state) {
    struct describe d;
    describe_init(&d);
    char *text = malloc(70000);
    struct http1_limits limits = {.head_bytes = 1000, .header_count = 100};
    check(&d, &limits, "a head as long as the limit", long_head(text, 1000, false), "DONE ");
    check(&d, &limits, "one byte more", long_head(text, 1001, false),
          "BAD 431 http1.headers_too_large");
    check(&d, &limits, "a path that just fits", long_head(text, 1000, true), "DONE ");
    check(&d, &limits, "a request line longer than the limit", long_head(text, 1100, true),
          "BAD 414 http1.headers_too_large");
    check(&d, &limits, "a request line within it, the head beyond", long_head(text, 1005, true),
          "BAD 431 http1.headers_too_large");
    memset(text, '\n', 2000);
    for (size_t i = 0; i < 2000; i += 2)
        text[i] = '\r';
    check(&d, &limits, "empty lines without end", span_make(text, 2000), "BAD 414 ");
    check(&d, &envoy_limits, "60 KiB", long_head(text, 60 * 1024, false), "DONE ");
    check(&d, &envoy_limits, "60 KiB and one byte", long_head(text, 60 * 1024 + 1, false),
          "BAD 431 ");
    free(text);
    describe_fini(&d);
}

static void limits_of_count(void **state) {
    struct describe d;
    describe_init(&d);
    struct http1_limits limits = {.head_bytes = 1000, .header_count = 3};
    check(&d, &limits, "three fields, Host among them", SPAN_LIT(GET "A: 1\r\nB: 2\r\n\r\n"),
          "DONE ");
    check(&d, &limits, "four", SPAN_LIT(GET "A: 1\r\nB: 2\r\nC: 3\r\n\r\n"),
          "BAD 431 http1.too_many_headers");
    describe_fini(&d);
}

static void memory_runs_out(void **state) {
    struct block_cache cache;
    block_cache_init(&cache);
    struct arena arena;
    arena_init(&arena, &cache, 100);
    struct header_map map;
    header_map_init(&map, &arena);
    struct http1_head head = {.headers = &map};
    struct http1_parser parser;
    http1_parser_init(&parser, &envoy_limits);
    char text[] = GET "\r\n";
    assert_int_equal(http1_parse_request(&parser, text, sizeof text - 1, &head), HTTP1_BAD);
    assert_int_equal(parser.error, HTTP1_NO_MEMORY);
    assert_int_equal(parser.status, 500);
    arena_fini(&arena);
    block_cache_fini(&cache);
}

static void pipelined_requests_come_out_one_by_one(void **state) {
    struct block_cache cache;
    block_cache_init(&cache);
    char text[] = "GET /1 HTTP/1.1\r\nHost: h\r\n\r\n"
                  "POST /2 HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc"
                  "\r\nGET /3 HTTP/1.1\r\nHost: h\r\n\r\n";
    char *at = text, *end = text + sizeof text - 1;
    for (int i = 1; i <= 3; i++) {
        struct arena arena;
        arena_init(&arena, &cache, 1 << 20);
        struct header_map map;
        header_map_init(&map, &arena);
        struct http1_head head = {.headers = &map};
        struct http1_parser parser;
        http1_parser_init(&parser, &envoy_limits);
        assert_int_equal(http1_parse_request(&parser, at, (size_t)(end - at), &head), HTTP1_DONE);
        char path[] = {'/', (char)('0' + i)};
        assert_true(span_eq(header_get(&map, HDR_PATH), span_make(path, 2)));
        at += head.head_bytes + head.content_length;
        arena_fini(&arena);
    }
    assert_ptr_equal(at, end);
    block_cache_fini(&cache);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(good_heads),
        cmocka_unit_test(targets),
        cmocka_unit_test(request_lines),
        cmocka_unit_test(field_lines),
        cmocka_unit_test(hosts),
        cmocka_unit_test(smuggling),
        cmocka_unit_test(chunked_wins_over_length_when_the_option_says_so),
        cmocka_unit_test(limits_of_size),
        cmocka_unit_test(limits_of_count),
        cmocka_unit_test(memory_runs_out),
        cmocka_unit_test(pipelined_requests_come_out_one_by_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
