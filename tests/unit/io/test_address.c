/* What an address says of itself, and how it is kept by the ten thousand. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "io/address.h"

static struct address parsed(const char *host, uint16_t port) {
    struct address address;
    assert_true(address_parse(span_of(host), port, &address));
    return address;
}

static void test_text_is_what_a_log_shows(void **state) {
    static const struct {
        const char *host;
        uint16_t port;
        const char *whole;
    } rows[] = {
        {"0.0.0.0", 0, "0.0.0.0:0"},
        {"1.20.255.9", 80, "1.20.255.9:80"},
        {"255.255.255.255", 65535, "255.255.255.255:65535"},
        {"::1", 8080, "[::1]:8080"},
        {"2001:db8:1111:2222:3333:4444:5555:6666", 65535,
         "[2001:db8:1111:2222:3333:4444:5555:6666]:65535"},
        {"::ffff:1.2.3.4", 1, "[::ffff:1.2.3.4]:1"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct address address = parsed(rows[i].host, rows[i].port);
        char text[ADDRESS_TEXT_MAX];
        assert_int_equal(address_text(&address, text), strlen(rows[i].whole));
        assert_string_equal(text, rows[i].whole);
        assert_int_equal(address_host_text(&address, text), strlen(rows[i].host));
        assert_string_equal(text, rows[i].host);
    }
}

static void test_no_address_has_no_text(void **state) {
    struct address none = {.len = 0};
    char text[ADDRESS_TEXT_MAX] = "x";
    assert_int_equal(address_text(&none, text), 0);
    assert_string_equal(text, "");
}

static void test_packed_and_unpacked_it_is_the_same(void **state) {
    struct address linked = parsed("fe80::1", 7);
    linked.sa.v6.sin6_scope_id = 3;
    struct address all[] = {parsed("10.1.2.3", 4711), parsed("2001:db8::7", 443), linked};
    assert_int_equal(sizeof(struct compact_address), 24);
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        struct compact_address compact;
        struct address back;
        address_pack(&all[i], &compact);
        address_unpack(&compact, &back);
        assert_true(address_eq(&all[i], &back));
        assert_int_equal(back.len, all[i].len);
    }
    struct compact_address compact;
    struct address back;
    address_pack(&linked, &compact);
    address_unpack(&compact, &back);
    assert_int_equal(back.sa.v6.sin6_scope_id, 3);
}

static void test_none_stays_none(void **state) {
    struct address none = {.len = 0}, back = parsed("1.2.3.4", 5);
    struct compact_address compact;
    address_pack(&none, &compact);
    address_unpack(&compact, &back);
    assert_int_equal(back.len, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_text_is_what_a_log_shows),
        cmocka_unit_test(test_no_address_has_no_text),
        cmocka_unit_test(test_packed_and_unpacked_it_is_the_same),
        cmocka_unit_test(test_none_stays_none),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
