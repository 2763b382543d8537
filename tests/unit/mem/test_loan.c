/* loan.c: memory whose address a callee keeps, through calls, late and twofold releases, and wrong
 * addresses. */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "mem/loan.h"

struct request {
    char *text; /* the loan's own: the finalizer frees it */
    _Atomic unsigned calls;
    char tail[70];
};

enum { STRIDE = 128 }; /* the power of two above */
static unsigned finalized;
static char text_at_end[16];

static void ends(void *memory) {
    struct request *request = memory;
    (void)strcpy(text_at_end, request->text);
    free(request->text);
    __atomic_fetch_add(&finalized, 1, __ATOMIC_RELAXED);
}

static const struct loan_kind request_kind = {
    .size = sizeof(struct request), .max = 200, .finalize = ends};
static struct loan_pool pool;

static int fresh_pool(void **state) {
    finalized = 0;
    return loan_pool_init(&pool, &request_kind);
}

static int drop_pool(void **state) {
    loan_pool_fini(&pool);
    return 0;
}

static struct request *lend(struct loan *loan) {
    *loan = loan_new(&pool, 0);
    struct request *request = loan->memory;
    assert_non_null(request);
    for (size_t i = 0; i < sizeof(*request); i++)
        assert_int_equal(((const char *)request)[i], 0);
    memset(request->tail, 'x', sizeof(request->tail));
    request->text = strdup("text");
    assert_null(loan_keep(&pool, request).memory); /* nobody knows it yet */
    loan_lend(&pool, *loan);
    return request;
}

static void the_callee_releases_what_its_lender_has_left(void **state) {
    struct loan loan;
    struct request *request = lend(&loan);
    loan_let_go(&pool, loan); /* the exchange died: the callee still has the memory */
    assert_int_equal(finalized, 0);
    assert_string_equal(request->text, "text");
    assert_int_equal(loan_count(&pool), 1);
    assert_int_equal(loan_release(&pool, request), 0);
    assert_int_equal(finalized, 1);
    assert_string_equal(text_at_end, "text");
    assert_int_equal(loan_count(&pool), 0);
}

static void a_release_that_is_early_waits_for_the_lender(void **state) {
    struct loan loan;
    struct request *request = lend(&loan);
    assert_int_equal(loan_release(&pool, request), 0);
    assert_int_equal(finalized, 0);
    request->calls++; /* still the lender's to use */
    assert_null(loan_keep(&pool, request).memory);
    loan_let_go(&pool, loan);
    assert_int_equal(finalized, 1);
}

static void a_second_release_is_told_so(void **state) {
    struct loan loan;
    struct request *request = lend(&loan);
    loan_let_go(&pool, loan);
    assert_int_equal(loan_release(&pool, request), 0);
    assert_int_equal(loan_release(&pool, request), -ESTALE);
    assert_int_equal(finalized, 1);
}

/* What a collector does: the address is in a call's argument only, so it calls the finalizer. */
static void a_call_keeps_what_it_works_with(void **state) {
    struct loan loan;
    struct request *request = lend(&loan);
    loan_let_go(&pool, loan);
    struct loan call = loan_keep(&pool, request->tail + 3); /* a part of it will do */
    assert_ptr_equal(call.memory, request);
    assert_int_equal(loan_release(&pool, request), 0);
    assert_string_equal(request->text, "text");
    assert_int_equal(finalized, 0);
    loan_let_go(&pool, call);
    assert_int_equal(finalized, 1);
    assert_null(loan_keep(&pool, request).memory);
}

static void addresses_that_were_never_lent_are_refused(void **state) {
    struct loan loan;
    struct request *request = lend(&loan), on_stack;
    char *next = (char *)request + STRIDE;
    void *const wrong[] = {NULL,
                           &on_stack,
                           next,                /* of a run that was taken */
                           (char *)request - 1, /* before the first */
                           pool.memory + 199 * STRIDE,
                           pool.memory + 200 * STRIDE,
                           (void *)UINTPTR_MAX,
                           (void *)1};
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        assert_null(loan_keep(&pool, wrong[i]).memory);
        assert_int_equal(loan_release(&pool, wrong[i]), -ESTALE);
    }
    assert_int_equal(loan_release(&pool, request->tail),
                     -ESTALE); /* not the address it was given */
    assert_int_equal(finalized, 0);
    loan_let_go(&pool, loan);
    assert_int_equal(loan_release(&pool, request), 0);
}

static void a_pool_has_an_end(void **state) {
    struct loan loans[200];
    for (int i = 0; i < 200; i++)
        (void)lend(&loans[i]);
    assert_null(loan_new(&pool, 0).memory);
    assert_int_equal(loan_release(&pool, loans[7].memory), 0);
    loan_let_go(&pool, loans[7]);
    struct loan again;
    assert_ptr_equal(lend(&again), loans[7].memory);
    loans[7] = again;
    for (int i = 0; i < 200; i++) {
        loan_let_go(&pool, loans[i]);
        assert_int_equal(loan_release(&pool, loans[i].memory), 0);
    }
    assert_int_equal(finalized, 201);
}

/* ---- calls against the release ---- */

enum { CALLERS = 3, RELEASERS = 2, ROUNDS = 3000 };
static pthread_barrier_t gate;
static struct request *shared; /* of the round */
static _Atomic unsigned released, kept, too_late;

static void *calls(void *arg) {
    for (int i = 0; i < ROUNDS; i++) {
        (void)pthread_barrier_wait(&gate);
        struct loan loan = loan_keep(&pool, shared);
        if (loan.memory) {
            assert_string_equal(((struct request *)loan.memory)->text, "text");
            atomic_fetch_add(&((struct request *)loan.memory)->calls, 1);
            atomic_fetch_add(&kept, 1);
            loan_let_go(&pool, loan);
        } else {
            atomic_fetch_add(&too_late, 1);
        }
        (void)pthread_barrier_wait(&gate);
    }
    return NULL;
}

static void *releases(void *arg) {
    for (int i = 0; i < ROUNDS; i++) {
        (void)pthread_barrier_wait(&gate);
        if (loan_release(&pool, shared) == 0)
            atomic_fetch_add(&released, 1);
        (void)pthread_barrier_wait(&gate);
    }
    return NULL;
}

static void calls_and_releases_at_once_end_it_once(void **state) {
    pthread_t threads[CALLERS + RELEASERS];
    assert_int_equal(pthread_barrier_init(&gate, NULL, CALLERS + RELEASERS + 1), 0);
    for (int i = 0; i < CALLERS + RELEASERS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, i < CALLERS ? calls : releases, NULL),
                         0);
    for (unsigned i = 0; i < ROUNDS; i++) {
        struct loan loan;
        shared = lend(&loan);
        if (i % 2)
            loan_let_go(&pool, loan);
        (void)pthread_barrier_wait(&gate);
        (void)pthread_barrier_wait(&gate);
        if (i % 2 == 0)
            loan_let_go(&pool, loan);
        assert_int_equal(finalized, i + 1);
    }
    for (int i = 0; i < CALLERS + RELEASERS; i++)
        (void)pthread_join(threads[i], NULL);
    (void)pthread_barrier_destroy(&gate);
    assert_int_equal(released, ROUNDS);
    assert_int_equal(kept + too_late, CALLERS * ROUNDS);
    assert_true(kept > 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_callee_releases_what_its_lender_has_left, fresh_pool,
                                        drop_pool),
        cmocka_unit_test_setup_teardown(a_release_that_is_early_waits_for_the_lender, fresh_pool,
                                        drop_pool),
        cmocka_unit_test_setup_teardown(a_second_release_is_told_so, fresh_pool, drop_pool),
        cmocka_unit_test_setup_teardown(a_call_keeps_what_it_works_with, fresh_pool, drop_pool),
        cmocka_unit_test_setup_teardown(addresses_that_were_never_lent_are_refused, fresh_pool,
                                        drop_pool),
        cmocka_unit_test_setup_teardown(a_pool_has_an_end, fresh_pool, drop_pool),
        cmocka_unit_test_setup_teardown(calls_and_releases_at_once_end_it_once, fresh_pool,
                                        drop_pool),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
