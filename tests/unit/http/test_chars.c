/* The vector searches against what they mean, for every byte at every place, and ending at an
 * unreadable page. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "http/chars.h"
#include "http/chars.h"
#include "http1_describe.h"

static bool is_control(uint8_t c) {
    return (c < 0x20 && c != '\t') || c == 0x7f;
}

static bool is_not_target(uint8_t c) {
    return c <= ' ' || c >= 0x7f || c == '#';
}

static void check(const char *(*find)(const char *, const char *, const char *),
                  bool (*is_hit)(uint8_t)) {
    struct guarded bytes = guarded_new();
    for (size_t len = 0; len <= 50; len++) {
        char *begin = bytes.end - len;
        /* As long as floor <= p, what stands before p must not matter. */
        for (size_t skip = 0; skip <= len; skip += 7) {
            memset(begin, 1, skip);
            memset(begin + skip, 'x', len - skip);
            assert_ptr_equal(find(begin, begin + skip, bytes.end), bytes.end);
            for (size_t at = skip; at < len; at++)
                for (int c = 0; c < 256; c++) {
                    begin[at] = (char)c;
                    const char *expected = is_hit((uint8_t)c) ? begin + at : bytes.end;
                    assert_ptr_equal(find(begin, begin + skip, bytes.end), expected);
                    begin[at] = 'x';
                }
        }
    }
    guarded_free(&bytes);
}

static void controls(void **state) {
    check(chars_find_control, is_control);
}

static void targets(void **state) {
    check(chars_find_not_target, is_not_target);
}

static void classes(void **state) {
    static const char token[] = "!#$%&'*+-.^_`|~";
    for (int c = 0; c < 256; c++) {
        bool digit = c >= '0' && c <= '9', lower = c >= 'a' && c <= 'z';
        bool upper = c >= 'A' && c <= 'Z';
        bool tchar = digit || lower || upper || (c && strchr(token, c));
        assert_int_equal(chars_is((char)c, CHAR_TOKEN), tchar);
        assert_int_equal(chars_token_lower[c], tchar ? upper ? c + 32 : c : 0);
        assert_int_equal(chars_is((char)c, CHAR_UNRESERVED),
                         digit || lower || upper || (c && strchr("-._~", c)));
        assert_int_equal(chars_is((char)c, CHAR_AUTHORITY),
                         digit || lower || upper || (c && strchr("-._~!$&'()*+,;=%", c)));
        assert_int_equal(chars_is((char)c, CHAR_QUOTED),
                         c == '\t' || c >= 0x80 || (c >= ' ' && c < 0x7f && c != '"' && c != '\\'));
        assert_int_equal(chars_hex((char)c) >= 0, c && strchr("0123456789abcdefABCDEF", c));
        assert_int_equal(chars_is((char)c, CHAR_HEX), chars_hex((char)c) >= 0);
    }
}

static void equality_in_any_case(void **state) {
    static const char lower[] = "abcdefghij-klmnopqrstuvwxyz";
    for (size_t len = 0; len < sizeof lower; len++) {
        struct span expected = span_make(lower, len);
        char text[sizeof lower];
        for (size_t i = 0; i < len; i++)
            text[i] = (char)(lower[i] >= 'a' && i % 3 ? lower[i] - 32 : lower[i]);
        assert_true(chars_eq_lower(span_make(text, len), expected));
        if (len)
            assert_false(chars_eq_lower(span_make(text, len - 1), expected));
        for (size_t i = 0; i < len; i++) {
            char was = text[i];
            text[i] = '!';
            assert_false(chars_eq_lower(span_make(text, len), expected));
            text[i] = was;
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(controls),
        cmocka_unit_test(targets),
        cmocka_unit_test(classes),
        cmocka_unit_test(equality_in_any_case),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
