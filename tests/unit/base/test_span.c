/* span.c and span.h: borrowed bytes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/span.h"

static void absent_and_empty_differ(void **state) {
    assert_true(span_is_none(span_none()));
    assert_true(span_is_none(span_of(NULL)));
    assert_false(span_is_none(SPAN_LIT("")));
    assert_true(span_eq(span_none(), SPAN_LIT(""))); /* as bytes they are equal */
}

static void comparison_minds_length_and_case(void **state) {
    assert_true(span_eq(SPAN_LIT("a\0b"), span_make("a\0b", 3)));
    assert_false(span_eq(SPAN_LIT("a\0b"), SPAN_LIT("a\0c")));
    assert_false(span_eq(SPAN_LIT("ab"), SPAN_LIT("abc")));
    assert_true(span_eq_nocase(SPAN_LIT("Content-LENGTH"), SPAN_LIT("content-length")));
    assert_false(span_eq_nocase(SPAN_LIT("k\xc3\xa9"), SPAN_LIT("K\xc3\x89"))); /* ASCII only */
    assert_false(span_eq_nocase(SPAN_LIT("["), SPAN_LIT("{")));
    assert_false(span_eq_nocase(SPAN_LIT("@"), SPAN_LIT("`")));
    assert_true(span_starts_with(SPAN_LIT("abc"), SPAN_LIT("ab")));
    assert_true(span_starts_with(SPAN_LIT("abc"), span_none()));
    assert_false(span_starts_with(SPAN_LIT("a"), SPAN_LIT("ab")));
    assert_true(span_ends_with(SPAN_LIT("abc"), SPAN_LIT("bc")));
    assert_false(span_ends_with(SPAN_LIT("c"), SPAN_LIT("bc")));
}

static void parts_stay_inside_the_whole(void **state) {
    struct span s = SPAN_LIT("abc");
    assert_int_equal(span_find(s, 'c'), 2);
    assert_int_equal(span_find(s, 'x'), -1);
    assert_int_equal(span_find(span_none(), 'x'), -1);
    assert_true(span_eq(span_from(s, 1), SPAN_LIT("bc")));
    assert_int_equal(span_from(s, 3).len, 0);
    assert_int_equal(span_from(s, 99).len, 0);
    assert_ptr_equal(span_from(s, 99).ptr, s.ptr + 3);
    assert_true(span_eq(span_trim(SPAN_LIT(" \t a b\t ")), SPAN_LIT("a b")));
    assert_int_equal(span_trim(SPAN_LIT(" \t ")).len, 0);
    assert_true(span_eq(span_trim(SPAN_LIT("\na\n")), SPAN_LIT("\na\n")));
}

static void tokens_include_empty_ones(void **state) {
    struct span rest = SPAN_LIT("a, b ,,c,"), token;
    const char *const expected[] = {"a", "b", "", "c", ""};
    for (int i = 0; i < 5; i++) {
        assert_true(span_next_token(&rest, ',', &token));
        assert_true(span_eq(token, span_of(expected[i])));
    }
    assert_false(span_next_token(&rest, ',', &token));
    rest = span_none();
    assert_false(span_next_token(&rest, ',', &token));
    rest = SPAN_LIT("");
    assert_true(span_next_token(&rest, ',', &token)); /* one empty element */
    assert_int_equal(token.len, 0);
    assert_false(span_next_token(&rest, ',', &token));
}

static void numbers_are_digits_and_nothing_else(void **state) {
    uint64_t value = 5;
    assert_true(span_to_u64(SPAN_LIT("0"), &value));
    assert_true(value == 0);
    assert_true(span_to_u64(SPAN_LIT("18446744073709551615"), &value));
    assert_true(value == UINT64_MAX);
    assert_true(span_to_u64(SPAN_LIT("0000000000000000000000007"), &value));
    assert_true(value == 7);
    static const char *const bad[] = {
        "",  "+1", "-1", " 1", "1 ", "0x1", "1e3", "18446744073709551616", "99999999999999999999",
        "/", ":"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_false(span_to_u64(span_of(bad[i]), &value));
        assert_true(value == 7); /* untouched */
    }
}

static void numbers_are_written_as_they_are_read(void **state) {
    static const uint64_t values[] = {0, 9, 10, 99, 100, 15000, UINT32_MAX, INT64_MAX, UINT64_MAX};
    for (size_t i = 0; i < sizeof values / sizeof values[0]; i++) {
        char text[SPAN_U64_DIGITS_MAX];
        size_t len = span_put_u64(text, values[i]);
        uint64_t back = 1;
        assert_true(span_to_u64(span_make(text, len), &back));
        assert_true(back == values[i]);
        assert_true(len == 1 || text[0] != '0');
    }
}

static void bytes_are_written_as_pairs_of_digits(void **state) {
    static const unsigned char bytes[] = {0x00, 0x0f, 0xf0, 0x9a, 0xff};
    char text[2 * sizeof bytes + 1] = "";
    assert_true(span_put_hex(text, NULL, 0) == 0);
    assert_true(text[0] == '\0');
    assert_true(span_put_hex(text, bytes, sizeof bytes) == 2 * sizeof bytes);
    assert_string_equal(text, "000ff09aff");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(absent_and_empty_differ),
        cmocka_unit_test(comparison_minds_length_and_case),
        cmocka_unit_test(parts_stay_inside_the_whole),
        cmocka_unit_test(tokens_include_empty_ones),
        cmocka_unit_test(numbers_are_digits_and_nothing_else),
        cmocka_unit_test(numbers_are_written_as_they_are_read),
        cmocka_unit_test(bytes_are_written_as_pairs_of_digits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
