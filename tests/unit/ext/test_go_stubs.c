/* go_stubs.c: a function that nobody wrote can be called, and fails. */
#include <dlfcn.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/stats.h"
#include "ext/go/go_abi.h"
#include "ext/go/go_stubs.h"

static int64_t call(const char *name) {
    int64_t (*function)(const void *, uint64_t, uint64_t);
    void *symbol = dlsym(RTLD_DEFAULT, name);
    assert_non_null(symbol);
    memcpy(&function, &symbol, sizeof(symbol));
    return function("three", 2, 1);
}

static int64_t calls(void) {
    return stat_value(stats_get(STAT_COUNTER, SPAN_LIT("golang.missing_calls"),
                                SPAN_LIT("golang.missing_calls"), NULL, 0));
}

static void each_name_is_a_function_that_fails(void **state) {
    char names[][GO_STUB_NAME_MAX] = {"envoyGoFirst", "envoyGoSecond"};
    assert_null(dlsym(RTLD_DEFAULT, names[0]));
    assert_int_equal(go_stubs_define(names, 2), 0);
    assert_int_equal(call("envoyGoFirst"), GO_INTERNAL_FAILURE);
    assert_int_equal(call("envoyGoSecond"), GO_INTERNAL_FAILURE);
    assert_int_equal(call("envoyGoFirst"), GO_INTERNAL_FAILURE);
    assert_int_equal(calls(), 3);
    assert_null(dlsym(RTLD_DEFAULT, "envoyGoThird"));
}

/* A second library of the same SDK, and one that lacks more. */
static void names_are_added_to_those_that_are_there(void **state) {
    char names[][GO_STUB_NAME_MAX] = {"envoyGoFirst", "envoyGoThird"};
    void *first = dlsym(RTLD_DEFAULT, "envoyGoFirst");
    assert_int_equal(go_stubs_define(names, 1), 0);
    assert_null(dlsym(RTLD_DEFAULT, "envoyGoThird"));
    assert_int_equal(go_stubs_define(names, 2), 0);
    assert_ptr_equal(dlsym(RTLD_DEFAULT, "envoyGoFirst"), first);
    assert_int_equal(call("envoyGoThird"), GO_INTERNAL_FAILURE);
}

static void as_many_as_there_may_be(void **state) {
    char names[GO_STUBS_AT_ONCE_MAX][GO_STUB_NAME_MAX];
    for (int i = 0; i < GO_STUBS_AT_ONCE_MAX; i++) {
        memset(names[i], 'x', GO_STUB_NAME_MAX);
        memcpy(names[i], "envoyGo", 7);
        names[i][7] = (char)('A' + i);
        names[i][GO_STUB_NAME_MAX - 1] = 0;
    }
    assert_int_equal(go_stubs_define(names, GO_STUBS_AT_ONCE_MAX), 0);
    for (int i = 0; i < GO_STUBS_AT_ONCE_MAX; i++)
        assert_int_equal(call(names[i]), GO_INTERNAL_FAILURE);
}

static int init(void **state) {
    return stats_init(1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_name_is_a_function_that_fails),
        cmocka_unit_test(names_are_added_to_those_that_are_there),
        cmocka_unit_test(as_many_as_there_may_be),
    };
    return cmocka_run_group_tests(tests, init, NULL);
}
