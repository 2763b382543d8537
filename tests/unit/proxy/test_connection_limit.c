/* connection_limit.h: never one more than the limit, however many threads take and give at once. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <stdlib.h>

#include "proxy/connection_limit.h"

enum { THREADS = 4, ROUNDS = 100000, MAX = 3 };

static struct connection_limit *limit;
static _Atomic int inside, refused, over;

static void *take_and_give(void *arg) {
    for (int i = 0; i < ROUNDS; i++) {
        if (!connection_limit_take(limit)) {
            refused++;
            continue;
        }
        if (++inside > MAX)
            over++;
        --inside;
        connection_limit_give(limit);
    }
    return NULL;
}

static void threads_stay_within_it(void **state) {
    pthread_t threads[THREADS];
    limit = connection_limit_new(MAX);
    assert_non_null(limit);
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, take_and_give, NULL), 0);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(over, 0);
    assert_int_equal(connection_limit_open(limit), 0);
    free(limit);
}

static void the_last_place_is_one(void **state) {
    limit = connection_limit_new(2);
    assert_true(connection_limit_take(limit));
    assert_true(connection_limit_take(limit));
    assert_false(connection_limit_take(limit));
    connection_limit_count(limit); /* of one that is not held to it: the others have less */
    connection_limit_give(limit);
    assert_false(connection_limit_take(limit));
    connection_limit_give(limit);
    assert_true(connection_limit_take(limit));
    free(limit);
}

static void another_limit_holds_for_those_that_come(void **state) {
    limit = connection_limit_new(2);
    assert_true(connection_limit_take(limit));
    assert_true(connection_limit_take(limit));
    connection_limit_set_max(limit, 1);
    connection_limit_give(limit);
    assert_false(connection_limit_take(limit)); /* there is one still */
    connection_limit_set_max(limit, 3);
    assert_true(connection_limit_take(limit));
    assert_int_equal(connection_limit_open(limit), 2);
    free(limit);
}

static void none_at_all(void **state) {
    limit = connection_limit_new(0);
    assert_false(connection_limit_take(limit));
    assert_int_equal(connection_limit_open(limit), 0);
    free(limit);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(threads_stay_within_it),
        cmocka_unit_test(the_last_place_is_one),
        cmocka_unit_test(another_limit_holds_for_those_that_come),
        cmocka_unit_test(none_at_all),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
