/* Numbers with units, as options have them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/unit.h"

static int64_t parsed(const char *text, const struct unit *units, int64_t max) {
    int64_t value;
    return unit_parse(span_of(text), units, max, &value) ? value : -1;
}

static void test_a_unit_multiplies(void **state) {
    assert_int_equal(parsed("7B", unit_bytes, INT64_MAX), 7);
    assert_int_equal(parsed("3KiB", unit_bytes, INT64_MAX), 3 * 1024);
    assert_int_equal(parsed("64MiB", unit_bytes, INT64_MAX), 64LL << 20);
    assert_int_equal(parsed("2TiB", unit_bytes, INT64_MAX), 2LL << 40);
    assert_int_equal(parsed("500ms", unit_times, INT64_MAX), 500 * NS_PER_MS);
    assert_int_equal(parsed("2h", unit_times, INT64_MAX), 2 * 3600 * NS_PER_S);
}

static void test_what_is_no_such_number_is_refused(void **state) {
    static const char *const wrong[] = {"",      "B",    "-1B", "+1B",
                                        "1 KiB", "1kib", "1.5", "1KiBx",
                                        "0x10B", "12",   "1s",  "99999999999999999999B"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        assert_int_equal(parsed(wrong[i], unit_bytes, INT64_MAX), -1);
}

static void test_a_bare_number_needs_a_unit_without_name(void **state) {
    static const struct unit bare[] = {{SPAN_INIT(""), 1}, {{NULL, 0}, 0}};
    assert_int_equal(parsed("12", bare, INT64_MAX), 12);
    assert_int_equal(parsed("12B", bare, INT64_MAX), -1);
}

static void test_the_product_is_bounded(void **state) {
    assert_int_equal(parsed("8388607TiB", unit_bytes, INT64_MAX), 8388607LL << 40);
    assert_int_equal(parsed("8388608TiB", unit_bytes, INT64_MAX), -1);
    assert_int_equal(parsed("1024B", unit_bytes, 1024), 1024);
    assert_int_equal(parsed("1025B", unit_bytes, 1024), -1);
    assert_int_equal(parsed("2KiB", unit_bytes, 1024), -1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_unit_multiplies),
        cmocka_unit_test(test_what_is_no_such_number_is_refused),
        cmocka_unit_test(test_a_bare_number_needs_a_unit_without_name),
        cmocka_unit_test(test_the_product_is_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
