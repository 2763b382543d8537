/* Response flags as text. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "proxy/stream_info.h"

static void check(uint32_t flags, bool long_names, const char *expected) {
    char out[129];
    memset(out, '#', sizeof(out));
    size_t len = stream_info_flags_text(flags, long_names, out);
    assert_int_equal(len, strlen(expected));
    assert_memory_equal(out, expected, len);
    assert_int_equal(out[128], '#');
}

static void flags_print_as_envoys(void **state) {
    (void)state;
    check(0, false, "-");
    check(0, true, "-");
    check(FLAG_NO_ROUTE_FOUND, false, "NR");
    check(FLAG_NO_ROUTE_FOUND, true, "NoRouteFound");
    check(FLAG_UPSTREAM_CONNECTION_FAILURE | FLAG_UPSTREAM_RETRY_LIMIT_EXCEEDED, false, "UF,URX");
    check(FLAG_UPSTREAM_REQUEST_TIMEOUT | FLAG_DOWNSTREAM_CONNECTION_TERMINATION, true,
          "UpstreamRequestTimeout,DownstreamConnectionTermination");
}

static void every_flag_has_both_names(void **state) {
    (void)state;
    for (unsigned i = 0; i <= 16; i++) {
        char shorter[128];
        char longer[128];
        size_t short_len = stream_info_flags_text(1U << i, false, shorter);
        size_t long_len = stream_info_flags_text(1U << i, true, longer);
        assert_true(short_len >= 2 && short_len <= 5);
        assert_true(long_len > short_len);
    }
    check((1U << 17) - 1, false, "DPE,NR,NC,DF,UH,UO,UT,UMSDR,LR,UR,UF,UC,UPE,URX,SI,DT,DC");
}

static void more_names_than_fit_are_cut_at_a_whole_one(void **state) {
    (void)state;
    char out[129];
    memset(out, '#', sizeof(out));
    size_t len = stream_info_flags_text((1U << 17) - 1, true, out);
    assert_true(len <= 128);
    assert_int_equal(out[128], '#');
    assert_true(span_ends_with(span_make(out, len), SPAN_LIT(",UpstreamOverflow")));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(flags_print_as_envoys),
        cmocka_unit_test(every_flag_has_both_names),
        cmocka_unit_test(more_names_than_fit_are_cut_at_a_whole_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
