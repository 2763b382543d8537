/* PROXY headers: what is believed, what is refused and when that is known; and what is written is read back. The
 * verdicts of the rows were asked of Envoy 1.40, but for those in `not_as_envoy`. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

#include "io/proxy_header.h"
#include "prefix_story.h"

#define V2 "\r\n\r\n\0\r\nQUIT\n"
#define V4_PAIR "\x0a\1\2\3\x7f\0\0\1\0\x50\1\xbb" /* 10.1.2.3:80 to 127.0.0.1:443 */
#define V6_ONE "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\1"
#define X16 "xxxxxxxxxxxxxxxx"
#define LINE_IN_FRONT "PROXY UNKNOWN " /* 14 bytes, and 2 at the end */
#define LINE_106 LINE_IN_FRONT X16 X16 X16 X16 X16 "xxxxxxxxxxxx"

#define MORE PROXY_HEADER_MORE
#define DONE PROXY_HEADER_DONE
#define ABSENT PROXY_HEADER_ABSENT
#define BAD PROXY_HEADER_BAD

struct row {
    const char *story;
    enum proxy_header_verdict expected;
    size_t decided; /* 0: with the last byte */
    struct span bytes;
    const char *source; /* NULL: the connection's own */
};
#define ROW(story, expected, decided, bytes, source)                                               \
    { story, expected, decided, SPAN_INIT(bytes), source }

static int judge(struct span prefix) {
    struct proxy_header header;
    enum proxy_header_verdict verdict = proxy_header_read(prefix, PROXY_HEADER_ANY, &header);
    if (verdict == DONE && header.bytes > prefix.len)
        return -2;
    return (int)verdict;
}

static void check_rows(const struct row *rows, size_t count) {
    for (size_t i = 0; i < count; i++) {
        size_t decided, expected = rows[i].decided ? rows[i].decided : rows[i].bytes.len;
        int got = verdict_bytewise(judge, MORE, rows[i].bytes, &decided);
        if (got != (int)rows[i].expected || (got != MORE && decided != expected))
            fail_msg("%s: %d after %zu, not %d after %zu", rows[i].story, got, decided,
                     rows[i].expected, expected);
        if (got != DONE)
            continue;
        struct proxy_header header;
        char text[ADDRESS_TEXT_MAX];
        proxy_header_read(rows[i].bytes, PROXY_HEADER_ANY, &header);
        assert_int_equal(header.bytes, expected);
        assert_int_equal(header.version, rows[i].bytes.ptr[0] == 'P' ? 1 : 2);
        assert_int_equal(header.has_addresses, rows[i].source != NULL);
        if (!rows[i].source)
            continue;
        address_text(&header.source, text);
        assert_string_equal(text, rows[i].source);
    }
}
#define CHECK_ROWS(rows) check_rows(rows, sizeof rows / sizeof *rows)

static void version_1(void **state) {
    static const struct row rows[] = {
        ROW("IPv4", DONE, 0, "PROXY TCP4 10.1.2.3 127.0.0.1 80 443\r\n", "10.1.2.3:80"),
        ROW("what follows stays", DONE, 38, "PROXY TCP4 10.1.2.3 127.0.0.1 80 443\r\nGET /",
            "10.1.2.3:80"),
        ROW("IPv6", DONE, 0, "PROXY TCP6 2001:db8::1 ::1 80 443\r\n", "[2001:db8::1]:80"),
        ROW("the greatest port", DONE, 0, "PROXY TCP4 10.1.2.3 10.1.2.3 65535 0\r\n",
            "10.1.2.3:65535"),
        ROW("zeros in front", DONE, 0, "PROXY TCP4 10.1.2.3 10.1.2.3 0080 1\r\n", "10.1.2.3:80"),
        ROW("unknown", DONE, 0, "PROXY UNKNOWN\r\n", NULL),
        ROW("unknown, with whatever", DONE, 0, "PROXY UNKNOWN a b c d e\r\n", NULL),
        ROW("as long as a line may be", DONE, 0, LINE_106 "\r\n", NULL),
        ROW("one longer", BAD, 108, LINE_106 "x\r\n", NULL),
        ROW("without an end", BAD, 108, LINE_106 X16 X16, NULL),
        ROW("not yet", MORE, 0, "PROXY TCP4 10.1.2.3 127.0.0.1 80 443\r", NULL),
        ROW("not even the word", MORE, 0, "PROX", NULL),
        ROW("nothing", MORE, 0, "", NULL),
        ROW("two blanks", BAD, 0, "PROXY  TCP4 10.1.2.3 127.0.0.1 80 443\r\n", NULL),
        ROW("UDP", BAD, 0, "PROXY UDP4 10.1.2.3 127.0.0.1 80 443\r\n", NULL),
        ROW("a port too large", BAD, 0, "PROXY TCP4 10.1.2.3 127.0.0.1 65536 443\r\n", NULL),
        ROW("a port that wraps", BAD, 0, "PROXY TCP4 10.1.2.3 127.0.0.1 80 4294967376\r\n", NULL),
        ROW("no port", BAD, 0, "PROXY TCP4 10.1.2.3 127.0.0.1 80\r\n", NULL),
        ROW("an empty port", BAD, 0, "PROXY TCP4 10.1.2.3 127.0.0.1 80 \r\n", NULL),
        ROW("one word more", BAD, 0, "PROXY TCP4 10.1.2.3 127.0.0.1 80 443 x\r\n", NULL),
        ROW("the other family", BAD, 0, "PROXY TCP4 ::1 ::1 80 443\r\n", NULL),
        ROW("the other family again", BAD, 0, "PROXY TCP6 10.1.2.3 127.0.0.1 80 443\r\n", NULL),
        ROW("half an address", BAD, 0, "PROXY TCP4 10.1.2 127.0.0.1 80 443\r\n", NULL),
        ROW("nobody", BAD, 0, "PROXY TCP4 0.0.0.0 127.0.0.1 80 443\r\n", NULL),
        ROW("many", BAD, 0, "PROXY TCP4 224.0.0.1 127.0.0.1 80 443\r\n", NULL),
        ROW("all", BAD, 0, "PROXY TCP4 10.1.2.3 255.255.255.255 80 443\r\n", NULL),
        ROW("nobody, in IPv6", BAD, 0, "PROXY TCP6 :: ::1 80 443\r\n", NULL),
        ROW("many, in IPv6", BAD, 0, "PROXY TCP6 ff02::1 ::1 80 443\r\n", NULL),
        ROW("no family", BAD, 0, "PROXY \r\n", NULL),
        ROW("lower case", ABSENT, 1, "proxy TCP4 10.1.2.3 127.0.0.1 80 443\r\n", NULL),
        ROW("HTTP", ABSENT, 1, "GET / HTTP/1.1\r\n", NULL),
        ROW("HTTP that begins alike", ABSENT, 4, "PROPFIND / HTTP/1.1\r\n", NULL),
        ROW("no blank behind it", ABSENT, 6, "PROXY\r\n", NULL),
    };
    CHECK_ROWS(rows);
}

static void version_2(void **state) {
    static const struct row rows[] = {
        ROW("IPv4", DONE, 0, V2 "\x21\x11\0\x0c" V4_PAIR, "10.1.2.3:80"),
        ROW("what follows stays", DONE, 28, V2 "\x21\x11\0\x0c" V4_PAIR "GET", "10.1.2.3:80"),
        ROW("IPv6", DONE, 0, V2 "\x21\x21\0\x24" V6_ONE V6_ONE "\0\x50\1\xbb", "[::1]:80"),
        ROW("datagrams", DONE, 0, V2 "\x21\x12\0\x0c" V4_PAIR, "10.1.2.3:80"),
        ROW("local", DONE, 0, V2 "\x20\0\0\0", NULL),
        ROW("local with addresses, which mean nothing", DONE, 0, V2 "\x20\x11\0\x0c" V4_PAIR, NULL),
        ROW("local with a family that is none", DONE, 0, V2 "\x20\xff\0\5abcde", NULL),
        ROW("a TLV", DONE, 0, V2 "\x21\x11\0\x10" V4_PAIR "\xe0\0\1x", "10.1.2.3:80"),
        ROW("empty TLVs", DONE, 0, V2 "\x21\x11\0\x12" V4_PAIR "\xe0\0\0\xe1\0\0", "10.1.2.3:80"),
        ROW("a TLV that says too much", BAD, 0, V2 "\x21\x11\0\x10" V4_PAIR "\xe0\0\2x", NULL),
        ROW("a TLV that says far too much", BAD, 0, V2 "\x21\x11\0\x10" V4_PAIR "\xe0\xff\xffx",
            NULL),
        ROW("half the head of a TLV", BAD, 0, V2 "\x21\x11\0\x0e" V4_PAIR "\xe0\0", NULL),
        ROW("version 1 of version 2", BAD, 13, V2 "\x11\x11\0\x0c" V4_PAIR, NULL),
        ROW("a command nobody knows", BAD, 13, V2 "\x22\x11\0\x0c" V4_PAIR, NULL),
        ROW("a Unix socket", BAD, 14, V2 "\x21\x31\0\xd8" X16, NULL),
        ROW("no family", BAD, 14, V2 "\x21\0\0\0", NULL),
        ROW("no transport", BAD, 14, V2 "\x21\x10\0\x0c" V4_PAIR, NULL),
        ROW("a transport nobody knows", BAD, 14, V2 "\x21\x13\0\x0c" V4_PAIR, NULL),
        ROW("too short for its addresses", BAD, 16, V2 "\x21\x11\0\x0b" V4_PAIR, NULL),
        ROW("too short for IPv6", BAD, 16, V2 "\x21\x21\0\x23" V6_ONE V6_ONE "\0\x50\1\xbb", NULL),
        ROW("nobody", BAD, 0, V2 "\x21\x11\0\x0c\0\0\0\0\x7f\0\0\1\0\x50\1\xbb", NULL),
        ROW("longer than what comes", MORE, 0, V2 "\x21\x11\0\x64" V4_PAIR, NULL),
        ROW("a signature that goes wrong", ABSENT, 6, "\r\n\r\n\0\n\nQUIT\n", NULL),
        ROW("empty lines", ABSENT, 3, "\r\nGET /", NULL),
    };
    CHECK_ROWS(rows);
}

static void not_as_envoy(void **state) {
    static const struct row rows[] = {
        ROW("a zone", BAD, 0, "PROXY TCP6 fe80::1%lo fe80::1 80 443\r\n", NULL),
        ROW("a sign", BAD, 0, "PROXY TCP4 10.1.2.3 127.0.0.1 +80 443\r\n", NULL),
        ROW("a blank at the end", BAD, 0, "PROXY TCP4 10.1.2.3 127.0.0.1 80 443 \r\n", NULL),
        ROW("LF alone", BAD, 37, "PROXY TCP4 10.1.2.3 127.0.0.1 80 443\n", NULL),
        ROW("CR alone", BAD, 17, "PROXY UNKNOWN a\rb\r\n", NULL),
        ROW("a short word of something else", ABSENT, 1, "abc", NULL),
    };
    CHECK_ROWS(rows);
}

static void the_longest_header(void **state) {
    static char bytes[PROXY_HEADER_MAX + 1];
    const char head[] = V2 "\x21\x11\xff\xff" V4_PAIR "\xe0\xff\xf0";
    struct proxy_header header;
    memcpy(bytes, head, sizeof head - 1);
    struct span all = span_make(bytes, PROXY_HEADER_MAX);
    assert_int_equal(judge(span_make(bytes, all.len - 1)), MORE);
    assert_int_equal(proxy_header_read(at_guard_page(all), PROXY_HEADER_ANY, &header), DONE);
    assert_int_equal(header.bytes, PROXY_HEADER_MAX);
    struct proxy_tlv tlv;
    assert_true(proxy_tlv_next(&header.tlvs, &tlv));
    assert_int_equal(tlv.type, 0xe0);
    assert_int_equal(tlv.value.len, 0xfff0);
    assert_false(proxy_tlv_next(&header.tlvs, &tlv));
}

static void versions_that_are_not_looked_for(void **state) {
    struct span v1 = SPAN_LIT("PROXY UNKNOWN\r\n"), v2 = SPAN_LIT(V2 "\x20\0\0\0");
    struct proxy_header header;
    assert_int_equal(proxy_header_read(v1, PROXY_HEADER_V1, &header), DONE);
    assert_int_equal(proxy_header_read(v1, PROXY_HEADER_V2, &header), ABSENT);
    assert_int_equal(proxy_header_read(v2, PROXY_HEADER_V2, &header), DONE);
    assert_int_equal(proxy_header_read(v2, PROXY_HEADER_V1, &header), ABSENT);
    assert_int_equal(header.version, 0);
}

/* Who refuses a version has to know which it is, before the header is whole or when it is bad. */
static void the_version_is_known_early(void **state) {
    struct proxy_header header;
    assert_int_equal(proxy_header_read(SPAN_LIT("PROXY TCP"), PROXY_HEADER_ANY, &header), MORE);
    assert_int_equal(header.version, 1);
    assert_int_equal(proxy_header_read(SPAN_LIT(V2), PROXY_HEADER_ANY, &header), MORE);
    assert_int_equal(header.version, 2);
    assert_int_equal(proxy_header_read(SPAN_LIT(V2 "\x11"), PROXY_HEADER_ANY, &header), BAD);
    assert_int_equal(header.version, 2);
}

static struct address address(const char *host, uint16_t port) {
    struct address out;
    assert_true(address_parse(span_of(host), port, &out));
    return out;
}

static const struct address nobody = {.len = 0};

static void lines_written(void **state) {
    struct address a = address("10.1.2.3", 80), b = address("127.0.0.1", 443),
                   c = address("2001:db8::1", 65535);
    struct address widest = address("1111:2222:3333:4444:5555:6666:7777:8888", 65535);
    char line[PROXY_HEADER_V1_MAX];
    size_t len = proxy_header_write_v1(line, &a, &b);
    assert_true(
        span_eq(span_make(line, len), SPAN_LIT("PROXY TCP4 10.1.2.3 127.0.0.1 80 443\r\n")));
    len = proxy_header_write_v1(line, &c, &c);
    assert_true(span_eq(span_make(line, len),
                        SPAN_LIT("PROXY TCP6 2001:db8::1 2001:db8::1 65535 65535\r\n")));
    len = proxy_header_write_v1(line, &c, &a);
    assert_true(span_eq(span_make(line, len),
                        SPAN_LIT("PROXY TCP6 2001:db8::1 ::ffff:10.1.2.3 65535 80\r\n")));
    len = proxy_header_write_v1(line, &nobody, &a);
    assert_true(span_eq(span_make(line, len), SPAN_LIT("PROXY UNKNOWN\r\n")));
    len = proxy_header_write_v1(line, &widest, &widest);
    assert_in_range(len, 100, PROXY_HEADER_V1_MAX);
    assert_int_equal(judge(span_make(line, len)), DONE);
}

static struct span write_v2(const struct address *from, const struct address *to,
                            const struct proxy_tlv *tlvs, size_t count, size_t *left_out) {
    static char *room;
    free(room);
    size_t size = proxy_header_size_v2(from, to, tlvs, count, left_out);
    room = malloc(size); /* ASan sees its end */
    assert_non_null(room);
    assert_int_equal(proxy_header_write_v2(room, from, to, tlvs, count), size);
    return span_make(room, size);
}

static void headers_written_and_read(void **state) {
    struct address a = address("10.1.2.3", 80), b = address("127.0.0.1", 443),
                   c = address("2001:db8::1", 65535);
    const struct proxy_tlv tlvs[] = {
        {PROXY_TLV_AUTHORITY, SPAN_LIT("host.test")},
        {PROXY_TLV_NOOP, SPAN_LIT("")},
        {0xe1, SPAN_LIT("\0\1\2")},
    };
    struct proxy_header header;
    size_t left_out = 7;
    struct span bytes = write_v2(&a, &b, NULL, 0, &left_out);
    assert_true(span_eq(bytes, SPAN_LIT(V2 "\x21\x11\0\x0c" V4_PAIR)));
    assert_int_equal(left_out, 0);
    const struct address *ends[][2] = {{&a, &b}, {&c, &c}, {&c, &b}, {&a, &c}};
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
        bytes = write_v2(ends[i][0], ends[i][1], tlvs, 3, NULL);
        assert_int_equal(proxy_header_read(bytes, PROXY_HEADER_V2, &header), DONE);
        assert_int_equal(header.bytes, bytes.len);
        assert_int_equal(address_port(&header.source), address_port(ends[i][0]));
        assert_int_equal(address_port(&header.destination), address_port(ends[i][1]));
        if (ends[i][0]->sa.any.sa_family == ends[i][1]->sa.any.sa_family) {
            assert_true(address_eq(&header.source, ends[i][0]));
            assert_true(address_eq(&header.destination, ends[i][1]));
        }
        struct proxy_tlv tlv;
        for (size_t t = 0; t < 3; t++) {
            assert_true(proxy_tlv_next(&header.tlvs, &tlv));
            assert_int_equal(tlv.type, tlvs[t].type);
            assert_true(span_eq(tlv.value, tlvs[t].value));
        }
        assert_false(proxy_tlv_next(&header.tlvs, &tlv));
    }
    bytes = write_v2(&a, &nobody, tlvs, 3, &left_out);
    assert_true(span_eq(bytes, SPAN_LIT(V2 "\x20\0\0\0")));
}

static void tlvs_that_do_not_fit_are_left_out(void **state) {
    static char large[UINT16_MAX];
    struct address a = address("10.1.2.3", 80), b = address("127.0.0.1", 443);
    const struct proxy_tlv tlvs[] = {
        {0xe0, span_make(large, UINT16_MAX - 12 - 3 - 4)}, /* all but 4 bytes */
        {0xe1, SPAN_LIT("xx")},
        {0xe2, SPAN_LIT("x")},
        {0xe3, SPAN_LIT("")},
        {0xe4, span_make(large, UINT16_MAX)},
    };
    struct proxy_header header;
    struct proxy_tlv tlv;
    size_t left_out;
    struct span bytes = write_v2(&a, &b, tlvs, 5, &left_out);
    assert_int_equal(left_out, 3);
    assert_int_equal(bytes.len, PROXY_HEADER_MAX);
    assert_int_equal(proxy_header_read(bytes, PROXY_HEADER_V2, &header), DONE);
    assert_true(proxy_tlv_next(&header.tlvs, &tlv));
    assert_true(proxy_tlv_next(&header.tlvs, &tlv));
    assert_int_equal(tlv.type, 0xe2);
    assert_int_equal(header.tlvs.len, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(version_1),
        cmocka_unit_test(version_2),
        cmocka_unit_test(not_as_envoy),
        cmocka_unit_test(the_longest_header),
        cmocka_unit_test(versions_that_are_not_looked_for),
        cmocka_unit_test(the_version_is_known_early),
        cmocka_unit_test(lines_written),
        cmocka_unit_test(headers_written_and_read),
        cmocka_unit_test(tlvs_that_do_not_fit_are_left_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
