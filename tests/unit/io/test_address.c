/* What an address says of itself, and how it is kept by the ten thousand. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <errno.h>

#include "io/address.h"

int __wrap_getsockopt(int fd, int level, int option, void *value, socklen_t *len);
int __real_getsockopt(int fd, int level, int option, void *value, socklen_t *len);

/* What NAT tells of a connection; len 0: it knows none. */
static struct {
    struct address before;
    int level, option;
} nat;

int __wrap_getsockopt(int fd, int level, int option, void *value, socklen_t *len) {
    if (level != SOL_IP && level != SOL_IPV6)
        return __real_getsockopt(fd, level, option, value, len);
    nat.level = level;
    nat.option = option;
    errno = ENOENT;
    if (nat.before.len == 0)
        return -1;
    memcpy(value, &nat.before.sa, nat.before.len < *len ? nat.before.len : *len);
    *len = nat.before.len;
    return 0;
}

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

static void test_where_it_went_before_nat(void **state) {
    struct address got = parsed("9.9.9.9", 9);
    nat.before.len = 0;
    address_before_nat(0, AF_INET, &got);
    assert_int_equal(got.len, 0);
    nat.before = parsed("203.0.113.7", 8443);
    address_before_nat(0, AF_INET, &got);
    assert_true(address_eq(&got, &nat.before));
    assert_int_equal(nat.level, SOL_IP);
    assert_int_equal(nat.option, 80);
    nat.before = parsed("2001:db8::7", 8443);
    address_before_nat(0, AF_INET6, &got);
    assert_true(address_eq(&got, &nat.before));
    assert_int_equal(nat.level, SOL_IPV6);
    assert_int_equal(nat.option, 80);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_text_is_what_a_log_shows),
        cmocka_unit_test(test_no_address_has_no_text),
        cmocka_unit_test(test_packed_and_unpacked_it_is_the_same),
        cmocka_unit_test(test_none_stays_none),
        cmocka_unit_test(test_where_it_went_before_nat),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
