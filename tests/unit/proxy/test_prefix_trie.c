/* prefix_trie.c: the longest prefix wins, of both families, whatever the order of insertion; compared with a list
 * that is searched. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "proxy/prefix_trie.h"

static uint64_t next_random(uint64_t *seed) {
    *seed = *seed * 6364136223846793005ULL + 1442695040888963407ULL;
    return *seed >> 33;
}

static struct address address_of(const char *text) {
    struct address address;
    assert_true(address_parse(span_of(text), 80, &address));
    return address;
}

static void put(struct prefix_trie *trie, const char *text, uint32_t len, const char *value) {
    struct prefix prefix;
    assert_true(prefix_parse(span_of(text), len, &prefix));
    void **at = prefix_trie_at(trie, &prefix);
    assert_non_null(at);
    assert_null(*at);
    *at = (void *)(uintptr_t)value;
}

static const char *find(const struct prefix_trie *trie, const char *text) {
    const struct address address = address_of(text);
    const char *found = prefix_trie_find(trie, &address);
    return found ? found : "nothing";
}

static void keep(void *value) {}

static void the_longest_prefix_wins(void **state) {
    struct prefix_trie trie = {0};
    assert_string_equal(find(&trie, "10.1.2.3"), "nothing");
    put(&trie, "10.1.2.3", 16, "b"); /* the bits behind do not count */
    put(&trie, "10.0.0.0", 8, "a");
    put(&trie, "10.1.2.3", 32, "c");
    put(&trie, "192.168.0.0", 24, "d");
    put(&trie, "192.168.1.0", 24, "e"); /* forks from the one before, where nothing is */
    put(&trie, "2001:db8::", 32, "f");
    put(&trie, "2001:db8::7", 128, "g");
    assert_string_equal(find(&trie, "10.1.2.3"), "c");
    assert_string_equal(find(&trie, "10.1.2.4"), "b");
    assert_string_equal(find(&trie, "10.2.0.0"), "a");
    assert_string_equal(find(&trie, "11.0.0.0"), "nothing");
    assert_string_equal(find(&trie, "192.168.0.9"), "d");
    assert_string_equal(find(&trie, "192.168.1.9"), "e");
    assert_string_equal(find(&trie, "192.168.2.9"), "nothing");
    assert_string_equal(find(&trie, "2001:db8::7"), "g");
    assert_string_equal(find(&trie, "2001:db8::8"), "f");
    assert_string_equal(find(&trie, "2001:db9::8"), "nothing");
    assert_string_equal(find(&trie, "::ffff:10.2.0.1"),
                        "a"); /* a client of IPv4 at a socket of both */
    put(&trie, "0.0.0.0", 0, "all of IPv4");
    assert_string_equal(find(&trie, "1.1.1.1"), "all of IPv4");
    assert_string_equal(find(&trie, "::1"), "nothing");
    const struct address none = {0};
    assert_null(prefix_trie_find(&trie, &none));
    prefix_trie_fini(&trie, keep);
}

static void what_is_no_prefix_is_refused(void **state) {
    struct prefix prefix;
    assert_false(prefix_parse(SPAN_LIT("10.0.0"), 8, &prefix));
    assert_false(prefix_parse(SPAN_LIT("example.com"), 8, &prefix));
    assert_false(prefix_parse(SPAN_LIT("10.0.0.0"), 33, &prefix));
    assert_false(prefix_parse(SPAN_LIT("::"), 129, &prefix));
    assert_true(prefix_parse(SPAN_LIT("::"), 128, &prefix));
}

enum { TABLES = 60, PREFIXES = 40, LOOKUPS = 200 };

struct listed {
    struct prefix prefix;
    bool used;
};

static bool begins_with(const uint8_t *ip, const struct prefix *prefix) {
    for (unsigned bit = 0; bit < prefix->len; bit++)
        if ((ip[bit / 8] ^ prefix->ip[bit / 8]) >> (7 - bit % 8) & 1)
            return false;
    return true;
}

/* Few distinct bytes, so that many prefixes contain each other. */
static void random_ip(uint64_t *seed, bool v6, char *text, size_t size) {
    unsigned a = next_random(seed) % 4 * 85, b = next_random(seed) % 4 * 64,
             c = next_random(seed) % 8;
    if (v6)
        snprintf(text, size, "%x:%x::%x", a << 8 | b, b, c);
    else
        snprintf(text, size, "%u.%u.0.%u", a, b, c);
}

static void as_a_list_that_is_searched(void **state) {
    uint64_t seed = 7;
    for (int table = 0; table < TABLES; table++) {
        struct prefix_trie trie = {0};
        struct listed list[PREFIXES] = {0};
        for (int i = 0; i < PREFIXES; i++) {
            char text[64];
            bool v6 = next_random(&seed) % 2;
            random_ip(&seed, v6, text, sizeof text);
            assert_true(
                prefix_parse(span_of(text), next_random(&seed) % (v6 ? 129 : 33), &list[i].prefix));
            void **at = prefix_trie_at(&trie, &list[i].prefix);
            assert_non_null(at);
            list[i].used = *at == NULL;
            if (list[i].used)
                *at = &list[i];
        }
        for (int i = 0; i < LOOKUPS; i++) {
            char text[64];
            bool v6 = next_random(&seed) % 2;
            random_ip(&seed, v6, text, sizeof text);
            const struct address address = address_of(text);
            const uint8_t *ip =
                v6 ? address.sa.v6.sin6_addr.s6_addr : (const uint8_t *)&address.sa.v4.sin_addr;
            const struct listed *best = NULL;
            for (int j = 0; j < PREFIXES; j++)
                if (list[j].used && list[j].prefix.is_v6 == v6 &&
                    begins_with(ip, &list[j].prefix) &&
                    (!best || list[j].prefix.len > best->prefix.len))
                    best = &list[j];
            assert_ptr_equal(prefix_trie_find(&trie, &address), best);
        }
        prefix_trie_fini(&trie, keep);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_longest_prefix_wins),
        cmocka_unit_test(what_is_no_prefix_is_refused),
        cmocka_unit_test(as_a_list_that_is_searched),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
