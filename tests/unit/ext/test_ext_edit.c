/* ext_edit.c: what foreign code may change of headers, and what it may not. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include "ext/ext_stream.h"

static struct ext_side side;
static struct block_cache blocks;
static struct arena arena;
static struct header_map map;

static int setup(void **state) {
    memset(&side, 0, sizeof(side));
    block_cache_init(&blocks);
    arena_init(&arena, &blocks, 1 << 20);
    header_map_init(&map, &arena);
    assert_int_equal(header_add_id(&map, HDR_METHOD, SPAN_LIT("GET")), 0);
    assert_int_equal(header_add_id(&map, HDR_PATH, SPAN_LIT("/")), 0);
    assert_int_equal(header_add_id(&map, HDR_AUTHORITY, SPAN_LIT("host.example")), 0);
    assert_int_equal(header_add(&map, HDR_OTHER, SPAN_LIT("x-a"), SPAN_LIT("1")), 0);
    side.headers = (struct ext_view){map.entries, map.count, map.bytes};
    return 0;
}

static int teardown(void **state) {
    ext_edits_free(side.edits);
    arena_fini(&arena);
    block_cache_fini(&blocks);
    return 0;
}

static int edit(enum ext_edit_kind kind, const char *name, const char *value) {
    return ext_side_edit_locked(&side, false, kind, span_of(name), span_of(value));
}

static void reads(const char *name, const char *value) {
    struct span found = ext_side_get_locked(&side, false, span_of(name));
    if (!value) {
        assert_true(span_is_none(found));
        return;
    }
    assert_int_equal(found.len, strlen(value));
    assert_memory_equal(found.ptr, value, found.len);
}

static void apply(void) {
    assert_int_equal(ext_edits_apply(side.edits, side.direction, &map, NULL), 0);
    ext_edits_free(side.edits);
    side.edits = side.last_edit = NULL;
    side.headers = (struct ext_view){map.entries, map.count, map.bytes};
}

static void a_read_sees_pending_edits_and_agrees_with_the_map(void **state) {
    assert_int_equal(edit(EXT_EDIT_SET, "X-A", "2"), 0);
    assert_int_equal(edit(EXT_EDIT_ADD, "x-a", "3"), 0);
    assert_int_equal(edit(EXT_EDIT_ADD, "x-b", "b"), 0);
    assert_int_equal(edit(EXT_EDIT_SET, "x-c", "c"), 0);
    assert_int_equal(edit(EXT_EDIT_REMOVE, "x-c", NULL), 0);
    assert_int_equal(edit(EXT_EDIT_SET, "host", "other"), 0);
    for (int applied = 0; applied < 2; applied++) {
        reads("x-a", "2");
        reads("x-b", "b");
        reads("x-c", NULL);
        reads(":authority", "other");
        apply();
    }
    int second = header_find(&map, HDR_OTHER, SPAN_LIT("x-a"), 0);
    second = header_find(&map, HDR_OTHER, SPAN_LIT("x-a"), (uint32_t)second + 1);
    assert_true(second > 0);
    assert_memory_equal(map.entries[second].value_ptr, "3", 1);
}

static void a_header_of_one_value_is_joined(void **state) {
    assert_int_equal(edit(EXT_EDIT_ADD, "user-agent", "a"), 0);
    assert_int_equal(edit(EXT_EDIT_ADD, "user-agent", "b"), 0);
    apply();
    reads("user-agent", "a,b");
}

static void what_may_not_go_on_the_wire_is_refused(void **state) {
    static const struct {
        const char *name, *value;
    } bad[] = {
        {"x-a", "1\r\nx-evil: 1"},
        {"x-a", "1\n"},
        {"x a", "1"},
        {"x-a:", "1"},
        {"", "1"},
        {":path", "/a b"},
        {":path", ""},
        {":method", "GET /x\r\n"},
        {":status", "200"},
        {":unknown", "x"},
        {":path", "/\r\n"},
        {"x\r\ny", "1"},
        {":authority", "a b"},
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_int_equal(edit(EXT_EDIT_SET, bad[i].name, bad[i].value), -EINVAL);
    assert_int_equal(
        ext_side_edit_locked(&side, false, EXT_EDIT_SET, SPAN_LIT("x-a"), span_make("a\0b", 3)),
        -EINVAL);
    static const char *const needed[] = {":method", ":path", ":authority", "host"};
    for (size_t i = 0; i < sizeof(needed) / sizeof(needed[0]); i++)
        assert_int_equal(edit(EXT_EDIT_REMOVE, needed[i], NULL), -EINVAL);
    assert_int_equal(
        ext_side_edit_locked(&side, true, EXT_EDIT_SET, SPAN_LIT(":path"), SPAN_LIT("/")), -EINVAL);
    assert_null(side.edits);
    side.direction = EXT_RESPONSE;
    assert_int_equal(edit(EXT_EDIT_SET, ":status", "201"), 0);
    assert_int_equal(edit(EXT_EDIT_SET, ":status", "99"), -EINVAL);
    assert_int_equal(edit(EXT_EDIT_SET, ":status", "2000"), -EINVAL);
    assert_int_equal(edit(EXT_EDIT_SET, ":path", "/"), -EINVAL);
    assert_int_equal(edit(EXT_EDIT_REMOVE, ":status", NULL), -EINVAL);
}

static void a_loop_of_edits_ends(void **state) {
    int err = 0;
    for (int i = 0; i < EXT_EDITS_MAX + 1 && !err; i++)
        err = edit(EXT_EDIT_ADD, "x", "y");
    assert_int_equal(err, -E2BIG);
    assert_int_equal(side.edit_count, EXT_EDITS_MAX);
}

static void a_large_edit_is_refused(void **state) {
    char *value = malloc(EXT_EDIT_BYTES_MAX);
    memset(value, 'v', EXT_EDIT_BYTES_MAX);
    assert_int_equal(ext_side_edit_locked(&side, false, EXT_EDIT_SET, SPAN_LIT("x"),
                                          span_make(value, EXT_EDIT_BYTES_MAX)),
                     -E2BIG);
    free(value);
}

static void a_reply_loses_headers_that_are_not_its_own(void **state) {
    static const struct ext_reply_header headers[] = {
        {SPAN_INIT("X-Ok"), SPAN_INIT("1")},
        {SPAN_INIT(":path"), SPAN_INIT("/")},
        {SPAN_INIT("Connection"), SPAN_INIT("x")},
        {SPAN_INIT("transfer-encoding"), SPAN_INIT("chunked")},
        {SPAN_INIT("content-length"), SPAN_INIT("9")},
        {SPAN_INIT("bad name"), SPAN_INIT("1")},
        {SPAN_INIT("x-b"), SPAN_INIT("1\r\n2")},
        {SPAN_INIT("Content-Type"), SPAN_INIT("a/b")},
    };
    unsigned refused = 0;
    struct ext_reply *reply = ext_reply_new(403, SPAN_LIT("no"), SPAN_LIT("why"), headers,
                                            sizeof(headers) / sizeof(headers[0]), &refused);
    assert_int_equal(refused, 6);
    assert_int_equal(reply->header_count, 2);
    assert_memory_equal(header_name(&reply->headers[0]).ptr, "x-ok", 4);
    assert_int_equal(reply->headers[1].id, HDR_CONTENT_TYPE);
    assert_memory_equal(reply->body.ptr, "no", 2);
    assert_memory_equal(reply->details.ptr, "why", 3);
    ext_reply_free(reply);
}

#define EDIT_TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        EDIT_TEST(a_read_sees_pending_edits_and_agrees_with_the_map),
        EDIT_TEST(a_header_of_one_value_is_joined),
        EDIT_TEST(what_may_not_go_on_the_wire_is_refused),
        EDIT_TEST(a_loop_of_edits_ends),
        EDIT_TEST(a_large_edit_is_refused),
        EDIT_TEST(a_reply_loses_headers_that_are_not_its_own),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
