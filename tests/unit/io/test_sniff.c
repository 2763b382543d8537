/* What a client speaks, by its first bytes: each row is told byte by byte, and must stay what it first became. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "io/redis_command.h"
#include "io/sniff.h"
#include "prefix_story.h"

#define A10 "aaaaaaaaaa"
#define A120 A10 A10 A10 A10 A10 A10 A10 A10 A10 A10 A10 A10
#define V2 "\r\n\r\n\0\r\nQUIT\n"

struct row {
    enum sniff_protocol expected;
    size_t decided; /* with so many bytes, not more and not fewer; 0: at the end */
    struct span bytes;
};
#define ROW(expected, decided, bytes)                                                              \
    { expected, decided, SPAN_INIT(bytes) }

static int judge(struct span prefix) {
    return (int)sniff(prefix);
}

static void check_rows(const struct row *rows, size_t count) {
    for (size_t i = 0; i < count; i++) {
        size_t decided;
        int got = verdict_bytewise(judge, SNIFF_MORE, rows[i].bytes, &decided);
        size_t expected = rows[i].decided ? rows[i].decided : rows[i].bytes.len;
        if (got != (int)rows[i].expected || (got != SNIFF_MORE && decided != expected))
            fail_msg("row %zu, \"%.40s\": %d after %zu, not %d after %zu", i, rows[i].bytes.ptr,
                     got, decided, rows[i].expected, expected);
    }
}
#define CHECK_ROWS(rows) check_rows(rows, sizeof rows / sizeof *rows)

static void http(void **state) {
    static const struct row rows[] = {
        ROW(SNIFF_HTTP_1_1, 0, "GET / HTTP/1.1\r\n"),
        ROW(SNIFF_HTTP_1_1, 0, "GET / HTTP/1.1\n"),
        ROW(SNIFF_HTTP_1_1, 16, "GET / HTTP/1.1\r\nHost: h\r\n\r\n"),
        ROW(SNIFF_HTTP_1_0, 0, "POST /a?b HTTP/1.0\r\n"),
        ROW(SNIFF_HTTP_1_1, 0, "OPTIONS * HTTP/1.1\r\n"),
        ROW(SNIFF_HTTP_1_1, 0, "CONNECT host:443 HTTP/1.1\r\n"),
        ROW(SNIFF_HTTP_1_1, 0, "GET http://h/ HTTP/1.1\r\n"),
        ROW(SNIFF_HTTP_1_1, 0, "PROPFIND / HTTP/1.1\r\n"),
        ROW(SNIFF_HTTP_1_1, 0, "BREW /pot HTTP/1.1\r\n"),
        ROW(SNIFF_H2C, 0, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
        ROW(SNIFF_HTTP_1_0, 17, "PRI * HTTP/2.0\r\nfoo"),
        ROW(SNIFF_MORE, 0, "PRI * HTTP/2.0\r\n\r\nSM"),
        /* Names that Redis has too. */
        ROW(SNIFF_HTTP_1_1, 0, "COPY /a HTTP/1.1\r\n"),
        ROW(SNIFF_HTTP_1_1, 0, "MOVE /a HTTP/1.1\r\n"),
        ROW(SNIFF_HTTP_1_1, 0, "UNLINK /a HTTP/1.1\r\n"),
        ROW(SNIFF_HTTP_1_1, 0, "get / HTTP/1.1\r\n"),
        /* The version is out of sight. */
        ROW(SNIFF_HTTP_1_1, SNIFF_BYTES, "GET /" A120 A120 " HTTP/1.0\r\n"),
        ROW(SNIFF_HTTP_1_1, SNIFF_BYTES, "BREW http://h/" A120),
        ROW(SNIFF_UNKNOWN, SNIFF_BYTES, "BREW " A120 A120),
        ROW(SNIFF_MORE, 0, "GET /" A120),
        ROW(SNIFF_MORE, 0, "GET / HTTP/1.1\r"),
    };
    CHECK_ROWS(rows);
}

static void redis(void **state) {
    static const struct row rows[] = {
        ROW(SNIFF_REDIS, 5, "*1\r\n$4\r\nPING\r\n"),
        ROW(SNIFF_REDIS, 6, "*15\r\n$3\r\nSET\r\n"),
        ROW(SNIFF_MORE, 0, "*1\r\n"),
        ROW(SNIFF_UNKNOWN, 5, "*1\r\nPING"),
        ROW(SNIFF_UNKNOWN, 2, "*x\r\n$4"),
        ROW(SNIFF_UNKNOWN, 2, "*\r\n"),
        ROW(SNIFF_UNKNOWN, 4, "*1\rx"),
        ROW(SNIFF_UNKNOWN, 3, "*1\n$4"),
        ROW(SNIFF_UNKNOWN, 12, "*11111111111\r\n"),
        ROW(SNIFF_REDIS, 0, "PING\r\n"),
        ROW(SNIFF_REDIS, 0, "ping\n"),
        ROW(SNIFF_REDIS, 0, "SET key value\r\n"),
        ROW(SNIFF_REDIS, 0, "Publish channel /path HTTP\r\n"),
        ROW(SNIFF_REDIS, 0, "PSUBSCRIBE *\r\n"),
        ROW(SNIFF_REDIS, 0, "GET key\r\n"),
        ROW(SNIFF_REDIS, 0, "GET /index.html\r\n"),
        ROW(SNIFF_REDIS, 0, "GET HTTP/1.1\r\n"),
        ROW(SNIFF_REDIS, 0, "restore-asking a 0 b\r\n"),
        ROW(SNIFF_REDIS, SNIFF_BYTES, "SET key " A120 A120),
        ROW(SNIFF_UNKNOWN, 4, "GET\x01key\r\n"),
        /* What servers say, and clients that are replicas. */
        ROW(SNIFF_REDIS, 0, "+OK\r\n"),
        ROW(SNIFF_REDIS, 0, "-ERR no\r\n"),
        ROW(SNIFF_REDIS, 0, ":-12\r\n"),
        ROW(SNIFF_REDIS, 0, "$5\r\n"),
        ROW(SNIFF_UNKNOWN, 0, "+O\x01"),
        ROW(SNIFF_UNKNOWN, 0, "-x\n"),
        ROW(SNIFF_UNKNOWN, 0, "+x\r\r"),
        ROW(SNIFF_UNKNOWN, 2, ":)\r\n"),
        ROW(SNIFF_UNKNOWN, SNIFF_BYTES, "+" A120 A120 "\r\n"),
    };
    CHECK_ROWS(rows);
}

static void tls_and_proxy(void **state) {
    static const struct row rows[] = {
        ROW(SNIFF_TLS, 6, "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"),
        ROW(SNIFF_TLS, 0, "\x16\x03\x03\x00\x01\x01"),
        ROW(SNIFF_MORE, 0, "\x16\x03\x01\x02\x00"),
        ROW(SNIFF_UNKNOWN, 2, "\x16\x04\x01\x02\x00\x01"),
        ROW(SNIFF_UNKNOWN, 4, "\x16\x03\x01\x50\x00\x01"),
        ROW(SNIFF_UNKNOWN, 6, "\x16\x03\x01\x02\x00\x02"),
        ROW(SNIFF_UNKNOWN, 1, "\x15\x03\x01\x00\x02\x02\x28"),
        ROW(SNIFF_PROXY, 6, "PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n"),
        ROW(SNIFF_PROXY, 6, "PROXY nonsense"),
        ROW(SNIFF_PROXY, 12, V2 "\x21\x11\0\x0c"),
        ROW(SNIFF_MORE, 0, "\r\n\r\n"),
        ROW(SNIFF_UNKNOWN, 3, "\r\nGET / HTTP/1.1\r\n"),
        ROW(SNIFF_MORE, 0, "P"),
        ROW(SNIFF_MORE, 0, "PRO"),
    };
    CHECK_ROWS(rows);
}

static void others(void **state) {
    static const struct row rows[] = {
        ROW(SNIFF_UNKNOWN, 18, "SSH-2.0-OpenSSH_9\r\n"),
        ROW(SNIFF_UNKNOWN, 0, "EHLO me.test\r\n"),
        ROW(SNIFF_UNKNOWN, 6, "jello\r\n"),
        ROW(SNIFF_UNKNOWN, 1, "\0\0\0\x54\xff\x53\x4d\x42"),
        ROW(SNIFF_UNKNOWN, 1, "\n"),
        ROW(SNIFF_UNKNOWN, 1, " GET / HTTP/1.1\r\n"),
        ROW(SNIFF_UNKNOWN, 4, "GET\xff"),
        ROW(SNIFF_UNKNOWN, SNIFF_BYTES, A120 A120),
        ROW(SNIFF_MORE, 0, ""),
    };
    CHECK_ROWS(rows);
}

static void names(void **state) {
    assert_true(span_eq(sniff_name(SNIFF_REDIS), SPAN_LIT("redis")));
    assert_true(span_eq(sniff_name(SNIFF_H2C), SPAN_LIT("h2c")));
    assert_true(span_eq(sniff_name(SNIFF_HTTP_1_1), SPAN_LIT("http/1.1")));
    assert_true(span_eq(sniff_name(SNIFF_UNKNOWN), SPAN_LIT("unknown")));
}

static void redis_commands_in_any_case(void **state) {
    static const char *known[] = {"acl",  "GET", "hGetAll", "zunionstore", "restore-asking",
                                  "xinfo"};
    static const char *other[] = {
        "", "a", "gett", "ge", "post", "zunionstorex", "~", "restore_asking"};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        assert_true(redis_is_command(span_of(known[i])));
    for (size_t i = 0; i < sizeof other / sizeof *other; i++)
        assert_false(redis_is_command(span_of(other[i])));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(http),          cmocka_unit_test(redis),
        cmocka_unit_test(tls_and_proxy), cmocka_unit_test(others),
        cmocka_unit_test(names),         cmocka_unit_test(redis_commands_in_any_case),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
