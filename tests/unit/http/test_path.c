#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>

#include "http/path.h"

struct row {
    struct span in, out; /* out absent: refused */
};
#define ROW(in, out)                                                                               \
    { SPAN_INIT(in), SPAN_INIT(out) }
#define SAME(text) ROW(text, text)
#define REFUSED(in)                                                                                \
    {                                                                                              \
        SPAN_INIT(in), {                                                                           \
            NULL, 0                                                                                \
        }                                                                                          \
    }

static void check(int (*change)(struct arena *, struct span, struct span *), const struct row *rows,
                  size_t count) {
    struct block_cache cache;
    block_cache_init(&cache);
    for (size_t i = 0; i < count; i++) {
        struct arena arena;
        arena_init(&arena, &cache, 1 << 16);
        struct span out = span_none();
        int rc = change(&arena, rows[i].in, &out);
        if (span_is_none(rows[i].out)) {
            assert_int_equal(rc, -EINVAL);
        } else {
            assert_int_equal(rc, 0);
            if (!span_eq(out, rows[i].out))
                fail_msg("%s: expected %s, got %.*s", rows[i].in.ptr, rows[i].out.ptr, (int)out.len,
                         out.ptr);
        }
        arena_fini(&arena);

        arena_init(&arena, &cache, 0);
        rc = change(&arena, rows[i].in, &out);
        assert_true(rc == -ENOMEM || rc == -EINVAL || out.ptr == rows[i].in.ptr);
        arena_fini(&arena);
    }
    block_cache_fini(&cache);
}

/* The rows are Chromium's and Envoy's own cases where they have them. */
static void normalize(void **state) {
    static const struct row rows[] = {
        SAME("/"),
        SAME("/a/b.c/d?e"),
        ROW("/./a", "/a"),
        ROW("/a/.", "/a/"),
        ROW("/a/./b", "/a/b"),
        ROW("/a/..", "/"),
        ROW("/a/../b", "/b"),
        ROW("/a/../../b", "/b"),
        ROW("/..", "/"),
        ROW("/..//..", "/"),
        ROW("/a/%2e", "/a/"),
        ROW("/../..", "/"),
        ROW("/a/b/../../c/", "/c/"),
        SAME("/a/...b"),
        SAME("/a../b"),
        ROW("/.a/..b", "/.a/..b"),
        ROW("/a/%2e%2E/b", "/b"),
        ROW("/a/.%2e", "/"),
        ROW("/%2ea", "/.a"),
        ROW("/a\\..\\b", "/b"),
        ROW("/%41%7e%2d%5f", "/A~-_"),
        SAME("/%2f%2F%5c%3a"),
        SAME("/%zz%"),
        ROW("/a b", "/a%20b"),
        ROW("/\"<>^`{|}", "/%22%3C%3E%5E%60%7B%7C%7D"),
        ROW("/\xc3\xa9", "/%C3%A9"),
        ROW("/a//../b", "/a/b"),
        ROW("/x/../y?a=/../b", "/y?a=/../b"),
        SAME("/?%2e%2e"),
        REFUSED("/%00"),
        REFUSED("/a\0b"),
        REFUSED(""),
        REFUSED("a"),
        REFUSED("*"),
        REFUSED("?a"),
    };
    check(path_normalize, rows, sizeof rows / sizeof *rows);
}

static void merge_slashes(void **state) {
    static const struct row rows[] = {
        SAME("/"),       SAME("/a/b/"),  ROW("//", "/"),       ROW("//a///b//", "/a/b/"),
        SAME("/a?b//c"), SAME("/a/?//"), ROW("//?//", "/?//"),
    };
    check(path_merge_slashes, rows, sizeof rows / sizeof *rows);
}

static void unescape_slashes(void **state) {
    static const struct row rows[] = {
        SAME("/a/b"),
        ROW("/a%2fb%2Fc%5cd%5C", "/a/b/c\\d\\"),
        ROW("/%2F?%2f", "//?%2f"),
        SAME("/%2"),
        SAME("/a?%2f"),
    };
    check(path_unescape_slashes, rows, sizeof rows / sizeof *rows);
    assert_true(path_has_escaped_slashes(SPAN_LIT("/%5C")));
    assert_false(path_has_escaped_slashes(SPAN_LIT("/?%5C")));
}

static void escapes(void **state) {
    assert_true(path_escapes_are_valid(SPAN_LIT("/%20%aF")));
    assert_false(path_escapes_are_valid(SPAN_LIT("/%2")));
    assert_false(path_escapes_are_valid(SPAN_LIT("/%")));
    assert_false(path_escapes_are_valid(SPAN_LIT("/%2g")));
}

static void query(void **state) {
    assert_true(span_eq(path_only(SPAN_LIT("/a?b?c")), SPAN_LIT("/a")));
    assert_true(span_eq(path_query(SPAN_LIT("/a?b?c")), SPAN_LIT("b?c")));
    assert_true(span_eq(path_query_suffix(SPAN_LIT("/a?b")), SPAN_LIT("?b")));
    assert_true(span_is_none(path_query(SPAN_LIT("/a"))));
    assert_int_equal(path_query(SPAN_LIT("/a?")).len, 0);
    assert_int_equal(path_query_suffix(SPAN_LIT("/a")).len, 0);

    struct span value, in = SPAN_LIT("a=1&b&c=&aa=2&a=3&=4&&d=e=f");
    assert_true(query_get(in, SPAN_LIT("a"), &value) && span_eq(value, SPAN_LIT("1")));
    assert_true(query_get(in, SPAN_LIT("b"), &value) && value.len == 0);
    assert_true(query_get(in, SPAN_LIT("c"), &value) && value.len == 0);
    assert_true(query_get(in, SPAN_LIT("aa"), &value) && span_eq(value, SPAN_LIT("2")));
    assert_true(query_get(in, SPAN_LIT("d"), &value) && span_eq(value, SPAN_LIT("e=f")));
    assert_false(query_get(in, SPAN_LIT("e"), &value));
    assert_false(query_get(span_none(), SPAN_LIT("a"), &value));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(normalize),
        cmocka_unit_test(merge_slashes),
        cmocka_unit_test(unescape_slashes),
        cmocka_unit_test(escapes),
        cmocka_unit_test(query),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
