/* breaker.c: a limit that all Ps share, exact however its credits are spread. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "proxy/breaker.h"

enum { PS = 4 };

static struct { _Atomic uint32_t share __attribute__((aligned(64))); } locals[PS];
static struct breaker breaker;

static void start(uint32_t limit) {
    breaker_init(&breaker, limit, &locals[0].share, sizeof locals[0], PS);
}

static uint32_t credits(void) {
    uint32_t sum = breaker.free;
    for (int p = 0; p < PS; p++)
        sum += locals[p].share;
    return sum;
}

static uint32_t take_all(int p) {
    uint32_t got = 0;
    while (breaker_take(&breaker, &locals[p].share))
        got++;
    return got;
}

static void each_p_gets_as_many_as_there_are(void **state) {
    static const uint32_t limits[] = {0, 1, 2, 3, 63, 64, 65, 1000, 1024, 5000};
    for (size_t i = 0; i < sizeof limits / sizeof limits[0]; i++) {
        for (int p = 0; p < PS; p++) {
            start(limits[i]);
            assert_int_equal(take_all(p), limits[i]);
        }
    }
}

static void what_others_do_not_use_is_had_to_the_last_one(void **state) {
    start(1000);
    for (int round = 0; round < 3; round++) {
        for (int p = 0; p < PS; p++) { /* each leaves its share full behind */
            uint32_t taken = 0;
            while (taken < 900 && breaker_take(&breaker, &locals[p].share))
                taken++;
            assert_int_equal(taken, 900);
            while (taken-- > 0)
                breaker_give(&breaker, &locals[p].share);
        }
    }
    assert_int_equal(credits(), 1000);
    assert_int_equal(take_all(2), 1000);
    assert_false(breaker_take(&breaker, &locals[0].share));
    breaker_give(&breaker, &locals[2].share);
    assert_true(breaker_take(&breaker, &locals[0].share)); /* the one that came free on another P */
    assert_false(breaker_take(&breaker, &locals[2].share));
}

static void a_p_keeps_so_many_and_no_more(void **state) {
    start(1024);
    assert_int_equal(take_all(0), 1024);
    for (int i = 0; i < 1024; i++)
        breaker_give(&breaker, &locals[0].share);
    assert_int_equal(locals[0].share, BREAKER_SHARE_MAX);
    assert_int_equal(breaker.free, 1024 - BREAKER_SHARE_MAX);
    for (int round = 0; round < 100; round++) { /* what swings by less touches nothing shared */
        for (int i = 0; i < BREAKER_SHARE_MAX; i++)
            assert_true(breaker_take(&breaker, &locals[0].share));
        for (int i = 0; i < BREAKER_SHARE_MAX; i++)
            breaker_give(&breaker, &locals[0].share);
        assert_int_equal(breaker.free, 1024 - BREAKER_SHARE_MAX);
    }
}

/* What is in the hands of a thread that does not run just then would be refused to all others. */
static void whoever_takes_from_others_takes_what_it_lets_in(void **state) {
    start(10);
    assert_true(breaker_take(&breaker, &locals[0].share));
    assert_int_equal(breaker.free, 9);
    assert_int_equal(take_all(0), 9);
    for (int i = 0; i < 10; i++)
        breaker_give(&breaker, &locals[0].share);
    assert_true(breaker_take(&breaker, &locals[1].share));
    assert_int_equal(locals[0].share, 9);
    assert_int_equal(locals[1].share, 0);
}

/* ---- from several threads ---- */

enum { LIMIT = 7, ROUNDS = 20000 };
static _Atomic uint32_t inside, most;

static void *work(void *arg) {
    _Atomic uint32_t *share = &locals[(intptr_t)arg].share;
    for (int i = 0; i < ROUNDS; i++) {
        uint32_t held = 0;
        for (int want = 1 + i % LIMIT; want > 0; want--) {
            if (!breaker_take(&breaker, share))
                continue;
            held++;
            uint32_t now = ++inside, before = most;
            while (now > before && !atomic_compare_exchange_weak(&most, &before, now))
                ;
        }
        while (held-- > 0) {
            inside--;
            breaker_give(&breaker, share);
        }
    }
    return NULL;
}

static void never_more_than_the_limit_and_none_is_lost(void **state) {
    start(LIMIT);
    pthread_t threads[PS];
    for (intptr_t p = 0; p < PS; p++)
        assert_int_equal(pthread_create(&threads[p], NULL, work, (void *)p), 0);
    for (int p = 0; p < PS; p++)
        pthread_join(threads[p], NULL);
    assert_true(most <= LIMIT);
    assert_int_equal(credits(), LIMIT);
    assert_int_equal(take_all(1), LIMIT);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_p_gets_as_many_as_there_are),
        cmocka_unit_test(what_others_do_not_use_is_had_to_the_last_one),
        cmocka_unit_test(a_p_keeps_so_many_and_no_more),
        cmocka_unit_test(whoever_takes_from_others_takes_what_it_lets_in),
        cmocka_unit_test(never_more_than_the_limit_and_none_is_lost),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
