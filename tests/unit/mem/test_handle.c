/* handle.c: a handle opens its object while it is alive, and nothing after, whatever is done at once. */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "mem/handle_slot.h"

static const int kind, other_kind;
static struct handle_table table;

static int fresh_table(void **state) {
    return handle_table_init(&table, 1000);
}

static int drop_table(void **state) {
    handle_table_fini(&table);
    return 0;
}

static unsigned finalized;

static void counts(void *object, const void *key) {
    assert_ptr_equal(key, &kind);
    finalized++;
}

static uint64_t make(void *object) {
    return handle_make(&table, 0,
                       &(struct handle_object){.object = object, .key = &kind, .finalize = counts});
}

static void the_end_of_an_object_waits_for_who_uses_it(void **state) {
    int object;
    finalized = 0;
    uint64_t handle = make(&object);
    assert_int_not_equal(handle, 0);
    assert_int_equal(handle_count(&table), 1);
    assert_ptr_equal(handle_lease(&table, handle, &kind), &object);
    assert_ptr_equal(handle_lease(&table, handle, &kind), &object);
    assert_int_equal(handle_destroy(&table, handle, &kind), 0);
    assert_null(handle_lease(&table, handle, &kind));
    handle_release(&table, handle);
    assert_int_equal(finalized, 0);
    assert_int_equal(handle_count(&table), 1);
    handle_release(&table, handle);
    assert_int_equal(finalized, 1);
    assert_int_equal(handle_count(&table), 0);

    handle = make(&object); /* nobody uses it: at once */
    assert_int_equal(handle_destroy(&table, handle, &kind), 0);
    assert_int_equal(finalized, 2);
}

static void a_maker_may_start_with_a_lease(void **state) {
    int object;
    finalized = 0;
    uint64_t handle =
        handle_make(&table, 0,
                    &(struct handle_object){
                        .object = &object, .key = &kind, .finalize = counts, .leased = true});
    assert_int_equal(handle_destroy(&table, handle, &kind), 0);
    assert_int_equal(finalized, 0);
    handle_release(&table, handle);
    assert_int_equal(finalized, 1);
}

static void an_end_has_one_author(void **state) {
    int object;
    finalized = 0;
    uint64_t handle = make(&object);
    assert_non_null(handle_lease(&table, handle, &kind));
    assert_int_equal(handle_destroy(&table, handle, &kind), 0);
    assert_int_equal(handle_destroy(&table, handle, &kind), -ESTALE);
    handle_release(&table, handle);
    assert_int_equal(handle_destroy(&table, handle, &kind), -ESTALE);
    assert_int_equal(finalized, 1);
}

static void numbers_that_are_no_handles_open_nothing(void **state) {
    int object;
    finalized = 0;
    uint64_t handle = make(&object), gone = make(&object);
    assert_int_equal(handle_destroy(&table, gone, &kind), 0);
    const uint64_t wrong[] = {
        0,
        gone,
        handle_index(handle),              /* no generation */
        handle + (1 << HANDLE_INDEX_BITS), /* one that is yet to come */
        gone + (1 << HANDLE_INDEX_BITS),
        handle + 2,    /* a slot never used, of a run that was taken */
        handle + 64,   /* of one that was not */
        handle + 5000, /* beyond the table */
        UINT64_MAX,
    };
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        assert_null(handle_lease(&table, wrong[i], &kind));
        assert_int_equal(handle_destroy(&table, wrong[i], &kind), -ESTALE);
    }
    unsigned seed = 7;
    for (int i = 0; i < 100000; i++) {
        uint64_t any = (uint64_t)rand_r(&seed) << 33 | (uint64_t)rand_r(&seed) << 11 |
                       (uint64_t)rand_r(&seed) % 3000;
        assert_true(any == handle || !handle_lease(&table, any, &kind));
    }
    assert_null(handle_lease(&table, handle, &other_kind));
    assert_int_equal(handle_destroy(&table, handle, &other_kind), -ESTALE);
    assert_int_equal(finalized, 1);
    assert_ptr_equal(handle_lease(&table, handle, &kind), &object); /* none of it did any harm */
    handle_release(&table, handle);
    assert_int_equal(handle_destroy(&table, handle, &kind), 0);
}

static void a_slot_comes_back_with_another_generation_and_late(void **state) {
    int object;
    for (int i = 0; i < 130; i++) /* whatever else is alive: all of a run but a few, say */
        assert_int_not_equal(make(&object), 0);
    uint64_t first = make(&object), handle = first;
    unsigned others = 0;
    for (; others < 1000; others++) {
        assert_int_equal(handle_destroy(&table, handle, &kind), 0);
        handle = make(&object);
        if (handle_index(handle) == handle_index(first))
            break;
    }
    assert_true(others >= 64 && others < 200);
    assert_int_not_equal(handle, first);
    assert_null(handle_lease(&table, first, &kind));
    assert_ptr_equal(handle_lease(&table, handle, &kind), &object);
    handle_release(&table, handle);
    assert_int_equal(handle_at(&table, handle_index(handle)), handle);
    assert_int_equal(handle_destroy(&table, handle, &kind), 0);
    assert_int_equal(handle_at(&table, handle_index(handle)), 0);
    assert_int_equal(handle_at(&table, handle_index(first) + 64), 0);
}

/* A slot that has had as many objects as it can tell apart. */
static void a_slot_that_is_used_up_is_not_used_again(void **state) {
    struct handle_table small;
    int object;
    assert_int_equal(handle_table_init(&small, 2), 0);
    struct handle_object what = {.object = &object, .key = &kind};
    uint64_t a = handle_make(&small, 0, &what), b = handle_make(&small, 0, &what);
    assert_int_equal(handle_destroy(&small, a, &kind), 0);
    atomic_store(&small.slots[handle_index(a)].word,
                 (HANDLE_GENERATION_MAX - 1) << HANDLE_INDEX_BITS | HANDLE_OVER);
    a = handle_make(&small, 0, &what);
    assert_int_equal(handle_destroy(&small, a, &kind), 0);
    uint64_t last = handle_make(&small, 0, &what);
    assert_int_equal(last >> HANDLE_INDEX_BITS, HANDLE_GENERATION_MAX);
    assert_non_null(handle_lease(&small, last, &kind));
    handle_release(&small, last);
    assert_int_equal(handle_destroy(&small, last, &kind), 0);
    assert_null(handle_lease(&small, last, &kind));
    assert_int_equal(handle_destroy(&small, last, &kind), -ESTALE);
    assert_int_equal(handle_at(&small, handle_index(last)), 0);
    assert_int_equal(handle_make(&small, 0, &what), 0);
    assert_int_equal(handle_count(&small), 1);
    assert_int_equal(handle_destroy(&small, b, &kind), 0);
    b = handle_make(&small, 0, &what);
    assert_int_equal(handle_index(b), 1);
    handle_table_fini(&small);
}

static void a_full_table_refuses_until_one_has_ended(void **state) {
    struct handle_table small;
    int object;
    uint64_t handles[70];
    assert_int_equal(handle_table_init(&small, 70), 0); /* a run, and part of one */
    struct handle_object what = {.object = &object, .key = &kind};
    for (int i = 0; i < 70; i++) {
        handles[i] = handle_reserve(&small, 1);
        assert_int_not_equal(handles[i], 0);
        assert_null(handle_lease(&small, handles[i], &kind)); /* not before it is filled in */
        assert_int_equal(handle_at(&small, handle_index(handles[i])), 0);
        handle_open(&small, handles[i], &what);
        assert_ptr_equal(handle_lease(&small, handles[i], &kind), &object);
        handle_release(&small, handles[i]);
    }
    assert_int_equal(handle_make(&small, 1, &what), 0);
    assert_int_equal(handle_make(&small, STATS_SHARD_FOREIGN, &what), 0);
    assert_int_equal(handle_destroy(&small, handles[33], &kind), 0);
    uint64_t again = handle_make(&small, 1, &what);
    assert_int_equal(handle_index(again), handle_index(handles[33]));
    assert_int_equal(handle_count(&small), 70);
    handle_table_fini(&small);
}

static void a_lease_that_nobody_has_is_our_bug(void **state) {
    int object;
    uint64_t handle = make(&object);
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        (void)freopen("/dev/null", "w", stderr);
        handle_release(&table, handle);
        _exit(0);
    }
    int status = 0;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
    assert_int_equal(handle_destroy(&table, handle, &kind), 0);
}

/* ---- everybody at once ---- */

enum {
    MAKERS = 2,
    USERS = 4,
    BOARD = 16, /* handles that everybody sees */
#ifdef __SANITIZE_THREAD__
    ROUNDS = 4000,
#else
    ROUNDS = 40000,
#endif
};

enum { MAGIC = 0x5afe };
struct thing {
    unsigned magic;
    unsigned touches; /* plain: whoever is wrong about who has it is seen by TSan */
    pthread_mutex_t lock;
};

static _Atomic uint64_t board[BOARD];
static _Atomic unsigned made, ended, won, used, refused;
static _Atomic bool over;

static void frees(void *object, const void *key) {
    struct thing *thing = object;
    assert_int_equal(thing->magic, MAGIC);
    thing->magic = 0;
    thing->touches = 0;
    (void)pthread_mutex_destroy(&thing->lock);
    free(thing);
    atomic_fetch_add(&ended, 1);
}

static void try_end(uint64_t handle) {
    if (handle_destroy(&table, handle, &kind) == 0)
        atomic_fetch_add(&won, 1);
}

/* A busy machine may let the makers come to their end before a user has begun. */
static bool users_have_met_both(void) {
    return atomic_load(&used) > 0 && atomic_load(&refused) > 0;
}

static void *makes(void *arg) {
    unsigned shard = *(unsigned *)arg, seed = shard;
    for (int i = 0; i < ROUNDS || !users_have_met_both(); i++) {
        struct thing *thing = calloc(1, sizeof(*thing));
        assert_non_null(thing);
        thing->magic = MAGIC;
        (void)pthread_mutex_init(&thing->lock, NULL);
        uint64_t handle =
            handle_make(&table, shard,
                        &(struct handle_object){.object = thing, .key = &kind, .finalize = frees});
        assert_int_not_equal(handle, 0);
        atomic_fetch_add(&made, 1);
        /* The old one stays known to users that have read it. */
        uint64_t old = atomic_exchange(&board[(unsigned)rand_r(&seed) % BOARD], handle);
        if (old)
            try_end(old);
    }
    return NULL;
}

static void *uses(void *arg) {
    unsigned seed = *(unsigned *)arg;
    uint64_t late = 0;
    while (!atomic_load(&over)) {
        uint64_t handle = atomic_load(&board[(unsigned)rand_r(&seed) % BOARD]);
        struct thing *thing = handle_lease(&table, handle, &kind);
        if (thing) {
            pthread_mutex_lock(&thing->lock);
            assert_int_equal(thing->magic, MAGIC);
            thing->touches++;
            pthread_mutex_unlock(&thing->lock);
            if (rand_r(&seed) % 8 == 0)
                try_end(handle); /* while it is leased, by several perhaps */
            atomic_fetch_add(&used, 1);
            handle_release(&table, handle);
        } else {
            atomic_fetch_add(&refused, 1);
        }
        if (rand_r(&seed) % 16 == 0)
            late = handle;
        assert_null(handle_lease(&table, late + (1 << HANDLE_INDEX_BITS) * 1000000ull, &kind));
        try_end(late);
    }
    return NULL;
}

static void everybody_at_once(void **state) {
    static unsigned numbers[] = {0, 1, 2, 3, 4, 5, STATS_SHARD_FOREIGN};
    pthread_t makers[MAKERS + 1], users[USERS];
    for (int i = 0; i < USERS; i++)
        assert_int_equal(pthread_create(&users[i], NULL, uses, &numbers[i]), 0);
    for (int i = 0; i < MAKERS; i++)
        assert_int_equal(pthread_create(&makers[i], NULL, makes, &numbers[i]), 0);
    assert_int_equal(pthread_create(&makers[MAKERS], NULL, makes, &numbers[6]), 0);
    for (int i = 0; i <= MAKERS; i++)
        (void)pthread_join(makers[i], NULL);
    atomic_store(&over, true);
    for (int i = 0; i < USERS; i++)
        (void)pthread_join(users[i], NULL);
    for (int i = 0; i < BOARD; i++)
        try_end(atomic_load(&board[i]));
    assert_true(made >= (MAKERS + 1) * ROUNDS);
    assert_int_equal(won, made); /* each was ended by one */
    assert_int_equal(ended, made);
    assert_int_equal(handle_count(&table), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_end_of_an_object_waits_for_who_uses_it, fresh_table,
                                        drop_table),
        cmocka_unit_test_setup_teardown(a_maker_may_start_with_a_lease, fresh_table, drop_table),
        cmocka_unit_test_setup_teardown(an_end_has_one_author, fresh_table, drop_table),
        cmocka_unit_test_setup_teardown(numbers_that_are_no_handles_open_nothing, fresh_table,
                                        drop_table),
        cmocka_unit_test_setup_teardown(a_slot_comes_back_with_another_generation_and_late,
                                        fresh_table, drop_table),
        cmocka_unit_test(a_slot_that_is_used_up_is_not_used_again),
        cmocka_unit_test(a_full_table_refuses_until_one_has_ended),
        cmocka_unit_test_setup_teardown(a_lease_that_nobody_has_is_our_bug, fresh_table,
                                        drop_table),
        cmocka_unit_test_setup_teardown(everybody_at_once, fresh_table, drop_table),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
