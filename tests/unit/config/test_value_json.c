/* JSON text into values: each kind, what is none, and the bounds. */
#include "config_test.h"

#include <errno.h>
#include <pthread.h>

#include "config/cfg_buf.h"
#include "config/native_config.h"
#include "config/tree.h"
#include "config/value_json.h"

/* What is read, written again. */
static void reads(const char *text, const char *expected) {
    struct cfg_arena arena;
    struct cfg_value value;
    struct cfg_buf out = {0};
    assert_int_equal(value_json_read(&arena, span_of(text), &value), 0);
    cfg_native_json(&out, &value);
    assert_false(out.failed);
    assert_int_equal(out.len, strlen(expected));
    assert_memory_equal(cfg_buf_view(&out).ptr, expected, out.len);
    cfg_buf_fini(&out);
    cfg_arena_fini(&arena);
}

static void refuses(struct span text) {
    struct cfg_arena arena;
    struct cfg_value value;
    assert_int_equal(value_json_read(&arena, text, &value), -EINVAL);
    cfg_arena_fini(&arena);
}

static void each_kind_is_read(void **state) {
    reads("null", "null");
    reads(" true ", "true");
    reads("false", "false");
    reads("-1.5e3", "-1500");
    reads("0.1", "0.1");
    reads("\"\"", "\"\"");
    reads("\"a\\u00e9\\n\\\"\"", "\"a\xc3\xa9\\n\\\"\"");
    reads("[]", "[]");
    reads("{}", "{}");
    reads("\t{\"a\": [1, \"x\", {\"b\": null}],\r\n \"\": true}",
          "{\"a\":[1,\"x\",{\"b\":null}],\"\":true}");
}

/* A word in quotes is a text, whatever it says. */
static void what_is_quoted_is_a_text(void **state) {
    static const char *const texts[] = {"\"null\"", "\"true\"", "\"12\"", "\"~\"", "\"[1]\""};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        reads(texts[i], texts[i]);
}

static void what_is_no_json_is_refused(void **state) {
    static const char *const texts[] = {
        "",       " \n",     "{",           "[1,]", "{\"a\":}", "{a: 1}", "1 2",
        "nan",    "'a'",     "yes",         "- 1",  "01",       "+1",     "1.",
        "\"\n\"", "\"\\x\"", "\"\\ud800\"", "\"a",  "tru",      "[1}",    "{\"a\" 1}"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        refuses(span_of(texts[i]));
    refuses(SPAN_LIT("\"\xff\""));
    refuses(SPAN_LIT("1\0"));
}

/* The largest double is a number; what is beyond it would be infinite. */
static void a_number_that_no_double_can_hold_is_none(void **state) {
    reads("1.7976931348623157e308", "1.7976931348623157e+308");
    reads("1e-999", "0");
    refuses(SPAN_LIT("1e309"));
    refuses(SPAN_LIT("[-1e999]"));
}

static char *nested(int depth) {
    char *text = malloc((size_t)depth * 2 + 1);
    assert_non_null(text);
    memset(text, '[', (size_t)depth);
    memset(text + depth, ']', (size_t)depth);
    text[2 * depth] = 0;
    return text;
}

static void *read_deeply(void *arg) {
    char *deepest = nested(NODE_DEPTH_MAX), *deeper = nested(NODE_DEPTH_MAX + 1),
         *bomb = nested(100000);
    reads(deepest, deepest);
    refuses(span_of(deeper));
    refuses(span_of(bomb));
    free(deepest);
    free(deeper);
    free(bomb);
    return NULL;
}

/* On a stack of the promised size. */
static void depth_is_bounded(void **state) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    (void)read_deeply(NULL); /* its frames are larger, and coroutines' stacks as well */
#else
    pthread_attr_t attr;
    pthread_t thread;
    assert_int_equal(pthread_attr_init(&attr), 0);
    assert_int_equal(pthread_attr_setstacksize(&attr, VALUE_JSON_STACK), 0);
    assert_int_equal(pthread_create(&thread, &attr, read_deeply, NULL), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
    (void)pthread_attr_destroy(&attr);
#endif
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_kind_is_read),
        cmocka_unit_test(what_is_quoted_is_a_text),
        cmocka_unit_test(what_is_no_json_is_refused),
        cmocka_unit_test(a_number_that_no_double_can_hold_is_none),
        cmocka_unit_test(depth_is_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
