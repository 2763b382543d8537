/* What is well-formed UTF-8, and what only looks like it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/utf8.h"

static void utf8_is_told_from_what_is_none(void **state) {
    static const struct {
        const char *bytes;
        size_t want;
    } cases[] = {{"a", 1},
                 {"\xc3\xa4", 2},
                 {"\xe2\x82\xac", 3},
                 {"\xf0\x9f\x98\x80", 4},
                 {"\x80", 0},             /* a continuation byte first */
                 {"\xc0\xaf", 0},         /* overlong "/" */
                 {"\xe0\x80\xaf", 0},     /* overlong */
                 {"\xed\xa0\x80", 0},     /* a surrogate */
                 {"\xf4\x90\x80\x80", 0}, /* beyond U+10FFFF */
                 {"\xe2\x82", 0},         /* cut off */
                 {"\xe2\x28\xa1", 0},
                 {"\xff", 0}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_int_equal(utf8_sequence(span_of(cases[i].bytes)), cases[i].want);
    assert_int_equal(utf8_sequence(span_make("", 0)), 0);
}

static void a_text_is_valid_as_a_whole(void **state) {
    assert_true(utf8_is_valid(SPAN_LIT("")));
    assert_true(utf8_is_valid(SPAN_LIT("gr\xc3\xbc\xc3\x9f \xf0\x9f\x98\x80 \0 end")));
    assert_false(utf8_is_valid(SPAN_LIT("gr\xc3")));
    assert_false(utf8_is_valid(SPAN_LIT("gr\xc3 end")));
    assert_false(utf8_is_valid(SPAN_LIT("\xff")));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(utf8_is_told_from_what_is_none),
        cmocka_unit_test(a_text_is_valid_as_a_whole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
