/* doing.c: what is told of a request when the process dies, and what is not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "proxy/doing.h"

static struct doing doing;
static char told[LABELS_TOLD_MAX + 1];

static int begin(void **state) {
    doing_init(&doing, NULL);
    return 0;
}

static const char *tells(void) {
    size_t len = doing.describer.tell(&doing.describer, told, LABELS_TOLD_MAX);
    assert_true(len <= LABELS_TOLD_MAX);
    told[len] = '\0';
    return told;
}

/* Of this request. */
static const char *tells_of(const char *method, const char *path, const char *id) {
    static struct doing_request request;
    request = (struct doing_request){.method = span_of(method),
                                     .path = span_of(path),
                                     .id = id ? span_of(id) : span_none(),
                                     .start_wall_ns = 5};
    doing_request(&doing, &request);
    return tells();
}

static void test_nothing_is_known(void **state) {
    assert_string_equal(tells(), "");
}

static void test_a_connection_between_two_requests(void **state) {
    doing_connection(&doing, 17);
    assert_string_equal(tells_of("GET", "/a/b", "id-1"), "connection 17\nrequest GET /a/b\n"
                                                         "request_id id-1\nbegan_ns 5\n");
    doing_request(&doing, NULL);
    assert_string_equal(tells(), "connection 17\n");
}

static void test_another_coroutine_of_the_exchange_tells_the_same(void **state) {
    struct doing first = doing;
    doing_connection(&first, 3);
    const struct doing_request request = {.method = SPAN_INIT("PUT"), .path = SPAN_INIT("/")};
    doing_request(&first, &request);
    doing_init_like(&doing, &first);
    assert_string_equal(tells(), "connection 3\nrequest PUT /\nbegan_ns 0\n");
}

static void test_keys_in_a_path_are_not_told(void **state) {
    assert_string_equal(tells_of("GET", "/login?key=hush", NULL),
                        "request GET /login\nbegan_ns 5\n");
    assert_string_equal(tells_of("GET", "/a;session=hush/b", NULL), "request GET /a\nbegan_ns 5\n");
    assert_string_equal(tells_of("GET", "/#hush", NULL), "request GET /\nbegan_ns 5\n");
}

static void test_nobodys_terminal_obeys_it(void **state) {
    assert_string_equal(tells_of("GET", "/\x1b[2J\x7f\xc3\xa4", "a b\nframe 0"),
                        "request GET /?[2J???\nrequest_id a?b?frame?0\nbegan_ns 5\n");
}

static void test_what_is_long_is_cut(void **state) {
    char path[4096], id[4096];
    memset(path, 'p', sizeof path - 1);
    memset(id, 'i', sizeof id - 1);
    path[0] = '/';
    path[sizeof path - 1] = id[sizeof id - 1] = '\0';
    const char *text = tells_of("AN-EXTENSION-METHOD", path, id);
    assert_non_null(strstr(text, "request AN-EXTENSION-MET... /ppp"));
    assert_non_null(strstr(text, "ppp...\nrequest_id iii"));
    assert_non_null(strstr(text, "iii...\nbegan_ns 5\n"));
}

/* A fault may have been behind a write that went too far. */
static void test_a_pointer_to_nowhere_costs_its_own_line(void **state) {
    struct doing_request request = {.method = SPAN_INIT("GET"),
                                    .path = SPAN_INIT("/a"),
                                    .id = {.ptr = (const char *)8, .len = 36}};
    doing_connection(&doing, 17);
    doing_request(&doing, &request);
    assert_string_equal(tells(), "connection 17\nrequest GET /a\nbegan_ns 0\n");
    doing_request(&doing, (const struct doing_request *)8);
    assert_string_equal(tells(), "connection 17\n");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_nothing_is_known, begin),
        cmocka_unit_test_setup(test_a_connection_between_two_requests, begin),
        cmocka_unit_test_setup(test_another_coroutine_of_the_exchange_tells_the_same, begin),
        cmocka_unit_test_setup(test_keys_in_a_path_are_not_told, begin),
        cmocka_unit_test_setup(test_nobodys_terminal_obeys_it, begin),
        cmocka_unit_test_setup(test_what_is_long_is_cut, begin),
        cmocka_unit_test_setup(test_a_pointer_to_nowhere_costs_its_own_line, begin),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
