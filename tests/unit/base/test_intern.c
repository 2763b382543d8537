/* intern.c: one copy of each text for ever, up to a limit. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>
#include <pthread.h>

#include "base/intern.h"

static void equal_texts_are_one_copy(void **state) {
    char text[] = "route";
    const char *copy = intern(span_of(text), SIZE_MAX);
    assert_string_equal(copy, "route");
    text[0] = '!';
    assert_string_equal(copy, "route");
    assert_ptr_equal(intern(span_make("router", 5), SIZE_MAX), copy);
    assert_ptr_not_equal(intern(SPAN_LIT("router"), SIZE_MAX), copy);
    assert_string_equal(intern(span_none(), SIZE_MAX), "");
    assert_ptr_equal(intern(SPAN_LIT(""), SIZE_MAX), intern(span_none(), SIZE_MAX));
    /* Bytes, not strings. */
    const char *with_zero = intern(SPAN_LIT("a\0b"), SIZE_MAX);
    assert_memory_equal(with_zero, "a\0b", 4);
    assert_ptr_not_equal(with_zero, intern(SPAN_LIT("a"), SIZE_MAX));
}

/* More than there are buckets, so chains are walked. */
static void many_are_told_apart(void **state) {
    enum { MANY = 5000 };
    static const char *copies[MANY];
    char text[16];
    for (int i = 0; i < MANY; i++) {
        int len = snprintf(text, sizeof text, "name %d", i);
        copies[i] = intern(span_make(text, (size_t)len), SIZE_MAX);
        assert_string_equal(copies[i], text);
    }
    for (int i = 0; i < MANY; i++) {
        int len = snprintf(text, sizeof text, "name %d", i);
        assert_ptr_equal(intern(span_make(text, (size_t)len), SIZE_MAX), copies[i]);
    }
}

static void past_the_limit_only_old_ones_are_found(void **state) {
    const char *old = intern(SPAN_LIT("old"), SIZE_MAX);
    assert_non_null(old);
    assert_null(intern(SPAN_LIT("too late"), 1));
    assert_ptr_equal(intern(SPAN_LIT("old"), 1), old);
    assert_ptr_equal(intern(SPAN_LIT("old"), 0), old);
    assert_non_null(intern(SPAN_LIT("too late"), SIZE_MAX));
}

static void *interns(void *arg) {
    const char **copies = arg;
    char text[16];
    for (int i = 0; i < 100; i++) {
        int len = snprintf(text, sizeof text, "shared %d", i);
        copies[i] = intern(span_make(text, (size_t)len), SIZE_MAX);
    }
    return NULL;
}

static void threads_get_the_same_copy(void **state) {
    enum { THREADS = 4 };
    static const char *copies[THREADS][100];
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, interns, copies[i]), 0);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    for (int i = 1; i < THREADS; i++)
        assert_memory_equal(copies[i], copies[0], sizeof copies[0]);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(equal_texts_are_one_copy),
        cmocka_unit_test(many_are_told_apart),
        cmocka_unit_test(past_the_limit_only_old_ones_are_found),
        cmocka_unit_test(threads_get_the_same_copy),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
