#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "http/authority.h"

static void valid_and_not(void **state) {
    static const char *const valid[] = {
        "",
        "h",
        "h:80",
        "h:",
        "h:0",
        "h:65535",
        "a-b_c.D~1",
        "1.2.3.4:5",
        "[::1]",
        "[::1]:80",
        "[fe80::1.2.3.4]",
        "a%41",
        "a,b",
        "h:00080",
    };
    static const char *const invalid[] = {
        "a b",   "a/b",  "a?b",  "a#b",      "a\\b",  "u@h",   "a:b",    "a:65536",
        "a:1:2", ":80",  "[::1", "[]",       "[:]",   "[::g]", "[::1]x", "[::1]:x",
        "\"",    "h:-1", "h:+1", "h:000080", "h: 80", "a\x80", "<",      "[1::2::3::4::5:6]",
    };
    for (size_t i = 0; i < sizeof valid / sizeof *valid; i++)
        if (!authority_is_valid(span_of(valid[i])))
            fail_msg("%s was refused", valid[i]);
    for (size_t i = 0; i < sizeof invalid / sizeof *invalid; i++)
        if (authority_is_valid(span_of(invalid[i])))
            fail_msg("%s was accepted", invalid[i]);
    assert_false(authority_is_valid(SPAN_LIT("a\0b")));
}

static void parts(void **state) {
    static const struct {
        const char *authority, *host, *port;
    } rows[] = {
        {"h", "h", NULL},         {"h:80", "h", "80"}, {"h:", "h", ""}, {"[::1]:80", "[::1]", "80"},
        {"[::1]", "[::1]", NULL}, {"", "", NULL},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct span authority = span_of(rows[i].authority), port = authority_port(authority);
        assert_true(span_eq(authority_host(authority), span_of(rows[i].host)));
        assert_int_equal(span_is_none(port), rows[i].port == NULL);
        assert_true(span_eq(port, span_of(rows[i].port)));
    }
    assert_true(authority_host_eq(SPAN_LIT("ExAmple.com"), SPAN_LIT("eXample.COM")));
    assert_false(authority_host_eq(SPAN_LIT("a"), SPAN_LIT("b")));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(valid_and_not),
        cmocka_unit_test(parts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
