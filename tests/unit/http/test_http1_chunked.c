/* Chunked bodies, told whole, cut at every byte and byte by byte. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "chunked_describe.h"

static const struct http1_limits usual = {.head_bytes = 60 * 1024, .header_count = 100};

static void check(struct describe *d, const struct http1_limits *limits, const char *story,
                  struct span input, const char *expected) {
    char *whole = strdup(describe_chunked(d, limits, input, input.len, 1, true));
    if (strcmp(whole, expected) != 0)
        fail_msg("%s:\n  expected %s\n  got      %s", story, expected, whole);
    for (size_t cut = 1; cut <= input.len; cut++)
        for (size_t step = 1; step <= input.len; step += step < 4 ? 1 : input.len) {
            const char *cut_up = describe_chunked(d, limits, input, cut, step, true);
            if (strcmp(whole, cut_up) != 0)
                fail_msg("%s, cut at %zu by %zu:\n  whole %s\n  cut   %s", story, cut, step, whole,
                         cut_up);
        }
    /* Without a map for them trailers are checked all the same. */
    const char *dropped = describe_chunked(d, limits, input, 1, 1, false);
    assert_int_equal(strstr(whole, "|DONE") != NULL, strstr(dropped, "|DONE") != NULL);
    free(whole);
}

struct row {
    const char *story;
    struct span input;
    const char *expected;
};
#define ROW(story, input, expected)                                                                \
    { story, SPAN_INIT(input), expected }
#define END "\r\nhello\r\n0\r\n\r\n"
#define HELLO "hello|DONE, 0 left|"
#define BAD_FRAMING_TEXT "|BAD 6"
#define BAD_SYNTAX_TEXT "|BAD 1"
static_assert(HTTP1_BAD_FRAMING == 6 && HTTP1_BAD_SYNTAX == 1, "as told above");

static void check_rows(const struct row *rows, size_t count) {
    struct describe d;
    describe_init(&d);
    for (size_t i = 0; i < count; i++)
        check(&d, &usual, rows[i].story, rows[i].input, rows[i].expected);
    describe_fini(&d);
}
#define CHECK_ROWS(rows) check_rows(rows, sizeof rows / sizeof *rows)

static void bodies(void **state) {
    static const struct row rows[] = {
        ROW("one chunk", "5" END, HELLO),
        ROW("two chunks", "2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n", HELLO),
        ROW("hexadecimal in both cases", "A\r\n0123456789\r\na\r\n0123456789\r\n0\r\n\r\n",
            "01234567890123456789|DONE, 0 left|"),
        ROW("no bytes at all", "0\r\n\r\n", "|DONE, 0 left|"),
        ROW("several zeros", "000\r\n\r\n", "|DONE, 0 left|"),
        ROW("sixteen digits", "0000000000000005" END, HELLO),
        ROW("data that looks like framing", "5\r\n\r\n0\r\n\r\n0\r\n\r\n",
            "\\x0d\\x0a0\\x0d\\x0a|DONE, 0 left|"),
        ROW("what follows is left alone", "0\r\n\r\nGET", "|DONE, 3 left|"),
        ROW("an extension", "5;a" END, HELLO),
        ROW("extensions with values", "5;a=b;c=\"d;\\\"\xe9\"" END, HELLO),
        ROW("blanks around them", "5 \t; a = b ; c = \"d\" ; e" END, HELLO),
        ROW("trailers", "0\r\nX-T: v\r\nB:w\r\n\r\n", "|DONE, 0 left|x-t: v [line]|b: w|"),
        ROW("trailers that must not be",
            "0\r\nContent-Length: 5\r\nX-T: v\r\nHOST: evil\r\n"
            "Transfer-Encoding: x\r\nAuthorization: y\r\n\r\n",
            "|DONE, 0 left|x-t: v [line]|"),
        ROW("half a size", "5", "|MORE"),
        ROW("half a chunk", "5\r\nhel", "hel|MORE"),
        ROW("half a trailer section", "0\r\nX-T: v\r\n", "|MORE"),
    };
    CHECK_ROWS(rows);
}

static void framing_that_another_parser_may_read_otherwise(void **state) {
    static const struct row rows[] = {
        ROW("no size", "\r\nhello\r\n", BAD_FRAMING_TEXT),
        ROW("no digit", "g\r\n", BAD_FRAMING_TEXT),
        ROW("a sign", "+5" END, BAD_FRAMING_TEXT),
        ROW("0x", "0x5" END, BAD_FRAMING_TEXT),
        ROW("a blank in front", " 5" END, BAD_FRAMING_TEXT),
        ROW("a blank behind", "5 " END, BAD_FRAMING_TEXT),
        ROW("a tab behind", "5\t" END, BAD_FRAMING_TEXT),
        ROW("two sizes", "5 5" END, BAD_FRAMING_TEXT),
        ROW("an underscore", "5_0" END, BAD_FRAMING_TEXT),
        ROW("seventeen digits", "00000000000000005" END, BAD_FRAMING_TEXT),
        ROW("2^64 + 5", "10000000000000005" END, BAD_FRAMING_TEXT),
        ROW("2^63", "8000000000000000" END, BAD_FRAMING_TEXT),
        ROW("bare LF behind the size", "5\nhello\r\n0\r\n\r\n", BAD_FRAMING_TEXT),
        ROW("bare CR behind the size", "5\rhello\r\n0\r\n\r\n", BAD_FRAMING_TEXT),
        ROW("CR CR LF behind the size", "5\r\r\nhello\r\n", BAD_FRAMING_TEXT),
        ROW("bare LF behind the data", "5\r\nhello\n0\r\n\r\n", "hello" BAD_FRAMING_TEXT),
        ROW("bytes behind the data", "5\r\nhelloX\r\n0\r\n\r\n", "hello" BAD_FRAMING_TEXT),
        ROW("no CRLF behind the data", "5\r\nhello0\r\n\r\n", "hello" BAD_FRAMING_TEXT),
        ROW("an extension without a name", "5;" END, BAD_FRAMING_TEXT),
        ROW("a value without a name", "5;=x" END, BAD_FRAMING_TEXT),
        ROW("a name without its value", "5;a=" END, BAD_FRAMING_TEXT),
        ROW("two values", "5;a=b=c" END, BAD_FRAMING_TEXT),
        ROW("a quoted string left open", "5;a=\"b" END, BAD_FRAMING_TEXT),
        ROW("a line end in a quoted string", "5;a=\"\r\nhello", BAD_FRAMING_TEXT),
        ROW("an escaped line end", "5;a=\"\\\r\n\"" END, BAD_FRAMING_TEXT),
        ROW("bytes behind a quoted string", "5;a=\"b\"c" END, BAD_FRAMING_TEXT),
        ROW("bare CR in an extension", "5;a\rb" END, BAD_FRAMING_TEXT),
        ROW("bare LF in an extension", "5;a\nb" END, BAD_FRAMING_TEXT),
        ROW("NUL in an extension", "5;a\0" END, BAD_FRAMING_TEXT),
        ROW("a trailer with a blank before its colon", "0\r\nX : v\r\n\r\n", BAD_SYNTAX_TEXT),
        ROW("a folded trailer", "0\r\nX: v\r\n w\r\n\r\n", BAD_SYNTAX_TEXT),
        ROW("a trailer without a colon", "0\r\nX\r\n\r\n", BAD_SYNTAX_TEXT),
        ROW("a control byte in a trailer", "0\r\nX: \x01\r\n\r\n", BAD_SYNTAX_TEXT),
        ROW("bare LF behind a trailer", "0\r\nX: v\n\r\n", BAD_SYNTAX_TEXT),
        ROW("bare LF at the end", "0\r\n\n", BAD_SYNTAX_TEXT),
    };
    CHECK_ROWS(rows);
}

static void limits(void **state) {
    struct describe d;
    describe_init(&d);
    struct http1_limits tight = {.head_bytes = 16, .header_count = 2};
    static_assert(HTTP1_HEAD_TOO_LARGE == 3 && HTTP1_TOO_MANY_HEADERS == 4, "as told below");
    check(&d, &tight, "a chunk line that fits", SPAN_LIT("5;aaaaaaaaaaaa" END), HELLO);
    check(&d, &tight, "an endless extension", SPAN_LIT("5;aaaaaaaaaaaaaaa" END), "|BAD 3");
    check(&d, &tight, "many short lines",
          SPAN_LIT("1;aaaaaaaaa\r\nh\r\n4;bbbbbbbbb\r\nello\r\n0\r\n\r\n"), HELLO);
    check(&d, &tight, "trailers that fit", SPAN_LIT("0\r\nA: b\r\nC: d\r\n\r\n"),
          "|DONE, 0 left|a: b [line]|c: d [line]|");
    check(&d, &tight, "a long trailer section", SPAN_LIT("0\r\nA: bbbbbbbbbbbb\r\n\r\n"), "|BAD 3");
    check(&d, &tight, "too many trailers", SPAN_LIT("0\r\nA:\r\nB:\r\nC:\r\n\r\n"), "|BAD 4");
    describe_fini(&d);
}

static void chunk_heads(void **state) {
    static const struct {
        uint64_t size;
        const char *text;
    } rows[] = {{0, "0\r\n"},         {1, "1\r\n"},
                {15, "f\r\n"},        {16, "10\r\n"},
                {0x1a2b, "1a2b\r\n"}, {255, "ff\r\n"},
                {256, "100\r\n"},     {UINT64_MAX, "ffffffffffffffff\r\n"}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char out[18];
        size_t len = http1_chunk_head(out, rows[i].size);
        assert_true(span_eq(span_make(out, len), span_of(rows[i].text)));
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bodies),
        cmocka_unit_test(framing_that_another_parser_may_read_otherwise),
        cmocka_unit_test(limits),
        cmocka_unit_test(chunk_heads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
