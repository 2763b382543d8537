#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <time.h>

#include "base/clock.h"
#include "http/date.h"

static void the_example_of_the_rfc(void **state) {
    struct http_date date = {0};
    assert_true(span_eq(http_date_get(&date, 784111777 * NS_PER_S),
                        SPAN_LIT("Sun, 06 Nov 1994 08:49:37 GMT")));
    assert_true(span_eq(http_date_get(&date, 0), SPAN_LIT("Thu, 01 Jan 1970 00:00:00 GMT")));
}

static void agrees_with_libc_over_two_centuries(void **state) {
    struct http_date date = {0};
    for (int64_t second = 0; second < 200LL * 366 * 86400; second += 86400 * 3 + 4711) {
        time_t t = (time_t)second;
        struct tm tm;
        char expected[64];
        gmtime_r(&t, &tm);
        strftime(expected, sizeof expected, "%a, %d %b %Y %H:%M:%S GMT", &tm);
        struct span got = http_date_get(&date, second * NS_PER_S + 999);
        if (!span_eq(got, span_of(expected)))
            fail_msg("%lld: %s, got %.*s", (long long)second, expected, (int)got.len, got.ptr);
    }
}

static void renders_once_a_second(void **state) {
    struct http_date date = {0};
    (void)http_date_get(&date, 5 * NS_PER_S);
    date.text[0] = 'x';
    assert_int_equal(http_date_get(&date, 6 * NS_PER_S - 1).ptr[0], 'x');
    assert_int_equal(http_date_get(&date, 6 * NS_PER_S).ptr[0], 'T');
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_example_of_the_rfc),
        cmocka_unit_test(agrees_with_libc_over_two_centuries),
        cmocka_unit_test(renders_once_a_second),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
