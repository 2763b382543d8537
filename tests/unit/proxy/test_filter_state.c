/* Filter state: who may replace what, and what outlives its exchange. */
#include <errno.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <setjmp.h>

#include <cmocka.h>

#include "proxy/filter_state.h"
#include "proxy/format.h"

static struct filter_state *own, *kept;

static int begin(void **state) {
    own = filter_state_new();
    kept = filter_state_new();
    return own && kept ? 0 : -1;
}

static int end(void **state) {
    filter_state_unref(own);
    filter_state_unref(kept);
    return 0;
}

static int set(const char *key, const char *text, enum filter_state_type type,
               enum filter_state_span span) {
    const struct filter_state_object object = {
        .key = span_of(key), .text = span_of(text), .type = type, .span = span};
    return filter_state_set(own, kept, &object);
}

/* "none" when there is none. */
static const char *get(const char *key, bool only_shared) {
    static char text[64];
    struct format_out out = {0};
    bool found = filter_state_get(own, kept, span_of(key), only_shared, &out);
    assert_true(out.len < sizeof text);
    memcpy(text, out.data ? out.data : "", out.len);
    text[out.len] = '\0';
    free(out.data);
    return found ? text : "none";
}

#define RO FILTER_STATE_READ_ONLY
#define RW FILTER_STATE_MUTABLE
#define CHAIN FILTER_STATE_OF_CHAIN
#define REQUEST FILTER_STATE_OF_REQUEST
#define CONNECTION FILTER_STATE_OF_CONNECTION

static void a_key_is_one_object(void **state) {
    assert_string_equal(get("a", false), "none");
    assert_int_equal(set("a", "one", RO, REQUEST), 0);
    assert_int_equal(set("a", "two", RO, REQUEST), -EPERM);
    assert_int_equal(set("a", "two", RW, REQUEST), -EPERM);
    assert_string_equal(get("a", false), "one");
    assert_int_equal(set("b", "one", RW, REQUEST), 0);
    assert_int_equal(set("b", "two", RW, REQUEST), 0);
    assert_string_equal(get("b", false), "two");
    assert_int_equal(set("b", "three", RO, REQUEST), -EPERM);
    assert_int_equal(set("b", "three", RW, CHAIN), -EPERM);
    assert_int_equal(set("b", "three", RW, CONNECTION), -EPERM);
    assert_string_equal(get("b", false), "two");
    assert_int_equal(set("", "", RO, CHAIN), 0);
    assert_string_equal(get("", false), "");
}

static void the_upstream_sees_what_is_shared(void **state) {
    struct filter_state_object object = {.key = SPAN_LIT("a"), .text = SPAN_LIT("x")};
    assert_int_equal(filter_state_set(own, NULL, &object), 0);
    assert_string_equal(get("a", true), "none");
    object.key = SPAN_LIT("b");
    object.sharing = FILTER_STATE_SHARED_UPSTREAM_ONCE;
    assert_int_equal(filter_state_set(own, NULL, &object), 0);
    assert_string_equal(get("b", true), "x");
}

static void some_outlive_their_exchange(void **state) {
    assert_false(filter_state_outlives(own));
    assert_int_equal(set("gone", "x", RW, REQUEST), 0);
    assert_false(filter_state_outlives(own));
    assert_int_equal(set("ro", "first", RO, CONNECTION), 0);
    assert_int_equal(set("rw", "first", RW, CONNECTION), 0);
    assert_true(filter_state_outlives(own));
    assert_int_equal(filter_state_settle(own, kept), 0);
    filter_state_unref(own);

    own = filter_state_new(); /* the next one on that connection */
    assert_non_null(own);
    assert_string_equal(get("gone", false), "none");
    assert_string_equal(get("ro", false), "first");
    assert_int_equal(set("ro", "second", RO, CONNECTION), -EPERM);
    assert_int_equal(set("rw", "second", RW, REQUEST), -EPERM);
    assert_int_equal(set("rw", "second", RW, CONNECTION), 0);
    assert_string_equal(get("rw", false), "second");
    assert_int_equal(filter_state_settle(own, kept), 0);
    assert_string_equal(get("rw", false), "second");
    assert_string_equal(get("ro", false), "first");
}

static void there_is_an_end_to_it(void **state) {
    static char large[FILTER_STATE_BYTES_MAX];
    struct filter_state_object object = {.key = SPAN_LIT("a"),
                                         .text = span_make(large, sizeof large),
                                         .type = FILTER_STATE_MUTABLE,
                                         .span = FILTER_STATE_OF_CONNECTION};
    assert_int_equal(filter_state_set(own, NULL, &object), -E2BIG);
    object.text.len = sizeof large / 2;
    for (int i = 0; i < 4; i++)
        assert_int_equal(filter_state_set(own, NULL, &object), 0);
    object.key = SPAN_LIT("b");
    assert_int_equal(filter_state_set(own, NULL, &object), -E2BIG);
    /* What the connection has no room for is dropped, the rest goes there. */
    struct filter_state_object other = object;
    other.key = SPAN_LIT("c");
    assert_int_equal(filter_state_set(kept, NULL, &other), 0);
    assert_int_equal(set("d", "small", RO, CONNECTION), 0);
    assert_int_equal(filter_state_settle(own, kept), 1);
    filter_state_unref(own);
    own = NULL;
    assert_string_equal(get("a", false), "none");
    assert_string_equal(get("d", false), "small");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_key_is_one_object, begin, end),
        cmocka_unit_test_setup_teardown(the_upstream_sees_what_is_shared, begin, end),
        cmocka_unit_test_setup_teardown(some_outlive_their_exchange, begin, end),
        cmocka_unit_test_setup_teardown(there_is_an_end_to_it, begin, end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
