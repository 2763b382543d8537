/* The vector searches against what they mean, for every byte at every place, and ending at an
 * unreadable page. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "http/chars.h"
#include "http/field_name.h"
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

#ifdef __SSE2__
/* A name read in a vector is what the byte loop makes of it, and the bytes behind stay as they are. */
static void names(void **state) {
    for (size_t len = 0; len <= 16; len++)
        for (int c = 0; c < 256; c++)
            for (size_t at = 0; at < len; at++) {
                char text[16], expected[16];
                memset(text, 'Q', sizeof text);
                if (len < sizeof text)
                    text[len] = ':';
                text[at] = (char)c;
                memcpy(expected, text, sizeof text);
                for (size_t i = 0; i < len; i++)
                    expected[i] = (char)chars_token_lower[(uint8_t)text[i]];
                enum header_id id = HDR_HOST;
                uint32_t n = field_name_read(text, &id);
                bool common = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') ||
                              (c >= 'A' && c <= 'Z') || c == '-';
                if (c == ':' && at > 0) {
                    assert_int_equal(n, at);
                } else {
                    assert_int_equal(n, common && len < 16 ? len : 0);
                    if (n)
                        assert_memory_equal(text, expected, sizeof text);
                }
                if (n)
                    assert_int_equal(id, HDR_OTHER);
            }
}

static void known_names(void **state) {
    for (unsigned i = HDR_HOST; i < HDR_COUNT; i++) {
        struct span name = header_name_of((enum header_id)i);
        char text[48];
        memset(text, ':', sizeof text);
        for (size_t k = 0; k < name.len; k++)
            text[k] = (char)(name.ptr[k] >= 'a' && k % 2 ? name.ptr[k] - 32 : name.ptr[k]);
        enum header_id id;
        uint32_t n = field_name_read(text, &id);
        assert_int_equal(n, name.len < 16 ? name.len : 0);
        if (n) {
            assert_int_equal(id, i);
            assert_memory_equal(text, name.ptr, name.len);
        }
    }
}
#endif

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(controls), cmocka_unit_test(targets),     cmocka_unit_test(classes),
#ifdef __SSE2__
        cmocka_unit_test(names),    cmocka_unit_test(known_names),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
